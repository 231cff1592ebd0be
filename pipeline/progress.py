"""Small files by which workers tell the launcher how far they are, whatever the runner.

Heartbeats (one per worker process, overwritten), marks of started units (removed by the commit: three marks without a
manifest are three strikes) and notes about units that failed as a whole.
"""

import json
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass

from cfr.pipeline import storage
from cfr.pipeline.manifests import Layout
from cfr.transforms.batches import WorkUnit

STRIKES = 3
"""Starts without a manifest after which a unit is run item by item in a child process."""

_LOCAL_INTERVAL = 0.5
_REMOTE_INTERVAL = 20.0


@dataclass(frozen=True)
class Heartbeat:
    """State of one worker process.

    Attributes:
        host, pid: which process.
        unit_id: what it works on, "" between units.
        stage: label of the stage.
        rows_done, rows_failed, outputs: of the units that it finished.
        rows_under_way: of the present unit, scaled by how far it is.
        time: of writing, seconds since the epoch.
    """

    host: str
    pid: int
    unit_id: str
    stage: str
    rows_done: int
    rows_failed: int
    outputs: int
    rows_under_way: float
    time: float


@dataclass(frozen=True)
class FailedUnit:
    """A unit that could not be read or written, and why."""

    unit_id: str
    path: str
    rows: int
    message: str


class Stopped(Exception):
    """This process was asked to stop between two mini-batches."""


stop_requested = threading.Event()
"""Set by the launcher when the stages run in its own process."""


def raise_if_stopped() -> None:
    """Leave the unit that is under way."""
    if stop_requested.is_set():
        raise Stopped("stopped by the launcher")


class Reporter:
    """Writes this process's heartbeat; one per process and job, shared by all stages."""

    def __init__(self, layout: Layout):
        self._path = storage.join(layout.progress, f"worker-{socket.gethostname()}-{os.getpid()}.json")
        self._interval = _LOCAL_INTERVAL if storage.is_local(layout.output) else _REMOTE_INTERVAL
        self._written = 0.0
        self._unit_id, self._stage = "", ""
        self._rows_done = self._rows_failed = self._outputs = 0
        self._rows_under_way = 0.0

    def unit_started(self, unit: WorkUnit) -> None:
        """A unit begins; written at once, so that the launcher knows whom to blame if the process dies."""
        self._unit_id, self._rows_under_way = unit.unit_id, 0.0
        self._write(force=True)

    def stage_progress(self, stage: str, unit: WorkUnit, share: float) -> None:
        """How much of the present unit is done, 0..1. Raises Stopped if this process was asked to stop."""
        self._stage, self._unit_id, self._rows_under_way = stage, unit.unit_id, unit.rows * share
        self._write()
        raise_if_stopped()

    def unit_finished(self, rows: int, failed: int, outputs: int) -> None:
        """A unit is committed, or given up: then all its rows failed."""
        self._unit_id, self._stage, self._rows_under_way = "", "", 0.0
        self._rows_done += rows
        self._rows_failed += failed
        self._outputs += outputs
        self._write(force=True)

    def _write(self, force: bool = False) -> None:
        now = time.time()
        if not force and now - self._written < self._interval:
            return
        self._written = now
        heartbeat = Heartbeat(
            socket.gethostname(),
            os.getpid(),
            self._unit_id,
            self._stage,
            self._rows_done,
            self._rows_failed,
            self._outputs,
            self._rows_under_way,
            now,
        )
        storage.write_bytes(self._path, json.dumps(vars(heartbeat)).encode())


_reporters: dict[Layout, Reporter] = {}


def reporter(layout: Layout) -> Reporter:
    """This process's reporter for a job."""
    if layout not in _reporters:
        _reporters[layout] = Reporter(layout)
    return _reporters[layout]


def start_afresh(layout: Layout) -> None:
    """Forget the heartbeats and failed units of earlier launches, and this process's counts; strikes stay."""
    _reporters.pop(layout, None)
    old = [*storage.list_folder(layout.progress, "worker-*"), *storage.list_folder(layout.progress, "failed-*")]
    storage.delete([storage.join(layout.progress, name) for name in old])


def read_heartbeats(layout: Layout) -> list[Heartbeat]:
    """All workers' last words. One that is being written just now is left out: the next poll sees it."""
    return _read_all(layout, "worker-*.json", Heartbeat)


def mark_started(layout: Layout, unit_id: str) -> int:
    """Note that a unit starts; returns how often it started before without finishing."""
    earlier = len(storage.list_folder(layout.progress, f"started-{unit_id}.*"))
    mark = storage.join(layout.progress, f"started-{unit_id}.{uuid.uuid4().hex[:8]}")
    storage.write_bytes(mark, str(os.getpid()).encode())
    return earlier


def clear_marks(layout: Layout, unit_id: str) -> None:
    """The unit is done, or was stopped for no fault of its own."""
    names = storage.list_folder(layout.progress, f"started-{unit_id}.*")
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
