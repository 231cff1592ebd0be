"""Colours of photos in the resolution that a view is drawn in, and how far apart they are."""

import torch.nn.functional as F
from torch import Tensor


def reduced(photo: Tensor, size: int) -> Tensor:
    """A photo (B,3,S,S) float32 at a side of `size` pixels, of which S is a multiple: means of squares."""
    factor = photo.shape[-1] // size
    return F.avg_pool2d(photo, factor) if factor > 1 else photo


def colour_distance(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distance of colours along dimension 1, (B,...) of (B,C,...); there torch's own norm is slow on CPUs."""
    return (first - second).square().sum(1).sqrt()


def mean_colour(photo: Tensor, mask: Tensor) -> Tensor:
    """Of a photo (B,3,H,W) over a mask (B,H,W) bool: (B,3,1,1), black where that is empty."""
    mask = mask[:, None]
    return (photo * mask).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True).clamp(min=1)
