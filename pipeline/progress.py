"""Small files by which workers tell the launcher how far they are, whatever the runner.

Heartbeats (one per worker process, overwritten), marks of started units (removed by the commit: three marks without a
manifest are three strikes) and notes about units that failed as a whole.
"""

import contextlib
import faulthandler
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Container, Iterator
from dataclasses import dataclass

from cfr.pipeline import storage
from cfr.pipeline.manifests import Layout
from cfr.transforms.batches import WorkUnit

STRIKES = 3
"""Starts without a manifest after which a unit is run item by item in a child process."""

HUNG_SECONDS = 600.0
"""Longest that a model call (one mini-batch, one photo) may take before its process counts as hung and is ended."""

_LOCAL_INTERVAL = 0.5
_REMOTE_INTERVAL = 20.0


@dataclass(frozen=True)
class Heartbeat:
    """State of one worker process.

    Attributes:
        host, pid: which process.
        unit_ids: what it works on, one unit per thread; empty between units.
        stage: label of the stage that reported last.
        rows_done, rows_failed, outputs: of the units that it finished.
        rows_under_way: of the present units, scaled by how far they are.
        hung: units whose model call never came back, and the stage: "<unit> (<stage>)".
        time: of writing, seconds since the epoch.
    """

    host: str
    pid: int
    unit_ids: list[str]
    stage: str
    rows_done: int
    rows_failed: int
    outputs: int
    rows_under_way: float
    hung: list[str]
    time: float


@dataclass(frozen=True)
class FailedUnit:
    """A unit that could not be read or written, and why."""

    unit_id: str
    path: str
    rows: int
    message: str


@dataclass(frozen=True)
class Planned:
    """What a launch set out to do.

    Attributes:
        units, rows: of the whole job, done ones included.
        time: of the launch, seconds since the epoch.
    """

    units: int
    rows: int
    time: float


class Stopped(Exception):
    """This process was asked to stop between two mini-batches."""


stop_requested = threading.Event()
"""Set by the launcher when the stages run in its own process."""


def raise_if_stopped() -> None:
    """Leave the unit that is under way."""
    if stop_requested.is_set():
        raise Stopped("stopped by the launcher")


in_launcher = threading.Event()
"""Set by the launcher when the stages run in its own process, which it ends itself if a model call hangs."""


@dataclass
class _Call:
    """A model call under way in one thread."""

    unit_id: str
    stage: str
    since: float


class Reporter:
    """Writes this process's heartbeat; one per process and job, shared by all stages and threads."""

    def __init__(self, layout: Layout):
        self._layout = layout
        self._path = storage.join(layout.progress, f"worker-{socket.gethostname()}-{os.getpid()}.json")
        self._interval = _LOCAL_INTERVAL if storage.is_local(layout.output) else _REMOTE_INTERVAL
        self._lock = threading.Lock()
        self._written = 0.0
        self._stage = ""
        self._under_way: dict[int, tuple[str, float]] = {}
        self._calls: dict[int, _Call] = {}
        self._hung: list[str] = []
        self._watchdog: threading.Thread | None = None
        self._rows_done = self._rows_failed = self._outputs = 0

    def unit_started(self, unit: WorkUnit) -> None:
        """A unit begins; written at once, so that the launcher knows whom to blame if the process dies."""
        self._under_way[threading.get_ident()] = (unit.unit_id, 0.0)
        self._write(force=True)

    def stage_progress(self, stage: str, unit: WorkUnit, share: float) -> None:
        """How much of the present unit is done, 0..1. Raises Stopped if this process was asked to stop."""
        thread = threading.get_ident()
        self._stage, self._under_way[thread] = stage, (unit.unit_id, unit.rows * share)
        call = self._calls.get(thread)
        if call is not None:
            call.since = time.monotonic()
        self._write()
        raise_if_stopped()

    def unit_finished(self, rows: int, failed: int, outputs: int) -> None:
        """A unit is committed, or given up: then all its rows failed."""
        self._under_way.pop(threading.get_ident(), None)
        with self._lock:
            self._rows_done += rows
            self._rows_failed += failed
            self._outputs += outputs
        self._write(force=True)

    @contextlib.contextmanager
    def watched(self, stage: str, unit: WorkUnit) -> Iterator[None]:
        """While a model is called: ends this process if `stage_progress` is not heard of for HUNG_SECONDS.

        A call that hangs cannot be interrupted from within its process. The unit is struck out: its next start runs
        item by item in a child process, which finds the item that hangs.
        """
        thread = threading.get_ident()
        with self._lock:
            self._calls[thread] = _Call(unit.unit_id, stage, time.monotonic())
            if self._watchdog is None:
                self._watchdog = threading.Thread(target=self._watch, name="hung calls", daemon=True)
                self._watchdog.start()
        try:
            yield
        finally:
            with self._lock:
                del self._calls[thread]

    def _watch(self) -> None:
        hung: list[_Call] = []
        while not hung:
            time.sleep(min(5.0, HUNG_SECONDS / 4))
            with self._lock:
                hung = [call for call in self._calls.values() if time.monotonic() - call.since > HUNG_SECONDS]
                if not self._calls:
                    self._watchdog = None  # the next call starts another
                    return
        for call in hung:
            strike_out(self._layout, call.unit_id)
        self._hung = [f"{call.unit_id} ({call.stage})" for call in hung]
        self._write(force=True)
        faulthandler.dump_traceback()  # where it hangs
        if not in_launcher.is_set():
            os._exit(1)

    def _write(self, force: bool = False) -> None:
        with self._lock:
            now = time.time()
            if not force and now - self._written < self._interval:
                return
            self._written = now
            under_way = list(self._under_way.values())
            heartbeat = Heartbeat(
                socket.gethostname(),
                os.getpid(),
                [unit_id for unit_id, _ in under_way],
                self._stage,
                self._rows_done,
                self._rows_failed,
                self._outputs,
                sum(rows for _, rows in under_way),
                self._hung,
                now,
            )
            # A life sign that cannot be written costs nothing but itself; a full disk is reported by the commit.
            with contextlib.suppress(OSError):
                storage.publish(self._path, json.dumps(vars(heartbeat)).encode(), self._layout.scratch)


