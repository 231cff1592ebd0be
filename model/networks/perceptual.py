"""Features of ImageNet classifiers for the perceptual loss: slices of VGG-19 and of ResNet-50.

Weights: torchvision's files (`vgg19-dcbb9e9d.pth`, `resnet50-0676ba61.pth` or `-19c8e357`), or the slices' own states.
"""

import re
from itertools import pairwise

from torch import Tensor, nn

from cfr.model.networks.residual import Bottleneck, normalised_convolution, residual_stage

# Convolutions of VGG-19 as they follow each other, M for a pooling.
_VGG19 = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512)
# Layers of torchvision's `features` at which the slices begin, and the last one's end.
_VGG19_CUTS = (0, 2, 7, 12, 21, 30)
# Where the slices have the modules of torchvision's ResNet-50.
_RESNET50_NAMES = {"conv1": "B1.0", "bn1": "B1.1", "layer1": "B1.4", "layer2": "B2", "layer3": "B3"}


class VGG19Slices(nn.Module):
    """VGG-19 up to `relu5_1`, in five slices that end in a ReLU."""

    slice_weights = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
    """What the slices count in the perceptual loss."""

    def __init__(self):
        super().__init__()
        layers = list(_vgg19_layers())
        for number, (start, end) in enumerate(pairwise(_VGG19_CUTS), start=1):
            part = nn.Sequential()
            for index in range(start, end):
                part.add_module(str(index), layers[index])
            self.add_module(f"slice{number}", part)

    @staticmethod
    def rename_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """torchvision's VGG-19 under the slices' names, without its later layers; another state as it is."""
        if "features.0.weight" not in state:
            return state
        renamed = {}
        for name, value in state.items():
            match = re.fullmatch(r"features\.(\d+)\.(weight|bias)", name)
            if match and int(match[1]) < _VGG19_CUTS[-1]:
                number = sum(int(match[1]) >= start for start in _VGG19_CUTS)
                renamed[f"slice{number}.{match[1]}.{match[2]}"] = value
        return renamed

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B,3,H,W) RGB, brought to ImageNet's mean and deviation -> features of the five slices."""
        features = []
        for part in (self.slice1, self.slice2, self.slice3, self.slice4, self.slice5):
            image = part(image)
            features.append(image)
        return tuple(features)


class ResNet50Slices(nn.Module):
    """ResNet-50 up to its third stage, in three slices."""

    slice_weights = (1.0, 1.0, 1.0)
    """What the slices count in the perceptual loss."""

    def __init__(self):
        super().__init__()
        self.B1 = nn.Sequential(
            *normalised_convolution(3, 64, 7, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),
            residual_stage(Bottleneck, 64, 64, 3),
        )
        self.B2 = residual_stage(Bottleneck, 256, 128, 4, stride=2)
        self.B3 = residual_stage(Bottleneck, 512, 256, 6, stride=2)

    @staticmethod
    def rename_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """torchvision's ResNet-50 under the slices' names, without its later layers; another state as it is."""
        # Without its classifier it may be any ResNet-50, the coefficient regressor for one.
        if "conv1.weight" not in state or "fc.weight" not in state:
            return state
        split = ((*name.partition("."), value) for name, value in state.items())
        return {f"{_RESNET50_NAMES[head]}.{rest}": value for head, _, rest, value in split if head in _RESNET50_NAMES}

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B,3,H,W) RGB, brought to ImageNet's mean and deviation -> features of the three slices."""
        first = self.B1(image)
        second = self.B2(first)
        return first, second, self.B3(second)


def _vgg19_layers():
    channels = 3
    for width in _VGG19:
        if width == "M":
            yield nn.MaxPool2d(2)
        else:
            yield nn.Conv2d(channels, width, 3, padding=1)
            yield nn.ReLU()
            channels = width
