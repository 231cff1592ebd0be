"""Triangle rasteriser in plain torch: which triangle each pixel shows, where on it, and how deep.

No OpenGL, no compiler, the same code on CPU and CUDA, deterministic. A triangle is cut into horizontal spans, one per
pixel row it crosses; spans are expanded to samples; one scatter with "minimum" keeps the nearest sample per pixel.
Nothing loops over triangles or pixels. The winner is then resolved to perspective-correct barycentric coordinates,
which carry gradients to the vertices' pixels and depths (not through the choice of the triangle).

Watertight: an edge is always walked from its upper to its lower vertex, so two triangles that share it get bit-equal
crossings, and rows, columns and spans are half-open: a pixel centre on a shared edge belongs to exactly one of them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Triangles with a vertex closer to the camera's plane than this (decimetres), or behind it, are left out.
NEAR_DEPTH = 0.01
# Vertices farther from the frame than this (pixels) are left out too: float32 has no sub-pixel precision there.
_COORDINATE_LIMIT = 1e7
_EMPTY = torch.iinfo(torch.int64).max
_INT32_MAX = torch.iinfo(torch.int32).max


@dataclass(frozen=True)
class GBuffer:
    """What each pixel shows.

    triangle_id (B,H,W) int64, -1 where there is nothing; barycentric (B,H,W,3) float32, perspective-correct weights
    of the triangle's vertices, 0 where there is nothing; depth (B,H,W) float32 decimetres, +inf where there is nothing.
    """

    triangle_id: Tensor
    barycentric: Tensor
    depth: Tensor

    @property
    def covered(self) -> Tensor:
        """(B,H,W) bool: pixels that show a triangle."""
        return self.triangle_id >= 0


def rasterize(
    pixels: Tensor, depth: Tensor, triangles: Tensor, size: int, cull_back_faces: bool = True
) -> GBuffer:
    """Rasterise a batch of meshes that share their triangles.

    Args:
        pixels: (B,V,2) float32 projected vertices: x right, y down, pixel centres at +0.5.
        depth: (B,V) float32 distance from the camera's plane, decimetres.
        triangles: (F,3) int64; counter-clockwise on the screen (with y up) is the front.
        size: height and width of the frame in pixels.
        cull_back_faces: leave out triangles that show their back.

    Returns:
        The G-buffer, (B,size,size). Triangles without area, with a vertex that is not finite or not in front of the
        camera, are left out. The nearest triangle wins; at equal depth the one with the smaller number.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    if pixels.ndim != 3 or pixels.shape[-1] != 2 or depth.shape != pixels.shape[:2]:
        raise ValueError(
            f"expected pixels (B,V,2) and depth (B,V), got {tuple(pixels.shape)} and {tuple(depth.shape)}"
        )
    if triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f"expected triangles (F,3), got {tuple(triangles.shape)}")
    with torch.no_grad():
        # On a CPU one image at a time stays in the cache; a GPU wants the whole batch.
        chunk = 1 if pixels.device.type == "cpu" else max(len(pixels), 1)
        keys = [
            _nearest_keys(pixels[i : i + chunk], depth[i : i + chunk], triangles, size, cull_back_faces)
            for i in range(0, len(pixels), chunk)
        ]
        key = torch.cat(keys) if keys else pixels.new_empty(0, dtype=torch.int64)
        winner = key & 0xFFFFFFFF
        covered = key != _EMPTY
        triangle_id = torch.where(covered, winner, -1).view(-1, size, size)
    barycentric, resolved_depth = _resolve(pixels, depth, triangles, triangle_id)
    return GBuffer(triangle_id, barycentric, resolved_depth)


