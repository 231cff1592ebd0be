"""Finding, choosing and reading rows of shards of pairs, frontal or occluded faces without loading whole shards."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cfr.pipeline import storage
from cfr.pipeline.errors import UserError
from cfr.pipeline.where import comparable_columns, parse_where

PRODUCTS = ("pairs", "frontal", "occluded")
REQUIRED_COLUMNS = ("image_id", "face_index")
# What tells the rows of one face apart, one of them.
INDEX_COLUMNS = ("view_index", "pose_index", "copy_index")


@dataclass(frozen=True)
class ShardSet:
    """Sorted paths of an output: shards of rows, and the failure shards beside them (often none)."""

    rows: tuple[str, ...]
    failures: tuple[str, ...]


@dataclass(frozen=True)
class RowReference:
    """One row: the path of its shard and its number therein."""

    path: str
    row: int


@dataclass(frozen=True)
class PairRow:
    """Values of one row by column (pictures still encoded) and the schema metadata of its shard as text."""

    values: dict
    metadata: dict[str, str]

    def encoded_picture(self, column: str) -> bytes | None:
        """The file of a picture column, None where the shard has no such column or no value."""
        value = self.values.get(column)
        return value["bytes"] if isinstance(value, dict) else value


def find_shards(source: str, flag: str = "") -> ShardSet:
    """Shards of an output folder of a job, of its folder of shards, a shard, or a glob.

    Args:
        source: where.
        flag: of the command line that named it, for the error's message.

    Raises:
        UserError: nothing there, or nothing that is a Parquet file.
    """
    folder = source.rstrip("/") or "/"
    places = [(storage.join(folder, product), folder) for product in PRODUCTS]
    for rows_folder, output in (*places, (folder, folder.rpartition("/")[0])):
        rows = _list_parquet(rows_folder)
        if rows:
            return ShardSet(rows, _list_parquet(storage.join(output, "failures")))
    rows = () if os.path.isdir(source) else tuple(storage.match(source))
    if not rows:
        raise UserError(
            f"{flag}{': ' if flag else ''}no shards at {source}: give the --output folder of `cfr pairs`, "
            "`cfr frontalize` or `cfr occlude`, or *.parquet files from its pairs/, frontal/ or occluded/"
        )
    return ShardSet(rows, ())


def select_rows(
    shards: Sequence[str], limit: int, where: str | None = None, sort: str | None = None
) -> list[RowReference]:
    """Choose rows, reading only the columns that the filter and the sort need, one shard at a time.

    Args:
        shards: paths of pair shards.
        limit: how many rows at most.
        where: filter, see `cfr.pipeline.where`.
        sort: name of a column, ascending; descending with `-` before it. Missing values come last. Without it the
            first rows in the order of the shards are chosen, and reading stops when there are enough.

    Returns:
        The chosen rows in order.

    Raises:
        UserError: a wrong filter or column, or a shard that is not a pair shard.
    """
    descending = bool(sort) and sort.startswith("-")
    key = sort.removeprefix("-") if sort else None
    chosen: list[tuple[object, RowReference]] = []
    for path in shards:
        with _open(path) as file:
            schema = file.schema_arrow
            rows = file.metadata.num_rows
            _check_schema(path, schema, key)
            columns = comparable_columns(schema) if where else [key] if key else []
            table = file.read(columns=columns) if columns else None
        numbers = pa.array(np.arange(rows))
        if where:
            table = table.append_column("", numbers).filter(parse_where(where, schema))
            numbers = table.column(table.num_columns - 1).combine_chunks()
        keys = table.column(key).to_pylist() if key else [None] * len(numbers)
        found = [(k, RowReference(path, row)) for k, row in zip(keys, numbers.to_pylist(), strict=True)]
        if not key:
            chosen += found[: limit - len(chosen)]
            if len(chosen) >= limit:
                break
        else:
            chosen = _ordered(chosen + found, descending)[:limit]
    return [reference for _, reference in chosen]


def read_schema(path: str) -> pa.Schema:
    """Columns of a shard."""
    with _open(path) as file:
        return file.schema_arrow


def read_rows(references: Sequence[RowReference], columns: Sequence[str] | None = None) -> Iterator[PairRow]:
    """Read rows in the given order, touching only the row groups that hold them.

    Args:
        references: rows of `select_rows`; all of them are in memory at once, so give a page at a time.
        columns: which columns, those that a shard lacks are left out; all by default.
    """
    found: dict[RowReference, PairRow] = {}
    for path in dict.fromkeys(reference.path for reference in references):
        wanted = sorted({reference.row for reference in references if reference.path == path})
        with _open(path) as file:
            names = [name for name in file.schema_arrow.names if columns is None or name in columns]
            metadata = _text_metadata(file.schema_arrow)
            first = 0
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                inside = [row - first for row in wanted if first <= row < first + rows]
                if inside:
                    table = file.read_row_group(group, columns=names).take(pa.array(inside))
                    for row, values in zip(inside, table.to_pylist(), strict=True):
                        found[RowReference(path, first + row)] = PairRow(values, metadata)
                first += rows
    for reference in references:
        yield found[reference]


def read_failures(shards: Sequence[str]) -> Iterator[dict]:
    """Rows of failure shards (`image_id, face_index, stage, reason, message`), one shard in memory at a time."""
    for path in shards:
        with _open(path) as file:
            yield from file.read().to_pylist()


def _ordered(found: list[tuple[object, RowReference]], descending: bool) -> list[tuple[object, RowReference]]:
    def missing(key: object) -> bool:
        return key is None or key != key

    present = sorted((item for item in found if not missing(item[0])), key=lambda item: item[0], reverse=descending)
    return present + [item for item in found if missing(item[0])]


def _check_schema(path: str, schema: pa.Schema, key: str | None) -> None:
    lacking = [name for name in REQUIRED_COLUMNS if name not in schema.names]
    if not lacking and not any(name in schema.names for name in INDEX_COLUMNS):
        lacking = [INDEX_COLUMNS[0]]
    if lacking:
        raise UserError(f"{path} holds no pairs, frontal or occluded faces: it has no column `{lacking[0]}`")
    if key is not None and key not in comparable_columns(schema):
        raise UserError(f"--sort: no such column `{key}`; known columns: {', '.join(comparable_columns(schema))}")


def _text_metadata(schema: pa.Schema) -> dict[str, str]:
    return {key.decode(): value.decode(errors="replace") for key, value in (schema.metadata or {}).items()}


@contextmanager
def _open(path: str) -> Iterator[pq.ParquetFile]:
    with storage.open_read(path) as stream:
        try:
            file = pq.ParquetFile(stream)
        except pa.ArrowInvalid as error:
            raise UserError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from error
        yield file


def _list_parquet(folder: str) -> tuple[str, ...]:
    return tuple(storage.join(folder, name) for name in sorted(storage.list_folder(folder, "*.parquet")))
