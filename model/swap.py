"""Transfer of the occlusion from the photo to the guidance (the swap of CFR-GAN's Swap-R&R)."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from cfr.model.morphology import dilate

DILATION = 3
SEAM = 3


@dataclass(frozen=True)
class SwappedFaces:
    """Faces of a mini-batch with the occlusion moved from the photo to the guidance; on one device.

    Attributes:
        photo: (B,3,H,W) float32 RGB 0..1, the aligned crop.
        deoccluded: (B,3,H,W) the photo with the guidance in the occluder's place.
        guidance: (B,3,H,W) the guidance with the occluder painted on.
        occluder_mask: (B,H,W) float32 0..1.
        face_mask: (B,H,W) bool, the mesh.
    """

    photo: Tensor
    deoccluded: Tensor
    guidance: Tensor
    occluder_mask: Tensor
    face_mask: Tensor


@dataclass(frozen=True)
class RotatedFaces:
    """Swapped faces after the double rotation.

    Attributes:
        rotated: (B,3,H,W) float32 RGB 0..1, back in the photo's view.
        visible: (B,H,W) bool, pixels whose colour survived both rotations.
        occlusion_mask: (B,H,W) bool, or float32 0..1: what must not be taken from `rotated`.
    """

    rotated: Tensor
    visible: Tensor
    occlusion_mask: Tensor


def _soft(mask: Tensor) -> Tensor:
    """(B,H,W) bool -> (B,1,H,W) 0..1: a little wider than the mask, with a soft seam."""
    wide = dilate(mask, DILATION)[:, None].float()
    return F.avg_pool2d(wide, SEAM, stride=1, padding=SEAM // 2, count_include_pad=False)


def transfer_occlusion(photo: Tensor, guidance: Tensor, occluder: Tensor, face_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Swap the pixels under the mask.

    The seam of the de-occluded photo lies just outside the mask, so that no occluder pixel stays in it; the seam of
    the guidance just inside, so that the guidance is painted on with nothing but the occluder.

    Args:
        photo, guidance: (B,3,H,W) float32 RGB 0..1; guidance is black outside the mesh.
        occluder, face_mask: (B,H,W) bool.

    Returns:
        (roughly de-occluded photo, guidance with the occluder painted on), both (B,3,H,W) float32 RGB 0..1; the second
        is black outside the mesh.
    """
    inside = face_mask[:, None]
    outer = _soft(occluder) * inside
    inner = (1 - _soft(~occluder)) * inside
    return photo * (1 - outer) + guidance * outer, guidance * (1 - inner) + photo * inner
