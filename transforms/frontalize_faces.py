"""Turns every face to the wanted poses, and judges whether the result is worth more than the photo."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from cfr.model.alignment import CONTEXT_MARGIN, apply_affine, inside_photo
from cfr.transforms.batches import FrontalBatch, SwapBatch
from cfr.transforms.stage import JobSettings, MiniBatchStage, Rejection, reject_not_finite

FRONTAL_STAGES = ("align_faces", "fit_faces", "transfer_occlusion", "frontalize_faces", "write_shard")
MARK, KEEP_SOURCE, DROP = "mark", "keep-source", "drop"
LARGEST_TEXTURE_SCALE = 3


@dataclass(frozen=True)
class FrontalSettings(JobSettings):
    """Parameters of the frontalize job; see `cfr frontalize --help`.

    Attributes:
        poses: wanted (yaw, pitch, roll) in degrees.
        keep_yaw, keep_pitch, keep_roll: take that angle from the photo instead.
        template: name of the framing.
        size: side of the results in pixels.
        when_rejected: "mark", "keep-source" or "drop".
        identity: whether an identity encoder compares photo and result.
        images: folder of plain image files, "" for none.
        folder_column: kept column whose values name their sub-folders, "" for none.
    """

    pictures: tuple[str, ...] = ("frontal", "mask", "source")
    poses: tuple[tuple[float, float, float], ...] = ((0.0, 0.0, 0.0),)
    keep_yaw: bool = False
    keep_pitch: bool = False
    keep_roll: bool = False
    template: str = "crop224"
    size: int = 224
    when_rejected: str = MARK
    identity: bool = False
    images: str = ""
    folder_column: str = ""

    @property
    def texture_scale(self) -> int:
        """See `JobSettings.texture_scale`."""
        from cfr.model.frontalization.templates import TEMPLATES

        template = TEMPLATES[self.template]
        return max(1, int(np.ceil(self.size / template.size * template.zoom - 1e-6)))

    def affecting_output(self) -> dict[str, Any]:
        """See `JobSettings.affecting_output`; whether image files are written matters, not where."""
        return {**super().affecting_output(), "images": bool(self.images)}


class FrontalizeFaces(MiniBatchStage):
    """SwapBatch -> FrontalBatch; items are (face, pose), the poses of a face side by side."""

    label = "frontalize_faces"
    outputs: ClassVar = {
        "pose": ((3,), np.float32),
        "frontal": ((0, 0, 3), np.uint8),
        "source": ((0, 0, 3), np.uint8),
        "mask": ((0, 0), np.uint8),
        "frontal_landmarks5": ((5, 2), np.float32),
        "own_fraction": ((), np.float32),
        "mirrored_fraction": ((), np.float32),
        "quality": ((), np.float32),
        "identity_similarity": ((), np.float32),
        "rejections": ((0,), np.bool_),
    }

    def load(self) -> None:
        """The frontalizer and the identity encoder."""
        self.frontalizer = self.context.models.frontalizer()
        self.identity = self.context.models.identity_encoder()

    def count(self, batch: SwapBatch) -> int:
        """Faces times poses."""
        return len(batch) * len(self.context.settings.poses)

    def identify(self, batch: SwapBatch, item: int) -> tuple[str, int]:
        """See `MiniBatchStage.identify`."""
        face = item // len(self.context.settings.poses)
        return batch.faces.image_id(face), int(batch.faces.face_index[face])

    def compute(self, batch: SwapBatch, items: np.ndarray) -> tuple[dict[str, np.ndarray], dict[int, Rejection]]:
        """See `MiniBatchStage.compute`."""
        import torch

        from cfr.model.frontalization.framing import reframe
        from cfr.model.frontalization.gate import Evidence, judge
        from cfr.model.frontalization.scene import SourceFaces
        from cfr.model.frontalization.templates import TEMPLATES
        from cfr.transforms.pixels import array_to_mask, array_to_picture, finite_slots, mask_to_array, picture_to_array

        settings, device, fits = self.context.settings, self.frontalizer.device, batch.fits
        face, pose_index = np.divmod(items, len(settings.poses))
        wanted = self._wanted(fits.pose[face], pose_index)
        scale = settings.texture_scale
        template = TEMPLATES[settings.template]

        def on_device(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device)

        with torch.inference_mode():
            context = batch.faces.context if scale == 1 else batch.faces.texture
            photo = array_to_picture(context[face], device)
            points = [apply_affine(batch.faces.landmarks5[each], batch.faces.crop[each]) for each in face]
            points = on_device(((np.stack(points) + CONTEXT_MARGIN) * scale).astype(np.float32))
            sources = SourceFaces(
                photo,
                on_device(inside_photo(batch.faces.photo_size[face], batch.faces.crop[face])),
                array_to_mask(batch.occluder_mask[face], device),
                on_device(fits.coefficients[face]),
            )
            result = self.frontalizer.frontalize(sources, on_device(wanted), template, settings.size)
            source = reframe(photo, points, template, settings.size)
            similarity = None
            if self.identity is not None:
                similarity = self.identity.similarity(photo, points, result.picture, result.landmarks5)
            verdict = judge(
                Evidence(
                    pose=on_device(fits.pose[face]),
                    wanted=on_device(wanted),
                    fit_error=on_device(fits.fit_error[face]),
                    landmark_score=on_device(fits.landmark_score[face]),
                    occluded=on_device(batch.occluded_fraction[face]),
                    own=result.own_fraction,
                    mirrored=result.mirrored_fraction,
                    sharp=on_device(batch.sharpness[face]),
                    enlargement=on_device(batch.faces.crop[face][:, 0].astype(np.float32)),
                    similarity=similarity if similarity is not None and self.identity.decides else None,
                )
            )
            similarity = torch.zeros(len(items)) if similarity is None else similarity
            columns = {
                "pose": wanted,
                "frontal": picture_to_array(result.picture),
                "source": picture_to_array(source),
                "mask": mask_to_array(result.synthesised),
                "frontal_landmarks5": result.landmarks5.float().cpu().numpy(),
                "own_fraction": result.own_fraction.float().cpu().numpy(),
                "mirrored_fraction": result.mirrored_fraction.float().cpu().numpy(),
                "quality": verdict.quality.float().cpu().numpy(),
                "identity_similarity": similarity.float().cpu().numpy(),
                "rejections": verdict.rejections.cpu().numpy(),
            }
        return columns, reject_not_finite(finite_slots(result.picture))

    def _wanted(self, photo_pose: np.ndarray, pose_index: np.ndarray) -> np.ndarray:
        """(k,3) float32 poses of the results."""
        settings = self.context.settings
        wanted = np.array(settings.poses, dtype=np.float32)[pose_index]
        for axis, keep in enumerate((settings.keep_yaw, settings.keep_pitch, settings.keep_roll)):
            if keep:
                wanted[:, axis] = photo_pose[:, axis]
        return wanted

    def assemble(self, batch: SwapBatch, items: np.ndarray, columns: dict[str, np.ndarray]) -> FrontalBatch:
        """See `MiniBatchStage.assemble`."""
        face, pose_index = np.divmod(items, len(self.context.settings.poses))
        return FrontalBatch(batch, face, pose_index, **columns)
