"""The names and shapes of the networks' states are those of the published checkpoints."""

import hashlib
import json

import pytest

from cfr.model.networks.catalogue import expected_shapes
from cfr.model.networks.cfrnet import CFRNet
from cfr.model.networks.discriminator import TwoScaleDiscriminator

# Network, its name in the list of the published states, sha256 of its names and shapes.
STATES = [
    (CFRNet, "CFRNet", "f712b2b5b55bc8d945d9594245fb03765b8754c03b95124d89cfe53d855d9cb4"),
    (
        TwoScaleDiscriminator,
        "TwoScaleDiscriminator",
        "17a5a369f81d1bae39a14a4c8ea66ea84530de15be66ecba3c121a67e3176b64",
    ),
]


@pytest.mark.parametrize("network, name, digest", STATES, ids=lambda value: value if isinstance(value, str) else "")
def test_state_is_the_published_one(network, name, digest):
    lines = sorted(f"{key} {list(shape)}" for key, shape in expected_shapes(network).items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == digest


@pytest.mark.parametrize("network, name, digest", STATES, ids=lambda value: value if isinstance(value, str) else "")
def test_state_is_the_listed_one(network, name, digest, shared_dir):
    published = json.loads((shared_dir / "fixtures" / "state_dicts.json").read_text())[name]
    assert {key: list(shape) for key, shape in expected_shapes(network).items()} == published
