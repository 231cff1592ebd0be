"""Triangle rasteriser in plain torch: which triangle each pixel shows, where on it, and how deep.

No OpenGL, no compiler, the same code on CPU and CUDA, deterministic. `spans` finds the nearest triangle per pixel; here
it is resolved to perspective-correct barycentric coordinates, which carry gradients to the vertices' pixels and depths
(not through the choice of the triangle), and used: values from vertices, colours from pictures, what another view sees.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from cfr.model.spans import nearest_triangles

# How far behind the surface that a view shows a point may lie and still count as seen, decimetres.
DEPTH_TOLERANCE = 0.02
# Share of the local depth slope (per pixel) that a depth test allows on top of its tolerance, for curved surfaces.
_SLOPE_SLACK = 0.25
# Stands for "nothing here" in the depth test, decimetres.
_FAR = 1e9


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

    @cached_property
    def covered_index(self) -> Tensor:
        """(n,) int64: places of the covered pixels in the flattened (B*H*W,) frames."""
        return self.covered.flatten().nonzero().squeeze(1)


def rasterize(
    pixels: Tensor,
    depth: Tensor,
    triangles: Tensor,
    size: int,
    cull_back_faces: bool = True,
    images_at_once: int | None = None,
) -> GBuffer:
    """Rasterise a batch of meshes that share their triangles.

    Args:
        pixels: (B,V,2) float32 projected vertices: x right, y down, pixel centres at +0.5.
        depth: (B,V) float32 distance from the camera's plane, decimetres.
        triangles: (F,3) int64; counter-clockwise on the screen (with y up) is the front.
        size: height and width of the frame in pixels.
        cull_back_faces: leave out triangles that show their back.
        images_at_once: how many images share the temporary arrays; changes no result. By default one on a CPU, where
            it then stays in the cache, and all on a GPU.

    Returns:
        The G-buffer, (B,size,size). Triangles without area, with a vertex that is not finite or not in front of the
        camera, are left out. The nearest triangle wins; at equal depth the one with the smaller number.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    if pixels.ndim != 3 or pixels.shape[-1] != 2 or depth.shape != pixels.shape[:2]:
        raise ValueError(f"expected pixels (B,V,2) and depth (B,V), got {tuple(pixels.shape)} and {tuple(depth.shape)}")
    if triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f"expected triangles (F,3), got {tuple(triangles.shape)}")
    corner = triangles.t().contiguous()
    chunk = images_at_once or (1 if pixels.device.type == "cpu" else max(len(pixels), 1))
    parts = []
    for first in range(0, max(len(pixels), 1), chunk):
        x, y, d = _planes(pixels[first : first + chunk], depth[first : first + chunk])
        single = (values.detach().float() for values in (x, y, d))
        batch = len(depth[first : first + chunk])
        shown = nearest_triangles(*single, corner, batch, size, cull_back_faces)
        parts.append(_resolve(x, y, d, corner, shown.view(batch, size, size)))
    return GBuffer(*(torch.cat(field) if len(field) > 1 else field[0] for field in zip(*parts, strict=True)))


def resolve(pixels: Tensor, depth: Tensor, triangles: Tensor, triangle_id: Tensor) -> GBuffer:
    """Complete the G-buffer of known triangles, which another renderer may have found.

    Args:
        pixels, depth, triangles: as for `rasterize`.
        triangle_id: (B,H,W) int64 the triangle that each pixel shows, -1 for none.
    """
    return GBuffer(*_resolve(*_planes(pixels, depth), triangles.t().contiguous(), triangle_id))


