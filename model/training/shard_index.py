"""Which rows of Parquet shards take part, and random access to them, reading footers and a few columns only."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_THREADS = 16
_OPEN_FILES = 32

OpenFile = Callable[[str], BinaryIO]
"""Opens a file for reading, seekable; picklable, since workers use it. None stands for a local memory map."""


class TrainingDataError(ValueError):
    """Shards that cannot be trained on. The message names the file, the row or column, and the fix."""


@dataclass(frozen=True)
class Shard:
    """One file.

    Attributes:
        path: where it is.
        identity: "<bytes>-<sha256 of the footer>".
    """

    path: str
    identity: str


@dataclass(frozen=True)
class RowGroups:
    """Rows of shards that were chosen, row group by row group; row groups without any are left out.

    Attributes:
        shard: (G,) int32, which shard a row group is in.
        group: (G,) int32, its number in that shard.
        starts: (G+1,) int64, where its rows begin in `rows`.
        rows: (N,) int32, numbers of the rows within their row group, ascending.
    """

    shard: np.ndarray
    group: np.ndarray
    starts: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class ShardIndex:
    """What is trained on and what is held out.

    Attributes:
        shards: the files, in the given order.
        training, validation: disjoint rows; no value of the split column is in both.
        split_column: that column.
        rows: all rows of the shards, before the filter.
    """

    shards: tuple[Shard, ...]
    training: RowGroups
    validation: RowGroups
    split_column: str
    rows: int

    def digest(self) -> str:
        """sha256 over the shards' identities: another set of shards, or changed ones, has another."""
        return hashlib.sha256("\n".join(shard.identity for shard in self.shards).encode()).hexdigest()


def build_index(
    shards: Sequence[Shard],
    split_column: str,
    validation_fraction: float,
    where: pc.Expression | None = None,
    where_columns: Sequence[str] = (),
    open_file: OpenFile | None = None,
) -> ShardIndex:
    """Choose and split the rows.

    Whether a row is held out depends on its value in the split column alone: on the value's hash, so that it stays
    where it is when shards are added.

    Args:
        shards: the files; all have the columns that are named here.
        split_column: text or numbers; rows without a value are trained on.
        validation_fraction: share of the values to hold out, 0 to 1.
        where: filter; rows for which it is not true take no part. Over `where_columns`.
        open_file: see `OpenFile`.

    Raises:
        TrainingDataError: no row passes the filter, none is left to train on, or a file cannot be read.
    """

    def chosen(shard: Shard) -> tuple[list[np.ndarray], list[np.ndarray], int]:
        """Rows to train on and to hold out, by row group; number of rows."""
        with open_shard(shard.path, open_file) as file:
            columns = list(dict.fromkeys([*where_columns, split_column]))
            table = file.read(columns=columns)
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        keep = pa.array(np.arange(table.num_rows))
        if where is not None:
            table = table.append_column("", keep).filter(where)
            keep = table.column(table.num_columns - 1).combine_chunks()
        held_out = _held_out(table.column(split_column), validation_fraction)
        numbers = keep.to_numpy()
        firsts = np.cumsum([0, *sizes])

        def by_group(rows: np.ndarray) -> list[np.ndarray]:
            bounds = np.searchsorted(rows, firsts)
            spans = zip(bounds, bounds[1:], firsts, strict=False)
            return [(rows[begin:end] - first).astype(np.int32) for begin, end, first in spans]

        return by_group(numbers[~held_out]), by_group(numbers[held_out]), sum(sizes)

    with ThreadPoolExecutor(_THREADS) as executor:
        parts = list(executor.map(chosen, shards))
    index = ShardIndex(
        tuple(shards),
        _row_groups([training for training, _, _ in parts]),
        _row_groups([validation for _, validation, _ in parts]),
        split_column,
        sum(rows for _, _, rows in parts),
    )
    if not len(index.training):
        if len(index.validation):
            raise TrainingDataError(
                f"all {len(index.validation)} rows are held out; lower --validation-fraction or choose another "
                f"--split-column than {split_column!r}"
            )
        reason = "no row passes --where" if where is not None else "the shards hold no rows"
        raise TrainingDataError(f"nothing to train on: {reason} ({index.rows} rows in {len(shards)} shards)")
    return index


def open_shard(path: str, open_file: OpenFile | None = None) -> pq.ParquetFile:
    """A Parquet file to read from.

    Raises:
        TrainingDataError: it cannot be read.
    """
    try:
        if open_file is None:
            return pq.ParquetFile(path, memory_map=True)
        return pq.ParquetFile(open_file(path))
    except (OSError, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise TrainingDataError(f"{path} cannot be read ({reason}); copy or make the shard again") from error


class RowGroupReader:
    """Reads columns of row groups, and keeps the latest in memory.

    Args:
        index: of the shards.
        columns: which to read.
        kept: how many row groups are kept.
        open_file: see `OpenFile`.
    """

    def __init__(self, shards: Sequence[Shard], columns: Sequence[str], kept: int, open_file: OpenFile | None = None):
        self.shards = tuple(shards)
        self.columns = list(columns)
        self.kept = kept
        self.open_file = open_file
        self._groups: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        self._files: OrderedDict[int, pq.ParquetFile] = OrderedDict()

    def __getstate__(self) -> dict:
        """Workers start with nothing open."""
        return {**self.__dict__, "_groups": OrderedDict(), "_files": OrderedDict()}

    def read(self, shard: int, group: int) -> pa.Table:
        """One row group.

        Raises:
            TrainingDataError: it cannot be read.
        """
        key = (shard, group)
        if key not in self._groups:
            try:
                table = self._file(shard).read_row_group(group, columns=self.columns)
            except (OSError, pa.ArrowException) as error:
                reason = str(error).partition("\n")[0]
                raise TrainingDataError(
                    f"{self.shards[shard].path}: row group {group} cannot be read ({reason}); make the shard again"
                ) from error
            self._groups[key] = table
            while len(self._groups) > self.kept:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]

    def _file(self, shard: int) -> pq.ParquetFile:
        if shard not in self._files:
            self._files[shard] = open_shard(self.shards[shard].path, self.open_file)
            while len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(shard)
        return self._files[shard]


def _held_out(values: pa.ChunkedArray, fraction: float) -> np.ndarray:
    """(N,) bool; each distinct value is hashed once."""
    encoded = values.combine_chunks().dictionary_encode()
    chosen = np.array([_share(str(value)) < fraction for value in encoded.dictionary.to_pylist()], bool)
    codes = encoded.indices.fill_null(len(chosen)).to_numpy(zero_copy_only=False)
    return np.append(chosen, False)[codes]


def _share(value: str) -> float:
    """A value's place in 0..1: its hash."""
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "big") / 2**64


def _row_groups(parts: Sequence[Sequence[np.ndarray]]) -> RowGroups:
    places = [
        (shard, group, rows) for shard, groups in enumerate(parts) for group, rows in enumerate(groups) if len(rows)
    ]
    return RowGroups(
        np.array([shard for shard, _, _ in places], np.int32),
        np.array([group for _, group, _ in places], np.int32),
        np.cumsum([0, *(len(rows) for _, _, rows in places)], dtype=np.int64),
        np.concatenate([rows for _, _, rows in places]) if places else np.zeros(0, np.int32),
    )
