"""`cfr pairs` with the stand-in models, as a process of its own or here, and what it leaves behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import stand_in_models as stand_in

STAND_IN = Path(stand_in.__file__)

PATIENCE_SECONDS = 240.0
"""Without a sign of progress, in its output or in CPU time, a job counts as stuck."""


class Job:
    """`cfr pairs` with the stand-in models, in a process group of its own.

    Every wait lasts as long as the job gets on: how fast the machine is decides no test.
    """

    def __init__(self, folder: Path, output: Path, *arguments: str, seconds: float = 0.0, **environment: str):
        environment = {
            **os.environ,
            "STAND_IN_SECONDS": str(seconds),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(STAND_IN.parent), os.environ.get("PYTHONPATH", "")])),
            **environment,
        }
        command = [sys.executable, str(STAND_IN), "--input", str(folder / "*.parquet"), "--output", str(output)]
        self.output = output
        self.process = subprocess.Popen(
            [*command, "--unit-rows", "4", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._signs, self._since = set(), time.monotonic()

    def wait(self) -> int:
        """Exit code; kills what remains."""
        self._since = time.monotonic()
        try:
            while True:
                try:
                    self.out, self.err = self.process.communicate(timeout=1)
                    return self.process.returncode
                except subprocess.TimeoutExpired:
                    self._check_progress()
        finally:
            if self.process.poll() is None:
                self._kill_all()

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something, or until the job is over."""
        self._since = looked = time.monotonic()
        try:
            while self.process.poll() is None and not condition():
                if time.monotonic() > looked + 1:
                    self._check_progress()
                    looked = time.monotonic()
                time.sleep(0.02)
        except BaseException:
            self._kill_all()
            raise

    def until_under_way(self, units: int = 1) -> None:
        """Wait until some units are done and others are not."""
        self.until(lambda: self.units_done() >= units)
        assert self.process.poll() is None, self.process.communicate()

    def has_started(self) -> bool:
        """Whether it has taken the output folder."""
        try:
            return json.loads((self.output / "_launch.json").read_text())["pid"] == self.process.pid
        except (OSError, ValueError):
            return False

    def units_done(self) -> int:
        """Units with a manifest, also of earlier launches."""
        return len(list(self.output.glob("_manifest/*.json")))

    def unit_of(self, worker: psutil.Process) -> str:
        """What a worker says that it works on."""
        try:
            heartbeat = next(self.output.glob(f"_progress/worker-*-{worker.pid}.json"))
            return " ".join(json.loads(heartbeat.read_text())["unit_ids"])
        except (StopIteration, ValueError):
            return ""

    def workers(self) -> list[psutil.Process]:
        """The worker processes."""
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children(recursive=True)
            return [child for child in children if "cfr.pipeline.local_worker" in child.cmdline()]
        return []

    def _check_progress(self) -> None:
        signs = {int(_cpu_seconds(self.process.pid))}  # a worker that starts writes nothing yet
        for path in self.output.rglob("*"):
            with contextlib.suppress(OSError):  # gone in the meantime
                if path.name != "_launch.json":  # a life sign, whatever the workers do
                    signs.add((path, path.stat().st_mtime_ns))
        if signs != self._signs:
            self._signs, self._since = signs, time.monotonic()
        assert time.monotonic() - self._since < PATIENCE_SECONDS, f"no progress: {signs}"

    def _kill_all(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def _cpu_seconds(pid: int) -> float:
    """Of a process and its children."""
    seconds = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            times = process.cpu_times()
            seconds += times.user + times.system
    return seconds


def have_ended(processes: list[psutil.Process]) -> bool:
    """Whether they end in time; one that only waits to be reaped by init has ended."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes):
            return True
        time.sleep(0.1)
    return False


def shard_bytes(output: Path) -> dict[str, bytes]:
    return {str(p.relative_to(output)): p.read_bytes() for p in sorted(output.glob("[pf]a*/*.parquet"))}


def finish(folder: Path, output: Path, *arguments: str) -> dict[str, bytes]:
    """Run the job here, to its end; the shards."""
    code = stand_in.run("--input", folder / "*.parquet", "--output", output, "--unit-rows", "4", *arguments)
    assert code == 0
    assert (output / "_SUCCESS").exists()
    return shard_bytes(output)
