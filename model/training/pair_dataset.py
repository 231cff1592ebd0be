"""Pairs from shards to tensors: decoded, resized and augmented in the workers of a DataLoader."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cfr.model.training.augmentation import Augmentation, augment
from cfr.model.training.order import RowKey
from cfr.model.training.shard_index import OpenFile, RowGroupReader, RowGroups, Shard, TrainingDataError

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
        row, place = self._values(key.position, key.row)
        pair = {name: _resized(self._picture(row, name, place), self.size) for name in (*PICTURES, MASK)}
        generator = np.random.default_rng((self.seed, 1, key.epoch, key.number))
        return str(row[ROW_NAME]), augment(pair, self.chances, generator)

    def _values(self, position: int, row: int) -> tuple[dict, str]:
        """A row's values by column, and what to call it in an error."""
        shard, group = int(self.groups.shard[position]), int(self.groups.group[position])
        values = self.reader.read(shard, group).slice(row, 1).to_pylist()[0]
        return values, f"{self.reader.shards[shard].path}, row {row} of row group {group} ({values[ROW_NAME]})"

    def _stored_size(self) -> tuple[int, int]:
        values, place = self._values(0, int(self.groups.rows[0]))
        size = _decoded(values, PICTURES[0], place).size
        if size[0] != size[1]:
            raise TrainingDataError(f"{place}: pictures are {size[0]}x{size[1]} pixels, not square")
        return size

    def _picture(self, row: dict, name: str, place: str) -> Image.Image:
        picture = _decoded(row, name, place)
        if picture.size != self.stored_size:
            found, expected = ("x".join(map(str, size)) for size in (picture.size, self.stored_size))
            raise TrainingDataError(
                f"{place}: {name} has {found} pixels, the first row's pictures have {expected}; "
                "train on shards of one size"
            )
        return picture


def data_loader(
    dataset: PairDataset, batches: Iterable[Sequence[RowKey]], workers: int, pin_memory: bool
) -> DataLoader:
    """Loader of PairBatches, in order.

    Args:
        dataset: the rows.
        batches: keys of each batch.
        workers: processes that decode; 0: this one.
        pin_memory: for copies to a GPU.
    """
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=_as_it_is,
        num_workers=workers,
        pin_memory=pin_memory,
        # Forking a process that has threads (torch, Arrow) can hang.
        multiprocessing_context="spawn" if workers else None,
        # A loader draws from torch's global generator otherwise, and a resumed run would have drawn more often.
        generator=torch.Generator(),
    )


def first_rows(groups: RowGroups, count: int) -> list[RowKey]:
    """Keys of up to `count` rows, spread evenly, in the order of the shards."""
    chosen = np.unique(np.linspace(0, len(groups) - 1, min(count, len(groups))).round().astype(int))
    positions = np.searchsorted(groups.starts, chosen, side="right") - 1
    return [
        RowKey(0, position, int(groups.rows[number]), number)
        for number, position in zip(chosen.tolist(), positions.tolist(), strict=True)
    ]


def _as_it_is(batch: PairBatch) -> PairBatch:
    return batch


def _decoded(row: dict, name: str, place: str) -> Image.Image:
    value = row[name]
    encoded = value["bytes"] if isinstance(value, dict) else value
    if not encoded:
        raise TrainingDataError(f"{place}: no {name}; make the shard again")
    try:
        return Image.open(io.BytesIO(encoded)).convert("L" if name == MASK else "RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise TrainingDataError(f"{place}: {name} is no picture ({error}); make the shard again") from error


def _resized(picture: Image.Image, size: int) -> np.ndarray:
    if picture.size != (size, size):
        resampling = Image.Resampling.BOX if size < picture.width else Image.Resampling.BILINEAR
        picture = picture.resize((size, size), resampling)
    return np.asarray(picture)
