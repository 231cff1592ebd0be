"""Face parsing: BiSeNet (Yu et al. 2018) with ResNet-18, 19 labels, as in the repository face-parsing.PyTorch.

The labels are those of the paper's checkpoint, which was trained anew: in the order of CelebAMask-HQ. The widespread
`79999_iter.pth` has the same names and shapes, but its labels in another order.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from cfr.model.networks.residual import BasicBlock, ResidualNetwork, normalised_convolution

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LABELS = (
    *("background", "skin", "nose", "glasses", "right eye", "left eye", "right brow", "left brow", "right ear"),
    *("left ear", "inner mouth", "upper lip", "lower lip", "hair", "hat", "earring", "necklace", "neck", "cloth"),
)
"""Name of each label. The recipe uses those up to hair, and never one side without the other."""

_WORKING_SIDE = 512


class _Convolution(nn.Module):
    def __init__(self, channels: int, out_channels: int, kernel_size: int = 3):
        super().__init__()
        self.conv, self.bn = normalised_convolution(channels, out_channels, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.bn(self.conv(x)))


class _AttentionRefinement(nn.Module):
    """Features times a weight for each channel, from their mean."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.conv = _Convolution(channels, out_channels)
        self.conv_atten, self.bn_atten = normalised_convolution(out_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x)
        return features * self.bn_atten(self.conv_atten(_mean(features))).sigmoid()


class _ContextPath(nn.Module):
    def __init__(self):
        super().__init__()
        self.resnet = ResidualNetwork(BasicBlock, (2, 2, 2, 2))
        self.arm16 = _AttentionRefinement(256, 128)
        self.arm32 = _AttentionRefinement(512, 128)
        self.conv_head32 = _Convolution(128, 128)
        self.conv_head16 = _Convolution(128, 128)
        self.conv_avg = _Convolution(512, 128, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Image -> details (B,128,H/8,W/8) and context of the same shape."""
        _, eighth, sixteenth, last = self.resnet.stages(image)
        context = self.arm32(last) + self.conv_avg(_mean(last))
        context = self.conv_head32(interpolate(context, sixteenth.shape[2:]))
        context = self.arm16(sixteenth) + context
        return eighth, self.conv_head16(interpolate(context, eighth.shape[2:]))


class _FeatureFusion(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.convblk = _Convolution(channels, channels, 1)
        self.conv1 = nn.Conv2d(channels, channels // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(channels // 4, channels, 1, bias=False)

    def forward(self, details: Tensor, context: Tensor) -> Tensor:
        features = self.convblk(torch.cat([details, context], dim=1))
        return features + features * self.conv2(relu(self.conv1(_mean(features)))).sigmoid()


class _Classifier(nn.Module):
    def __init__(self, channels: int, width: int):
        super().__init__()
        self.conv = _Convolution(channels, width)
        self.conv_out = nn.Conv2d(width, len(LABELS), 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))


class FaceParsing(nn.Module):
    """BiSeNet, 19 labels (see LABELS)."""

    def __init__(self):
        super().__init__()
        self.cp = _ContextPath()
        self.ffm = _FeatureFusion(256)
        self.conv_out = _Classifier(256, 256)
        # Used in the training of these weights only; the checkpoints have them.
        self.conv_out16 = _Classifier(128, 64)
        self.conv_out32 = _Classifier(128, 64)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the labels.

        Args:
            image: (B,3,H,W) float RGB 0..1; sides from 32 px, the weights were trained at 512.

        Returns:
            (B,19,H,W) float.
        """
        logits = self.conv_out(self.ffm(*self.cp((image - self.mean) / self.std)))
        return interpolate(logits, image.shape[2:], mode="bilinear", align_corners=True)

    def labels(self, image: Tensor) -> Tensor:
        """Labels of pictures of any size, looked at in 512 x 512 as the paper does.

        Args:
            image: (B,3,H,W) float RGB 0..1.

        Returns:
            (B,H,W) int64, 0..18: see LABELS.
        """
        enlarged = interpolate(image, (_WORKING_SIDE, _WORKING_SIDE), mode="bilinear", align_corners=True)
        return interpolate(self(enlarged), image.shape[2:], mode="bilinear", align_corners=True).argmax(1)


def _mean(features: Tensor) -> Tensor:
    """(B,C,H,W) -> (B,C,1,1)."""
    return features.mean((2, 3), keepdim=True)