def _nearest_keys(pixels: Tensor, depth: Tensor, triangles: Tensor, size: int, cull_back_faces: bool) -> Tensor:
    """(B*size*size,) int64: per pixel the smallest of (inverted bits of 1/depth) << 32 | triangle, or _EMPTY."""
    batch, vertex_count = depth.shape
    usable = (depth > NEAR_DEPTH) & depth.isfinite() & (pixels.abs() < _COORDINATE_LIMIT).all(-1)
    # NaN fails every comparison below, so one marked coordinate leaves out every triangle of the vertex.
    x = torch.where(usable, pixels[..., 0].detach(), torch.nan).flatten()
    y = pixels[..., 1].detach().flatten()
    corner = triangles.t()
    if batch > 1:
        corner = corner[:, None] + torch.arange(batch, device=corner.device)[:, None] * vertex_count
    corner = corner.reshape(3, -1)
    (xa, xb, xc), (ya, yb, yc) = x[corner].unbind(), y[corner].unbind()

    # y points down here, so what is counter-clockwise for the viewer has a negative cross product.
    area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
    first_row = _first_centre(torch.minimum(torch.minimum(ya, yb), yc), size)
    end_row = _first_centre(torch.maximum(torch.maximum(ya, yb), yc), size)
    first_column = _first_centre(torch.minimum(torch.minimum(xa, xb), xc), size)
    end_column = _first_centre(torch.maximum(torch.maximum(xa, xb), xc), size)
    keep = (area < 0) if cull_back_faces else (area.abs() > 0)
    kept = (keep & (end_row > first_row) & (end_column > first_column)).nonzero().squeeze(1)

    top, middle, bottom = _sorted_by_y(x, y, depth.detach().flatten().reciprocal(), corner[:, kept])
    first_row, end_row = first_row[kept].long(), end_row[kept].long()
    # Image and row as one number: row k of image b is b * size + k.
    image_row = first_row + kept.div(len(triangles), rounding_mode="floor") * size
    owner, offset = _expand(end_row - first_row)
    row_y = (first_row[owner] + offset).to(x.dtype) + 0.5
    left, right = _span_ends(top, middle, bottom, owner, row_y)

    start, end = _first_centre(left[0], size), _first_centre(right[0], size)
    slope = (right[1] - left[1]) / (right[0] - left[0])
    nearness_at_start = left[1] + (start + 0.5 - left[0]) * slope
    first_pixel = (image_row[owner] + offset) * size + start.long()
    span, step = _expand((end - start).clamp_min(0).long())
    nearness = nearness_at_start[span] + step.to(x.dtype) * slope[span]
    number = kept.remainder(len(triangles))[owner]
    # Bits of a positive float32 sort like the float itself.
    key = (_INT32_MAX - nearness.view(torch.int32).long() << 32) | number[span]
    nearest = torch.full((batch * size * size,), _EMPTY, dtype=torch.int64, device=key.device)
    return nearest.scatter_reduce_(0, first_pixel[span] + step, key, "amin")


def _first_centre(coordinate: Tensor, size: int) -> Tensor:
    """Number (as float) of the first pixel whose centre is at or after the coordinate, within the frame."""
    return (coordinate - 0.5).ceil().clamp(0, size)


def _expand(counts: Tensor) -> tuple[Tensor, Tensor]:
    """List `counts[i]` entries for each i: (total,) int64 i, and (total,) int64 0, 1, ... counts[i] - 1."""
    owner = torch.repeat_interleave(counts)
    start = counts.cumsum(0) - counts
    return owner, torch.arange(len(owner), device=counts.device) - start[owner]


