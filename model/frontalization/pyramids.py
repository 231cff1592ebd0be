"""Image pyramids: holes filled from around them, layers blended band by band without a seam."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Side in pixels at which a pyramid ends.
_SMALLEST = 4
_TINY = 1e-6
# Share of a frame that must be known for a smooth ratio to be believed fully.
_FULL_EVIDENCE = 0.03


def _halved(values: Tensor) -> Tensor:
    """Half the size, rounded up; outside the frame counts as nothing."""
    return F.avg_pool2d(values, 2, ceil_mode=True, count_include_pad=False)


def _smoothed_half(values: Tensor) -> Tensor:
    """Half the size, rounded up, under a window of four pixels."""
    height, width = values.shape[-2:]
    even = F.pad(values, (1, 1 + width % 2, 1, 1 + height % 2), mode="replicate")
    return F.avg_pool2d(even, 4, stride=2)


def _enlarged(values: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(values, size=like.shape[-2:], mode="bilinear", align_corners=False)


def push_pull(values: Tensor, weight: Tensor) -> Tensor:
    """Fill what is unknown from what is known around it, the smoother the farther away (Gortler et al. 1996).

    Args:
        values: (B,C,H,W) float32; what they are where the weight is 0 does not matter (but finite).
        weight: (B,1,H,W) float32 0..1, how far each value is known.

    Returns:
        (B,C,H,W): the values where the weight is 1. Frames that know nothing are 0.
    """
    if max(values.shape[-2:]) <= 1:
        return values * (weight > 0)
    total = _halved(weight)
    coarse = _halved(values * weight) / total.clamp(min=_TINY)
    filled = push_pull(coarse, (4 * total).clamp(max=1))
    return values * weight + _enlarged(filled, values) * (1 - weight)


def smooth_ratio(values: Tensor, weight: Tensor, scale: int) -> Tensor:
    """`push_pull` of noisy values at a coarser scale: (B,C,H,W) that varies over `scale` pixels and more."""
    total = F.avg_pool2d(weight, scale, ceil_mode=True, count_include_pad=False)
    coarse = F.avg_pool2d(values * weight, scale, ceil_mode=True, count_include_pad=False) / total.clamp(min=_TINY)
    # Evidence that nothing supports has no say: the ratio of a frame's few known places is drawn towards none at all.
    filled = push_pull(coarse, total) * (total.mean((-2, -1), keepdim=True) / _FULL_EVIDENCE).clamp(max=1)
    soft = F.avg_pool2d(filled, 3, stride=1, padding=1, count_include_pad=False)
    return _enlarged(soft, values)


def blend_bands(below: Tensor, above: Tensor, mask: Tensor, levels: int = 5) -> Tensor:
    """Multi-band blend (Burt and Adelson 1983): coarse bands mix over a wide seam, fine ones over a narrow one.

    Args:
        below, above: (B,C,H,W) float32, both plausible everywhere near the seam.
        mask: (B,1,H,W) float32 0..1, 1 where `above` is wanted.
        levels: number of bands; the widest seam has about 2^levels pixels.

    Returns:
        (B,C,H,W) float32, not clamped.
    """
    if levels <= 1 or min(below.shape[-2:]) <= _SMALLEST:
        return below + (above - below) * mask
    difference = above - below
    coarse = _smoothed_half(difference)
    coarse_mask = _smoothed_half(mask)
    band = difference - _enlarged(coarse, difference)
    mixed = blend_bands(torch.zeros_like(coarse), coarse, coarse_mask, levels - 1)
    return below + band * mask + _enlarged(mixed, difference)


def distance(mask: Tensor, scale: int = 4) -> Tensor:
    """Distance in pixels to the nearest pixel of a mask.

    Exact on a grid of squares of `scale` pixels (two passes, one per dimension), interpolated between their centres.

    Args:
        mask: (B,H,W) bool.

    Returns:
        (B,H,W) float32; 0 inside, the frame's diagonal where the mask is empty.
    """
    height, width = mask.shape[-2:]
    coarse = F.max_pool2d(mask[:, None].float(), scale, ceil_mode=True)[:, 0] > 0
    far = float(height**2 + width**2) / scale**2
    squared = torch.where(coarse, 0.0, far)
    for _ in range(2):
        place = torch.arange(squared.shape[-1], device=mask.device, dtype=torch.float32)
        apart = (place[:, None] - place[None]).pow(2)
        squared = (squared[..., None, :] + apart).amin(-1).clamp(max=far).transpose(-1, -2)
    return _enlarged((squared.sqrt() * scale)[:, None], mask[:, None])[:, 0]
