"""The rows of a second output that show the same faces and views as those of a first one."""

from collections.abc import Sequence

import pyarrow.parquet as pq

from cfr.pipeline import storage
from cfr.pipeline.errors import UserError
from cfr.pipeline.pair_rows import PairRow, RowReference, ShardSet, find_shards, read_schema

Key = tuple[str, int, int]


class SecondRun:
    """An output to compare with; knows where each of its rows is.

    Args:
        source: where, as for `find_shards`.
        index: column that tells the rows of one face apart: `view_index` or `pose_index`.

    Raises:
        UserError: nothing there, or rows of another kind.
    """

    def __init__(self, source: str, index: str):
        self.source = source
        self.index = index
        self.shards: ShardSet = find_shards(source, "--compare")
        self.columns = read_schema(self.shards.rows[0]).names
        missing = [name for name in ("image_id", "face_index", index) if name not in self.columns]
        if missing:
            raise UserError(f"--compare {source}: no column `{missing[0]}`; compare outputs of the same command")
        self._places: dict[Key, RowReference] = {}
        for path in self.shards.rows:
            with storage.open_read(path) as stream:
                table = pq.read_table(stream, columns=["image_id", "face_index", index])
            keys = zip(*(table.column(name).to_pylist() for name in ("image_id", "face_index", index)), strict=True)
            self._places.update((key, RowReference(path, row)) for row, key in enumerate(keys))

    def __len__(self) -> int:
        return len(self._places)

    def partners(self, rows: Sequence[PairRow]) -> list[RowReference | None]:
        """Where the partner of each row is, None where there is none."""
        keys = ((row.values["image_id"], row.values["face_index"], row.values[self.index]) for row in rows)
        return [self._places.get(key) for key in keys]