def _sorted_by_y(x: Tensor, y: Tensor, nearness: Tensor, corner: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Corners of each triangle from top to bottom, as (x, y, 1/depth) each (F,); corner (3,F) int64."""
    index = list(corner.unbind())
    height = list(y[corner].unbind())
    for i, j in ((0, 1), (1, 2), (0, 1)):
        swap = height[i] > height[j]
        index[i], index[j] = torch.where(swap, index[j], index[i]), torch.where(swap, index[i], index[j])
        height[i], height[j] = torch.minimum(height[i], height[j]), torch.maximum(height[i], height[j])
    return [(x[i], h, nearness[i]) for i, h in zip(index, height, strict=True)]


def _span_ends(top, middle, bottom, owner: Tensor, row_y: Tensor):
    """Where each span enters and leaves its triangle: ((x, 1/depth) left, (x, 1/depth) right), each (S,).

    1/depth is linear on the screen; walked along the edges like x it stays within the triangle's range even on slivers.
    """
    upper = row_y < middle[1][owner]
    long_edge = _crossing(_walk(top, bottom), owner, row_y)
    upper_edge = _crossing(_walk(top, middle), owner, row_y)
    lower_edge = _crossing(_walk(middle, bottom), owner, row_y)
    short_edge = [torch.where(upper, a, b) for a, b in zip(upper_edge, lower_edge, strict=True)]
    long_is_left = long_edge[0] <= short_edge[0]
    left = [torch.where(long_is_left, a, b) for a, b in zip(long_edge, short_edge, strict=True)]
    right = [torch.where(long_is_left, b, a) for a, b in zip(long_edge, short_edge, strict=True)]
    return left, right


def _walk(start, end):
    """Start of an edge and its steps per pixel of y; not finite on level edges, which no row crosses."""
    height = end[1] - start[1]
    return start[0], start[1], start[2], (end[0] - start[0]) / height, (end[2] - start[2]) / height


def _crossing(walk, owner: Tensor, row_y: Tensor) -> tuple[Tensor, Tensor]:
    """x and 1/depth where edges cross the rows' centre lines."""
    x, y, nearness, x_step, nearness_step = (value[owner] for value in walk)
    down = row_y - y
    return x + down * x_step, nearness + down * nearness_step


def _resolve(pixels: Tensor, depth: Tensor, triangles: Tensor, triangle_id: Tensor) -> tuple[Tensor, Tensor]:
    """Perspective-correct barycentrics (B,H,W,3) and depth (B,H,W) of the visible triangles; differentiable."""
    batch, height, width = triangle_id.shape
    flat_id = triangle_id.flatten()
    where = (flat_id >= 0).nonzero().squeeze(1)
    image = where.div(height * width, rounding_mode="floor")
    corner = triangles[flat_id[where]].t() + image * pixels.shape[1]
    in_image = where - image * (height * width)
    row = in_image.div(width, rounding_mode="floor")
    centre_x = (in_image - row * width).to(pixels.dtype) + 0.5
    centre_y = row.to(pixels.dtype) + 0.5
    x = pixels[..., 0].flatten()[corner] - centre_x
    y = pixels[..., 1].flatten()[corner] - centre_y
    corner_depth = depth.flatten()[corner]

    # Area of the triangle that the pixel centre spans with the opposite edge, times 1/depth of the corner. On slivers
    # rounding may put the centre a hair outside: clamped, the weights stay a convex combination.
    xa, xb, xc = x.unbind()
    ya, yb, yc = y.unbind()
    area = torch.stack([xb * yc - xc * yb, xc * ya - xa * yc, xa * yb - xb * ya])
    area = (area * area.sum(0).sign()).clamp_min(0)
    screen = area / area.sum(0).clamp_min(torch.finfo(area.dtype).tiny)
    weight = screen / corner_depth
    nearness = weight.sum(0)
    barycentric = pixels.new_zeros(batch * height * width, 3).index_copy(0, where, (weight / nearness).t())
    resolved = pixels.new_full((batch * height * width,), torch.inf).index_copy(0, where, nearness.reciprocal())
    return barycentric.view(batch, height, width, 3), resolved.view(batch, height, width)


def interpolate(gbuffer: GBuffer, attributes: Tensor, triangles: Tensor) -> Tensor:
    """Values at each pixel from values at the vertices; differentiable with respect to `attributes`.

    Args:
        gbuffer: from `rasterize`.
        attributes: (B,V,C) float32.
        triangles: (F,3) int64, as given to `rasterize`.

    Returns:
        (B,C,H,W) float32, 0 where nothing is covered.
    """
    batch, height, width = gbuffer.triangle_id.shape
    vertex_count, channels = attributes.shape[1:]
    flat_id = gbuffer.triangle_id.flatten()
    where = (flat_id >= 0).nonzero().squeeze(1)
    image = where.div(height * width, rounding_mode="floor")
    corner = triangles[flat_id[where]] + (image * vertex_count)[:, None]
    weight = gbuffer.barycentric.reshape(-1, 3)[where]
    flat = attributes.reshape(-1, channels)
    value = sum(flat[corner[:, k]] * weight[:, k : k + 1] for k in range(3))
    result = attributes.new_zeros(batch * height * width, channels).index_copy(0, where, value)
    return result.view(batch, height, width, channels).permute(0, 3, 1, 2)


def depth_test(source: GBuffer, pixels: Tensor, depth: Tensor, tolerance: float = 0.02) -> Tensor:
    """Which surface points a view sees.

    The point is compared with the surface shown by the pixel it falls into, extended to the point along the smaller of
    the one-sided depth slopes: so a slanted surface does not hide itself, and a slope is never taken across the step
    from an occluder to what lies behind it.

    Args:
        source: G-buffer of the view.
        pixels: (B,H,W,2) float32 where the points are in the view, source pixels.
        depth: (B,H,W) float32 their depth in the view, decimetres.
        tolerance: how far behind the shown surface a point may lie, decimetres.

    Returns:
        (B,H,W) bool; False outside the frame, where the view shows nothing, and where the input is not finite.
    """
    batch, height, width = source.depth.shape
    shown = source.depth.detach()
    slope_x, slope_y = _smaller_slope(shown, 2), _smaller_slope(shown, 1)
    x, y = pixels.detach().unbind(-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column = torch.where(inside, x, 0).floor()
    row = torch.where(inside, y, 0).floor()
    image = torch.arange(batch, device=shown.device).view(-1, 1, 1) * (height * width)
    nearest = row.long() * width + column.long() + image
    dx, dy = slope_x.flatten()[nearest], slope_y.flatten()[nearest]
    surface = shown.flatten()[nearest]
    expected = surface + dx * (x - column - 0.5) + dy * (y - row - 0.5)
    slack = tolerance + 0.5 * (dx.abs() + dy.abs())
    return inside & surface.isfinite() & (depth.detach() <= expected + slack)


def _smaller_slope(depth: Tensor, dim: int) -> Tensor:
    """Depth step per pixel along a dimension: the smaller (in size) of the two one-sided ones, 0 if none is finite."""
    step = depth.diff(dim=dim)
    step = torch.where(step.isfinite(), step, torch.inf)
    edge = torch.full_like(depth.narrow(dim, 0, 1), torch.inf)
    before, after = torch.cat([edge, step], dim), torch.cat([step, edge], dim)
    smaller = torch.where(before.abs() < after.abs(), before, after)
    return torch.where(smaller.isfinite(), smaller, 0.0)


def sample_image(image: Tensor, pixels: Tensor) -> Tensor:
    """Colours of a picture at given places, bilinear; differentiable with respect to both.

    Args:
        image: (B,C,H,W) float32.
        pixels: (B,h,w,2) float32 places in the picture: x right, y down, pixel centres at +0.5.

    Returns:
        (B,C,h,w) float32; outside the picture is 0.
    """
    extent = pixels.new_tensor([image.shape[-1], image.shape[-2]])
    return F.grid_sample(image, pixels * (2 / extent) - 1, mode="bilinear", padding_mode="zeros", align_corners=False)
