"""The plan of a job: which rows of which input files become which shards, from Parquet footers only."""

import hashlib
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cfr.pipeline import storage
from cfr.pipeline.errors import UserError
from cfr.transforms.batches import WorkUnit

# id and image column by convention: ours and Hugging Face's, then img2dataset's.
KNOWN_COLUMNS = (("image_id", "image"), ("key", "jpg"))
_TAIL = 1 << 16


@dataclass(frozen=True)
class InputFile:
    """A readable input file.

    Attributes:
        path: where it is.
        key: "<stem>-<8 hex of the path below the glob's root>", the same wherever the root lies.
        input_identity: "<bytes>-<sha256 of the footer>".
        rows: how many.
        size: bytes.
        largest_row_group: bytes, uncompressed.
        schema: columns.
    """

    path: str
    key: str
    input_identity: str
    rows: int
    size: int
    largest_row_group: int
    schema: pa.Schema


@dataclass(frozen=True)
class UnreadableFile:
    """An input file that is no Parquet file or a damaged one: a failed unit of unknown size."""

    path: str
    key: str
    message: str


@dataclass(frozen=True)
class InputColumns:
    """Names of the columns that are read."""

    image_id: str
    image: str


def find_inputs(patterns: Sequence[str]) -> list[tuple[str, str]]:
    """(path, key) of the files that globs, files and folders stand for; each file once, sorted by key.

    Raises:
        UserError: a pattern matches nothing.
    """
    paths: set[str] = set()
    roots = []
    for given in patterns:
        storage.check_scheme(given, "--input")
        pattern = storage.absolute(given)
        if storage.exists(pattern) and storage.is_local(pattern) and not _is_file(pattern):
            pattern = storage.join(pattern, "*.parquet")
        matched = storage.match(pattern)
        if not matched:
            raise UserError(
                f"--input {given}: no file matches; quote the glob, and check the path (cfr ingest makes image shards)"
            )
        paths.update(matched)
        roots.append(storage.split_glob(pattern)[0])
    root = posixpath.commonpath(roots) if all(storage.is_local(each) for each in roots) else _common_prefix(roots)
    found = []
    for path in sorted(paths):
        below = path[len(root) :].lstrip("/\\").replace("\\", "/") or posixpath.basename(path)
        stem = re.sub(r"[^\w.-]", "_", posixpath.basename(below).removesuffix(".parquet"))[:80]
        found.append((path, f"{stem}-{hashlib.sha256(below.encode()).hexdigest()[:8]}"))
    return sorted(found, key=lambda item: item[1])


def read_footer(path: str, key: str) -> InputFile | UnreadableFile:
    """What a file's footer tells; its rows are not touched."""
    try:
        with storage.open_read(path) as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - _TAIL))
            tail = stream.read()
            if size < 12 or tail[-4:] != b"PAR1":
                return UnreadableFile(path, key, "not a Parquet file, or cut off; write or copy it again")
            length = int.from_bytes(tail[-8:-4], "little") + 8
            if length > size:
                return UnreadableFile(path, key, "damaged Parquet footer; write or copy the file again")
            if length > len(tail):
                stream.seek(size - length)
                tail = stream.read()
        footer = tail[-length:]
        metadata = pq.read_metadata(pa.BufferReader(footer))
        schema = metadata.schema.to_arrow_schema()
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:  # the last: a damaged column name
        return UnreadableFile(path, key, f"cannot be read ({_one_line(error)}); check the file, copy it again")
    groups = [metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)]
    identity = f"{size}-{hashlib.sha256(footer).hexdigest()}"
    return InputFile(path, key, identity, metadata.num_rows, size, max(groups, default=0), schema)


def plan_units(files: Sequence[InputFile], unit_rows: int, limit: int | None = None) -> list[WorkUnit]:
    """Cut the files into units of `unit_rows` rows; `limit` rows, rounded up to whole units."""
    units: list[WorkUnit] = []
    planned = 0
    for file in files:
        for first in range(0, file.rows, unit_rows):
            if limit is not None and planned >= limit:
                return units
            units.append(_unit(file, first, unit_rows))
            planned += units[-1].rows
    return units


@dataclass(frozen=True)
class UnitRuns:
    """Some of one file's units, small enough for a job's graph to hold millions.

    Attributes:
        path, key, input_identity: the file.
        rows: of the file.
        unit_rows: rows of its units; the last one has what remains.
        runs: half-open ranges of unit numbers.
    """

    path: str
    key: str
    input_identity: str
    rows: int
    unit_rows: int
    runs: tuple[tuple[int, int], ...]

    def units(self) -> Iterator[WorkUnit]:
        """The units, in order."""
        for start, stop in self.runs:
            for first in range(start * self.unit_rows, stop * self.unit_rows, self.unit_rows):
                yield _unit(self, first, self.unit_rows)


