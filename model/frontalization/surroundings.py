"""Neck, hair and background around the face of a wanted view, from the photo's surroundings.

What lies around the mesh is taken to be a surface that goes on from the mesh's rim towards the back of the head. In
photos from the side it does so steeply at its sides, so that ears and hair that they show are not spread out beside a
frontal face, less so above and below; in photos from the front gently everywhere, so that hair stays around a turned
face. Close to the face it turns with the head. Where the photo does not show it, its mirror image is taken. Farther
away it gives way to the background as it stands, as seen on the side that the nose points to: behind a turned head lie
its hair and neck. What nothing shows is filled smoothly.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cfr.model.camera import FOCAL_LENGTH
from cfr.model.frontalization.pyramids import distance, push_pull
from cfr.model.frontalization.scene import Scene
from cfr.model.frontalization.views import View
from cfr.model.morphology import dilate, erode, window_mean
from cfr.model.rasterize import sample_image

# Decimetres that the surface goes outwards, to the side and up or down, per decimetre that it goes back.
_OUTWARDS = (0.2, 1.25)
_STEEPEST = 6.0
# Slope for photos from the front, and yaw of a photo: up to the first it is from the front, beyond the second it shows
# the side of a head, which is as steep as above.
_FLAT = 0.8
_SIDEWAYS = (15.0, 40.0)
# Decimetres along the surface from the rim: up to the first the surroundings turn with the head, beyond the second they
# stand still.
TURNING, STANDING = 0.35, 1.0
# Decimetres that a head reaches behind the face model's mesh, and in how many steps it is drawn.
_BACK_OF_HEAD, _STEPS = 1.1, 5
# How much deeper than the photo's face a point must lie to count as hidden by it, decimetres.
_BEHIND = 0.05
_RIM = 7
_SEAM = 21
_FADE, _EDGE = 25, 3
# Decimetres over which a face gives way to the background above a forehead that the photo cuts off.
_CROWN_FADE = 0.4
# Weight of the mesh's rim where the background is filled in.
_LAST_RESORT = 1e-3
# Share of the way down in a direction: from the first on there may be a neck, at the second there is.
_NECK = (0.75, 0.9)


@dataclass(frozen=True)
class Surroundings:
    """The picture around the face.

    Attributes:
        colour: (B,3,H,W) float32 RGB 0..1, filled everywhere.
        own: (B,H,W) bool, pixels of the photo's own side that the photo shows.
    """

    colour: Tensor
    own: Tensor


def complete_surroundings(scene: Scene, face: Tensor, covered: Tensor) -> Surroundings:
    """Surroundings of the wanted view.

    Args:
        scene: the faces and their photos.
        face: (B,3,S,S) float32, the painted mesh of the wanted view; its rim colours what nothing else does.
        covered: (B,S,S) bool, the part of the mesh that is to be seen; the rest fades into the background.
    """
    photo, usable, source, target = scene.photo, scene.usable, scene.source, scene.target
    depth, along = _receding_depth(target, scene.pose[:, 0])
    batch, height, width = depth.shape
    column = torch.arange(width, device=depth.device) + 0.5
    pixels = torch.stack(torch.meshgrid(column, column, indexing="xy"), -1).expand(batch, -1, -1, -1)
    points = target.to_model(pixels.reshape(batch, -1, 2), depth.flatten(1))
    own_place, own_known = _shown(points, source, usable, (height, width))
    other_place, other_known = _shown(points, scene.flipped, usable.flip(-1), (height, width))
    scale = photo.shape[-1] / source.gbuffer.depth.shape[-1]
    own = sample_image(photo, own_place * scale)
    other = sample_image(photo.flip(-1), other_place * scale)
    turning = ((STANDING - along) / (STANDING - TURNING)).clamp(0, 1)[:, None]

    # Soft where one takes over from the other; both are there on either side.
    own_weight = own_known * window_mean(own_known, _SEAM)
    other_weight = other_known * (1 - own_weight)
    own_known = torch.where(other_known > 0.5, own_weight, own_known)
    turned_known = own_known + other_weight
    turned = (own * own_known + other * other_weight) / turned_known.clamp(min=1e-4)
    rim = (erode(covered, 3) & ~erode(covered, _RIM))[:, None].float()
    covered = covered[:, None]
    known = torch.where(covered, rim * 0.2, turned_known.clamp(max=1) * (turning > 0))
    near = push_pull(torch.where(covered, face, turned), torch.where(known > 0.05, known, 0.0))
    # The photo's edge does not become one of the head.
    turned_known = turned_known * (2 * window_mean(torch.where(covered, 1.0, turned_known), _FADE) - 1).clamp(min=0)
    still, still_known = _background(scene, pixels)
    # The rim speaks for the background only where no photo does.
    far = push_pull(torch.where(covered, face, still), torch.where(covered, rim * _LAST_RESORT, still_known))
    share = window_mean(torch.where(covered, 1.0, torch.maximum(turned_known, _neck(target)) * turning), _EDGE)
    share = torch.where(covered, 1.0, share)
    share = torch.maximum(share, _fading(target, covered))
    colour = near * share + far * (1 - share)
    return Surroundings(colour.clamp(0, 1), (own_known[:, 0] > 0.5) & (turning[:, 0] > 0.5))


def _fading(target: View, covered: Tensor) -> Tensor:
    """Share (B,1,H,W) 0..1 that goes on from the face where the mesh is not to be seen: no outline of a bald head."""
    hidden = target.gbuffer.covered[:, None] & ~covered
    beside = (2 * window_mean(hidden.float(), _SEAM)).clamp(max=1)
    away = distance(covered[:, 0])[:, None] / _zoom(target)[:, None, None, None]
    return (1 - away / _CROWN_FADE).clamp(0, 1) * torch.where(hidden, 1.0, beside)


def _neck(target: View) -> Tensor:
    """Where a neck is to be expected below the mesh, (B,1,H,W) 0..1."""
    down = -_outwards_in_head(target)[..., 1]
    return ((down - _NECK[0]) / (_NECK[1] - _NECK[0])).clamp(0, 1)[:, None]


def _receding_depth(target: View, source_yaw: Tensor) -> tuple[Tensor, Tensor]:
    """Depth of the surface around the mesh, and the way to each pixel along it, (B,H,W) decimetres both.

    source_yaw: (B,) degrees, of the photo.
    """
    covered = target.gbuffer.covered
    rim = covered & ~erode(covered, _RIM)
    known = torch.where(rim, target.gbuffer.depth, 0.0)[:, None]
    at_rim = push_pull(known, rim[:, None].float())[:, 0]
    away = distance(covered) / _zoom(target)[:, None, None]
    sideways = ((source_yaw.abs() - _SIDEWAYS[0]) / (_SIDEWAYS[1] - _SIDEWAYS[0])).clamp(0, 1)[:, None, None]
    slope = torch.lerp(torch.full_like(away, _FLAT), _slope(target), sideways)
    return at_rim + slope * away, away * (1 + slope.square()).sqrt()


def _slope(target: View) -> Tensor:
    """How much deeper the surface around the mesh gets per step away from it in the picture, (B,H,W)."""
    in_head = _outwards_in_head(target)
    side, height, _ = in_head.unbind(-1)
    # Between the two it keeps to the side's way: below a jaw lies the neck, which is narrower.
    tangent = torch.stack([_OUTWARDS[0] * side, _OUTWARDS[1] * height**3, -torch.ones_like(side)], -1)
    back = (tangent * target.rotation[:, None, None, 2]).sum(-1)
    out = (tangent * in_head).sum(-1)
    return (-back / out.clamp(min=1e-3)).clamp(0, _STEEPEST)


def _outwards_in_head(target: View) -> Tensor:
    """Direction from the middle of the mesh to each pixel, in model space, (B,H,W,3) of length 1."""
    height, width = target.gbuffer.depth.shape[-2:]
    x, y = (torch.arange(size, device=target.mesh.pixels.device) + 0.5 for size in (width, height))
    middle = (target.mesh.pixels.amin(1) + target.mesh.pixels.amax(1)) / 2
    place = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1) - middle[:, None, None]
    # The frame may be turned; the transpose undoes that, up to scale. In camera space y points up.
    outwards = F.normalize(place @ target.affine.view(-1, 1, 2, 3)[..., :2], dim=-1)
    return F.pad(outwards * outwards.new_tensor([1.0, -1.0]), (0, 1)) @ target.rotation[:, None]


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


def _background(scene: Scene, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """What stands behind the head: colour (B,3,H,W), and how far it is known (B,1,H,W) 0..1.

    The photo at the same place of the frame, or its mirror image where that shows the head and this does not.

    Args:
        scene: the faces and their photos.
        pixels: (B,H,W,2) px of the wanted view's frame.
    """
    photo, source, target = scene.photo, scene.source, scene.target
    known = scene.usable * (1 - _head(scene))
    place = _standing(pixels, source, target)
    width = source.gbuffer.depth.shape[-1]
    middle = 2 * source.mesh.pixels[..., 0].mean(1)[:, None, None]
    opposite = torch.stack([middle - place[..., 0], place[..., 1]], -1)
    here, there = sample_image(known, place), sample_image(known, opposite)
    scale = photo.shape[-1] / width
    # Soft where one takes over from the other, as far as both are there.
    here_weight = torch.where(there > 0.5, here * window_mean(here, _SEAM), here)
    there_weight = there * (1 - here_weight)
    known = here_weight + there_weight
    colour = sample_image(photo, place * scale) * here_weight + sample_image(photo, opposite * scale) * there_weight
    return colour / known.clamp(min=1e-4), known


def _head(scene: Scene) -> Tensor:
    """Where the photo shows the head, as far as it can be guessed from the mesh, (B,1,h,h) 0/1."""
    source = scene.source
    covered = dilate(source.gbuffer.covered, 15)[:, None].float()
    size = covered.shape[-1]
    axis = torch.arange(size, device=covered.device) + 0.5
    pixels = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    # The back of the head, where that direction of the head's own space goes in the photo.
    backwards = -source.rotation[:, :2, 2] * source.rotation.new_tensor([1.0, -1.0])
    head = covered
    for step in range(1, _STEPS + 1):
        shift = backwards * (_BACK_OF_HEAD * step / _STEPS * _zoom(source))[:, None]
        head = torch.maximum(head, (sample_image(covered, pixels - shift[:, None, None]) > 0.5).float())
    return head


def _zoom(view: View) -> Tensor:
    """Pixels of the frame per decimetre, at the face's depth, (B,)."""
    return torch.linalg.vector_norm(view.affine[:, [0, 3]], dim=1) * FOCAL_LENGTH / view.mesh.depth.mean(1)


def _standing(pixels: Tensor, source: View, target: View) -> Tensor:
    """Where px of the wanted view's frame are in the photo's frame if nothing but the framing changed."""
    ratio = _zoom(source) / _zoom(target)
    here, there = (view.mesh.pixels.mean(1)[:, None, None] for view in (target, source))
    return (pixels - here) * ratio[:, None, None, None] + there
