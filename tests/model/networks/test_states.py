"""The names and shapes of the networks' states are those of the published checkpoints."""

import hashlib
import json

import pytest

from cfr.model.networks.catalogue import NETWORKS, expected_shapes

# Network -> its name in the list of the published states, sha256 of its names and shapes.
PUBLISHED = {
    "CFRNet": ("CFRNet", "f712b2b5b55bc8d945d9594245fb03765b8754c03b95124d89cfe53d855d9cb4"),
    "TwoScaleDiscriminator": (
        "TwoScaleDiscriminator",
        "17a5a369f81d1bae39a14a4c8ea66ea84530de15be66ecba3c121a67e3176b64",
    ),
    "CoefficientRegressor": ("ResNet50Regressor", "d3834c044fa42bf42c88f5c83c231b2733a4e6e80c392ea4e861f3cadbb2fdd0"),
    # The package's own.
    "FaceMeshRegressor": (None, "0091917b12641fcb3e1da172b842a7ea266f23e47559f0582444c9b5ccdb362d"),
    "FaceParsing": ("BiSeNet19", "089c1094f2e7062f7cc04d87ff7f3ce5e83201634975bdb58bd74ea684852f35"),
    "IdentityEncoder": ("IR_SE_50_112", "b0af237e50fcbd3695cab906344e888f175c07643136c292649a58fb985fcfef"),
    # No published list at hand; the names and shapes of facexlib 0.3.0, which loads biubug6's files.
    "RetinaFace": (None, "4d1a58ba19cc72c258466850921e5d226797111ae036a158d072406b95b6f04f"),
    # No published list at hand; the names and shapes of torch-fidelity 0.4.0, which loads pytorch-fid's file.
    "InceptionV3": (None, "8cdd2faeb41211e17f0fb47e66168d0cb1f981aa773b5f44e5b9cc93857fe492"),
    "VGG19Slices": ("VGG19Slices", "4b02b9919672526fbabc2c6d48a51be84f2105181086d83501464b51c9af7985"),
    "ResNet50Slices": ("ResNet50Slices", "6049f2f60cc8b231cafb16b59f97c7775f697a48462e638644e4ce722a7e8e46"),
}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=lambda network: network.__name__)
def test_state_is_the_published_one(network):
    lines = sorted(f"{name} {list(shape)}" for name, shape in expected_shapes(network).items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == PUBLISHED[network.__name__][1]


@pytest.mark.parametrize("network", [network for network in NETWORKS.values() if PUBLISHED[network.__name__][0]])
def test_state_is_the_listed_one(network, shared_dir):
    listed = json.loads((shared_dir / "fixtures" / "state_dicts.json").read_text())[PUBLISHED[network.__name__][0]]
    assert {name: list(shape) for name, shape in expected_shapes(network).items()} == listed
