"""Finds what covers the face and moves it from the photo to the guidance (the swap of CFR-GAN)."""

from typing import ClassVar

import numpy as np

from cfr.model.alignment import CROP_IN_CONTEXT
from cfr.transforms.batches import FitBatch, SwapBatch, select
from cfr.transforms.stage import MiniBatchStage, Rejection, reject_not_finite


class OcclusionTransfer:
    """Occluder mask and swap of the visible recipe; one per process.

    Args:
        device: of the model and of the results.
        model: the face model, on that device.
    """

    def __init__(self, device, model):
        from cfr.model.occlusion import OccluderDetector

        self.device = device
        self.model = model
        self.detector = OccluderDetector(self.model)

    def transfer(self, photo, guidance, coefficients):
        """Mask and swap of a mini-batch.

        Args:
            photo, guidance: (B,3,224,224) float32 RGB 0..1.
            coefficients: (B,C) float32.

        Returns:
            Occluder mask (B,224,224) bool, photo with the guidance in its place and guidance with the occluder
            painted on (B,3,224,224) float32.
        """
        from cfr.model.coefficients import Coefficients
        from cfr.model.rendering import posed
        from cfr.model.swap import transfer_occlusion

        mesh = posed(self.model, Coefficients.split(coefficients, self.model.sizes))
        gbuffer = mesh.rasterized(self.model.triangles)
        occluder = self.detector.detect(photo, guidance, gbuffer)
        return occluder, *transfer_occlusion(photo, guidance, occluder, gbuffer.covered)


class TransferOcclusion(MiniBatchStage):
    """FitBatch -> SwapBatch."""

    label = "transfer_occlusion"
    outputs: ClassVar = {
        "occluder_mask": ((224, 224), np.uint8),
        "deoccluded": ((224, 224, 3), np.uint8),
        "guidance": ((224, 224, 3), np.uint8),
        "occluded_fraction": ((), np.float32),
        "sharpness": ((), np.float32),
    }

    def load(self) -> None:
        """The occluder detector."""
        self.occlusion = self.context.models.occlusion_transfer()

    def identify(self, batch: FitBatch, item: int) -> tuple[str, int]:
        """See `MiniBatchStage.identify`."""
        return batch.faces.image_id(item), int(batch.faces.face_index[item])

    def compute(self, batch: FitBatch, items: np.ndarray) -> tuple[dict[str, np.ndarray], dict[int, Rejection]]:
        """See `MiniBatchStage.compute`."""
        import torch

        from cfr.model.quality import fraction, sharpness
        from cfr.transforms.pixels import array_to_mask, array_to_picture, finite_slots, mask_to_array, picture_to_array

        device = self.occlusion.device
        with torch.inference_mode():
            photo = array_to_picture(batch.faces.context[items][:, CROP_IN_CONTEXT, CROP_IN_CONTEXT], device)
            guidance = array_to_picture(batch.guidance[items], device)
            face_mask = array_to_mask(batch.face_mask[items], device)
            coefficients = torch.from_numpy(batch.coefficients[items]).to(device)
            occluder, deoccluded, swapped = self.occlusion.transfer(photo, guidance, coefficients)
            columns = {
                "occluder_mask": mask_to_array(occluder),
                "deoccluded": picture_to_array(deoccluded),
                "guidance": picture_to_array(swapped),
                "occluded_fraction": fraction(occluder > 0.5, face_mask).float().cpu().numpy(),
                "sharpness": sharpness(photo, face_mask).float().cpu().numpy(),
            }
        return columns, reject_not_finite(finite_slots(deoccluded, swapped))

    def assemble(self, batch: FitBatch, items: np.ndarray, columns: dict[str, np.ndarray]) -> SwapBatch:
        """See `MiniBatchStage.assemble`."""
        return SwapBatch(select(batch, items), **columns)
