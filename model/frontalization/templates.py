"""Where a face lies in the result: the paper's crop or the five-point template of a face recogniser."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from cfr.model.alignment import CROP_SIZE, apply_affine, crop_affine

# The five points that ArcFace (InsightFace) aligns a 112-pixel crop to, for pixel centres at whole numbers.
_ARCFACE_POINTS = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
# Of the 68 iBUG points: corners of the image-left eye, of the image-right eye, nose tip, corners of the mouth.
_EYES, _NOSE, _MOUTH = ((36, 39), (42, 45)), 30, (48, 54)


@dataclass(frozen=True)
class Template:
    """Framing of a result.

    Attributes:
        name: as on the command line.
        size: side in pixels that it is defined for.
        zoom: its pixels per pixel of the aligned crop, for a usual face.
        points: (5,2) float64 px where the five landmarks of a recogniser's template lie; None: the paper's alignment.
    """

    name: str
    size: int
    zoom: float
    points: np.ndarray | None = field(default=None, compare=False)

    def affine(self, landmarks5: np.ndarray, size: int) -> np.ndarray:
        """Where points of the picture land in the result: (6,) float64 [a, b, c, d, e, f], see `cfr.model.alignment`.

        The paper's alignment scales and shifts; a recogniser's template also turns, so that the five points come
        nearest to the template's (least squares).

        Args:
            landmarks5: (5,2) px.
            size: side of the result in pixels.
        """
        affine = crop_affine(landmarks5) if self.points is None else _similarity(landmarks5, self.points)
        return affine * (size / self.size)

    def moved(self, landmarks5: np.ndarray, size: int) -> np.ndarray:
        """Where the five points (B,5,2) px of faces land in their results, (B,5,2) float64."""
        return np.stack([apply_affine(points, self.affine(points, size)) for points in landmarks5])


TEMPLATES = {
    "crop224": Template("crop224", CROP_SIZE, 1.0),
    "arcface112": Template("arcface112", 112, 0.56, _ARCFACE_POINTS + 0.5),
}
"""Those that the command line offers."""


def _similarity(points: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Least-squares turn, scale and shift (6,) that takes points (N,2) to the wanted ones."""
    source, target = (np.asarray(each, dtype=np.float64) @ [1, 1j] for each in (points, wanted))
    spread = source - source.mean()
    factor = np.vdot(spread, target - target.mean()) / np.vdot(spread, spread).real
    shift = target.mean() - factor * source.mean()
    return np.array([factor.real, -factor.imag, shift.real, factor.imag, factor.real, shift.imag])


def five_points(points68: Tensor) -> Tensor:
    """Image-left eye, image-right eye, nose tip, mouth corners (B,5,2) of iBUG points (B,68,2)."""
    eyes = [points68[:, list(corners)].mean(1) for corners in _EYES]
    return torch.stack([*eyes, points68[:, _NOSE], *(points68[:, corner] for corner in _MOUTH)], dim=1)
