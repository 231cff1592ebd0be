"""Faces with known occluders, the shards of `cfr occlude`, to tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cfr.model.camera import CROP_SIZE
from cfr.model.training.order import RowKey
from cfr.model.training.shard_data import ShardData
from cfr.model.training.shard_index import OpenFile, RowGroupReader, RowGroups, Shard, TrainingDataError
from cfr.model.training.stored_pictures import decoded, resized, row_values

ROW_NAME, LANDMARKS = "occlusion_id", "landmarks68"
COLUMNS = (ROW_NAME, "original", "occluded", "face_mask", LANDMARKS)
"""What a shard must have."""


@dataclass(frozen=True)
class OcclusionBatch:
    """Faces as they come from the workers.

    Attributes:
        names: `occlusion_id` of each row.
        original, occluded: (B,3,224,224) uint8 RGB.
        face_mask: (B,224,224) uint8, 255 = the mesh that was fitted to the original.
        landmarks: (B,68,2) float32 crop px.
    """

    names: tuple[str, ...]
    original: Tensor
    occluded: Tensor
    face_mask: Tensor
    landmarks: Tensor

    def pin_memory(self) -> "OcclusionBatch":
        """For faster copies to a GPU; called by the DataLoader."""
        tensors = (self.original, self.occluded, self.face_mask, self.landmarks)
        return OcclusionBatch(self.names, *(each.pin_memory() for each in tensors))

    def __len__(self) -> int:
        return len(self.names)


class OcclusionDataset(Dataset):
    """Rows of shards by key.

    Args:
        shards: the files.
        groups: chosen rows; keys refer to them.
        kept_groups: row groups that are kept in memory.
        open_file: see `shard_index.OpenFile`.
    """

    def __init__(self, shards: Sequence[Shard], groups: RowGroups, kept_groups: int, open_file: OpenFile | None = None):
        self.groups = groups
        self.reader = RowGroupReader(shards, COLUMNS, kept_groups, open_file)

    def __getitems__(self, keys: Sequence[RowKey]) -> OcclusionBatch:
        """Rows in the given order.

        Raises:
            TrainingDataError: a picture or the landmarks are missing or damaged.
        """
        rows = [self._row(key) for key in keys]
        names, original, occluded, mask, landmarks = zip(*rows, strict=True)
        pictures = (torch.from_numpy(np.stack(each)).permute(0, 3, 1, 2) for each in (original, occluded))
        points = torch.from_numpy(np.stack(landmarks))
        return OcclusionBatch(names, *pictures, torch.from_numpy(np.stack(mask)), points)

    def _row(self, key: RowKey) -> tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        row, place = row_values(self.reader, self.groups, key, ROW_NAME)
        points = np.asarray(row[LANDMARKS] or (), np.float32)
        if points.size != 2 * 68 or not np.isfinite(points).all():
            raise TrainingDataError(f"{place}: {LANDMARKS} are not 68 finite points; make the shard again")
        pictures = [decoded(row, name, place) for name in ("original", "occluded")]
        pictures.append(decoded(row, "face_mask", place, "L"))
        if any(picture.size != (CROP_SIZE, CROP_SIZE) for picture in pictures):
            raise TrainingDataError(
                f"{place}: pictures have not {CROP_SIZE} x {CROP_SIZE} pixels; make the shard again"
            )
        return str(row[ROW_NAME]), *(resized(picture, CROP_SIZE) for picture in pictures), points.reshape(68, 2)


class OcclusionData(ShardData[OcclusionBatch]):
    """The `engine.Data` of `cfr train-estimator`; see `ShardData`. Nothing is augmented but by the occluders."""

    def dataset(self, groups: RowGroups, augmented: bool) -> OcclusionDataset:
        """See `ShardData.dataset`."""
        return OcclusionDataset(self.index.shards, groups, self.kept_groups, self.open_file)
