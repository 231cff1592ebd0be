"""Encodes a unit's occluded faces; what it shares with other jobs is in `write_shard`."""

from typing import Any

import pyarrow as pa

from cfr.model.alignment import CROP_IN_CONTEXT
from cfr.model.images import encode_image
from cfr.pipeline.schemas import OCCLUSION_MASKS, occlusion_schema
from cfr.transforms.batches import OcclusionBatch
from cfr.transforms.write_shard import WriteShard, face_numbers


class WriteOcclusions(WriteShard):
    """OcclusionBatch -> one manifest row per unit."""

    def schema(self, kept: pa.Schema) -> pa.Schema:
        """See `WriteShard.schema`."""
        return occlusion_schema(self.context.settings.pictures, kept, dict(self.context.settings.metadata))

    def encode(self, batch: OcclusionBatch, item: int) -> dict[str, bytes]:
        """See `WriteShard.encode`."""
        settings, face = self.context.settings, batch.face[item]
        pictures = {
            "occluded": batch.occluded[item],
            "original": batch.faces.context[face][CROP_IN_CONTEXT, CROP_IN_CONTEXT],
            "occluder_mask": batch.occluder_mask[item],
            "face_mask": batch.fits.face_mask[face],
        }
        return {
            name: encode_image(pictures[name], "png" if name in OCCLUSION_MASKS else settings.encoding)
            for name in settings.pictures
        }

    def numbers(self, batch: OcclusionBatch, written: list[int]) -> dict[str, Any]:
        """See `WriteShard.numbers`."""
        face, copy_index = batch.face[written], batch.copy_index[written]
        columns = face_numbers(batch.fits, face)
        keys = zip(columns["image_id"], columns["face_index"], copy_index, strict=True)
        columns.update(
            occlusion_id=[f"{image_id}#{face_index}.{copy}" for image_id, face_index, copy in keys],
            copy_index=copy_index,
            landmarks68=batch.landmarks68[written].reshape(-1, 136).tolist(),
            occluder=batch.occluder[written].tolist(),
            occluder_kind=batch.kind[written].tolist(),
            colour_matched=batch.colour_matched[written],
            shadow=batch.shadow[written],
            occluded_fraction=batch.occluded_fraction[written],
        )
        return columns
