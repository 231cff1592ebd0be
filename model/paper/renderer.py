"""The picture that CFR-GAN's renderer (PyTorch3D, Phong shading) makes of a mesh with vertex colours.

Two things differ from `cfr.model.rendering`: values are interpolated linearly on the screen, not in space; and a point
light inside the head adds a diffuse and a specular term where the surface turns inwards.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from cfr.model.camera import CAMERA_DISTANCE, CROP_SIZE, project
from cfr.model.rasterize import GBuffer, interpolate, rasterize, resolve

_LIGHT_POSITION = (0.0, 0.0, 1e-5)
_DIFFUSE, _SPECULAR, _SHININESS = 0.3, 0.2, 64
# Length below which PyTorch3D does not stretch a vector to unit length.
_SHORTEST = 1e-6
# What PyTorch3D adds to twice a triangle's area (1e-8 where the frame spans -1..1) before it divides by it, px^2: the
# weights of small triangles add up to less than 1.
_AREA_EPSILON = 1e-8 * (CROP_SIZE / 2) ** 2


def rasterize_screen_linear(shape: Tensor, triangles: Tensor) -> GBuffer:
    """G-buffer whose weights and depth are linear on the screen (PyTorch3D 0.2.5 without perspective correction).

    Args:
        shape: (B,V,3) float32 camera space, decimetres.
        triangles: (F,3) int64.

    Returns:
        (B,224,224); see `cfr.model.rasterize.GBuffer`. On triangles much smaller than a pixel the weights add up to
        less than 1, and the depth is too small in the same measure.
    """
    pixels, depth = project(shape)
    shown = rasterize(pixels, depth, triangles, CROP_SIZE).triangle_id
    # With all vertices at one depth, perspective-correct weights are the screen-linear ones.
    flat = resolve(pixels, torch.ones_like(depth), triangles, shown)
    a, b, c = pixels[:, triangles].unbind(2)
    (along, down), (along_other, down_other) = (b - a).unbind(-1), (c - a).unbind(-1)
    area = (along * down_other - along_other * down).abs()
    shortfall = (area / (area + _AREA_EPSILON)).gather(1, shown.clamp_min(0).flatten(1)).view(*shown.shape, 1)
    linear = GBuffer(shown, flat.barycentric * shortfall, flat.depth)
    surface = interpolate(linear, depth[..., None], triangles)[:, 0]
    return GBuffer(shown, linear.barycentric, torch.where(linear.covered, surface, torch.inf))


def render(shape: Tensor, colours: Tensor, triangles: Tensor, gbuffer: GBuffer | None = None) -> Tensor:
    """Picture of meshes with vertex colours.

    Args:
        shape: (B,V,3) float32 camera space, decimetres.
        colours: (B,V,3) float32; may leave 0..1. In which order the channels are does not matter.
        triangles: (F,3) int64.
        gbuffer: of `rasterize_screen_linear(shape, triangles)` if it is already known.

    Returns:
        (B,3,224,224) float32 0..1, black outside the mesh.
    """
    if gbuffer is None:
        gbuffer = rasterize_screen_linear(shape, triangles)
    attributes = torch.cat([colours, shape, _vertex_normals(shape, triangles)], dim=2)
    texel, point, normal = interpolate(gbuffer, attributes, triangles).split(3, dim=1)
    normal = F.normalize(normal, dim=1, eps=_SHORTEST)
    to_light = F.normalize(_column(point, _LIGHT_POSITION) - point, dim=1, eps=_SHORTEST)
    to_camera = F.normalize(_column(point, (0.0, 0.0, CAMERA_DISTANCE)) - point, dim=1, eps=_SHORTEST)
    cosine = (normal * to_light).sum(1, keepdim=True)
    reflected = 2 * cosine * normal - to_light
    highlight = (to_camera * reflected).sum(1, keepdim=True).clamp_min(0) * (cosine > 0)
    picture = (1 + _DIFFUSE * cosine.clamp_min(0)) * texel + _SPECULAR * highlight**_SHININESS
    return (picture * gbuffer.covered[:, None]).clamp(0, 1)


def _vertex_normals(shape: Tensor, triangles: Tensor) -> Tensor:
    """(B,V,3) unit: area-weighted over all triangles of a vertex (the face model's own list ends after eight)."""
    a, b, c = shape[:, triangles].unbind(2)
    across = torch.linalg.cross(b - a, c - a, dim=-1)
    total = torch.zeros_like(shape)
    for corner in range(3):
        total.index_add_(1, triangles[:, corner], across)
    return F.normalize(total, dim=-1, eps=_SHORTEST)


def _column(like: Tensor, values: tuple[float, float, float]) -> Tensor:
    """(1,3,1,1) of the same dtype and device."""
    return like.new_tensor(values).view(1, 3, 1, 1)
