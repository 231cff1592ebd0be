"""Dilation, erosion, counting and means over square windows, one dimension at a time: large windows cost little more.

The results are those of pooling with the same window (exactly: maxima and whole numbers have no rounding; but for
rounding, means).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def _window_max(values: Tensor, size: int, dim: int) -> Tensor:
    """Maximum of `size` neighbours along a dimension of an already padded tensor; windows grow by doubling."""
    width = 1
    while width < size:
        step = min(width, size - width)
        length = values.shape[dim] - step
        values = torch.maximum(values.narrow(dim, 0, length), values.narrow(dim, step, length))
        width += step
    return values


def dilate(mask: Tensor, size: int) -> Tensor:
    """Where any pixel of the window around it is set.

    Args:
        mask: (...,H,W) float32 0..1 or bool.
        size: side of the window, odd.

    Returns:
        Like mask: the maximum over the window; outside the frame is 0.
    """
    radius = size // 2
    padded = F.pad(mask, (radius, radius, radius, radius))
    return _window_max(_window_max(padded, size, -1), size, -2)


def erode(mask: Tensor, size: int) -> Tensor:
    """Where all pixels of the window around it are set; outside the frame counts as set. See `dilate`."""
    inverse = ~mask if mask.dtype == torch.bool else 1 - mask
    eroded = dilate(inverse, size)
    return ~eroded if mask.dtype == torch.bool else 1 - eroded


def closed(mask: Tensor, size: int) -> Tensor:
    """Dilated, then eroded: gaps narrower than the window are filled. See `dilate`."""
    return erode(dilate(mask, size), size)


def spread(core: Tensor, mask: Tensor, size: int, steps: int) -> Tensor:
    """The part of a mask that is reached from a core within it in so many steps (geodesic dilation). See `dilate`."""
    for _ in range(steps):
        core = core | (dilate(core, size) & mask)
    return core


def count_around(mask: Tensor, size: int) -> Tensor:
    """How many pixels of the window around each pixel are set, (...,H,W) float32; mask (...,H,W) bool, size odd."""
    return window_sum(mask.float(), size)


def window_sum(values: Tensor, size: int) -> Tensor:
    """Sum over the window around each pixel, (...,H,W) float32; outside the frame is 0. Size: odd."""
    radius = size // 2
    columns = F.pad(values, (radius + 1, radius)).cumsum(-1)
    values = columns[..., size:] - columns[..., :-size]
    rows = F.pad(values, (0, 0, radius + 1, radius)).cumsum(-2)
    return rows[..., size:, :] - rows[..., :-size, :]


def window_mean(values: Tensor, size: int) -> Tensor:
    """Mean over the part of the window around each pixel that lies in the frame, (...,H,W) float32. Size: odd."""
    return window_sum(values, size) / window_sum(values.new_ones(values.shape[-2:]), size)
