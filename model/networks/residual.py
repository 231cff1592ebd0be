"""Residual networks (He et al. 2016) with the names of torchvision's, in the variants that published weights need."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import relu


def normalised_convolution(
    channels: int, out_channels: int, kernel_size: int, stride: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """Convolution that keeps the size (at stride 1), without bias, and its batch normalisation."""
    convolution = nn.Conv2d(channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
    return convolution, nn.BatchNorm2d(out_channels)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the shortcut."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int = 1):
        super().__init__()
        self.conv1, self.bn1 = normalised_convolution(channels, width, 3, stride)
        self.conv2, self.bn2 = normalised_convolution(width, width, 3)
        self.downsample = _shortcut(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        change = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return relu(change + self.downsample(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and the shortcut; the stride is at the 3x3 one, as in torchvision."""

    expansion = 4
    _stride_at_3x3 = True

    def __init__(self, channels: int, width: int, stride: int = 1):
        super().__init__()
        first, second = (1, stride) if self._stride_at_3x3 else (stride, 1)
        self.conv1, self.bn1 = normalised_convolution(channels, width, 1, first)
        self.conv2, self.bn2 = normalised_convolution(width, width, 3, second)
        self.conv3, self.bn3 = normalised_convolution(width, self.expansion * width, 1)
        self.downsample = _shortcut(channels, self.expansion * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        change = relu(self.bn1(self.conv1(x)))
        change = relu(self.bn2(self.conv2(change)))
        return relu(self.bn3(self.conv3(change)) + self.downsample(x))


class CaffeBottleneck(Bottleneck):
    """The stride is at the first 1x1 convolution, as in the paper and in weights that come from Caffe."""

    _stride_at_3x3 = False


Block = type[BasicBlock] | type[Bottleneck]


def _shortcut(channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and channels == out_channels:
        return nn.Identity()
    return nn.Sequential(*normalised_convolution(channels, out_channels, 1, stride))


def residual_stage(block: Block, channels: int, width: int, count: int, stride: int = 1) -> nn.Sequential:
    """`count` blocks, the first of them with the stride: `channels` in, `width` times the block's expansion out."""
    following = (block(width * block.expansion, width) for _ in range(count - 1))
    return nn.Sequential(block(channels, width, stride), *following)


class ResidualNetwork(nn.Module):
    """Everything of a ResNet before its average pooling.

    Args:
        block: the kind of its blocks.
        counts: blocks in each of the four stages; (3, 4, 6, 3) with bottlenecks is ResNet-50.
        pooling: after the first convolution; None is torchvision's.
        width: channels of the first convolution; those of the stages follow from it.
    """

    def __init__(self, block: Block, counts: Sequence[int], pooling: nn.Module | None = None, width: int = 64):
        super().__init__()
        self.conv1, self.bn1 = normalised_convolution(3, width, 7, 2)
        self.maxpool = pooling or nn.MaxPool2d(3, 2, padding=1)
        channels = width
        for number, count in enumerate(counts):
            stage_width = width << number
            stage = residual_stage(block, channels, stage_width, count, stride=1 if number == 0 else 2)
            self.add_module(f"layer{number + 1}", stage)
            channels = stage_width * block.expansion

    def stages(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features after each of the stages, at 1/4, 1/8, 1/16 and 1/32 of the size."""
        x = self.maxpool(relu(self.bn1(self.conv1(image))))
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return tuple(features)
