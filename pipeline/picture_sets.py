"""Sets of pictures for `cfr evaluate distribution`: a folder of files, or a column of shards."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cfr.model.images import ImageError, decode_image
from cfr.pipeline import storage
from cfr.pipeline.errors import UserError
from cfr.pipeline.labelled_photos import find_photos
from cfr.pipeline.pair_rows import RowReference, find_shards, read_rows, read_schema

# The column that is meant where none is named: the result, the clean photo, the photo of an image shard.
_USUAL_COLUMNS = ("frontal", "target", "image", "jpg")
_THREADS = 4


@dataclass(frozen=True)
class PictureSet:
    """Pictures that are read when they are wanted.

    Attributes:
        source: what the user named.
        column: of shards; empty for files.
        places: where each picture is.
    """

    source: str
    column: str
    places: Sequence[Path | RowReference]

    def __len__(self) -> int:
        return len(self.places)

    def title(self) -> str:
        """The source and its column."""
        return f"{self.source}:{self.column}" if self.column else self.source

    def read(self, chosen: Sequence[int] | None = None) -> Iterator[tuple[int, str, np.ndarray | str]]:
        """Stream (index, name, picture (H,W,3) uint8 RGB, or why it cannot be decoded), in the set's order.

        Args:
            chosen: indices in ascending order; all by default.
        """
        wanted = list(range(len(self)) if chosen is None else chosen)
        encoded = self._from_rows(wanted) if self.column else self._from_files(wanted)
        with ThreadPoolExecutor(_THREADS) as executor:
            waiting = []
            for item in encoded:
                waiting.append(item)
                if len(waiting) == 4 * _THREADS:
                    yield from executor.map(_decoded, waiting)
                    waiting = []
            yield from executor.map(_decoded, waiting)

    def _from_files(self, wanted: list[int]) -> Iterator[tuple[int, str, bytes | str]]:
        for index in wanted:
            path = self.places[index]
            try:
                yield index, str(path), path.read_bytes()
            except OSError as error:
                yield index, str(path), error.strerror or str(error)

    def _from_rows(self, wanted: list[int]) -> Iterator[tuple[int, str, bytes | str | None]]:
        for path in dict.fromkeys(self.places[index].path for index in wanted):
            inside = [index for index in wanted if self.places[index].path == path]
            with storage.open_read(path) as stream:
                groups = np.array([*_row_group_starts(pq.ParquetFile(stream).metadata)])
            group = np.searchsorted(groups, [self.places[index].row for index in inside], side="right")
            for number in np.unique(group):
                together = [index for index, of in zip(inside, group, strict=True) if of == number]
                columns = ["image_id", "key", "face_index", "view_index", "pose_index", self.column]
                for index, row in zip(together, read_rows([self.places[i] for i in together], columns), strict=True):
                    data = row.encoded_picture(self.column)
                    yield index, _row_name(row.values), "the row has no picture" if data is None else data


def open_set(text: str) -> PictureSet:
    """The pictures of a folder, of files, or of a column of shards, `SOURCE:COLUMN`.

    Raises:
        UserError: nothing there, or no such column.
    """
    source, colon, column = text.rpartition(":")
    if not (colon and column.isidentifier()) or Path(text).exists():
        source, column = text, ""
    if Path(source).is_file() and not source.endswith(".parquet"):
        return PictureSet(source, "", [Path(source)])
    try:
        shards = find_shards(source).rows
    except UserError:
        if column:
            raise
        if not Path(source).is_dir():
            raise UserError(f"{source}: neither a folder of pictures, nor shards or an output of them") from None
        return PictureSet(source, "", find_photos([source], recursive=True))
    pictures = _picture_columns(read_schema(shards[0]))
    if not column:
        column = next((name for name in _USUAL_COLUMNS if name in pictures), "")
    if column not in pictures:
        missing = f"no column of pictures `{column}`" if column else "say which column, as in SOURCE:COLUMN"
        raise UserError(f"{source}: {missing}; it has {', '.join(pictures) or 'none with pictures'}")
    places = []
    for path in shards:
        with storage.open_read(path) as stream:
            rows = pq.ParquetFile(stream).metadata.num_rows
        places += [RowReference(path, row) for row in range(rows)]
    return PictureSet(source, column, places)


def _picture_columns(schema: pa.Schema) -> list[str]:
    """Names of columns that hold encoded pictures."""

    def holds(type_: pa.DataType) -> bool:
        if pa.types.is_struct(type_):
            return type_.get_field_index("bytes") >= 0
        return pa.types.is_binary(type_) or pa.types.is_large_binary(type_)

    return [field.name for field in schema if holds(field.type)]


def _row_group_starts(metadata: pq.FileMetaData) -> Iterator[int]:
    first = 0
    for number in range(metadata.num_row_groups):
        yield first
        first += metadata.row_group(number).num_rows


def _row_name(values: dict) -> str:
    name = str(values.get("image_id", values.get("key", "")))
    face, view = values.get("face_index"), values.get("view_index", values.get("pose_index"))
    return name + (f"#{face}" if face is not None else "") + (f".{view}" if view is not None else "")


def _decoded(item: tuple[int, str, bytes | str]) -> tuple[int, str, np.ndarray | str]:
    index, name, data = item
    if isinstance(data, str):
        return index, name, data
    try:
        return index, name, decode_image(data)
    except ImageError as error:
        return index, name, str(error)
