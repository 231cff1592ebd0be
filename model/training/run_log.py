"""What a run tells: TensorBoard, `metrics.jsonl`, pictures, a progress bar, lines on the terminal."""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from cfr.model.training.files import write_atomically


class RunLog:
    """The log of a run's first process; those of the others are silent.

    Args:
        folder: of the run.
        first: whether this is the first process.
        show_bar: whether its progress is shown.
    """

    def __init__(self, folder: Path, first: bool, show_bar: bool = True):
        self.folder = folder
        self.first = first
        self._show_bar = show_bar
        self._bar: tqdm | None = None
        self._board: SummaryWriter | None = None
        self._lines = None
        self._batch_size = 0

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._board is not None:
            self._board.close()
        if self._lines is not None:
            self._lines.close()

    def begin(self, step: int, last: int, batch_size: int) -> None:
        """Open the files for a run that goes on at `step` (steps done) and ends at `last`.

        What an interrupted run logged beyond its checkpoint is taken back: it comes again.
        """
        if not self.first:
            return
        path = self.folder / "metrics.jsonl"
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
            write_atomically(path, lambda temporary: temporary.write_text("".join(line + "\n" for line in kept)))
        self._lines = path.open("a")
        self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step + 1)
        self._batch_size = batch_size
        self._bar = tqdm(
            total=last * batch_size,
            initial=step * batch_size,
            unit=" pairs",
            dynamic_ncols=True,
            mininterval=1.0,
            disable=not self._show_bar,
        )

    def advance(self) -> None:
        """A step is done."""
        if self._bar is not None:
            self._bar.update(self._batch_size)

    def numbers(self, step: int, values: dict[str, float]) -> None:
        """Log numbers by name."""
        if not self.first:
            return
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        self._lines.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        shown = {name.removeprefix("train/"): f"{value:.3g}" for name, value in values.items() if "train/" in name}
        if shown:
            self._bar.set_postfix(shown, refresh=False)

    def picture(self, step: int, picture: Image.Image) -> None:
        """Write a picture to `samples/` and to TensorBoard."""
        if not self.first:
            return
        folder = self.folder / "samples"
        folder.mkdir(exist_ok=True)
        write_atomically(folder / f"step-{step:08d}.png", lambda path: picture.save(path, "PNG"))
        self._board.add_image("samples", np.asarray(picture), step, dataformats="HWC")

    def flush(self) -> None:
        """Everything logged so far is in the files."""
        if self.first:
            self._board.flush()

    def say(self, message: str) -> None:
        """A line on the terminal."""
        if self.first:
            tqdm.write(message, file=sys.stdout)
            sys.stdout.flush()

    def warn(self, message: str) -> None:
        """A warning on the terminal."""
        if self.first:
            tqdm.write(f"warning: {message}", file=sys.stderr)


def _step_of(line: str) -> int:
    """Of a line of the log; one that was cut off counts as coming after everything."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return sys.maxsize
