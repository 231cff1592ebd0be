"""SCDiffer of CFR-GAN: where two pictures of a face differ in structure (a term of SSIM) and in colour."""

import torch
from torch import Tensor
from torch.nn import functional as F

from cfr.model.paper.filters import box_blur, median

_WINDOW, _SIGMA = 5, 1.5
_CONTRAST_CONSTANT = 0.03**2
_COLOUR_BLUR = 3
_MEDIAN = 5
# Deviation below which a map varies by rounding only.
_NO_VARIATION = 1e-6
# sRGB (D65) to XYZ, its white point, and what keeps the cube root's slope finite.
_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.950456, 1.0, 1.088754)
_ROOT_EPSILON = 1e-6


def structure_colour_difference(
    first: Tensor, second: Tensor, structure_weight: float = 0.33, true_lab: bool = False
) -> Tensor:
    """Difference map (CFR-GAN, section 3.3).

    Args:
        first, second: (B,3,H,W) float32 RGB 0..1.
        structure_weight: alpha, weight of the structure term.
        true_lab: take the colours as Lab. By default "Lab" is what the authors' code computes, see `misread_lab`.

    Returns:
        (B,1,H,W) float32 0..1. Two pictures without any difference give 0 (the authors' code gives NaN).
    """
    lab = rgb_to_lab if true_lab else misread_lab
    structure = (1 - contrast_structure(first, second)).mean(1, keepdim=True)
    distance = (box_blur(lab(first), _COLOUR_BLUR) - box_blur(lab(second), _COLOUR_BLUR)).norm(dim=1, keepdim=True)
    structure, distance = _standardised(structure), _standardised(distance)
    joint = structure * distance + distance + structure_weight * structure
    return median(_standardised(joint).clamp(0, 1), _MEDIAN)


def _standardised(values: Tensor) -> Tensor:
    """Mean 0 and unbiased deviation 1 per image; 0 for an image without variation."""
    deviation, mean = torch.std_mean(values, dim=(1, 2, 3), keepdim=True)
    return torch.where(deviation > _NO_VARIATION, (values - mean) / deviation, 0.0)


def contrast_structure(first: Tensor, second: Tensor) -> Tensor:
    """Contrast-structure term of SSIM (Wang et al. 2004), (B,C,H,W), for (B,C,H,W); Gaussian window, zero padding."""
    offsets = torch.arange(_WINDOW, device=first.device, dtype=first.dtype) - _WINDOW // 2
    profile = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    window = torch.outer(profile, profile)
    window = (window / window.sum()).expand(first.shape[1], 1, -1, -1)

    def mean(values: Tensor) -> Tensor:
        return F.conv2d(values, window, padding=_WINDOW // 2, groups=values.shape[1])

    mean_first, mean_second = mean(first), mean(second)
    variances = mean(first * first) - mean_first.square() + mean(second * second) - mean_second.square()
    covariance = mean(first * second) - mean_first * mean_second
    return (2 * covariance + _CONTRAST_CONSTANT) / (variances + _CONTRAST_CONSTANT)


def rgb_to_lab(picture: Tensor) -> Tensor:
    """CIE Lab (B,3,H,W) of sRGB pictures (B,3,H,W) in 0..1."""
    return _lab(picture, channel=1)


def misread_lab(picture: Tensor) -> Tensor:
    """What CFR-GAN takes for Lab: memory of (B,3,H,W) read as (B,H,W,3).

    Three neighbouring pixels of one colour are taken for the R, G and B of one. The masks of the paper depend on it.
    """
    batch, channels, height, width = picture.shape
    misread = picture.contiguous().view(batch, height, width, channels)
    return _lab(misread, channel=3).contiguous().view(batch, channels, height, width)


def _lab(colour: Tensor, channel: int) -> Tensor:
    """CIE Lab of sRGB values 0..1 whose colours lie along the dimension `channel`."""
    linear = torch.where(colour > 0.04045, ((colour + 0.055) / 1.055).clamp_min(0) ** 2.4, colour / 12.92)
    matrix = colour.new_tensor(_XYZ) / colour.new_tensor(_WHITE)[:, None]
    xyz = torch.tensordot(linear.movedim(channel, -1), matrix.t(), dims=1)
    root = torch.where(xyz > 0.008856, (xyz + _ROOT_EPSILON) ** (1 / 3), 7.787 * xyz + 4 / 29)
    x, y, z = root.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=channel)
