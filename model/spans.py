"""Which triangle each pixel shows: scan conversion by spans in plain torch, CPU or CUDA.

A triangle is cut at the height of its middle vertex into two halves; a half has one left and one right edge, and gives
one span per pixel row; spans are expanded to samples; one scatter with "minimum" keeps the nearest sample per pixel.
Nothing loops over triangles or pixels, and the result does not depend on the order of execution.

Watertight: an edge is always walked from its upper to its lower vertex, so two triangles that share it get bit-equal
crossings, and rows, columns and spans are half-open: a pixel centre on a shared edge belongs to exactly one of them.
That is also why no fused multiply-add (`addcmul`, `lerp`) may be used here: whether it fuses depends on the array.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# Triangles with a vertex closer to the camera's plane than this (decimetres), or behind it, are left out.
NEAR_DEPTH = 0.01
# Vertices farther from the frame than this (pixels) are left out too: float32 has no sub-pixel precision there.
_COORDINATE_LIMIT = 1e7
_EMPTY = torch.iinfo(torch.int64).max
_INT32_MAX = torch.iinfo(torch.int32).max


class _Edges(NamedTuple):
    """Edges to walk downwards: upper end (x, y, 1/depth) and steps per pixel of y; level edges have no finite steps."""

    x: Tensor
    y: Tensor
    nearness: Tensor
    x_step: Tensor
    nearness_step: Tensor

    @classmethod
    def between(cls, upper: tuple[Tensor, ...], lower: tuple[Tensor, ...]) -> "_Edges":
        height = lower[1] - upper[1]
        return cls(*upper, (lower[0] - upper[0]) / height, (lower[2] - upper[2]) / height)

    def crossing(self, index: Tensor, row_y: Tensor) -> tuple[Tensor, Tensor]:
        """x and 1/depth of the numbered edges at the given heights."""
        x, y, nearness, x_step, nearness_step = (values.index_select(0, index) for values in self)
        down = row_y - y
        return x + down * x_step, nearness + down * nearness_step


def nearest_triangles(
    x: Tensor, y: Tensor, depth: Tensor, corner: Tensor, batch: int, size: int, cull_back_faces: bool
) -> Tensor:
    """Number of the triangle that each pixel shows.

    Args:
        x, y: (B*V,) float32 projected vertices of all images, pixels.
        depth: (B*V,) float32 distance from the camera's plane.
        corner: (3,F) int64, contiguous: vertices of each triangle.
        batch: number of images B.
        size: height and width of the frame.
        cull_back_faces: leave out triangles that are clockwise for the viewer.

    Returns:
        (B*size*size,) int64, -1 where nothing is shown.
    """
    usable = (depth > NEAR_DEPTH) & (depth < torch.inf) & (x.abs() < _COORDINATE_LIMIT) & (y.abs() < _COORDINATE_LIMIT)
    # NaN fails every comparison, so one marked coordinate leaves out every triangle of the vertex.
    x = torch.where(usable, x, torch.nan)
    triangle_count = corner.shape[1]
    if batch != 1:
        offset = torch.arange(batch, device=corner.device) * (len(x) // max(batch, 1))
        corner = (corner[:, None] + offset[:, None]).flatten(1)
    kept = _covering(x, y, corner, size, cull_back_faces)
    image = kept.div(triangle_count, rounding_mode="floor") if batch > 1 else None
    number = kept if image is None else kept - image * triangle_count

    long_edge, short_edge, first_row, end_row = _halves(x, y, depth.reciprocal(), corner, kept, size)
    half, step_down = _expand(end_row - first_row)
    row = first_row.index_select(0, half) + step_down
    row_y = row.to(x.dtype) + 0.5
    long_x, long_nearness = long_edge.crossing(half, row_y)
    short_x, short_nearness = short_edge.crossing(half, row_y)

    first_column = _first_centre(torch.minimum(long_x, short_x), size)
    end_column = _first_centre(torch.maximum(long_x, short_x), size)
    # 1/depth is linear on the screen. Taken between the two crossings, it stays within the triangle even on slivers.
    slope = (short_nearness - long_nearness) / (short_x - long_x)
    nearness = long_nearness + (first_column + 0.5 - long_x) * slope
    first_pixel = row * size + first_column.long()
    if image is not None:
        first_pixel += torch.cat([image, image]).index_select(0, half) * (size * size)
    span, step_right = _expand((end_column - first_column).clamp_min(0).long())
    nearness = (nearness.index_select(0, span) + step_right.to(x.dtype) * slope.index_select(0, span)).clamp_min_(0)
    span_number = torch.cat([number, number]).index_select(0, half)
    # Bits of a positive float32 sort like the float itself, so the nearest sample has the smallest key.
    key = (_INT32_MAX - nearness.view(torch.int32)).long() << 32 | span_number.index_select(0, span)
    nearest = torch.full((batch * size * size,), _EMPTY, dtype=torch.int64, device=x.device)
    nearest.scatter_reduce_(0, first_pixel.index_select(0, span) + step_right, key, "amin")
    # The low half of a key is the triangle's number; that of _EMPTY is -1.
    return nearest.int().long()


def _covering(x: Tensor, y: Tensor, corner: Tensor, size: int, cull_back_faces: bool) -> Tensor:
    """(K,) int64: triangles whose bounding box holds a pixel centre of the frame and which face the viewer."""
    xa, xb, xc = x.index_select(0, corner.flatten()).view(3, -1).unbind()
    ya, yb, yc = y.index_select(0, corner.flatten()).view(3, -1).unbind()
    # y points down, so what is counter-clockwise for the viewer has a negative cross product.
    area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
    covering = (area < 0) if cull_back_faces else (area.abs() > 0)
    for a, b, c in ((ya, yb, yc), (xa, xb, xc)):
        first = _first_centre(torch.minimum(torch.minimum(a, b), c), size)
        end = _first_centre(torch.maximum(torch.maximum(a, b), c), size)
        covering &= end > first
    return covering.nonzero().squeeze(1)


def _halves(x: Tensor, y: Tensor, nearness: Tensor, corner: Tensor, kept: Tensor, size: int):
    """Upper halves of the kept triangles, then lower halves.

    Returns:
        long and short edge of each half (2K), first row and end row (2K,) int64; a half without rows is empty.
    """
    # Sorted as integers, height above vertex number: bits of a float32 sort like the float itself once those of
    # negative numbers are flipped.
    bits = y.view(torch.int32)
    numbers = torch.arange(len(y), device=y.device)
    key = (bits ^ (bits >> 31 & _INT32_MAX)).long() << 32 | numbers
    a, b, c = (key.index_select(0, corner[k].index_select(0, kept)) for k in range(3))
    a, b = torch.minimum(a, b), torch.maximum(a, b)
    b, c = torch.minimum(b, c), torch.maximum(b, c)
    a, b = torch.minimum(a, b), torch.maximum(a, b)
    index = [k & 0xFFFFFFFF for k in (a, b, c)]
    height = [y.index_select(0, i) for i in index]
    top, middle, bottom = (
        (x.index_select(0, i), h, nearness.index_select(0, i)) for i, h in zip(index, height, strict=True)
    )
    long_edge = _Edges.between(top, bottom)
    upper, lower = _Edges.between(top, middle), _Edges.between(middle, bottom)
    rows = [_first_centre(h, size).long() for h in height]
    return (
        _Edges(*(torch.cat([values, values]) for values in long_edge)),
        _Edges(*(torch.cat(halves) for halves in zip(upper, lower, strict=True))),
        torch.cat(rows[:2]),
        torch.cat(rows[1:]),
    )


def _first_centre(coordinate: Tensor, size: int) -> Tensor:
    """Number (as float) of the first pixel whose centre is at or after the coordinate, within the frame."""
    return (coordinate - 0.5).ceil_().clamp_(0, size)


def _expand(counts: Tensor) -> tuple[Tensor, Tensor]:
    """List counts[i] entries for each i: (total,) int64 the i, and (total,) int64 running from 0 to counts[i] - 1."""
    end = counts.cumsum(0)
    total = int(end[-1]) if len(end) else 0
    # The owner of an entry is the number of lists that ended before it (repeat_interleave takes twice as long).
    ended = counts.new_zeros(total + 1).scatter_add_(0, end, torch.ones_like(end))
    owner = ended[:total].cumsum(0)
    return owner, torch.arange(total, device=counts.device) - (end - counts).index_select(0, owner)
