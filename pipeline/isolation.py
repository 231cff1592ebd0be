"""Runs one unit's stage in a child process, item by item, so that an item that kills processes kills only a child.

For units that were started three times without being finished. The child names each item before it does it; after a
crash the next child leaves that item out.
"""

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cfr.pipeline import progress

ITEM_SECONDS = 300.0
"""Longest that one item may take before its process counts as hung and is killed."""

START_SECONDS = 300.0
"""Longest that a child may take to load its models."""

CRASHED, TIMEOUT = "worker_crashed", "timeout"
"""Reasons of the failure records."""


class Hung(Exception):
    """An item took longer than ITEM_SECONDS."""


def run_isolated(stage: Any, batch: Any) -> Any:
    """`stage.run_unit(batch)` in child processes.

    Items that kill a child or take all memory become `worker_crashed` failures, those that hang `timeout` failures.

    Raises:
        RuntimeError: a child dies before its first item: not an item's fault.
        Exception: what `run_unit` itself raises.
    """
    given_up: dict[int, str] = {}
    with tempfile.TemporaryDirectory(prefix="cfr-isolated-") as name:
        folder = Path(name)
        (folder / "task").write_bytes(pickle.dumps((type(stage), stage.context, batch)))
        while True:
            (folder / "given_up").write_text(json.dumps(sorted(given_up.items())))
            (folder / "item").unlink(missing_ok=True)
            try:
                code, reason = _run_child(folder), CRASHED
            except Hung:
                code, reason = -1, TIMEOUT
            if code == 0:
                result = pickle.loads((folder / "result").read_bytes())
                if isinstance(result, Exception):
                    raise result
                return result
            item = _announced(folder)
            if item is None or item in given_up:
                raise RuntimeError(f"the process of stage {stage.label} ended with code {code} before doing any item")
            given_up[item] = reason


def _run_child(folder: Path) -> int:
    """Exit code of a child; it is killed when an item takes too long. Raises Hung."""
    child = subprocess.Popen([sys.executable, "-m", "cfr.pipeline.isolation", str(folder)], stdin=subprocess.DEVNULL)
    try:
        last, since = None, time.monotonic()
        while True:
            try:
                return child.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                progress.raise_if_stopped()
                item = _announced(folder)
                if item != last:
                    last, since = item, time.monotonic()
                elif time.monotonic() - since > (START_SECONDS if item is None else ITEM_SECONDS):
                    raise Hung from None
    finally:
        child.kill()
        child.wait()


def _announced(folder: Path) -> int | None:
    try:
        return int((folder / "item").read_text())
    except (FileNotFoundError, ValueError):
        return None


def _main(folder: Path) -> None:
    """The child."""
    stage_type, context, batch = pickle.loads((folder / "task").read_bytes())
    given_up = dict(json.loads((folder / "given_up").read_text()))

    def announce(item: int) -> None:
        (folder / "item.new").write_text(str(item))
        os.replace(folder / "item.new", folder / "item")

    try:
        stage = stage_type(context)
        stage.setup()
        result = stage.run_unit(batch, one_at_a_time=True, given_up=given_up, announce=announce)
    except MemoryError:
        os._exit(1)  # as if the system had ended it for memory: the item at fault is the one that was announced
    except Exception as error:
        result = error
    (folder / "result").write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
