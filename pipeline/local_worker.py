"""A worker process of the local runner: Beam's own, plus a life sign and an end when the launcher is gone."""

import io
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path


def command(folder: str) -> str:
    """Shell command of a worker that registers itself in `folder`; `exec`: the process is the launcher's child."""
    return f"exec '{sys.executable}' -m cfr.pipeline.local_worker '{folder}'"


def dead_workers(folder: str) -> list[int]:
    """Pids of the workers that ended without signing off."""
    return [pid for pid in running_workers(folder) if not _is_alive(pid)]


def running_workers(folder: str) -> list[int]:
    """Pids of the workers that have not signed off."""
    return [int(name) for name in os.listdir(folder) if name.isdigit()]


def kill_workers(folder: str) -> None:
    """Kill all workers at once: whatever they were writing is whole or absent."""
    for pid in running_workers(folder):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _end_with(parent: int) -> None:
    """A launcher that is killed cannot tell its workers."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


class _Stderr(io.TextIOWrapper):
    """stderr without Beam's copy of a traceback that says no more than that the disk is full."""

    def write(self, text: str) -> int:
        return len(text) if "OutputUnwritable: " in text else super().write(text)


def main() -> None:
    """Entry point of the worker process."""
    sys.stderr = _Stderr(sys.stderr.buffer, sys.stderr.encoding, line_buffering=True)
    registration = Path(sys.argv[1]) / str(os.getpid())
    registration.touch()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the launcher decides
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    logging.disable(logging.INFO)
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # errors reach the launcher, which reports them once
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv[:1])
    registration.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
