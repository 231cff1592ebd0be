"""The composite: a face at a wanted pose from one photo and its fit, without a trained generator.

Where the photo shows the point, its own texture; where it shows only the mirrored point, that one's; where it shows
neither, the fitted model's colours. The parts are matched in colour and light and blended band by band.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cfr.model.frontalization.outline import outline_trust
from cfr.model.frontalization.pyramids import blend_bands, push_pull, smooth_ratio
from cfr.model.frontalization.scene import Scene
from cfr.model.frontalization.texture import Texture, take_texture
from cfr.model.morphology import closed, window_mean
from cfr.model.rasterize import interpolate

# Added to colours before ratios are taken: dark pixels are noise.
_DARK = 0.04
# Pixels per degree of freedom of the gain between two layers: of halves of a face, whose light differs, and of the
# model beside the photo; and of the model in a gap of the photo, so that a beard or lips go on across it.
_GAIN_SCALE, _SEAM_SCALE = 14, 4
# Largest logarithm of those gains.
_HALVES_GAIN, _SEAM_GAIN = 0.9, 2.0
# Trust below which a texture is not used at all.
_LEAST_TRUST = 0.1
# Gaps up to this width (pixels) lie within the face: their colours are bridged. A crown beyond is not shown.
_GAP = 41
# Window in which the colours of a gap give way to those beyond.
_SOFT = 15
# The mirrored texture is taken where its trust is higher by more than this: own pixels are preferred, but not smears.
_MIRROR_ADVANTAGE = 0.55
# Logarithm by which an iris is darker than the white around it, at least; and yaw (degrees) up to which eyes stay even
# so: seen from the front they are closed rather than turned away.
_LEAST_IRIS, _FRONTAL = 0.25, 15.0


@dataclass(frozen=True)
class PaintedFaces:
    """The mesh's part of the wanted view.

    Attributes:
        colour: (B,3,S,S) float32 RGB 0..1; means nothing outside the mesh.
        own, mirrored: (B,S,S) bool, pixels that come from the photo, and from the other side of the face in it.
        shown: (B,S,S) bool, the mesh without a crown that the photo does not show.
    """

    colour: Tensor
    own: Tensor
    mirrored: Tensor
    shown: Tensor


class CompositePainter:
    """Paints without a network, in any frame."""

    frame = None

    def paint(self, scene: Scene) -> PaintedFaces:
        """Paint the mesh of the wanted view."""
        trusted = scene.usable * outline_trust(scene.photo, scene.source, scene.pose)
        own = take_texture(scene.photo, trusted, scene.source, scene.target, scene.triangles)
        other = take_texture(scene.photo.flip(-1), trusted.flip(-1), scene.flipped, scene.target, scene.triangles)
        take_own = (own.trust > _LEAST_TRUST) & (own.trust > _MIRROR_ADVANTAGE * other.trust)
        take_other = (other.trust > _LEAST_TRUST) & ~take_own
        blank = _blank_eyes(scene, torch.where(take_own, own.colour, other.colour), take_own | take_other)
        take_own, take_other = take_own & ~blank, take_other & ~blank
        known = take_own | take_other
        within = closed(known, _GAP)
        colour = layered(scene.guidance, own, other, take_own, take_other, within)
        # A photo that ends at the forehead says nothing of the hair but what begins below: no bald model's skin.
        crown = interpolate(scene.target.gbuffer, scene.crown.expand(len(colour), -1, -1), scene.triangles)
        filled = crown * ~known * known.any(-1, True).any(-2, True)
        colour = torch.lerp(colour, push_pull(colour, known.float()), filled)
        shown = scene.target.gbuffer.covered & ~((filled > 0) & ~within)[:, 0]
        return PaintedFaces(colour, take_own[:, 0], take_other[:, 0], shown)


def _blank_eyes(scene: Scene, texture: Tensor, known: Tensor) -> Tensor:
    """Eyes that show no iris where they would look at the camera, (B,1,S,S) bool: the model's own look better.

    A head that is turned away shows the iris at a slant, or in the corner of the eye.

    Args:
        scene: the faces.
        texture: (B,3,S,S) float32 RGB 0..1 of the wanted view.
        known: (B,1,S,S) bool, where it is one.
    """
    eyes = interpolate(scene.target.gbuffer, scene.eyes.expand(len(texture), -1, -1), scene.triangles) > 0.5
    seen = (eyes & known).flatten(2)
    brightness = (texture.mean(1, keepdim=True) + _DARK).log().flatten(2)
    iris, sclera = ((brightness * seen).sum(2) / seen.sum(2).clamp(min=1)).unflatten(1, (2, 2)).unbind(2)
    # Both or none: eyes that differ look worse than any.
    blank = ((iris - sclera).mean(1) > -_LEAST_IRIS) & (scene.pose[:, 0].abs() > _FRONTAL)
    return eyes.any(1, keepdim=True) & blank[:, None, None, None]


def layered(
    guidance: Tensor, own: Texture, other: Texture, take_own: Tensor, take_other: Tensor, within: Tensor
) -> Tensor:
    """The photo's own texture over the mirrored one over the guidance, each matched to what lies on it.

    Args:
        guidance: (B,3,H,W) float32 RGB 0..1.
        own, other: textures of the same view.
        take_own, take_other: (B,1,H,W) bool, where each is wanted; nowhere both.
        within: (B,1,H,W) bool, those and the gaps between them.

    Returns:
        (B,3,H,W) float32 RGB 0..1.
    """
    # The mirrored side is lit otherwise: matched where the photo shows both sides well.
    both = own.trust * other.trust * take_own
    mirrored = matched(other.colour, own.colour, both, _GAIN_SCALE, _HALVES_GAIN)
    known = torch.where(take_own, own.colour, mirrored)
    taken = take_own | take_other
    base = matched(guidance, known, taken * torch.where(take_own, own.trust, other.trust), _GAIN_SCALE, _HALVES_GAIN)
    # Between two seams it has to meet both; beyond the last one it goes on in the light of the face as a whole.
    bridging = matched(guidance, known, taken.float(), _SEAM_SCALE, _SEAM_GAIN)
    base = torch.lerp(base, bridging, window_mean(within.float(), _SOFT))
    below = blend_bands(base, torch.where(other.trust > 0, mirrored, base), take_other.float()).clamp(0, 1)
    return blend_bands(below, torch.where(own.trust > 0, own.colour, below), take_own.float()).clamp(0, 1)


def matched(colour: Tensor, wanted: Tensor, weight: Tensor, scale: int, largest: float) -> Tensor:
    """A picture times a gain that makes it like another one where the weight (B,1,H,W) 0..1 is high.

    The gain varies over `scale` pixels and more; its logarithm is at most `largest`.
    """
    ratio = ((wanted.clamp(0, 1) + _DARK) / (colour.clamp(0, 1) + _DARK)).log()
    gain = smooth_ratio(ratio.clamp(-largest, largest), weight, scale)
    return ((colour + _DARK) * gain.exp() - _DARK).clamp(0, 1)
