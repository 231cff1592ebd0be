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
from cfr.model.rasterize import interpolate

# Added to colours before ratios are taken: dark pixels are noise.
_DARK = 0.04
_LARGEST_LOG_GAIN = 0.9
# Pixels per degree of freedom of the gain between two layers.
_GAIN_SCALE = 14
# Trust below which a texture is not used at all.
_LEAST_TRUST = 0.1
# The mirrored texture is taken where its trust is higher by more than this: own pixels are preferred, but not smears.
_MIRROR_ADVANTAGE = 0.55


@dataclass(frozen=True)
class PaintedFaces:
    """The mesh's part of the wanted view.

    Attributes:
        colour: (B,3,S,S) float32 RGB 0..1; means nothing outside the mesh.
        own, mirrored: (B,S,S) bool, pixels that come from the photo, and from the other side of the face in it.
    """

    colour: Tensor
    own: Tensor
    mirrored: Tensor


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
        colour = layered(scene.guidance, own, other, take_own, take_other)
        # A photo that ends at the forehead says nothing of the hair but what begins below: no bald model's skin.
        known = take_own | take_other
        crown = interpolate(scene.target.gbuffer, scene.crown.expand(len(colour), -1, -1), scene.triangles) * ~known
        colour = torch.lerp(colour, push_pull(colour, known.float()), crown * known.any(-1, True).any(-2, True))
        return PaintedFaces(colour, take_own[:, 0], take_other[:, 0])


def layered(guidance: Tensor, own: Texture, other: Texture, take_own: Tensor, take_other: Tensor) -> Tensor:
    """The photo's own texture over the mirrored one over the guidance, each matched to what lies on it.

    Args:
        guidance: (B,3,H,W) float32 RGB 0..1.
        own, other: textures of the same view.
        take_own, take_other: (B,1,H,W) bool, where each is wanted; nowhere both.

    Returns:
        (B,3,H,W) float32 RGB 0..1.
    """
    # The mirrored side is lit otherwise: matched where the photo shows both sides well.
    both = own.trust * other.trust * take_own
    mirrored = matched(other.colour, own.colour, both)
    known = torch.where(take_own, own.colour, mirrored)
    base = matched(guidance, known, (take_own | take_other) * torch.where(take_own, own.trust, other.trust))
    below = blend_bands(base, torch.where(other.trust > 0, mirrored, base), take_other.float()).clamp(0, 1)
    return blend_bands(below, torch.where(own.trust > 0, own.colour, below), take_own.float()).clamp(0, 1)


def matched(colour: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """A picture times a smooth gain that makes it like another one where the weight (B,1,H,W) 0..1 is high."""
    ratio = ((wanted.clamp(0, 1) + _DARK) / (colour.clamp(0, 1) + _DARK)).log()
    gain = smooth_ratio(ratio.clamp(-_LARGEST_LOG_GAIN, _LARGEST_LOG_GAIN), weight, _GAIN_SCALE)
    return ((colour + _DARK) * gain.exp() - _DARK).clamp(0, 1)
