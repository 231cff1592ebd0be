"""Encodes a unit's frontal pictures, as shard and as image files; see `write_shard` for the rest."""

import hashlib
import re
from typing import Any

import pyarrow as pa

from cfr.model.frontalization.gate import REASONS
from cfr.model.images import encode_image
from cfr.pipeline import storage
from cfr.pipeline.schemas import FRONTAL_MASKS, frontal_schema
from cfr.transforms.batches import FrontalBatch
from cfr.transforms.frontalize_faces import DROP, KEEP_SOURCE
from cfr.transforms.write_shard import WriteShard, face_numbers

_SUFFIX = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}
_LONGEST_NAME = 120
IMAGE_SCRATCH = "_tmp"
"""Folder below that of the image files where they are written before they get their names."""


class WriteFrontals(WriteShard):
    """FrontalBatch -> one manifest row per unit."""

    def schema(self, kept: pa.Schema) -> pa.Schema:
        """See `WriteShard.schema`."""
        settings = self.context.settings
        return frontal_schema(settings.pictures, settings.identity, kept, dict(settings.metadata))

    def filtered(self, batch: FrontalBatch, item: int) -> bool:
        """See `WriteShard.filtered`."""
        return self.context.settings.when_rejected == DROP and bool(batch.rejections[item].any())

    def encode(self, batch: FrontalBatch, item: int) -> dict[str, bytes]:
        """See `WriteShard.encode`."""
        settings = self.context.settings
        kept = self._keeps_source(batch, item)
        pictures = {
            "frontal": batch.source[item] if kept else batch.frontal[item],
            "mask": 0 * batch.mask[item] if kept else batch.mask[item],
            "source": batch.source[item],
        }
        return {
            name: encode_image(pictures[name], "png" if name in FRONTAL_MASKS else settings.encoding)
            for name in settings.pictures
        }

    def numbers(self, batch: FrontalBatch, written: list[int]) -> dict[str, Any]:
        """See `WriteShard.numbers`."""
        face, pose_index = batch.face[written], batch.pose_index[written]
        rejections = batch.rejections[written]
        columns = face_numbers(batch.swaps.fits, face)
        keys = zip(columns["image_id"], columns["face_index"], pose_index, strict=True)
        columns.update(
            frontal_id=[f"{image_id}#{face_index}.{pose}" for image_id, face_index, pose in keys],
            pose_index=pose_index,
            apply=~rejections.any(axis=1),
            reasons=[[REASONS[each] for each in row.nonzero()[0]] for row in rejections],
            kept_source=[self._keeps_source(batch, item) for item in written],
            quality=batch.quality[written],
            identity_similarity=batch.identity_similarity[written],
            own_fraction=batch.own_fraction[written],
            mirrored_fraction=batch.mirrored_fraction[written],
            occluded_fraction=batch.swaps.occluded_fraction[face],
            sharpness=batch.swaps.sharpness[face],
            frontal_landmarks5=batch.frontal_landmarks5[written].reshape(-1, 10).tolist(),
        )
        for axis, name in enumerate(("yaw", "pitch", "roll")):
            columns[f"pose_{name}"] = batch.pose[written][:, axis]
        return columns

    def publish_beside(self, batch: FrontalBatch, written: list[int]) -> None:
        """See `WriteShard.publish_beside`: the image files."""
        settings = self.context.settings
        if not settings.images:
            return
        faces = batch.faces
        for item in written:
            face = batch.face[item]
            folders = [settings.images]
            if settings.folder_column:
                folders.append(safe_name(str(batch.record.kept.column(settings.folder_column)[faces.row[face]])))
            name = image_name(
                faces.image_id(face),
                int(faces.face_index[face]) if settings.faces == "all" else None,
                int(batch.pose_index[item]) if len(settings.poses) > 1 else None,
            )
            picture = batch.source[item] if self._keeps_source(batch, item) else batch.frontal[item]
            path = storage.join(*folders, name + _SUFFIX[settings.encoding])
            # Not the job's own scratch folder: a file cannot be renamed from one file system to another.
            scratch = storage.join(settings.images, IMAGE_SCRATCH)
            storage.publish(path, encode_image(picture, settings.encoding), scratch)

    def _keeps_source(self, batch: FrontalBatch, item: int) -> bool:
        return self.context.settings.when_rejected == KEEP_SOURCE and bool(batch.rejections[item].any())


def image_name(image_id: str, face_index: int | None = None, pose_index: int | None = None) -> str:
    """Name of an image file, without its suffix: unique per id, face and pose, and safe on every file system.

    Args:
        image_id: of the photo.
        face_index, pose_index: None where each photo has one face, each face one pose.
    """
    numbers = [f"face{face_index}"] if face_index is not None else []
    numbers += [f"pose{pose_index}"] if pose_index is not None else []
    return "+".join([safe_name(image_id), *numbers])  # a plus is in no safe name


def safe_name(text: str) -> str:
    """A text as the name of a file or folder.

    Letters, digits, `.`, `_` and `-` stay, the rest becomes `_`. Where that changes anything, and for capitals, which
    some file systems do not tell from small letters, a digest of the text is added, so that different texts never
    share a name.
    """
    name = re.sub(r"[^A-Za-z0-9._-]|\.(?=\.)", "_", text).strip(".")[:_LONGEST_NAME]
    if name == text and name == name.lower():
        return name
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
