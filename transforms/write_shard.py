"""Commits a unit's shard with its failures and manifest, and checks that no row is lost; jobs say what is in it."""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics

from cfr.pipeline import progress, storage
from cfr.pipeline.commit import commit_unit
from cfr.pipeline.manifests import Manifest
from cfr.pipeline.schemas import IMAGE, serialize, serialize_failures
from cfr.transforms.batches import FailureRecord, FitBatch
from cfr.transforms.stage import Stage, give_up_unit

_ATTEMPTS = 3
_PAUSE_SECONDS = 1.0


class WriteShard(Stage):
    """A batch of outputs -> one manifest row per unit: {"unit_id", "rows", "rows_failed", "outputs"}."""

    label = "write_shard"

    def encode(self, batch: Any, item: int) -> dict[str, bytes]:
        """{column: encoded picture} of one output; exceptions are this output's failure."""
        raise NotImplementedError

    def numbers(self, batch: Any, written: list[int]) -> dict[str, Any]:
        """{column: values} of all columns but the pictures and kept ones, for the outputs that are written."""
        raise NotImplementedError

    def schema(self, kept: pa.Schema) -> pa.Schema:
        """Of the shard; kept: columns to carry along."""
        raise NotImplementedError

    def filtered(self, batch: Any, item: int) -> bool:
        """Whether an output is left out on purpose: no failure."""
        return False

    def publish_beside(self, batch: Any, written: list[int]) -> None:
        """Write what belongs to the outputs but is not in the shard; may be done again.

        Raises:
            OSError: it cannot be written.
        """

    def process(self, batch: Any) -> Iterator[dict[str, Any]]:
        """One unit."""
        started = time.perf_counter()
        record, context = batch.record, self.context
        table, written, failures = self._table(batch)
        failures = [*record.failures, *failures]
        shard = serialize(table, context.settings.pictures)
        failure_shard = serialize_failures(failures) if failures else None
        seconds = {**record.seconds, self.label: time.perf_counter() - started}
        manifest = _manifest(batch, table, failures, context.job_hash, seconds)
        for attempt in range(_ATTEMPTS):
            try:
                self.publish_beside(batch, written)
                manifest = commit_unit(context.layout, manifest, shard, failure_shard)
                break
            except OSError as error:
                storage.check_unwritable(error)
                if attempt == _ATTEMPTS - 1:
                    give_up_unit(context, record.unit, f"its shard cannot be written ({error}); check the output disk")
                    return
                time.sleep(_PAUSE_SECONDS * (attempt + 1))
        progress.clear_marks(context.layout, record.unit.unit_id)
        progress.reporter(context.layout).unit_finished(manifest.rows, manifest.rows_failed, manifest.outputs)
        Metrics.counter(self.label, "rows").inc(manifest.rows)
        Metrics.counter(self.label, "outputs").inc(manifest.outputs)
        names = ("unit_id", "rows", "rows_failed", "outputs")
        yield {name: getattr(manifest, name) for name in names}

    def _table(self, batch: Any) -> tuple[pa.Table, list[int], list[FailureRecord]]:
        """The shard's rows and their items; an output whose pictures cannot be encoded becomes a failure."""
        settings, faces = self.context.settings, batch.faces
        images: dict[str, list[dict[str, Any]]] = {name: [] for name in settings.pictures}
        written: list[int] = []
        failures: list[FailureRecord] = []
        for item in range(len(batch)):
            face = batch.face[item]
            if self.filtered(batch, item):
                continue
            try:
                encoded = self.encode(batch, item)
            except Exception as error:
                failures.append(self.failure(faces.image_id(face), int(faces.face_index[face]), error))
                continue
            written.append(item)
            for name, data in encoded.items():
                images[name].append({"bytes": data, "path": None})
            self.report(batch.record, item + 1, len(batch))
        kept = batch.record.kept
        schema = self.schema(kept.schema if kept is not None else pa.schema([]))
        columns = self.numbers(batch, written)
        columns.update({name: pa.array(values, IMAGE) for name, values in images.items()})
        if kept is not None:
            carried = kept.take(pa.array(faces.row[batch.face[written]], pa.int64()))
            columns.update({name: carried.column(name) for name in carried.column_names})
        return pa.table([columns[name] for name in schema.names], schema=schema), written, failures


def face_numbers(fits: FitBatch, face: np.ndarray) -> dict[str, Any]:
    """{column: values} of what every job's shards say of a face: where it is and how it was fitted.

    Args:
        fits: the unit's fitted faces.
        face: (m,) int64, which of them, one per row of the shard.
    """
    faces = fits.faces
    columns: dict[str, Any] = {
        "image_id": [faces.image_id(item) for item in face],
        "face_index": faces.face_index[face],
        "detection_score": faces.detection_score[face],
        "fit_error": fits.fit_error[face],
    }
    for axis, name in enumerate(("yaw", "pitch", "roll")):
        columns[name] = fits.pose[face][:, axis]
    lists = {
        "coefficients": fits.coefficients[face],
        "crop": faces.crop[face].astype("float32"),
        "box": faces.box[face],
        "landmarks5": faces.landmarks5[face].reshape(-1, 10),
    }
    columns.update({name: values.tolist() for name, values in lists.items()})
    return columns


def _manifest(
    batch: Any, table: pa.Table, failures: list[FailureRecord], job_hash: str, seconds: dict[str, float]
) -> Manifest:
    """The unit's manifest before it is committed.

    Raises:
        RuntimeError: a row has neither an output nor a failure: a bug.
    """
    record = batch.record
    reached = {record.image_ids[row] for row in batch.faces.row[batch.face].tolist()}
    with_output = reached & set(table.column("image_id").to_pylist())
    whole_rows = [failure for failure in failures if failure.face_index < 0]
    by_face = [failure for failure in failures if failure.face_index >= 0]
    without = {failure.image_id for failure in by_face} - with_output
    rows_failed = len(whole_rows) + len(without)
    rows_filtered = len(reached - with_output - without) + record.deleted
    if len(with_output) + rows_failed + rows_filtered != record.unit.rows:
        raise RuntimeError(
            f"unit {record.unit.unit_id}: {record.unit.rows} rows in, but {len(with_output)} with output, "
            f"{rows_failed} failed and {rows_filtered} filtered; please report this"
        )
    return Manifest(
        unit_id=record.unit.unit_id,
        path=record.unit.path,
        first_row=record.unit.first_row,
        rows=record.unit.rows,
        input_identity=record.unit.input_identity,
        job_hash=job_hash,
        shard_bytes=0,
        shard_sha256="",
        failures_bytes=0,
        failures_sha256="",
        rows_with_output=len(with_output),
        rows_failed=rows_failed,
        rows_filtered=rows_filtered,
        outputs=table.num_rows,
        faces_failed=len(by_face),
        failures=dict(sorted(Counter(failure.reason for failure in failures).items())),
        seconds={name: round(value, 4) for name, value in seconds.items()},
    )
