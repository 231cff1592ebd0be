"""Numbers that say how far a row can be trusted. (v0 skeleton)"""

import torch
from torch import Tensor


def sharpness(photo: Tensor, face_mask: Tensor) -> Tensor:
    """(B,) 0..1: detail of the photo inside the mesh. photo (B,3,H,W) float32 0..1, face_mask (B,H,W) bool."""
    return torch.ones(len(photo))


def occluded_fraction(occluder: Tensor, face_mask: Tensor) -> Tensor:
    """(B,) 0..1: share of the mesh that the occluder covers."""
    return (occluder & face_mask).flatten(1).sum(1) / face_mask.flatten(1).sum(1).clamp(min=1)


def quality(*, fit_error: Tensor, occluded: Tensor, visible: Tensor, sharp: Tensor, landmark_score: Tensor) -> Tensor:
    """(B,) 0..1 combined."""
    return landmark_score * (1 - occluded) * sharp
