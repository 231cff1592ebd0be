"""Pictures as they are in a shard, to arrays; what is wrong with one names its place."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from cfr.model.training.order import RowKey
from cfr.model.training.shard_index import RowGroupReader, RowGroups, TrainingDataError


def row_values(reader: RowGroupReader, groups: RowGroups, key: RowKey, name_column: str) -> tuple[dict, str]:
    """A row's values by column, and what to call it in an error."""
    shard, group = int(groups.shard[key.position]), int(groups.group[key.position])
    values = reader.read(shard, group).slice(key.row, 1).to_pylist()[0]
    return values, f"{reader.shards[shard].path}, row {key.row} of row group {group} ({values[name_column]})"


def decoded(row: dict, name: str, place: str, mode: str = "RGB") -> Image.Image:
    """A picture column of a row, in a mode of Pillow.

    Raises:
        TrainingDataError: it is missing or damaged.
    """
    value = row[name]
    encoded = value["bytes"] if isinstance(value, dict) else value
    if not encoded:
        raise TrainingDataError(f"{place}: no {name}; make the shard again")
    try:
        return Image.open(io.BytesIO(encoded)).convert(mode)
    except (OSError, SyntaxError, ValueError) as error:
        raise TrainingDataError(f"{place}: {name} is no picture ({error}); make the shard again") from error


def resized(picture: Image.Image, size: int) -> np.ndarray:
    """The picture as an array, its sides brought to a size."""
    if picture.size != (size, size):
        resampling = Image.Resampling.BOX if size < picture.width else Image.Resampling.BILINEAR
        picture = picture.resize((size, size), resampling)
    return np.asarray(picture)


def data_loader(dataset: Dataset, batches: Iterable[Sequence[RowKey]], workers: int, pin_memory: bool) -> DataLoader:
    """Loader of a dataset's batches, in order.

    Args:
        dataset: whose `__getitems__` makes a batch of keys.
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


def _as_it_is(batch: Any) -> Any:
    return batch
