"""Pairs from shards to tensors: decoded, resized and augmented in the workers of a DataLoader."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from cfr.model.training.augmentation import Augmentation, augment
from cfr.model.training.order import RowKey
from cfr.model.training.shard_index import OpenFile, RowGroupReader, RowGroups, Shard, TrainingDataError
from cfr.model.training.stored_pictures import decoded, first_rows, resized, row_values

PICTURES = ("target", "rotated", "guidance")
MASK = "occlusion_mask"
ROW_NAME = "pair_id"
COLUMNS = (ROW_NAME, *PICTURES, MASK)
"""What a shard must have."""


@dataclass(frozen=True)
class PairBatch:
    """Pairs as they come from the workers.

    Attributes:
        names: `pair_id` of each row.
        target, rotated, guidance: (B,3,S,S) uint8 RGB.
        occlusion_mask: (B,1,S,S) uint8, 255 = not to be taken from `rotated`.
    """

    names: tuple[str, ...]
    target: Tensor
    rotated: Tensor
    guidance: Tensor
    occlusion_mask: Tensor

    def pin_memory(self) -> "PairBatch":
        """For faster copies to a GPU; called by the DataLoader."""
        return PairBatch(self.names, *(getattr(self, name).pin_memory() for name in (*PICTURES, MASK)))

    def __len__(self) -> int:
        return len(self.names)


class PairDataset(Dataset):
    """Rows of pair shards by key.

    Args:
        shards: the files.
        groups: chosen rows; keys refer to them.
        size: side of the tensors in pixels; pictures of another size are resized.
        chances: of the augmentation.
        seed: of the augmentation, together with the key.
        kept_groups: row groups that are kept in memory.
        open_file: see `shard_index.OpenFile`.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        groups: RowGroups,
        size: int,
        chances: Augmentation,
        seed: int,
        kept_groups: int,
        open_file: OpenFile | None = None,
    ):
        self.groups = groups
        self.size = size
        self.chances = chances
        self.seed = seed
        self.reader = RowGroupReader(shards, COLUMNS, kept_groups, open_file)
        # That of the first row: the others must have it, too.
        self.stored_size = self._stored_size()

    def __getitems__(self, keys: Sequence[RowKey]) -> PairBatch:
        """Rows in the given order.

        Raises:
            TrainingDataError: a picture is missing, damaged or of another size than the first row's.
        """
        rows = [self._row(key) for key in keys]
        names = tuple(name for name, _ in rows)
        stacked = {name: torch.from_numpy(np.stack([pair[name] for _, pair in rows])) for name in (*PICTURES, MASK)}
        pictures = (stacked[name].permute(0, 3, 1, 2) for name in PICTURES)
        return PairBatch(names, *pictures, stacked[MASK][:, None])

    def _row(self, key: RowKey) -> tuple[str, dict[str, np.ndarray]]:
        """`pair_id`, and pictures (S,S,3) and mask (S,S) by column."""
        row, place = row_values(self.reader, self.groups, key, ROW_NAME)
        pair = {name: resized(self._picture(row, name, place), self.size) for name in (*PICTURES, MASK)}
        generator = np.random.default_rng((self.seed, 1, key.epoch, key.number))
        return str(row[ROW_NAME]), augment(pair, self.chances, generator)

    def _stored_size(self) -> tuple[int, int]:
        values, place = row_values(self.reader, self.groups, first_rows(self.groups, 1)[0], ROW_NAME)
        size = decoded(values, PICTURES[0], place).size
        if size[0] != size[1]:
            raise TrainingDataError(f"{place}: pictures are {size[0]}x{size[1]} pixels, not square")
        return size

    def _picture(self, row: dict, name: str, place: str) -> Image.Image:
        picture = decoded(row, name, place, "L" if name == MASK else "RGB")
        if picture.size != self.stored_size:
            found, expected = ("x".join(map(str, size)) for size in (picture.size, self.stored_size))
            raise TrainingDataError(
                f"{place}: {name} has {found} pixels, the first row's pictures have {expected}; "
                "train on shards of one size"
            )
        return picture
