"""Swap of CFR-GAN: the occluder goes from the photo to the guidance, the guidance's face into its place."""

from torch import Tensor

from cfr.model.paper.filters import box_blur, dilate

_WINDOW = 3


def swap(photo: Tensor, guidance: Tensor, textured: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Exchange what lies under the mask.

    Args:
        photo, guidance: (B,3,H,W) float32 RGB 0..1.
        textured: (B,3,H,W) the mesh rendered with the photo's colours at its vertices, from the photo's view.
        mask: (B,1,H,W) `masks.object_mask`.

    Returns:
        Roughly de-occluded photo and guidance that carries the occluder, (B,3,H,W) RGB 0..1.
    """
    seam = box_blur(dilate(mask, _WINDOW), _WINDOW)
    deoccluded = photo * (1 - seam) + guidance * seam
    carrying = guidance * (1 - mask) + textured * mask
    return deoccluded, carrying * (1 - seam) + box_blur(carrying, _WINDOW) * seam
