"""Checkpoints of a run: written whole or not at all, the last few kept, damaged ones passed over.

`step-00001000.pt` holds tensors and plain containers. `step-00001000.json` beside it, written afterwards, tells its
size and sha256: a checkpoint without it does not exist.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cfr.model.training.files import write_atomically

_NAME = re.compile(r"step-(\d+)\.json")


class RunCheckpoints:
    """The checkpoints in a folder.

    Args:
        folder: made when the first one is written.
        kept: how many stay.
    """

    def __init__(self, folder: Path, kept: int):
        self.folder = folder
        self.kept = kept

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write one, then delete the oldest beyond `kept`.

        Args:
            step: steps that are done.
            state: tensors, numbers, text, lists and dicts of these.

        Raises:
            OSError: it cannot be written; the earlier ones are as they were.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        weights, note = self._paths(step)
        digest = hashlib.sha256()

        def write(path: Path) -> None:
            torch.save(state, path)
            with path.open("rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)

        write_atomically(weights, write)
        content = json.dumps({"step": step, "bytes": weights.stat().st_size, "sha256": digest.hexdigest()})
        write_atomically(note, lambda path: path.write_text(content))
        for old in self.steps()[: -self.kept]:
            # The note first: what has none does not exist.
            for path in reversed(self._paths(old)):
                path.unlink(missing_ok=True)

    def load_latest(self, warn: Callable[[str], None]) -> dict[str, Any] | None:
        """The newest one that is whole, on the CPU; None if there is none.

        Args:
            warn: told about each damaged one.
        """
        for step in reversed(self.steps()):
            weights, note = self._paths(step)
            try:
                expected = json.loads(note.read_text())
                content = weights.read_bytes()
                if (len(content), hashlib.sha256(content).hexdigest()) != (expected["bytes"], expected["sha256"]):
                    raise ValueError("its bytes are not those that were written")
                del content
                return torch.load(weights, map_location="cpu", weights_only=True)
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                warn(f"checkpoint {weights} is damaged and passed over: {error}")
        return None

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, ascending."""
        if not self.folder.is_dir():
            return []
        return sorted(int(match[1]) for name in os.listdir(self.folder) if (match := _NAME.fullmatch(name)))

    def _paths(self, step: int) -> tuple[Path, Path]:
        return self.folder / f"step-{step:08d}.pt", self.folder / f"step-{step:08d}.json"
