"""Rotates every face to random views and back: what a view cannot see is damaged, and known to be."""

from typing import ClassVar

import numpy as np

from cfr.model.alignment import CROP_IN_CONTEXT
from cfr.model.views import random_view
from cfr.transforms.batches import PairBatch, SwapBatch
from cfr.transforms.stage import MiniBatchStage, Rejection, reject_not_finite


class OccludedRotation:
    """Double rotation of the visible recipe, and what it leaves to be completed; one per process.

    Args:
        device: of the model and of the results.
        model: the face model, on that device.
    """

    def __init__(self, device, model):
        from cfr.model.double_rotation import DoubleRotator

        self.device = device
        self.rotator = DoubleRotator(device, model)

    def rotate(self, faces, coefficients, view):
        """Double rotation of a mini-batch.

        Args:
            faces: SwappedFaces (`cfr.model.swap`).
            coefficients: (B,C) float32.
            view: (B,3) yaw, pitch, roll in degrees, absolute.

        Returns:
            RotatedFaces; covered in the photo or lost by the rotations is in the occlusion mask.
        """
        from cfr.model.swap import RotatedFaces

        rotation = self.rotator.rotate(faces.deoccluded, coefficients, view)
        lost = faces.face_mask & ((faces.occluder_mask > 0.5) | ~rotation.visible)
        return RotatedFaces(rotation.rotated, rotation.visible, lost)


class DoubleRotate(MiniBatchStage):
    """SwapBatch -> PairBatch; items are (face, view), the views of a face side by side."""

    label = "double_rotate"
    outputs: ClassVar = {
        "view": ((3,), np.float32),
        "rotated": ((224, 224, 3), np.uint8),
        "occlusion_mask": ((224, 224), np.uint8),
        "visible_fraction": ((), np.float32),
        "quality": ((), np.float32),
    }

    def load(self) -> None:
        """The rotator."""
        self.rotator = self.context.models.rotator()

    def count(self, batch: SwapBatch) -> int:
        """Faces times views."""
        return len(batch) * self.context.settings.views_per_face

    def identify(self, batch: SwapBatch, item: int) -> tuple[str, int]:
        """See `MiniBatchStage.identify`."""
        faces = batch.fits.faces
        face = item // self.context.settings.views_per_face
        return faces.image_id(face), int(faces.face_index[face])

    def compute(self, batch: SwapBatch, items: np.ndarray) -> tuple[dict[str, np.ndarray], dict[int, Rejection]]:
        """See `MiniBatchStage.compute`."""
        import torch

        from cfr.model.quality import fraction, quality
        from cfr.model.swap import SwappedFaces
        from cfr.transforms.pixels import (
            array_to_mask,
            array_to_picture,
            array_to_soft_mask,
            finite_slots,
            mask_to_array,
            picture_to_array,
        )

        device = self.rotator.device
        face, view_index = np.divmod(items, self.context.settings.views_per_face)
        view = np.stack([self._view(batch, *each) for each in zip(face, view_index, strict=True)])
        fits = batch.fits
        with torch.inference_mode():
            face_mask = array_to_mask(fits.face_mask[face], device)
            faces = SwappedFaces(
                array_to_picture(fits.faces.context[face][:, CROP_IN_CONTEXT, CROP_IN_CONTEXT], device),
                array_to_picture(batch.deoccluded[face], device),
                array_to_picture(batch.guidance[face], device),
                array_to_soft_mask(batch.occluder_mask[face], device),
                face_mask,
            )
            rotation = self.rotator.rotate(
                faces,
                torch.from_numpy(fits.coefficients[face]).to(device),
                torch.from_numpy(view).to(device),
            )
            visible = rotation.visible & face_mask
            visible_fraction = fraction(visible, face_mask)
            row_quality = quality(
                fit_error=torch.from_numpy(fits.fit_error[face]).to(device),
                occluded=torch.from_numpy(batch.occluded_fraction[face]).to(device),
                visible=visible_fraction,
                sharp=torch.from_numpy(batch.sharpness[face]).to(device),
                landmark_score=torch.from_numpy(fits.landmark_score[face]).to(device),
            )
            columns = {
                "view": view,
                "rotated": picture_to_array(rotation.rotated),
                "occlusion_mask": mask_to_array(rotation.occlusion_mask),
                "visible_fraction": visible_fraction.float().cpu().numpy(),
                "quality": row_quality.float().cpu().numpy(),
            }
        return columns, reject_not_finite(finite_slots(rotation.rotated))

    def _view(self, batch: SwapBatch, face: int, view_index: int) -> np.ndarray:
        faces = batch.fits.faces
        return random_view(
            batch.fits.pose[face],
            seed=self.context.settings.seed,
            image_id=faces.image_id(face),
            face_index=int(faces.face_index[face]),
            view_index=int(view_index),
        )

    def assemble(self, batch: SwapBatch, items: np.ndarray, columns: dict[str, np.ndarray]) -> PairBatch:
        """See `MiniBatchStage.assemble`."""
        face, view_index = np.divmod(items, self.context.settings.views_per_face)
        return PairBatch(batch, face, view_index, **columns)
