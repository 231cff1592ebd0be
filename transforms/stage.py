"""What all stages share: one unit in, one unit out, and no row that costs another.

A stage's model runs in mini-batches of a fixed size. One that fails is bisected: the item that fails becomes a failure
record, the others go on. Every item keeps its slot of the mini-batch, and slots without one are filled with copies, so
that the survivors' results have the same bits as if nothing had happened.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics

from cfr.pipeline import isolation, progress
from cfr.pipeline.manifests import Layout
from cfr.transforms.batches import FailureRecord, UnitRecord, with_record
from cfr.transforms.models import DefaultModels

PAIR_STAGES = ("align_faces", "fit_faces", "transfer_occlusion", "double_rotate", "write_shard")
_GIVEN_UP = {
    isolation.CRASHED: "the worker process died on it, also alone (out of memory, or a crash in a library)",
    isolation.TIMEOUT: "it never came to an end",
}


@dataclass(frozen=True)
class JobSettings:
    """Parameters that the stages of every job read; see `cfr pairs --help`.

    Attributes:
        faces: "best", "largest" or "all".
        encoding: of the pictures: "png", "webp" or "jpeg".
        id_column, image_column, keep_columns: of the input.
        pictures: picture columns to write.
        metadata: of the shards' schema, {key: text}.
    """

    faces: str = "best"
    encoding: str = "png"
    id_column: str = "image_id"
    image_column: str = "image"
    keep_columns: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()

    @property
    def texture_scale(self) -> int:
        """How many times finer than the aligned crop the photo is needed."""
        return 1

    def affecting_output(self) -> dict[str, Any]:
        """The parameters that decide what is written, JSON values by name."""
        return {name: value for name, value in vars(self).items() if name != "metadata"}

    def with_metadata(self, metadata: dict[str, str]) -> "JobSettings":
        """The same with metadata for the schema."""
        return dataclasses.replace(self, metadata=tuple(metadata.items()))


@dataclass(frozen=True)
class PairSettings(JobSettings):
    """Parameters of the pairs job.

    Attributes:
        views_per_face: random views per face.
        seed: of the random views.
    """

    pictures: tuple[str, ...] = ("target", "rotated", "guidance", "occlusion_mask", "occluder_mask", "face_mask")
    views_per_face: int = 1
    seed: int = 0


@dataclass(frozen=True)
class StageContext:
    """What every stage is given.

    Attributes:
        layout: where the output goes.
        job_hash: of the job.
        settings: parameters.
        models: loads the models.
        replay: bundles are replayed on purpose: do a unit again even if it is done.
        stages: labels of the job's stages, in order.
    """

    layout: Layout
    job_hash: str
    settings: JobSettings
    models: DefaultModels
    replay: bool = False
    stages: tuple[str, ...] = PAIR_STAGES


class UnitError(Exception):
    """The whole unit cannot be done (its file cannot be read, its shard cannot be written); the message says why."""


@dataclass(frozen=True)
class Rejection:
    """An item that a stage looked at and has no result for."""

    reason: str
    message: str


NOT_FINITE = Rejection(
    "not_finite", "a model returned NaN or infinity for it; look at the photo: if it is a usual one, please report this"
)


def reject_not_finite(finite: np.ndarray) -> dict[int, Rejection]:
    """{slot: rejection} of the slots that are not in `finite`, (n,) bool."""
    return {int(slot): NOT_FINITE for slot in np.flatnonzero(~finite)}


class Stage(beam.DoFn):
    """A stage: batches of one type in, of the next type out.

    Attributes:
        label: name in failures and manifests; its errors have the reason `<label>_error`.
    """

    label: ClassVar[str]

    def __init__(self, context: StageContext):
        super().__init__()
        self.context = context

    def setup(self) -> None:
        """Load what the stage needs, once per process."""
        import torch

        torch.set_num_threads(1)  # several threads per worker on shared cores are far slower than one
        self.load()

    def load(self) -> None:
        """Load the models."""

    def run_unit(
        self,
        batch: Any,
        one_at_a_time: bool = False,
        given_up: Mapping[int, str] = MappingProxyType({}),
        announce: Callable[[int], None] = lambda item: None,
    ) -> Any:
        """Do all items of a batch.

        Args:
            batch: of the stage's input type.
            one_at_a_time: run every item alone, with the same result; `announce` is told which is next.
            given_up: {item: reason} of items that killed a process or hung: they get a failure record.
            announce: see above.

        Returns:
            The batch of the stage's output type, with the failures added to its record.

        Raises:
            UnitError: nothing can be done with this unit.
        """
        raise NotImplementedError

    def process(self, batch: Any) -> Iterator[Any]:
        """One unit; yields nothing if the unit as a whole fails."""
        started = time.perf_counter()
        record: UnitRecord = batch.record
        try:
            if record.isolated:
                result = isolation.run_isolated(self, batch)
            else:
                with progress.reporter(self.context.layout).watched(self.label, record.unit):
                    result = self.run_unit(batch)
        except UnitError as error:
            give_up_unit(self.context, record.unit, str(error))
            return
        for reason, count in Counter(f.reason for f in result.record.failures[len(record.failures) :]).items():
            Metrics.counter(self.label, f"failed_{reason}").inc(count)
        seconds = {**record.seconds, self.label: time.perf_counter() - started}
        Metrics.distribution(self.label, "items").update(len(batch))
        Metrics.distribution(self.label, "milliseconds").update(int(1000 * seconds[self.label]))
        yield with_record(result, seconds=seconds)

    def report(self, record: UnitRecord, done: int, total: int) -> None:
        """Heartbeat: `done` of `total` items of this stage."""
        stages = self.context.stages
        share = (stages.index(self.label) + done / max(total, 1)) / len(stages)
        progress.reporter(self.context.layout).stage_progress(self.label, record.unit, share)

    def failure(self, image_id: str, face_index: int, problem: Rejection | Exception) -> FailureRecord:
        """Failure record of this stage."""
        if isinstance(problem, Rejection):
            return FailureRecord(image_id, face_index, self.label, problem.reason, problem.message)
        text = f"{type(problem).__name__}: {' '.join(str(problem).split())}"[:500]
        message = f"{text}; look at the photo: if it is a usual one, please report this"
        return FailureRecord(image_id, face_index, self.label, f"{self.label}_error", message)

    def gave_up(self, image_id: str, face_index: int, reason: str) -> FailureRecord:
        """Failure record of an item that killed a process or hung."""
        message = f"{_GIVEN_UP[reason]}; take it out of the input, or report it"
        return FailureRecord(image_id, face_index, self.label, reason, message)


class MiniBatchStage(Stage):
    """A stage whose model runs on stacked items.

    Attributes:
        batch_size: slots of a mini-batch.
        outputs: {name: (shape of one item, dtype)} of what `compute` returns; a 0 stands for a size that the model
            decides.
    """

    batch_size: ClassVar[int] = 8
    outputs: ClassVar[dict[str, tuple[tuple[int, ...], type]]]

    def count(self, batch: Any) -> int:
        """Number of items to do."""
        return len(batch)

    def identify(self, batch: Any, item: int) -> tuple[str, int]:
        """(image_id, face_index) of an item, for its failure record."""
        raise NotImplementedError

    def compute(self, batch: Any, items: np.ndarray) -> tuple[dict[str, np.ndarray], dict[int, Rejection]]:
        """Run the model.

        Args:
            batch: the unit.
            items: (batch_size,) int64, which items; one may come several times.

        Returns:
            {name: (batch_size, ...) array} and {slot: why there is no result}.
        """
        raise NotImplementedError

    def assemble(self, batch: Any, items: np.ndarray, columns: dict[str, np.ndarray]) -> Any:
        """The output batch, from the (k,) items that have a result and their columns (k, ...)."""
        raise NotImplementedError

    def run_unit(
        self,
        batch: Any,
        one_at_a_time: bool = False,
        given_up: Mapping[int, str] = MappingProxyType({}),
        announce: Callable[[int], None] = lambda item: None,
    ) -> Any:
        """See `Stage.run_unit`."""
        total = self.count(batch)
        done: list[int] = []
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.outputs}
        failures: list[FailureRecord] = []
        for first in range(0, total, self.batch_size):
            slots = np.arange(first, first + self.batch_size)
            live = [slot for slot in range(min(self.batch_size, total - first)) if first + slot not in given_up]
            groups = [[slot] for slot in live] if one_at_a_time else [live]
            for group in groups:
                if one_at_a_time:
                    announce(first + group[0])
                for slot, result in self._run_slots(batch, slots, group):
                    item = first + slot
                    if isinstance(result, dict):
                        done.append(item)
                        for name, values in result.items():
                            parts[name].append(values)
                    else:
                        failures.append(self.failure(*self.identify(batch, item), result))
            self.report(batch.record, first + len(live), total)
        failures += [self.gave_up(*self.identify(batch, item), reason) for item, reason in sorted(given_up.items())]
        columns = {
            name: np.stack(parts[name]) if done else np.zeros((0, *shape), dtype)
            for name, (shape, dtype) in self.outputs.items()
        }
        result = self.assemble(batch, np.array(done, dtype=np.int64), columns)
        return with_record(result, failures=(*batch.record.failures, *failures))

    def _run_slots(
        self, batch: Any, slots: np.ndarray, live: list[int]
    ) -> Iterator[tuple[int, dict[str, np.ndarray] | Rejection | Exception]]:
        """(slot, its columns or why there are none) of the live slots, in order; bisects on an exception."""
        if not live:
            return
        items = np.full_like(slots, slots[live[0]])
        items[live] = slots[live]
        try:
            columns, rejected = self.compute(batch, items)
        except Exception as error:
            if isinstance(error, MemoryError | ImportError) or type(error).__name__ == "OutOfMemoryError":
                raise  # no item's fault; smaller groups run padded to the same size, so bisecting cannot save memory
            if len(live) == 1:
                yield live[0], error
            else:
                middle = len(live) // 2
                yield from self._run_slots(batch, slots, live[:middle])
                yield from self._run_slots(batch, slots, live[middle:])
            return
        finite = np.ones(len(items), dtype=bool)
        for values in columns.values():
            if values.dtype.kind == "f":
                finite &= np.isfinite(values).reshape(len(items), -1).all(axis=1)
        for slot in live:
            problem = rejected.get(slot) or (None if finite[slot] else NOT_FINITE)
            yield slot, problem or {name: columns[name][slot] for name in self.outputs}


def give_up_unit(context: StageContext, unit, message: str) -> None:
    """Note a unit that failed as a whole; the launcher lists it and exits with 1."""
    progress.note_failed_unit(context.layout, unit, message)
    progress.reporter(context.layout).unit_finished(unit.rows, unit.rows, 0)
