"""The face model's surface laid out flat, so that a picture can be wrapped around it.

The upper part of the picture shows the mean face as it is seen from inside the head, by longitude and latitude.
Triangles that this view does not show whole (inside of mouth and nostrils, folds of the ears, what lies behind the
lids) have a place of their own in the rows below it. The layout depends on the model alone: textures of different
people fit each other's meshes.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cfr.model.face_model import MorphableModel
from cfr.model.rasterize import GBuffer, rasterize

# Where the surface is seen from, model space in decimetres: inside the head, above the nose's underside.
_EYE = (0.0, 0.25, -0.45)
# Share of the picture's height that the view takes, and free pixels around it.
_VIEW_HEIGHT, _MARGIN = 0.75, 4
# A triangle belongs to the view if this share of its area is seen; smaller ones than so many pixels are seen or not.
_WHOLE, _SMALL_AREA = 0.8, 3.0
# Stands for the distance of the picture's plane: so far that the rasteriser's perspective does not matter.
_FAR = 1000.0


@dataclass(frozen=True)
class TextureChart:
    """Layout of a square texture.

    Attributes:
        size: side in px.
        corners: (F,3,2) float32 px, where the corners of each triangle lie; y down.
        in_view: (F,) bool, triangles that the upper part shows.
        places: (V,2) float32 px, where the upper part shows each vertex, or would if nothing were before it.
        view: G-buffer (1,size,size) of the upper part.
        cells: G-buffer (1,size,size) of the rows below.
    """

    size: int
    corners: Tensor
    in_view: Tensor
    places: Tensor
    view: GBuffer
    cells: GBuffer

    @cached_property
    def uv(self) -> Tensor:
        """(F,3,2) 0..1, x right and y up, as OBJ, PLY and trimesh want it."""
        uv = self.corners / self.size
        return torch.stack([uv[..., 0], 1 - uv[..., 1]], -1)


def chart_of(model: MorphableModel, size: int) -> TextureChart:
    """Lay out a model's surface; size: side of the texture in pixels, at least 256."""
    triangles, height = model.triangles, int(size * _VIEW_HEIGHT)
    away = model.mean_shape - model.mean_shape.new_tensor(_EYE)
    angles = torch.stack([torch.atan2(away[:, 0], away[:, 2]), -torch.atan2(away[:, 1], away[:, ::2].norm(dim=1))], 1)
    depth = _FAR - away.norm(dim=1)
    in_view = torch.ones(len(triangles), dtype=torch.bool, device=angles.device)
    # Twice: what lies inside decides nothing about the scale.
    for _ in range(2):
        shown = angles[triangles[in_view].unique()]
        low, high = shown.amin(0), shown.amax(0)
        room = angles.new_tensor([size, height]) - 2 * _MARGIN
        places = (angles - low) / (high - low) * room + _MARGIN
        view = rasterize(places[None], depth[None], triangles, size)
        in_view = _seen_whole(places[triangles], view)
    view = rasterize(places[None], depth[None], triangles[in_view], size)
    numbers = in_view.nonzero().squeeze(1)
    view = GBuffer(torch.where(view.covered, numbers[view.triangle_id], -1), view.barycentric, view.depth)
    corners, cells = _cells(in_view, size, height, places[triangles])
    return TextureChart(size, corners, in_view, places, view, cells)


def _seen_whole(corners: Tensor, view: GBuffer) -> Tensor:
    """(F,) bool: triangles (F,3,2) px of a view that show their front, and nearly all of it."""
    (ax, ay), (bx, by) = ((corners[:, each] - corners[:, 0]).unbind(1) for each in (1, 2))
    area = -(ax * by - bx * ay) / 2  # y down: the front is counter-clockwise with y up
    seen = torch.bincount(view.triangle_id[view.covered], minlength=len(corners))
    return (area > 0) & (seen > 0) & ((seen >= _WHOLE * area) | (area < _SMALL_AREA))


def _cells(in_view: Tensor, size: int, top: int, corners: Tensor) -> tuple[Tensor, GBuffer]:
    """Two triangles to each square of the rows from `top` on: all corners (F,3,2), and the G-buffer."""
    others = (~in_view).nonzero().squeeze(1)
    squares = (len(others) + 1) // 2
    side = 3
    while (size // (side + 1)) * ((size - top) // (side + 1)) >= squares and side < 16:
        side += 1
    columns = size // side
    if columns * ((size - top) // side) < squares:
        raise ValueError(f"a texture of {size} px is too small for {len(others)} triangles")
    device = corners.device
    number = torch.arange(len(others), device=device)
    square = number // 2
    corner = torch.stack([square % columns * side, square // columns * side + top], 1)
    # Corners on pixel centres: bilinear sampling inside a triangle meets none but its own square's pixels.
    last = side - 1.0
    halves = corners.new_tensor([[[0, 0], [0, last], [last, 0]], [[last, last], [last, 0], [0, last]]]) + 0.5
    corners = corners.clone()
    corners[others] = corner[:, None] + halves[number % 2]
    y, x = torch.meshgrid(*[torch.arange(float(side), device=device)] * 2, indexing="ij")
    # Weights of the first half's corners; a pixel beyond the diagonal belongs to the second half, mirrored.
    first = torch.stack([1 - (x + y) / last, y / last, x / last], -1)
    beyond = x + y > last
    mirrored = torch.stack([1 - (2 * last - x - y) / last, (last - y) / last, (last - x) / last], -1)
    weights = torch.where(beyond[..., None], mirrored, first)
    triangle_id = torch.full((size, size), -1, device=device)
    barycentric = torch.zeros(size, size, 3, device=device)
    rows = corner[::2, 1][:, None, None] + torch.arange(side, device=device)[:, None]
    places = corner[::2, 0][:, None, None] + torch.arange(side, device=device)
    second = (2 * torch.arange(squares, device=device) + 1).clamp(max=len(others) - 1)
    ids = torch.where(beyond, others[second][:, None, None], others[::2][:, None, None])
    triangle_id[rows, places] = ids
    barycentric[rows, places] = weights.expand(squares, -1, -1, -1)
    depth = torch.where(triangle_id >= 0, _FAR, torch.inf)
    return corners, GBuffer(triangle_id[None], barycentric[None], depth[None])