def _planes(pixels: Tensor, depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x, y and depth of all images' vertices, each (B*V,) contiguous."""
    return pixels[..., 0].flatten().contiguous(), pixels[..., 1].flatten().contiguous(), depth.flatten()


def _resolve(x: Tensor, y: Tensor, depth: Tensor, corner: Tensor, triangle_id: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fields of the G-buffer; vertices as from `_planes`, corner (3,F) int64 contiguous, triangle_id (B,H,W)."""
    batch, height, width = triangle_id.shape
    shown = triangle_id.flatten()
    where = (shown >= 0).nonzero().squeeze(1)
    triangle = shown.index_select(0, where)
    vertices = [corner[k].index_select(0, triangle) for k in range(3)]
    if batch > 1:
        first_vertex = where.div(height * width, rounding_mode="floor") * (len(x) // batch)
        vertices = [v + first_vertex for v in vertices]
    column = torch.arange(width, device=x.device, dtype=x.dtype) + 0.5
    row = torch.arange(height, device=x.device, dtype=x.dtype)[:, None] + 0.5
    centre_x = column.expand(batch, height, width).flatten().index_select(0, where)
    centre_y = row.expand(batch, height, width).flatten().index_select(0, where)
    xa, xb, xc = (x.index_select(0, v) - centre_x for v in vertices)
    ya, yb, yc = (y.index_select(0, v) - centre_y for v in vertices)

    # Weight of a corner: the area that the pixel centre spans with the opposite edge, over the corner's depth. On
    # slivers rounding may put the centre a hair outside: clamped, the weights stay a convex combination.
    areas = [xc * yb - xb * yc, xa * yc - xc * ya, xb * ya - xa * yb]
    total = areas[0] + areas[1] + areas[2]
    screen = [(area / total).clamp_min(0) for area in areas]
    weights = [s / depth.index_select(0, v) for s, v in zip(screen, vertices, strict=True)]
    nearness = weights[0] + weights[1] + weights[2]
    barycentric = x.new_zeros(len(shown), 3)
    for k in range(3):
        barycentric.select(1, k).scatter_(0, where, weights[k] / nearness)
    surface = x.new_full((len(shown),), torch.inf).scatter_(0, where, (screen[0] + screen[1] + screen[2]) / nearness)
    return triangle_id, barycentric.view(batch, height, width, 3), surface.view(batch, height, width)


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
    value = _interpolate_covered(gbuffer, attributes, triangles)
    result = attributes.new_zeros(batch * height * width, value.shape[1]).index_copy_(0, gbuffer.covered_index, value)
    return result.view(batch, height, width, value.shape[1]).permute(0, 3, 1, 2)


def _interpolate_covered(gbuffer: GBuffer, attributes: Tensor, triangles: Tensor) -> Tensor:
    """`interpolate` of the covered pixels only: (n,C) in the order of `covered_index`."""
    batch, height, width = gbuffer.triangle_id.shape
    vertex_count, channels = attributes.shape[1:]
    where = gbuffer.covered_index
    corner = triangles.index_select(0, gbuffer.triangle_id.flatten().index_select(0, where))
    if batch > 1:
        corner += (where.div(height * width, rounding_mode="floor") * vertex_count)[:, None]
    weight = gbuffer.barycentric.reshape(-1, 3).index_select(0, where).to(attributes.dtype)
    return F.embedding_bag(corner, attributes.reshape(-1, channels), per_sample_weights=weight, mode="sum")


def reproject(
    target: GBuffer, source: GBuffer, pixels: Tensor, depth: Tensor, triangles: Tensor
) -> tuple[Tensor, Tensor]:
    """Where the points that one view shows are in another view of the same mesh, and whether that view sees them.

    This is what carrying a texture from one view to another needs: `sample_image(picture, where)` on the seen pixels.

    Args:
        target: G-buffer of the view to fill.
        source: G-buffer of the view to take from.
        pixels: (B,V,2) float32 vertices projected into the source view.
        depth: (B,V) float32 their depth there, decimetres.
        triangles: (F,3) int64, as given to `rasterize`.

    Returns:
        where (B,H,W,2) float32 source pixels, (0, 0) where the target shows nothing; and seen (B,H,W) bool: the source
        view shows this point, so its triangle faces the source view and nothing lies before it (`depth_test`).
    """
    # Pixel times depth is linear on a triangle in space, the pixel itself is not.
    scaled = torch.cat([pixels * depth[..., None], depth[..., None]], dim=-1)
    scaled_x, scaled_y, point_depth = _interpolate_covered(target, scaled, triangles).unbind(1)
    place = torch.stack([scaled_x / point_depth, scaled_y / point_depth], dim=1)

    batch, height, width = target.triangle_id.shape
    covered = target.covered_index
    triangle = target.triangle_id.flatten().index_select(0, covered)
    image = covered.div(height * width, rounding_mode="floor")
    facing = (
        (_signed_areas(pixels.detach(), triangles) < 0).flatten().index_select(0, triangle + image * len(triangles))
    )
    visible = facing & _sees(source.depth, image, *place.detach().unbind(1), point_depth.detach(), DEPTH_TOLERANCE)
    where = pixels.new_zeros(batch * height * width, 2).index_copy_(0, covered, place)
    seen = torch.zeros_like(target.triangle_id, dtype=torch.bool).flatten().scatter_(0, covered, visible)
    return where.view(batch, height, width, 2), seen.view(batch, height, width)


def _signed_areas(pixels: Tensor, triangles: Tensor) -> Tensor:
    """(B,F) twice the area on the screen; negative for triangles that face the viewer (y points down)."""
    corner = triangles.t().flatten()
    xa, xb, xc = pixels[..., 0].index_select(1, corner).view(len(pixels), 3, len(triangles)).unbind(1)
    ya, yb, yc = pixels[..., 1].index_select(1, corner).view(len(pixels), 3, len(triangles)).unbind(1)
    return (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)


def depth_test(source: GBuffer, pixels: Tensor, depth: Tensor, tolerance: float = DEPTH_TOLERANCE) -> Tensor:
    """Which surface points a view sees.

    The point is compared with the surface shown by the pixel it falls into, extended to the point along the smaller of
    the one-sided depth slopes: so a slanted surface does not hide itself, and a slope is never taken across the step
    from an occluder to what lies behind it. Just past the horizon of a rounded surface depth alone cannot tell: where
    the vertices are at hand, `reproject` does better.

    Args:
        source: G-buffer of the view.
        pixels: (B,H,W,2) float32 where the points are in the view, source pixels.
        depth: (B,H,W) float32 their depth in the view, decimetres.
        tolerance: how far behind the shown surface a point may lie, decimetres.

    Returns:
        (B,H,W) bool; False outside the frame, where the view shows nothing, and where the input is not finite.
    """
    x, y = pixels.detach().unbind(-1)
    image = torch.arange(len(depth), device=depth.device).view(-1, 1, 1).expand_as(depth)
    flat = (values.flatten() for values in (image, x, y, depth.detach()))
    return _sees(source.depth, *flat, tolerance).view(depth.shape)


def _sees(shown: Tensor, image: Tensor, x: Tensor, y: Tensor, depth: Tensor, tolerance: float) -> Tensor:
    """`depth_test` of a list of points: shown (B,H,W) depth of the view, image (n,) int64; x, y, depth (n,)."""
    _, height, width = shown.shape
    # A rim and finite depths spare the neighbours' tests for the frame and for NaN.
    line = width + 2
    shown = F.pad(shown.detach().clamp_max(_FAR), (1, 1, 1, 1), value=_FAR).flatten()
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column, row = torch.where(inside, x, 0).floor(), torch.where(inside, y, 0).floor()
    nearest = (image * (height + 2) + row.long() + 1) * line + column.long() + 1
    surface = shown.index_select(0, nearest)
    slope_x = _smaller_slope(shown, surface, nearest, 1)
    slope_y = _smaller_slope(shown, surface, nearest, line)
    expected = surface + slope_x * (x - column - 0.5) + slope_y * (y - row - 0.5)
    slack = tolerance + _SLOPE_SLACK * (slope_x.abs() + slope_y.abs())
    return inside & (surface < _FAR) & (depth <= expected + slack)


def _smaller_slope(shown: Tensor, surface: Tensor, nearest: Tensor, step: int) -> Tensor:
    """Depth step per pixel: the smaller (in size) of the two one-sided ones, 0 where both neighbours show nothing."""
    before = surface - shown.index_select(0, nearest - step)
    after = shown.index_select(0, nearest + step) - surface
    smaller = torch.where(before.abs() < after.abs(), before, after)
    return torch.where(smaller.abs() < _FAR / 2, smaller, 0.0)


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
