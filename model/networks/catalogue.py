"""The networks whose checkpoints can be recognised, by what they are called."""

import functools

import torch
from torch import nn

from cfr.model.networks.cfrnet import CFRNet
from cfr.model.networks.discriminator import TwoScaleDiscriminator

NETWORKS: dict[str, type[nn.Module]] = {
    "CFRNet generator": CFRNet,
    "two-scale discriminator": TwoScaleDiscriminator,
}
"""Name for people -> class; each is built without arguments."""


@functools.cache
def expected_shapes(network: type[nn.Module]) -> dict[str, tuple[int, ...]]:
    """State names and shapes of a network, without the time and memory that its weights would take."""
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in network().state_dict().items()}
