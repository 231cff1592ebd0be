"""LPIPS (Zhang et al. 2018): how different two pictures look, from features of an ImageNet classifier.

The classifier is AlexNet or VGG-16 from torchvision's file (`alexnet-owt-7be5be79.pth`, `vgg16-397923af.pth`); the file
tells which. How much each channel counts was fitted to people's judgements; the authors' numbers (version 0.1) come
with torchmetrics, the extra `metrics`. torchvision is not needed.
"""

import importlib.util
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from cfr.model.checkpoints import CheckpointError, load_checkpoint, read_states

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_SMALLEST_NORM = 1e-10
LEAST_SIDE = 32
"""Smaller pictures don't reach the last features."""

_VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512)


class ClassifierFeatures(nn.Module):
    """The convolutions of a classifier under torchvision's names, and what they have found at five depths.

    Args:
        layers: torchvision's `features`, up to the last one that is looked at.
        ends: the layers whose outputs are features.
        channels: how many these have.
    """

    def __init__(self, layers: Sequence[nn.Module], ends: Sequence[int], channels: Sequence[int]):
        super().__init__()
        self.features = nn.Sequential(*layers)
        self.ends, self.channels = tuple(ends), tuple(channels)

    @staticmethod
    def rename_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """torchvision's state without its classifier."""
        return {name: value for name, value in state.items() if not name.startswith("classifier.")}

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B,3,H,W) -> five maps of features (B,C,h,w)."""
        found = []
        for index, layer in enumerate(self.features):
            image = layer(image)
            if index in self.ends:
                found.append(image)
        return found


def alexnet() -> ClassifierFeatures:
    """AlexNet (the one-tower version) up to `relu5`."""
    layers = (
        *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    )
    return ClassifierFeatures(layers, (1, 4, 7, 9, 11), (64, 192, 384, 256, 256))


def vgg16() -> ClassifierFeatures:
    """VGG-16 up to `relu5_3`."""
    layers: list[nn.Module] = []
    channels = 3
    for width in _VGG16:
        if width == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return ClassifierFeatures(layers, (3, 8, 15, 22, 29), (64, 128, 256, 512, 512))


class LPIPS(nn.Module):
    """Distance of pictures; `load_lpips` makes one.

    Args:
        features: of the classifier.
        weights: of the channels at each depth, (C,) each.
    """

    def __init__(self, features: ClassifierFeatures, weights: Sequence[Tensor]):
        super().__init__()
        self.features = features
        for name, values in (("shift", _SHIFT), ("scale", _SCALE)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1))
        self.depths = len(weights)
        for depth, values in enumerate(weights):
            self.register_buffer(f"weight{depth}", values.reshape(1, -1, 1, 1).float())
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Distances (B,) of pictures (B,3,H,W) float32 RGB in -1..1 with sides of LEAST_SIDE or more; 0: the same.

        At each depth: the squared difference of the features, normalised over their channels, weighted, mean over the
        picture; then the sum over the depths.
        """
        found, wanted = (self.features((each - self.shift) / self.scale) for each in (image, target))
        distance = image.new_zeros(len(image))
        for depth in range(self.depths):
            difference = (_normalised(found[depth]) - _normalised(wanted[depth])).square()
            distance = distance + (difference * getattr(self, f"weight{depth}")).sum(1).mean((1, 2))
        return distance


def load_lpips(path: str | PathLike) -> LPIPS:
    """LPIPS with a classifier's weights from a file.

    Args:
        path: torchvision's AlexNet or VGG-16, .pth or .safetensors.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: the file is none of the two, or torchmetrics is not installed.
    """
    first = [state.get("features.0.weight") for state in read_states(path).values()]
    shapes = [tuple(weight.shape) for weight in first if weight is not None]
    kinds = {(64, 3, 11, 11): ("alex", alexnet), (64, 3, 3, 3): ("vgg", vgg16)}
    kind = next((kinds[shape] for shape in shapes if shape in kinds), None)
    if kind is None:
        raise CheckpointError(f"{path} is neither torchvision's AlexNet nor its VGG-16, which LPIPS needs")
    name, build = kind
    features = load_checkpoint(path, build())
    return LPIPS(features, [_channel_weights(name, depth) for depth in range(len(features.ends))])


def _channel_weights(name: str, depth: int) -> Tensor:
    package = importlib.util.find_spec("torchmetrics")  # found, not imported
    if package is None or not package.submodule_search_locations:
        raise CheckpointError("the weights of LPIPS's channels come with torchmetrics: pip install 'cfr[metrics]'")
    folder = Path(package.submodule_search_locations[0]) / "functional" / "image" / "lpips_models"
    return read_states(folder / f"{name}.pth")[""][f"lin{depth}.model.1.weight"].flatten()


def _normalised(features: Tensor) -> Tensor:
    return features / (features.norm(dim=1, keepdim=True) + _SMALLEST_NORM)
