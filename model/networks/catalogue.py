"""The networks whose checkpoints can be recognised, by what they are called."""

import functools

import torch
from torch import nn

from cfr.model.networks.cfrnet import CFRNet
from cfr.model.networks.coefficient_regressor import CoefficientRegressor
from cfr.model.networks.discriminator import TwoScaleDiscriminator
from cfr.model.networks.face_parsing import FaceParsing
from cfr.model.networks.facemesh_regressor import FaceMeshRegressor
from cfr.model.networks.identity_encoder import IdentityEncoder
from cfr.model.networks.inception import InceptionV3
from cfr.model.networks.perceptual import ResNet50Slices, VGG19Slices
from cfr.model.retinaface import RetinaFace

NETWORKS: dict[str, type[nn.Module]] = {
    "CFRNet generator": CFRNet,
    "two-scale discriminator": TwoScaleDiscriminator,
    "ResNet-50 coefficient regressor": CoefficientRegressor,
    "coefficient regressor on FaceMesh's features": FaceMeshRegressor,
    "BiSeNet face parsing network": FaceParsing,
    "IR-SE-50 identity encoder": IdentityEncoder,
    "RetinaFace detector (ResNet-50)": RetinaFace,
    "VGG-19 for the perceptual loss": VGG19Slices,
    "ResNet-50 for the perceptual loss": ResNet50Slices,
    "Inception-v3 of FID": InceptionV3,
}
"""Name for people -> class; each is built without arguments."""


@functools.cache
def expected_shapes(network: type[nn.Module], **sizes: int) -> dict[str, tuple[int, ...]]:
    """State names and shapes of a network, without the time and memory that its weights would take.

    Args:
        network: its class.
        sizes: arguments of it, for the networks that have any.
    """
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in network(**sizes).state_dict().items()}
