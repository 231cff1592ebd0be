"""Neck, hair and background around the face of a wanted view, from the photo's surroundings.

What lies around the mesh is taken to be a surface that goes on from the mesh's rim and curves away from the viewer:
close to the face it turns with the head. Where the photo does not show it, its mirror image is taken. Farther away it
gives way to the photo as it is. What nothing shows is filled smoothly.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cfr.model.frontalization.pyramids import distance, push_pull
from cfr.model.frontalization.scene import Scene
from cfr.model.frontalization.views import View
from cfr.model.morphology import dilate, erode
from cfr.model.rasterize import sample_image

# Decimetres that the surface recedes per decimetre away from the face's rim.
RECESSION = 0.8
# Decimetres from the rim: up to the first the surroundings turn with the head, beyond the second they stand still.
TURNING, STANDING = 0.35, 0.9
# How much deeper than the photo's face a point must lie to count as hidden by it, decimetres.
_BEHIND = 0.05
_RIM = 7
_SEAM = 21


@dataclass(frozen=True)
class Surroundings:
    """The picture around the face.

    Attributes:
        colour: (B,3,H,W) float32 RGB 0..1, filled everywhere.
        own: (B,H,W) bool, pixels of the photo's own side that the photo shows.
    """

    colour: Tensor
    own: Tensor


def complete_surroundings(scene: Scene, face: Tensor) -> Surroundings:
    """Surroundings of the wanted view.

    Args:
        scene: the faces and their photos.
        face: (B,3,S,S) float32, the painted mesh of the wanted view; its rim colours what nothing else does.
    """
    photo, usable, source, target = scene.photo, scene.usable, scene.source, scene.target
    covered = target.gbuffer.covered
    depth, away = _receding_depth(target)
    batch, height, width = depth.shape
    column = torch.arange(width, device=depth.device) + 0.5
    pixels = torch.stack(torch.meshgrid(column, column, indexing="xy"), -1).expand(batch, -1, -1, -1)
    points = target.to_model(pixels.reshape(batch, -1, 2), depth.flatten(1))
    own_place, own_known = _shown(points, source, usable, (height, width))
    other_place, other_known = _shown(points, scene.flipped, usable.flip(-1), (height, width))
    scale = photo.shape[-1] / source.gbuffer.depth.shape[-1]
    own = sample_image(photo, own_place * scale)
    other = sample_image(photo.flip(-1), other_place * scale)
    # The photo as it stands: same place in the frame, nothing where its own face is.
    still_place = _standing(pixels, source, target)
    head = dilate(source.gbuffer.covered, 15)[:, None].float()
    still_known = sample_image(usable * (1 - head), still_place)
    still = sample_image(photo, still_place * scale)
    turning = ((STANDING - away) / (STANDING - TURNING)).clamp(0, 1)[:, None]

    # Soft where one takes over from the other; both are there on either side.
    own_weight = own_known * _window_mean(own_known, _SEAM)
    other_weight = other_known * (1 - own_weight)
    own_known = torch.where(other_known > 0.5, own_weight, own_known)
    turned_known = own_known + other_weight
    turned = (own * own_known + other * other_weight) / turned_known.clamp(min=1e-4)
    weight = torch.cat([turned_known * turning, still_known * (1 - turning)], 1)
    rim = erode(covered, 3) & ~erode(covered, _RIM)
    total = weight.sum(1, keepdim=True)
    mixed = (turned * weight[:, :1] + still * weight[:, 1:]) / total.clamp(min=1e-4)
    known = torch.where(covered[:, None], rim[:, None].float() * 0.2, total.clamp(max=1))
    known = torch.where(known > 0.05, known, 0.0)
    base = torch.where(covered[:, None], face, mixed)
    filled = push_pull(base, known)
    return Surroundings(filled.clamp(0, 1), (own_known[:, 0] > 0.5) & (turning[:, 0] > 0.5))


def _receding_depth(target: View) -> tuple[Tensor, Tensor]:
    """Depth of the surface around the mesh, and how far from the mesh each pixel is, (B,H,W) decimetres both."""
    covered = target.gbuffer.covered
    rim = covered & ~erode(covered, _RIM)
    known = torch.where(rim, target.gbuffer.depth, 0.0)[:, None]
    at_rim = push_pull(known, rim[:, None].float())[:, 0]
    # px per decimetre at that depth.
    zoom = torch.linalg.vector_norm(target.affine[:, [0, 3]], dim=1) * 1015.0
    away = distance(covered) * at_rim / zoom[:, None, None]
    return at_rim + RECESSION * away, away


def _shown(points: Tensor, view: View, usable: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Where points (B,N,3) are in a photo (B,H,W,2), and whether it shows them (B,1,H,W) 0..1."""
    place, depth = view.to_frame(points)
    place = place.view(len(points), *shape, 2)
    depth = depth.view(len(points), 1, *shape)
    nearness = torch.where(view.gbuffer.covered, 1 / view.gbuffer.depth, 0.0)
    # The nearest of the face around the place: what is next to its rim in the photo is mixed with it.
    in_front = sample_image(dilate(nearness, 5)[:, None], place)
    hidden = in_front > 1 / (depth - _BEHIND).clamp(min=1)
    return place, sample_image(usable, place) * ~hidden


def _window_mean(values: Tensor, size: int) -> Tensor:
    """Mean of the square around each pixel, of what of it lies in the frame."""
    for window in ((size, 1), (1, size)):
        padding = tuple(side // 2 for side in window)
        values = F.avg_pool2d(values, window, stride=1, padding=padding, count_include_pad=False)
    return values


def _standing(pixels: Tensor, source: View, target: View) -> Tensor:
    """Where px of the wanted view's frame are in the photo's frame if nothing but the framing changed."""
    ratio = torch.linalg.vector_norm(source.affine[:, [0, 3]], dim=1) / torch.linalg.vector_norm(
        target.affine[:, [0, 3]], dim=1
    )
    here, there = (view.mesh.pixels.mean(1)[:, None, None] for view in (target, source))
    return (pixels - here) * ratio[:, None, None, None] + there
