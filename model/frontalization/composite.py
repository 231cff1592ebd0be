"""The composite: a face turned to a wanted pose from one photo and its fit, without a trained generator.

Where the photo shows the point, its own texture; where it shows only the mirrored point, that one's; where it shows
neither, the fitted model's colours. The parts are matched in colour and light and blended band by band.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cfr.model.coefficients import Coefficients
from cfr.model.face_model import MorphableModel
from cfr.model.frontalization.occluders import RemovableOccluders
from cfr.model.frontalization.pyramids import blend_bands, distance, smooth_ratio
from cfr.model.frontalization.surroundings import complete_surroundings
from cfr.model.frontalization.templates import Template
from cfr.model.frontalization.texture import Texture, take_texture
from cfr.model.frontalization.views import View, mirrored, photo_view, wanted_view
from cfr.model.lighting import shade
from cfr.model.morphology import erode
from cfr.model.rasterize import interpolate

# Added to colours before ratios are taken: dark pixels are noise.
_DARK = 0.04
_LARGEST_LOG_GAIN = 0.9
# Pixels per degree of freedom of the gain between two layers.
_GAIN_SCALE = 14
# Pixels of the photo from the mesh's rim that are not used, and over how many more trust rises for a head in profile.
_RIM, _TURNED_RIM = 2.0, 32.0
# Trust below which a texture is not used at all.
_LEAST_TRUST = 0.1
# The mirrored texture is taken where its trust is higher by more than this: own pixels are preferred, but not smears.
_MIRROR_ADVANTAGE = 0.55


@dataclass(frozen=True)
class Frontalized:
    """Faces at a wanted pose.

    Attributes:
        picture: (B,3,S,S) float32 RGB 0..1.
        synthesised: (B,S,S) bool, pixels that the photo does not show at this point of the face.
        face: (B,S,S) bool, the mesh.
        own_fraction, mirrored_fraction: (B,) share of the mesh with the photo's own and with mirrored texture.
    """

    picture: Tensor
    synthesised: Tensor
    face: Tensor
    own_fraction: Tensor
    mirrored_fraction: Tensor


class CompositeFrontalizer:
    """Turns faces with the default face model; one per process.

    Args:
        device: of the model and of the results.
    """

    def __init__(self, device: str = "cpu"):
        self.device = torch.device(device)
        self.model = MorphableModel.load_default(device)
        self.occluders = RemovableOccluders(self.model)

    @torch.inference_mode()
    def frontalize(
        self,
        photo: Tensor,
        inside: Tensor,
        occluder: Tensor,
        coefficients: Tensor,
        pose: Tensor,
        template: Template,
        size: int,
    ) -> Frontalized:
        """Turn a mini-batch.

        Args:
            photo: (B,3,320,320) float32 RGB 0..1, the crop with its margin (or finer by a whole factor).
            inside: (B,320,320) bool, what lies inside the photo.
            occluder: (B,224,224) bool, what covers the face in the crop.
            coefficients: (B,C) float32.
            pose: (B,3) yaw, pitch, roll of the wanted view, degrees.
            template, size: framing of the result.
        """
        model = self.model
        fitted = Coefficients.split(coefficients, model.sizes)
        vertices = model.shape(fitted.identity, fitted.expression)
        normals = model.vertex_normals(vertices)
        source = photo_view(model, vertices, normals, fitted)
        target = wanted_view(model, vertices, normals, pose, template, size)
        flipped = mirrored(source, model.mirror)

        cover = self.occluders.select(occluder, source)
        usable = (erode(inside, 3) & ~cover)[:, None].float()
        trusted = usable * silhouette_trust(source, fitted.pose)
        own = take_texture(photo, trusted, source, target, model.triangles)
        other = take_texture(photo.flip(-1), trusted.flip(-1), flipped, target, model.triangles)
        # Light that stays with the face, as the texture's does.
        colour = model.albedo(fitted.albedo) * shade(source.mesh.normals, fitted.light)
        guidance = interpolate(target.gbuffer, colour.clamp(0, 1), model.triangles)

        covered = target.gbuffer.covered
        take_own = (own.trust > _LEAST_TRUST) & (own.trust > _MIRROR_ADVANTAGE * other.trust)
        take_other = (other.trust > _LEAST_TRUST) & ~take_own
        face = layered(guidance, own, other, take_own, take_other)
        around = complete_surroundings(photo, usable, face, source, flipped, target)
        inner = erode(covered, 5)[:, None].float()
        filled = torch.where(covered[:, None], face, around.colour)
        picture = blend_bands(around.colour, filled, inner, levels=3).clamp(0, 1)
        area = covered.flatten(1).sum(1).clamp(min=1)
        return Frontalized(
            picture,
            torch.where(covered, ~take_own[:, 0], ~around.own),
            covered,
            take_own.flatten(1).sum(1) / area,
            take_other.flatten(1).sum(1) / area,
        )


def silhouette_trust(source: View, pose: Tensor) -> Tensor:
    """(B,1,S,S) 0..1, rising from the mesh's rim inwards.

    What lies near the outline of a turned head is seen at a slant, and where the fit is a few degrees off it shows the
    background: the more the head is turned, the farther from the rim the photo is believed, as its mirror image shows
    the same places from nearer.
    """
    turn = torch.sin(torch.deg2rad(pose[:, 0])).square()[:, None, None]
    depth_inside = distance(~source.gbuffer.covered) - _RIM
    return (depth_inside / (1 + _TURNED_RIM * turn)).clamp(0, 1)[:, None]


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
