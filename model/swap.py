"""Transfer of the occlusion from the photo to the guidance (Swap of CFR-GAN). (v0 skeleton)"""

from torch import Tensor


def transfer_occlusion(photo: Tensor, guidance: Tensor, occluder: Tensor, face_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Swap the pixels under the mask.

    Args:
        photo, guidance: (B,3,H,W) float32 RGB 0..1; guidance is black outside the mesh.
        occluder, face_mask: (B,H,W) bool.

    Returns:
        (deoccluded photo, guidance with the occluder painted on), both (B,3,H,W) float32 RGB 0..1.
    """
    soft = occluder[:, None].float()
    return photo * (1 - soft) + guidance * soft, (guidance * (1 - soft) + photo * soft) * face_mask[:, None]
