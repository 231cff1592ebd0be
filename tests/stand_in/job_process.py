"""`cfr pairs` with the stand-in models, as a process of its own or here, and what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import stand_in_models as stand_in

STAND_IN = Path(stand_in.__file__)


class Job:
    """`cfr pairs` with the stand-in models, in a process group of its own."""

    def __init__(self, folder: Path, output: Path, *arguments: str, seconds: float = 0.0, **environment: str):
        environment = {
            **os.environ,
            "STAND_IN_SECONDS": str(seconds),
            "PYTHONPATH": str(STAND_IN.parent),
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

    def wait(self, seconds: float = 120) -> int:
        """Exit code; kills what remains."""
        try:
            self.out, self.err = self.process.communicate(timeout=seconds)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.returncode

    def until_under_way(self, manifests: int = 1) -> None:
        """Wait until some units are done and others are not."""
        deadline = time.monotonic() + 90
        while len(list(self.output.glob("_manifest/*.json"))) < manifests:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def unit_of(self, worker: psutil.Process) -> str:
        """What a worker says that it works on."""
        try:
            heartbeat = next(self.output.glob(f"_progress/worker-*-{worker.pid}.json"))
            return " ".join(json.loads(heartbeat.read_text())["unit_ids"])
        except (StopIteration, ValueError):
            return ""

    def workers(self) -> list[psutil.Process]:
        """The worker processes."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if "cfr.pipeline.local_worker" in child.cmdline()]


def have_ended(processes: list[psutil.Process], seconds: float = 10) -> bool:
    """Whether they end in time; one that only waits to be reaped by init has ended."""
    deadline = time.monotonic() + seconds
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
