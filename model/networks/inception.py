"""Inception-v3 as the Fréchet inception distance uses it: the network of 2015-12-05, 2048 features of a picture.

Weights: `pt_inception-2015-12-05-6726825d.pth` of pytorch-fid, the same as `weights-inception-2015-12-05-6726825d.pth`
of torch-fidelity. They were converted from TensorFlow's graph, whose average pooling leaves the border out and whose
resizing has no half-pixel shift; both are reproduced, since published distances were computed so.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d, relu

FEATURES = 2048
INPUT_SIZE = 299
_CLASSES = 1008


class _Convolution(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, channels: int, out_channels: int, kernel_size: int | tuple[int, int], stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.bn(self.conv(x)))


def _row(channels: int, out_channels: int, size: int = 7) -> _Convolution:
    return _Convolution(channels, out_channels, (1, size), padding=(0, size // 2))


def _column(channels: int, out_channels: int, size: int = 7) -> _Convolution:
    return _Convolution(channels, out_channels, (size, 1), padding=(size // 2, 0))


def _mean_around(x: Tensor) -> Tensor:
    return avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class _BlockA(nn.Module):
    """1x1, 5x5, two 3x3 and pooling, side by side."""

    def __init__(self, channels: int, pooled: int):
        super().__init__()
        self.branch1x1 = _Convolution(channels, 64, 1)
        self.branch5x5_1 = _Convolution(channels, 48, 1)
        self.branch5x5_2 = _Convolution(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = _Convolution(channels, 64, 1)
        self.branch3x3dbl_2 = _Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Convolution(96, 96, 3, padding=1)
        self.branch_pool = _Convolution(channels, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        fives = self.branch5x5_2(self.branch5x5_1(x))
        threes = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), fives, threes, self.branch_pool(_mean_around(x))], 1)


class _BlockB(nn.Module):
    """Halves the size: 288 to 768 channels."""

    def __init__(self):
        super().__init__()
        self.branch3x3 = _Convolution(288, 384, 3, stride=2)
        self.branch3x3dbl_1 = _Convolution(288, 64, 1)
        self.branch3x3dbl_2 = _Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Convolution(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        threes = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), threes, max_pool2d(x, 3, stride=2)], 1)


class _BlockC(nn.Module):
    """7x7 convolutions as rows and columns: 768 to 768 channels."""

    def __init__(self, width: int):
        super().__init__()
        self.branch1x1 = _Convolution(768, 192, 1)
        self.branch7x7_1 = _Convolution(768, width, 1)
        self.branch7x7_2 = _row(width, width)
        self.branch7x7_3 = _column(width, 192)
        self.branch7x7dbl_1 = _Convolution(768, width, 1)
        self.branch7x7dbl_2 = _column(width, width)
        self.branch7x7dbl_3 = _row(width, width)
        self.branch7x7dbl_4 = _column(width, width)
        self.branch7x7dbl_5 = _row(width, 192)
        self.branch_pool = _Convolution(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([self.branch1x1(x), once, twice, self.branch_pool(_mean_around(x))], 1)


class _BlockD(nn.Module):
    """Halves the size: 768 to 1280 channels."""

    def __init__(self):
        super().__init__()
        self.branch3x3_1 = _Convolution(768, 192, 1)
        self.branch3x3_2 = _Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1 = _Convolution(768, 192, 1)
        self.branch7x7x3_2 = _row(192, 192)
        self.branch7x7x3_3 = _column(192, 192)
        self.branch7x7x3_4 = _Convolution(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        threes = self.branch3x3_2(self.branch3x3_1(x))
        sevens = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([threes, sevens, max_pool2d(x, 3, stride=2)], 1)


class _BlockE(nn.Module):
    """To 2048 channels; the last block of the graph has a maximum where the one before has a mean."""

    def __init__(self, channels: int, last: bool):
        super().__init__()
        self.last = last
        self.branch1x1 = _Convolution(channels, 320, 1)
        self.branch3x3_1 = _Convolution(channels, 384, 1)
        self.branch3x3_2a = _row(384, 384, 3)
        self.branch3x3_2b = _column(384, 384, 3)
        self.branch3x3dbl_1 = _Convolution(channels, 448, 1)
        self.branch3x3dbl_2 = _Convolution(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = _row(384, 384, 3)
        self.branch3x3dbl_3b = _column(384, 384, 3)
        self.branch_pool = _Convolution(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = max_pool2d(x, 3, stride=1, padding=1) if self.last else _mean_around(x)
        threes = (self.branch3x3_2a(once), self.branch3x3_2b(once))
        doubles = (self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice))
        return torch.cat([self.branch1x1(x), *threes, *doubles, self.branch_pool(pooled)], 1)


class InceptionV3(nn.Module):
    """The network up to its average pooling; its classifier is only there because the files have it."""

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, 3)
        self.Mixed_5b = _BlockA(192, 32)
        self.Mixed_5c = _BlockA(256, 64)
        self.Mixed_5d = _BlockA(288, 64)
        self.Mixed_6a = _BlockB()
        self.Mixed_6b = _BlockC(128)
        self.Mixed_6c = _BlockC(160)
        self.Mixed_6d = _BlockC(160)
        self.Mixed_6e = _BlockC(192)
        self.Mixed_7a = _BlockD()
        self.Mixed_7b = _BlockE(1280, last=False)
        self.Mixed_7c = _BlockE(2048, last=True)
        self.fc = nn.Linear(FEATURES, _CLASSES)

    def forward(self, picture: Tensor) -> Tensor:
        """Features of pictures.

        Args:
            picture: (B,3,H,W) float32 RGB 0..1, any size.

        Returns:
            (B,2048).
        """
        # 8-bit values minus 128, over 128, as in the graph.
        x = resized_like_tensorflow(picture * 255, INPUT_SIZE) / 128 - 1
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(max_pool2d(x, 3, stride=2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(max_pool2d(x, 3, stride=2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))


def resized_like_tensorflow(picture: Tensor, size: int) -> Tensor:
    """Bilinear resizing of TensorFlow 1: place i of the result is place i * (old / new) of the picture (B,C,H,W)."""
    for axis in (2, 3):
        old = picture.shape[axis]
        place = torch.arange(size, device=picture.device, dtype=torch.float32) * (old / size)
        lower = place.floor().long().clamp(max=old - 1)
        shape = [size if dimension == axis else 1 for dimension in range(4)]
        share = (place - lower).view(shape)
        above = picture.index_select(axis, (lower + 1).clamp(max=old - 1))
        picture = picture.index_select(axis, lower) * (1 - share) + above * share
    return picture
