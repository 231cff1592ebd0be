"""Faces with known occluders, the shards of `cfr occlude`, to tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cfr.model.camera import CROP_SIZE
from cfr.model.coefficients import coefficient_layout
from cfr.model.estimated_faces import load_face_estimator
from cfr.model.training.order import RowKey
from cfr.model.training.shard_data import ShardData
from cfr.model.training.shard_index import OpenFile, RowGroupReader, RowGroups, Shard, TrainingDataError
from cfr.model.training.stored_pictures import decoded, resized, row_values

ROW_NAME, LANDMARKS, COEFFICIENTS = "occlusion_id", "landmarks68", "coefficients"
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
        coefficients: (B,C) float32, see `Coefficients.concatenated`; C = 0 but in stage 0.
        chances: (B,2) float32 0..1, random numbers of the row in this epoch; 1 for held-out rows.
    """

    names: tuple[str, ...]
    original: Tensor
    occluded: Tensor
    face_mask: Tensor
    landmarks: Tensor
    coefficients: Tensor
    chances: Tensor

    def pin_memory(self) -> "OcclusionBatch":
        """For faster copies to a GPU; called by the DataLoader."""
        pinned = {name: value.pin_memory() for name, value in vars(self).items() if isinstance(value, Tensor)}
        return OcclusionBatch(self.names, **pinned)

    def __len__(self) -> int:
        return len(self.names)


class OcclusionDataset(Dataset):
    """Rows of shards by key.

    Args:
        shards: the files.
        groups: chosen rows; keys refer to them.
        kept_groups: row groups that are kept in memory.
        open_file: see `shard_index.OpenFile`.
        coefficients: how many there must be; 0: they are not read.
        seed: of `OcclusionBatch.chances`; None: they are 1.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        groups: RowGroups,
        kept_groups: int,
        open_file: OpenFile | None = None,
        coefficients: int = 0,
        seed: int | None = None,
    ):
        self.groups, self.coefficients, self.seed = groups, coefficients, seed
        columns = (*COLUMNS, COEFFICIENTS) if coefficients else COLUMNS
        self.reader = RowGroupReader(shards, columns, kept_groups, open_file)

    def __getitems__(self, keys: Sequence[RowKey]) -> OcclusionBatch:
        """Rows in the given order.

        Raises:
            TrainingDataError: a picture or the landmarks are missing or damaged.
        """
        rows = [self._row(key) for key in keys]
        names, original, occluded, *others = zip(*rows, strict=True)
        pictures = (torch.from_numpy(np.stack(each)).permute(0, 3, 1, 2) for each in (original, occluded))
        return OcclusionBatch(names, *pictures, *(torch.from_numpy(np.stack(each)) for each in others))

    def _chances(self, key: RowKey) -> np.ndarray:
        if self.seed is None:
            return np.ones(2, np.float32)
        return np.random.default_rng((self.seed, key.epoch, key.number)).random(2, np.float32)

    def _row(self, key: RowKey) -> tuple[str, *tuple[np.ndarray, ...]]:
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
        numbers = np.asarray(row.get(COEFFICIENTS) or (), np.float32)
        if len(numbers) != self.coefficients or not np.isfinite(numbers).all():
            raise TrainingDataError(
                f"{place}: {len(numbers)} coefficients where the face model has {self.coefficients}, or some that are "
                "not finite: made with another face model?"
            )
        arrays = (resized(picture, CROP_SIZE) for picture in pictures)
        return str(row[ROW_NAME]), *arrays, points.reshape(68, 2), numbers, self._chances(key)


class OcclusionData(ShardData[OcclusionBatch]):
    """The `engine.Data` of `cfr train-estimator`; see `ShardData`.

    Nothing is augmented but by the occluders, and in stage 0 by mirroring.
    """

    def dataset(self, groups: RowGroups, augmented: bool) -> OcclusionDataset:
        """See `ShardData.dataset`."""
        coefficients = 0
        if self.config.stage == 0:
            sizes = load_face_estimator(self.config.face_model, own_conventions=True).sizes
            coefficients = coefficient_layout(sizes)["translation"][1]
        seed = self.config.seed if augmented else None
        return OcclusionDataset(self.index.shards, groups, self.kept_groups, self.open_file, coefficients, seed)
