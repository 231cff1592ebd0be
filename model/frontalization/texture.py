"""What the photo knows of each point of a wanted view: its own texture, and that of the mirrored side."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cfr.model.frontalization.views import View
from cfr.model.rasterize import interpolate, reproject, sample_image


@dataclass(frozen=True)
class Texture:
    """Colours of the wanted view taken from a photo.

    Attributes:
        colour: (B,3,H,W) float32 RGB 0..1, black where unknown.
        trust: (B,1,H,W) float32 0..1: 0 where the photo does not show the point, 1 where it shows it from the front.
    """

    colour: Tensor
    trust: Tensor


def facing(view: View) -> Tensor:
    """(B,V,1) cosine between each vertex's normal and the direction to the camera."""
    mesh = view.mesh
    to_camera = torch.cat([-mesh.vertices[..., :2], mesh.depth[..., None]], -1)
    return (F.normalize(to_camera, dim=-1) * mesh.normals).sum(-1, keepdim=True)


def take_texture(photo: Tensor, trusted: Tensor, source: View, target: View, triangles: Tensor) -> Texture:
    """Texture of the target view's mesh.

    Args:
        photo: (B,3,S,S) float32 RGB 0..1 in the frame of `source`, or finer by a whole factor.
        trusted: (B,1,h,h) float32 0..1, which pixels show the face itself; of the frame of `source`.
        source, target: views of the same mesh.
        triangles: (F,3).
    """
    frame = source.gbuffer.depth.shape[-1]
    pixels, seen = reproject(target.gbuffer, source.gbuffer, source.mesh.pixels, source.mesh.depth, triangles)
    cosine = interpolate(target.gbuffer, facing(source), triangles)
    share = sample_image(trusted, pixels)
    colour = sample_image(photo, pixels * (photo.shape[-1] / frame))
    trust = cosine.clamp(0, 1) * share * (seen[:, None] & (share > 0))
    return Texture(colour * (trust > 0), trust)