def pack_units(files: Sequence[InputFile], unit_rows: int, units: Sequence[WorkUnit]) -> list[UnitRuns]:
    """The same units, one element per file."""
    wanted: dict[str, list[int]] = {}
    for unit in units:
        wanted.setdefault(unit.path, []).append(unit.first_row // unit_rows)
    packed = []
    for file in files:
        runs: list[list[int]] = []
        for number in sorted(wanted.get(file.path, [])):
            if runs and runs[-1][1] == number:
                runs[-1][1] += 1
            else:
                runs.append([number, number + 1])
        if runs:
            ranges = tuple((start, stop) for start, stop in runs)
            packed.append(UnitRuns(file.path, file.key, file.input_identity, file.rows, unit_rows, ranges))
    return packed


def _unit(file: "InputFile | UnitRuns", first_row: int, unit_rows: int) -> WorkUnit:
    rows = min(unit_rows, file.rows - first_row)
    return WorkUnit(f"{file.key}-{first_row}-{rows}", file.path, first_row, rows, file.input_identity)


def find_columns(files: Sequence[InputFile], id_column: str | None, image_column: str | None) -> InputColumns:
    """Which columns hold the id and the picture: those asked for, or the known conventions.

    Raises:
        UserError: a file has no such column, or one of another type.
    """
    names = set(files[0].schema.names) if files else set()
    default_id, default_image = next(
        (pair for pair in KNOWN_COLUMNS if (id_column or pair[0]) in names and (image_column or pair[1]) in names),
        KNOWN_COLUMNS[0],
    )
    columns = InputColumns(id_column or default_id, image_column or default_image)
    for file in files:
        _check_column(file, columns.image_id, "--id-column", _is_id, "a string or an integer")
        _check_column(file, columns.image, "--image-column", _is_image, "binary or a struct with `bytes`")
    return columns


def check_kept_columns(files: Sequence[InputFile], kept: Sequence[str], taken: Sequence[str]) -> pa.Schema:
    """Schema of the columns to carry along.

    Raises:
        UserError: a column is missing, has different types in different files or has the name of an output column.
    """
    fields = []
    for name in kept:
        if name in taken:
            raise UserError(f"--keep-columns {name}: the output has a column of that name; rename the input's")
        for file in files:
            if name not in file.schema.names:
                raise UserError(f"--keep-columns {name}: {file.path} has no such column ({_names(file)})")
            if file.schema.field(name).type != files[0].schema.field(name).type:
                raise UserError(f"--keep-columns {name}: {file.path} and {files[0].path} hold different types")
        fields.append(files[0].schema.field(name).remove_metadata())
    return pa.schema(fields)


def check_unique_ids(files: Sequence[InputFile], id_column: str) -> None:
    """Look at all ids of the whole input.

    Raises:
        UserError: an id comes more than once, or a file cannot be read.
    """
    hashes = []
    for file in files:
        ids = _read_ids(file, id_column)
        digests = b"".join(hashlib.blake2b(image_id.encode(), digest_size=8).digest() for image_id in ids)
        hashes.append(np.frombuffer(digests, dtype=np.uint64))
    values, counts = np.unique(np.concatenate([np.zeros(0, np.uint64), *hashes]), return_counts=True)
    suspects = set(values[counts > 1].tolist())
    if not suspects:
        return
    # Second look, by the ids themselves: different ids may share a hash.
    seen: dict[str, str] = {}
    for file, of_file in zip(files, hashes, strict=True):
        for image_id, value in zip(_read_ids(file, id_column), of_file.tolist(), strict=True):
            if value in suspects and image_id in seen:
                raise UserError(
                    f"id {image_id!r} is in {seen[image_id]} and again in {file.path}; make the ids unique "
                    f"({len(suspects)} ids come more than once)"
                )
            if value in suspects:
                seen[image_id] = file.path


def _read_ids(file: InputFile, id_column: str) -> list[str]:
    try:
        with storage.open_read(file.path) as stream:
            column = pq.read_table(stream, columns=[id_column]).column(0)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"--check-ids: {file.path} cannot be read ({_one_line(error)}); write it again") from error
    return [image_id for image_id in pc.cast(column, pa.string()).to_pylist() if image_id]


def _check_column(file: InputFile, name: str, flag: str, fits, expected: str) -> None:
    if name not in file.schema.names:
        raise UserError(f"{file.path} has no column {name!r} (it has {_names(file)}); name the right one with {flag}")
    type_ = file.schema.field(name).type
    if not fits(type_):
        raise UserError(f"{file.path}: column {name!r} is {type_}, not {expected}; name the right one with {flag}")


def _is_id(type_: pa.DataType) -> bool:
    return pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_integer(type_)


def _is_image(type_: pa.DataType) -> bool:
    if pa.types.is_struct(type_):
        names = [type_.field(index).name for index in range(type_.num_fields)]
        return "bytes" in names and _is_image(type_.field("bytes").type)
    return pa.types.is_binary(type_) or pa.types.is_large_binary(type_)


def _names(file: InputFile) -> str:
    return ", ".join(file.schema.names)


def _is_file(path: str) -> bool:
    try:
        storage.open_read(path).close()
        return True
    except IsADirectoryError:
        return False


def _common_prefix(roots: Sequence[str]) -> str:
    """Common leading components of URLs."""
    split = [root.split("/") for root in roots]
    common = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return "/".join(common)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
