"""The two masks of CFR-GAN: what covers the face in the photo (object mask), and what the generator must not take from
the rotated face (full mask). Both compare pictures by SCDiffer and are corrected by a parsing of the photo.

Parsing labels are those of CelebAMask-HQ as BiSeNet predicts them, 19 classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cfr.model.paper.filters import box_blur, dilate, erode
from cfr.model.paper.structure_colour_difference import structure_colour_difference

SKIN, NOSE, GLASSES, EYES, BROWS, INNER_MOUTH, LIPS = 1, 2, 3, (4, 5), (6, 7), 10, (11, 12)
# Classes that belong to the face itself; everything else on the mesh covers it.
_FACE = (SKIN, NOSE, *EYES, *BROWS, INNER_MOUTH, *LIPS)
# Mean of the channels below which a pixel of the guidance shows no mesh.
_DARKEST_MESH = 0.04
_EYE_MARGIN = 5
# Structure weights of SCDiffer: of the face, and of the eyes.
_FACE_STRUCTURE, _EYE_STRUCTURE = 0.33, 0.5
# Brows and lips differ from the guidance on every face.
_BROW_AND_LIP_WEIGHT = 0.6
# A face of which less than this share is covered has no occluder: its mask is scaled down.
_SMALLEST_OCCLUDER = 0.09
_NO_OCCLUDER_WEIGHT = 0.1


@dataclass(frozen=True)
class ParsedFaces:
    """What the masks take from the parsing; float32 (B,1,224,224), 0 or 1, but for the labels.

    Attributes:
        labels: (B,1,224,224) int64, of the photo.
        covered: the mesh where the photo shows none of the face's classes.
        eyes: the eyes and their surroundings.
        background: outside the mesh, but not glasses, inner mouth or eyes.
        mesh_pixels: (B,) how many pixels show the mesh.
    """

    labels: Tensor
    covered: Tensor
    eyes: Tensor
    background: Tensor
    mesh_pixels: Tensor

    @classmethod
    def of(cls, guidance: Tensor, photo_labels: Tensor, guidance_labels: Tensor) -> "ParsedFaces":
        """From the guidance (B,3,224,224) RGB 0..1 and the labels (B,224,224) int64 of photo and guidance."""
        labels = photo_labels[:, None]
        outside = guidance.mean(1, keepdim=True) < _DARKEST_MESH
        eyes = _any_of(labels, EYES)
        # Where the photo shows skin at the guidance's eyes, they are closed: the guidance's eyes count too.
        modelled = _any_of(guidance_labels[:, None], EYES)
        closed = (modelled & (labels == SKIN)).sum((1, 2, 3)) >= 0.5 * modelled.sum((1, 2, 3)).clamp_min(1)
        eyes = dilate((eyes | (modelled & closed.view(-1, 1, 1, 1))).float(), _EYE_MARGIN) > 0
        covered = ~_any_of(labels, _FACE) & ~eyes & ~outside
        background = outside & ~eyes & ~_any_of(labels, (GLASSES, INNER_MOUTH))
        return cls(labels, covered.float(), eyes.float(), background.float(), (~outside).sum((1, 2, 3)))


def _any_of(labels: Tensor, classes: tuple[int, ...]) -> Tensor:
    return torch.isin(labels, labels.new_tensor(classes))


def full_mask(rotated: Tensor, guidance: Tensor, photo: Tensor, parsed: ParsedFaces, true_lab: bool = False) -> Tensor:
    """What must not be taken from the rotated face (CFR-GAN, section 3.3).

    Args:
        rotated, guidance, photo: (B,3,224,224) float32 RGB 0..1.
        parsed: of this guidance and photo.
        true_lab: see `structure_colour_difference`.

    Returns:
        (B,1,224,224) float32, 0 or 1.
    """
    face = structure_colour_difference(rotated, guidance, _FACE_STRUCTURE, true_lab)
    eyes = structure_colour_difference(rotated, photo, _EYE_STRUCTURE, true_lab)
    difference = (face * (1 - parsed.eyes) + parsed.covered + eyes * parsed.eyes).clamp(0, 1)
    rim = box_blur(erode(parsed.background, 2), 7)
    inside = ~((rim > 0) & (rim < 0.8))
    return (difference * inside).round()


def object_mask(guidance: Tensor, photo: Tensor, parsed: ParsedFaces, true_lab: bool = False) -> Tensor:
    """What covers the face in the photo.

    Args:
        guidance, photo: (B,3,224,224) float32 RGB 0..1.
        parsed: of this guidance and photo.
        true_lab: see `structure_colour_difference`.

    Returns:
        (B,1,224,224) float32 0..1: 0.6 where brows and lips differ; a tenth of that on faces with hardly any cover.
    """
    composite = torch.where(parsed.background > 0, photo, guidance)
    difference = structure_colour_difference(photo, composite, _FACE_STRUCTURE, true_lab).round() * (1 - parsed.eyes)
    difference = difference * (parsed.labels != INNER_MOUTH)
    weak = _any_of(parsed.labels, (*BROWS, *LIPS))
    mask = (torch.where(weak, _BROW_AND_LIP_WEIGHT * difference, difference) + parsed.covered).clamp(0, 1)
    share = (mask + 0.1).round().sum((1, 2, 3)) / parsed.mesh_pixels
    return mask * torch.where(share < _SMALLEST_OCCLUDER, _NO_OCCLUDER_WEIGHT, 1.0).view(-1, 1, 1, 1)
