"""Numbers that say how far a row can be trusted."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cfr.model.morphology import erode

# Landmark error (fraction of the face) at which the fit's term has fallen to 1/e.
FIT_ERROR_SCALE = 0.05
# Variance of the Laplacian (grey 0..1) of a face that is just sharp enough at 224 px: maps to a sharpness of 0.5.
SHARP_LAPLACIAN_VARIANCE = 4e-4


def sharpness(photo: Tensor, face_mask: Tensor) -> Tensor:
    """Detail of the photo inside the mesh, (B,) 0..1; enlarged or blurred faces come near 0.

    The variance v of the Laplacian of the grey picture (Pech-Pacheco 2000), as v / (v + v0).

    Args:
        photo: (B,3,H,W) float32 RGB 0..1.
        face_mask: (B,H,W) bool.
    """
    grey = photo.mean(1, keepdim=True)
    kernel = photo.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
    laplacian = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), kernel)[:, 0]
    # Without the mesh's rim, where the background's edge would count.
    inside = erode(face_mask, 7).float()
    count = inside.flatten(1).sum(1).clamp(min=1)
    mean = (laplacian * inside).flatten(1).sum(1) / count
    variance = ((laplacian - mean[:, None, None]).pow(2) * inside).flatten(1).sum(1) / count
    return variance / (variance + SHARP_LAPLACIAN_VARIANCE)


def fraction(part: Tensor, whole: Tensor) -> Tensor:
    """Share of the whole that the part covers, (B,) 0..1; part and whole (B,H,W) bool."""
    return (part & whole).flatten(1).sum(1) / whole.flatten(1).sum(1).clamp(min=1)


def quality(*, fit_error: Tensor, landmark_score: Tensor, occluded: Tensor, visible: Tensor, sharp: Tensor) -> Tensor:
    """One number for a training pair, (B,) 0..1: the product of what each part leaves of the trust in it.

    Args:
        fit_error: (B,) landmark error of the fit, a fraction of the face's size.
        landmark_score: (B,) 0..1, the landmark networks' own confidence and agreement.
        occluded: (B,) share of the face that something covers; half of the trust goes with all of it.
        visible: (B,) share of the face that survived the double rotation; likewise.
        sharp: (B,) `sharpness`; a quarter of the trust goes with all of it: a blurred face is fitted nearly as well.
    """
    fit = torch.exp(-(fit_error / FIT_ERROR_SCALE).pow(2))
    return fit * landmark_score * (1 - 0.5 * occluded) * (0.5 + 0.5 * visible) * (0.75 + 0.25 * sharp)
