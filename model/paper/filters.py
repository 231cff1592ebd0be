"""The window filters of CFR-GAN's masks; outside the frame is 0 for all but the median, which mirrors."""

from torch import Tensor
from torch.nn import functional as F


def _pad_zero(values: Tensor, size: int) -> Tensor:
    """Padded by size - 1 per dimension in all, the smaller half before."""
    before, after = (size - 1) // 2, size // 2
    return F.pad(values, (before, after, before, after))


def box_blur(values: Tensor, size: int) -> Tensor:
    """Mean over size x size; values (B,C,H,W) float32."""
    return F.avg_pool2d(_pad_zero(values, size), size, stride=1)


def dilate(values: Tensor, size: int) -> Tensor:
    """Maximum over size x size; values (B,C,H,W) float32 >= 0."""
    return F.max_pool2d(_pad_zero(values, size), size, stride=1)


def erode(values: Tensor, size: int) -> Tensor:
    """Minimum over size x size; values (B,C,H,W) float32 >= 0. The frame's rim is eaten away."""
    return -F.max_pool2d(-_pad_zero(values, size), size, stride=1)


def median(values: Tensor, size: int) -> Tensor:
    """Median over size x size, size odd; values (B,C,H,W) float32; mirrored at the frame."""
    radius = size // 2
    padded = F.pad(values, (radius,) * 4, mode="reflect")
    windows = padded.unfold(2, size, 1).unfold(3, size, 1)
    return windows.flatten(-2).median(dim=-1).values
