"""How near completed faces are to the photos: L1, PSNR and SSIM within the mask and beside it, overlap of the masks."""

import torch
from torch import Tensor
from torch.nn.functional import conv2d

LEAST_PIXELS = 32
"""A region with fewer pixels in a picture is not measured there."""

_SIGMA, _RADIUS = 1.5, 5
_C1, _C2 = 0.01**2, 0.03**2


def region_scores(image: Tensor, target: Tensor, region: Tensor) -> dict[str, Tensor]:
    """Scores of each picture within a region.

    Args:
        image, target: (B,3,H,W) float RGB in 0..1.
        region: (B,1,H,W) bool.

    Returns:
        `l1`: mean absolute difference; `psnr` in dB, of the mean squared error over pixels and colours; `ssim`: mean of
        the structural similarity (Wang et al. 2004: Gaussian window of 11 px, sigma 1.5) at the region's pixels. (B,)
        each; NaN where the region has fewer than LEAST_PIXELS pixels.
    """
    weight = region.to(image.dtype)
    pixels = weight.sum((1, 2, 3))
    measured = torch.where(pixels >= LEAST_PIXELS, pixels, torch.nan)

    def mean(values: Tensor) -> Tensor:
        return (values.mean(1, keepdim=True) * weight).sum((1, 2, 3)) / measured

    squared = mean((image - target).square())
    return {
        "l1": mean((image - target).abs()),
        "psnr": -10 * torch.log10(squared.clamp(min=1e-10)),
        "ssim": mean(ssim_map(image, target)),
    }


def mask_overlap(mask: Tensor, target: Tensor) -> Tensor:
    """Intersection over union of two masks (B,1,H,W) bool, (B,); NaN where both are empty."""
    union = (mask | target).sum((1, 2, 3)).float()
    return (mask & target).sum((1, 2, 3)) / torch.where(union > 0, union, torch.nan)


def ssim_map(image: Tensor, target: Tensor) -> Tensor:
    """Structural similarity around each pixel, (B,3,H,W); pictures in 0..1, mirrored at the edges."""
    steps = torch.arange(-_RADIUS, _RADIUS + 1, dtype=image.dtype, device=image.device)
    window = torch.exp(-steps.square() / (2 * _SIGMA**2))
    window = window / window.sum()
    channels = image.shape[1]

    def blurred(values: Tensor) -> Tensor:
        values = torch.nn.functional.pad(values, (_RADIUS,) * 4, mode="reflect")
        values = conv2d(values, window.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
        return conv2d(values, window.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)

    mean, target_mean = blurred(image), blurred(target)
    variance = blurred(image.square()) - mean.square()
    target_variance = blurred(target.square()) - target_mean.square()
    covariance = blurred(image * target) - mean * target_mean
    luminance = (2 * mean * target_mean + _C1) / (mean.square() + target_mean.square() + _C1)
    return luminance * (2 * covariance + _C2) / (variance + target_variance + _C2)
