"""Opens a unit: ids and kept columns are read, the photos stay in the file until AlignFaces streams them."""

import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cfr.pipeline import deletions, manifests, progress, storage
from cfr.pipeline.work_units import InputFile, UnreadableFile, read_footer
from cfr.transforms.batches import FailureRecord, ImageBatch, UnitRecord, WorkUnit
from cfr.transforms.stage import Stage, UnitError, give_up_unit


class ReadImages(Stage):
    """WorkUnit -> ImageBatch. Skips units that are done (a retried bundle), gives up those that cannot be read."""

    label = "read_images"

    def process(self, unit: WorkUnit) -> Iterator[ImageBatch]:
        """One unit."""
        context = self.context
        if not context.replay and manifests.is_done(context.layout, unit, context.job_hash):
            return
        progress.reporter(context.layout).unit_started(unit)
        try:
            strikes = progress.mark_started(context.layout, unit.unit_id)
        except OSError as error:
            storage.check_unwritable(error)
            raise
        started = time.perf_counter()
        try:
            record, rows = self._open(unit, isolated=strikes >= progress.STRIKES)
        except UnitError as error:
            give_up_unit(context, unit, str(error))
            return
        record.seconds[self.label] = time.perf_counter() - started
        yield ImageBatch(record, rows)

    def _open(self, unit: WorkUnit, isolated: bool) -> tuple[UnitRecord, np.ndarray]:
        settings = self.context.settings
        footer = check_unchanged(unit)
        columns = [settings.id_column, *settings.keep_columns]
        table = pa.Table.from_batches(
            list(read_rows(unit, columns)), schema=pa.schema([footer.schema.field(name) for name in columns])
        )
        ids = pc.cast(table.column(settings.id_column), pa.string()).to_pylist()
        name = unit.path.rsplit("/", 1)[-1]
        unwanted = deletions.read_deleted(self.context.layout)
        image_ids, usable, failures, seen, deleted = [], [], [], set(), 0
        for position, image_id in enumerate(ids):
            row = unit.first_row + position
            shown = image_id if image_id else f"{name}:{row}"
            image_ids.append(shown)
            if unwanted and deletions.digest(shown) in unwanted:
                deleted += 1
            elif not image_id:
                message = f"row {row} has no id; fill column {settings.id_column!r}"
                failures.append(FailureRecord(shown, -1, self.label, "missing_id", message))
            elif image_id in seen:
                message = f"row {row} repeats the id of an earlier row; make the ids unique"
                failures.append(FailureRecord(shown, -1, self.label, "duplicate_id", message))
            else:
                seen.add(image_id)
                usable.append(position)
        kept = table.select(settings.keep_columns).replace_schema_metadata(None) if settings.keep_columns else None
        record = UnitRecord(unit, tuple(image_ids), kept, tuple(failures), isolated=isolated, deleted=deleted)
        return record, np.array(usable, dtype=np.int64)


def check_unchanged(unit: WorkUnit) -> InputFile:
    """The file's footer, if it is the one that was planned with.

    Raises:
        UnitError: the file has changed since, or cannot be read.
    """
    footer = read_footer(unit.path, "")
    if isinstance(footer, UnreadableFile):
        raise UnitError(footer.message)
    if footer.input_identity != unit.input_identity:
        raise UnitError("the file changed while the job ran; run the same command again")
    return footer


def read_rows(unit: WorkUnit, columns: list[str], batch_rows: int = 8) -> Iterator[pa.RecordBatch]:
    """A unit's rows, a few at a time.

    Raises:
        UnitError: the file cannot be read, or has fewer rows than planned.
    """
    wanted = unit.rows
    try:
        # Buffered and not prefetched: pages are read as they are needed, not whole column chunks of large row groups.
        with (
            storage.open_read(unit.path) as stream,
            pq.ParquetFile(stream, buffer_size=1 << 20, pre_buffer=False) as file,
        ):
            groups, skip = _row_groups(file.metadata, unit.first_row, unit.rows)
            for batch in file.iter_batches(batch_rows, row_groups=groups, columns=columns, use_threads=False):
                if skip >= batch.num_rows:
                    skip -= batch.num_rows
                    continue
                batch = batch.slice(skip, min(wanted, batch.num_rows - skip))
                skip = 0
                wanted -= batch.num_rows
                yield batch
                if wanted == 0:
                    return
    except (OSError, pa.ArrowException) as error:
        raise UnitError(f"cannot be read ({' '.join(str(error).split())[:200]}); write or copy it again") from error
    if wanted:
        raise UnitError(f"holds {wanted} rows less than its footer says; write or copy it again")


def read_photos(unit: WorkUnit, image_column: str) -> Iterator[bytes | None]:
    """Encoded photos of a unit's rows, in order; None where the row has none."""
    for batch in read_rows(unit, [image_column]):
        for value in batch.column(image_column):
            content = value.as_py()
            yield content["bytes"] if isinstance(content, dict) else content


def _row_groups(metadata: pq.FileMetaData, first_row: int, rows: int) -> tuple[list[int], int]:
    """The row groups that hold a row range, and how many of their first rows come before it."""
    groups, skip, start = [], 0, 0
    for index in range(metadata.num_row_groups):
        stop = start + metadata.row_group(index).num_rows
        if start < first_row + rows and stop > first_row:
            if not groups:
                skip = first_row - start
            groups.append(index)
        start = stop
    return groups, skip