_reporters: dict[Layout, Reporter] = {}
_reporters_lock = threading.Lock()


def reporter(layout: Layout) -> Reporter:
    """This process's reporter for a job."""
    with _reporters_lock:
        if layout not in _reporters:
            _reporters[layout] = Reporter(layout)
        return _reporters[layout]


def start_afresh(layout: Layout) -> None:
    """Forget the heartbeats and failed units of earlier launches, and this process's counts; strikes stay."""
    _reporters.pop(layout, None)
    old = [*storage.list_folder(layout.progress, "worker-*"), *storage.list_folder(layout.progress, "failed-*")]
    storage.delete([storage.join(layout.progress, name) for name in old])


def note_plan(layout: Layout, units: int, rows: int) -> None:
    """Tell `cfr status` what the whole job is."""
    path = storage.join(layout.progress, "plan.json")
    storage.write_bytes(path, json.dumps(vars(Planned(units, rows, time.time()))).encode())


def read_plan(layout: Layout) -> Planned | None:
    """What the last launch set out to do; None if there was none."""
    found = _read_all(layout, "plan.json", Planned)
    return found[0] if found else None


def read_heartbeats(layout: Layout) -> list[Heartbeat]:
    """All workers' last words."""
    return _read_all(layout, "worker-*.json", Heartbeat)


def mark_started(layout: Layout, unit_id: str) -> int:
    """Note that a unit starts; returns how often it started before without finishing."""
    earlier = len(storage.list_folder(layout.progress, f"started-{unit_id}.*"))
    mark = storage.join(layout.progress, f"started-{unit_id}.{uuid.uuid4().hex[:8]}")
    storage.write_bytes(mark, str(os.getpid()).encode())
    return earlier


def strike_out(layout: Layout, unit_id: str) -> None:
    """The unit made a process hang: its next start runs item by item in a child process."""
    for _ in range(STRIKES):
        mark_started(layout, unit_id)


def clear_marks(layout: Layout, unit_id: str) -> None:
    """The unit is done, or was stopped for no fault of its own."""
    names = storage.list_folder(layout.progress, f"started-{unit_id}.*")
    storage.delete([storage.join(layout.progress, name) for name in names])


def clear_marks_of_done(layout: Layout, done: Container[str]) -> None:
    """Remove what a process leaves that was killed between a unit's manifest and its marks: no strike against it."""
    names = storage.list_folder(layout.progress, "started-*")
    left = [name for name in names if name.removeprefix("started-").rpartition(".")[0] in done]
    storage.delete([storage.join(layout.progress, name) for name in left])


def clear_all_marks(layout: Layout) -> None:
    """No unit under way is at fault."""
    names = storage.list_folder(layout.progress, "started-*")
    storage.delete([storage.join(layout.progress, name) for name in names])


def note_failed_unit(layout: Layout, unit: WorkUnit, message: str) -> None:
    """Tell the launcher that a unit failed as a whole."""
    failed = FailedUnit(unit.unit_id, unit.path, unit.rows, message)
    path = storage.join(layout.progress, f"failed-{unit.unit_id}.json")
    storage.write_bytes(path, json.dumps(vars(failed)).encode())
    clear_marks(layout, unit.unit_id)


def read_failed_units(layout: Layout) -> list[FailedUnit]:
    """Units that failed as a whole since the launch."""
    return _read_all(layout, "failed-*.json", FailedUnit)


def _read_all(layout: Layout, pattern: str, type_: type) -> list:
    found = []
    for name in sorted(storage.list_folder(layout.progress, pattern)):
        try:
            found.append(type_(**json.loads(storage.read_bytes(storage.join(layout.progress, name)))))
        except (OSError, ValueError, TypeError):
            continue
    return found
