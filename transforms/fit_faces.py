"""Fits the morphable face model to every aligned face; its rendering is the guidance."""

from typing import ClassVar

import numpy as np

from cfr.model.alignment import apply_affine
from cfr.transforms.batches import FaceBatch, FitBatch, select
from cfr.transforms.stage import MiniBatchStage, Rejection

# Normalised mean error above which landmarks and mesh do not describe the same face; good fits stay below 0.08.
LARGEST_FIT_ERROR = 0.25
# Share of the crop below which the mesh has left the picture or shrunk to a dot.
SMALLEST_FACE = 0.02


class FitFaces(MiniBatchStage):
    """FaceBatch -> FitBatch."""

    label = "fit_faces"
    outputs: ClassVar = {
        "coefficients": ((0,), np.float32),
        "pose": ((3,), np.float32),
        "guidance": ((224, 224, 3), np.uint8),
        "face_mask": ((224, 224), np.uint8),
        "fit_error": ((), np.float32),
        "landmark_score": ((), np.float32),
    }

    def load(self) -> None:
        """The fitter."""
        self.fitter = self.context.models.fitter()

    def identify(self, batch: FaceBatch, item: int) -> tuple[str, int]:
        """See `MiniBatchStage.identify`."""
        return batch.image_id(item), int(batch.face_index[item])

    def compute(self, batch: FaceBatch, items: np.ndarray) -> tuple[dict[str, np.ndarray], dict[int, Rejection]]:
        """See `MiniBatchStage.compute`."""
        import torch

        from cfr.transforms.pixels import finite_slots, mask_to_array, picture_to_array

        points = np.stack([apply_affine(batch.landmarks5[item], batch.crop[item]) for item in items])
        fit = self.fitter.fit(
            torch.from_numpy(batch.context[items]), torch.from_numpy(points.astype(np.float32, copy=False))
        )
        columns = {
            "coefficients": fit.coefficients.concatenated().cpu().numpy(),
            "pose": fit.coefficients.pose.cpu().numpy(),
            "guidance": picture_to_array(fit.guidance),
            "face_mask": mask_to_array(fit.face_mask),
            "fit_error": fit.fit_error.cpu().numpy(),
            "landmark_score": fit.landmark_score.cpu().numpy(),
        }
        return columns, _rejections(columns, finite_slots(fit.guidance))

    def assemble(self, batch: FaceBatch, items: np.ndarray, columns: dict[str, np.ndarray]) -> FitBatch:
        """See `MiniBatchStage.assemble`."""
        return FitBatch(select(batch, items), **columns)


def _rejections(columns: dict[str, np.ndarray], finite: np.ndarray) -> dict[int, Rejection]:
    """Slots whose fit is no face; `finite`: (n,) bool, whether the guidance is."""
    finite = finite & np.isfinite(columns["coefficients"]).all(axis=1) & np.isfinite(columns["fit_error"])
    mesh_share = (columns["face_mask"] > 0).mean(axis=(1, 2))
    rejected = {}
    for slot, error in enumerate(columns["fit_error"]):
        if not finite[slot]:
            problem = "the fit did not converge"
        elif error > LARGEST_FIT_ERROR:
            problem = f"landmarks and fitted mesh differ by {error:.2f} of the face's size"
        elif mesh_share[slot] < SMALLEST_FACE:
            problem = "the fitted mesh lies outside the crop"
        else:
            continue
        rejected[slot] = Rejection("fit_failed", f"{problem}; the detection may be no face, or be covered too much")
    return rejected
