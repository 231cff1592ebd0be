"""Encodes a unit's pairs; what it shares with other jobs is in `write_shard`."""

from typing import Any

import pyarrow as pa

from cfr.model.alignment import CROP_IN_CONTEXT
from cfr.model.images import encode_image
from cfr.pipeline.schemas import MASKS, pair_schema
from cfr.transforms.batches import PairBatch
from cfr.transforms.write_shard import WriteShard, face_numbers


class WritePairs(WriteShard):
    """PairBatch -> one manifest row per unit."""

    def schema(self, kept: pa.Schema) -> pa.Schema:
        """See `WriteShard.schema`."""
        return pair_schema(self.context.settings.pictures, kept, dict(self.context.settings.metadata))

    def encode(self, batch: PairBatch, item: int) -> dict[str, bytes]:
        """See `WriteShard.encode`."""
        face, swaps = batch.face[item], batch.swaps
        pictures = {
            "target": batch.faces.context[face][CROP_IN_CONTEXT, CROP_IN_CONTEXT],
            "rotated": batch.rotated[item],
            "guidance": swaps.guidance[face],
            "occlusion_mask": batch.occlusion_mask[item],
            "occluder_mask": swaps.occluder_mask[face],
            "face_mask": swaps.fits.face_mask[face],
        }
        settings = self.context.settings
        return {
            name: encode_image(pictures[name], "png" if name in MASKS else settings.encoding)
            for name in settings.pictures
        }

    def numbers(self, batch: PairBatch, written: list[int]) -> dict[str, Any]:
        """See `WriteShard.numbers`."""
        face, view_index = batch.face[written], batch.view_index[written]
        columns = face_numbers(batch.swaps.fits, face)
        keys = zip(columns["image_id"], columns["face_index"], view_index, strict=True)
        columns.update(
            pair_id=[f"{image_id}#{face_index}.{view}" for image_id, face_index, view in keys],
            view_index=view_index,
            occluded_fraction=batch.swaps.occluded_fraction[face],
            visible_fraction=batch.visible_fraction[written],
            sharpness=batch.swaps.sharpness[face],
            quality=batch.quality[written],
        )
        for axis, name in enumerate(("yaw", "pitch", "roll")):
            columns[f"view_{name}"] = batch.view[written][:, axis]
        return columns
