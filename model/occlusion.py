"""Where something covers the face. (v0 skeleton: signatures only)"""

import torch
from torch import Tensor


def occluder_mask(photo: Tensor, guidance: Tensor, face_mask: Tensor) -> Tensor:
    """Mask of what covers the face.

    Args:
        photo, guidance: (B,3,H,W) float32 RGB 0..1.
        face_mask: (B,H,W) bool, the fitted mesh.

    Returns:
        (B,H,W) bool, False outside the mesh.
    """
    return ((photo - guidance).abs().mean(1) > 0.25) & face_mask & torch.isfinite(photo).all(1)
