"""The loop of a training: batches, steps, log, measurements, samples, checkpoints, and resuming.

What is trained is a `Task`; `gan_training` has the generator's. A checkpoint holds everything that the following steps
depend on, and every random choice is a function of the seed and the step, so that a resumed run computes the same
numbers as one that was never interrupted.
"""

import dataclasses
import math
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim import Optimizer

from cfr.model.training.averaging import AveragedNetwork
from cfr.model.training.config import ConfigError, EngineConfig, first_difference
from cfr.model.training.processes import Processes
from cfr.model.training.run_checkpoints import RunCheckpoints
from cfr.model.training.run_log import RunLog

Batch = TypeVar("Batch")


class NonFiniteLoss(ArithmeticError):
    """A loss or a weight became infinite or NaN.

    Attributes:
        rows: names of the rows of the batch.
    """

    def __init__(self, message: str, rows: Sequence[str]):
        super().__init__(message)
        self.rows = tuple(rows)


class Task(Protocol[Batch]):
    """What is trained.

    Attributes:
        networks: by name; all weights that the training changes.
        optimizers: by name; their learning rates are set by the loop.
        averaged: by the name of the network that they follow.
    """

    networks: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]
    averaged: dict[str, AveragedNetwork]

    def train_step(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """One step on the pieces of a batch. Returns the losses: scalars without gradient, mean over the pieces."""

    def validate(self, batches: Iterator[Batch]) -> dict[str, float]:
        """Numbers on held-out rows, over all processes; empty if there are no rows."""

    def samples(self, batch: Batch) -> Image.Image:
        """A picture of what the averaged networks make of a batch."""

    def export(self, folder: Path, step: int, numbers: dict[str, float]) -> None:
        """Write what users of the result need; `numbers`: the latest of `validate`."""


class Data(Protocol[Batch]):
    """Where batches come from.

    Attributes:
        rows: how many are trained on.
        digest: of the shards.
    """

    rows: int
    digest: str

    def training(self, first_step: int, steps: int) -> Iterator[Batch]:
        """This process's pieces of the batches, step after step."""

    def validation(self) -> Iterator[Batch]:
        """This process's part of the held-out rows."""

    def samples(self) -> Batch:
        """The rows of the sample grids, the same each time."""

    def names(self, batch: Batch) -> Sequence[str]:
        """What to call the rows of a batch."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        step: steps done.
        steps: of the whole training.
        interrupted: whether a signal ended it.
        numbers: the latest of `validate`.
    """

    step: int
    steps: int
    interrupted: bool
    numbers: dict[str, float]


def total_steps(config: EngineConfig, rows: int) -> int:
    """Steps of a whole training."""
    return max(1, math.ceil(config.epochs * rows / config.batch_size))


def learning_rate(config: EngineConfig, step: int, rows: int) -> float:
    """The rate of a step (from 0)."""
    if config.schedule == "constant":
        return config.learning_rate
    period = total_steps(config, rows)
    if config.schedule == "cosine-cycles":
        period = max(1.0, config.cycle_epochs * rows / config.batch_size)
    height = (1 + math.cos(math.pi * step / period)) / 2
    return config.lowest_rate + (config.learning_rate - config.lowest_rate) * height


class Trainer(Generic[Batch]):
    """One run, in one folder.

    Args:
        task, data: what is trained, on what.
        config: of the loop and of the task.
        processes: this process and the others.
        folder: of the run; checkpoints, log and samples go there.
        log: of the run.
    """

    def __init__(
        self,
        task: Task[Batch],
        data: Data[Batch],
        config: EngineConfig,
        processes: Processes,
        folder: Path,
        log: RunLog,
    ):
        self.task, self.data, self.config, self.processes = task, data, config, processes
        self.folder, self.log = folder, log
        self.checkpoints = RunCheckpoints(folder / "checkpoints", config.keep_checkpoints)
        self.step = 0
        self.saved: int | None = None
        self.numbers: dict[str, float] = {}
        # Sums of the losses since the last line of the log, and of how many steps.
        self.sums: dict[str, float] = {}
        self.summed = 0

    def run(self) -> Outcome:
        """Train to the end, or to `max_steps`, or until a signal asks to stop; then write a checkpoint and export.

        Raises:
            NonFiniteLoss: the checkpoints are those from before.
            ConfigError: the folder holds a run with other settings or other data.
            OSError: something cannot be written; what was written before is whole.
        """
        config = self.config
        self._resume()
        steps = total_steps(config, self.data.rows)
        last = min(steps, config.max_steps or steps)
        remaining = last - self.step
        with _stop_on_signal() as stop:
            self.log.begin(self.step, last, config.batch_size)
            if remaining > 0:
                batches = iter(self.data.training(self.step, remaining))
                for _ in range(remaining):
                    pieces = [next(batches) for _ in range(config.accumulate)]
                    stopping = self._train_step(pieces, stop)
                    self._regular_work(last)
                    if stopping:
                        break
            interrupted = self.step < last
            if self.saved != self.step:
                self._save()
            if not interrupted and remaining > 0:
                self._validate()
            self._export()
        return Outcome(self.step, steps, interrupted, self.numbers)

    def _train_step(self, pieces: list[Batch], stop: "_Stop") -> bool:
        """One step; returns whether any process was asked to stop."""
        rate = learning_rate(self.config, self.step, self.data.rows)
        for optimizer in self.task.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate
        losses = self.task.train_step(pieces)
        for name, averaged in self.task.averaged.items():
            averaged.update(self.task.networks[name], self.step)
        # One message for the losses and the request to stop: all processes must agree on both.
        flag = torch.tensor(float(stop.requested), device=self.processes.device)
        values = self.processes.mean(torch.stack([*(loss.float() for loss in losses.values()), flag])).tolist()
        stopping = values.pop() > 0
        if not all(map(math.isfinite, values)):
            self._fail(dict(zip(losses, values, strict=True)), pieces)
        for name, value in zip(losses, values, strict=True):
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.summed += 1
        self.step += 1
        self.log.advance()
        if self.step % self.config.log_every == 0:
            means = {f"train/{name}": total / self.summed for name, total in self.sums.items()}
            self.log.numbers(self.step, means | {"learning_rate": rate})
            self.sums, self.summed = {}, 0
        return stopping

    def _regular_work(self, last: int) -> None:
        """What is done every so many steps. The order matters: a checkpoint knows the numbers that were measured."""
        config = self.config
        if self.step % config.validate_every == 0 and self.step < last:
            self._validate()
        if self.step % config.sample_every == 0 or self.step == last:
            self._sample()
        if self.step % config.checkpoint_every == 0:
            self._save()
            if self.step < last:
                self._export()

    def _validate(self) -> None:
        numbers = self.task.validate(self.data.validation())
        if numbers:
            self.numbers = numbers
            self.log.numbers(self.step, {f"validation/{name}": value for name, value in numbers.items()})

    def _sample(self) -> None:
        if self.processes.first:
            self.log.picture(self.step, self.task.samples(self.data.samples()))

    def _export(self) -> None:
        if self.processes.first:
            self.task.export(self.folder, self.step, self.numbers)

    def _save(self) -> None:
        for name, network in self.task.networks.items():
            if not all(bool(value.isfinite().all()) for value in network.state_dict().values()):
                raise NonFiniteLoss(f"step {self.step}: weights of the {name} are not finite", [])
        if self.processes.first:
            self.log.flush()
            self.checkpoints.save(self.step, self._state())
        self.saved = self.step

    def _state(self) -> dict[str, Any]:
        task = self.task
        state = {
            "step": self.step,
            "config": dataclasses.asdict(self.config),
            "data": self.data.digest,
            "networks": {name: network.state_dict() for name, network in task.networks.items()},
            "averaged": {name: averaged.network.state_dict() for name, averaged in task.averaged.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in task.optimizers.items()},
            "random": torch.get_rng_state(),
            "numbers": dict(self.numbers),
            "sums": dict(self.sums),
            "summed": self.summed,
        }
        if self.processes.device.type == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state(self.processes.device)
        return state

    def _resume(self) -> None:
        """Go on at the newest whole checkpoint, if there is one; all processes at the same."""
        steps = self.checkpoints.steps()
        state = self.checkpoints.load_latest(self.log.warn if self.processes.first else _say_nothing)
        if len(set(self.processes.gather(None if state is None else state["step"]))) > 1:
            raise ConfigError(
                f"{self.folder}: the processes see different checkpoints; put RUN on a shared file system"
            )
        if state is None:
            if steps:
                self.log.warn(f"no checkpoint in {self.checkpoints.folder} is whole: starting over")
            for network in self.task.networks.values():
                self.processes.copy_from_first(network.state_dict().values())
            return
        if difference := first_difference(self.config, state["config"]):
            raise ConfigError(
                f"{self.folder} holds a training with other settings: {difference}; "
                "take the old value or another folder"
            )
        if state["data"] != self.data.digest:
            raise ConfigError(
                f"{self.folder} holds a training on other shards, or they were changed since; take another folder"
            )
        task = self.task
        self.step = self.saved = state["step"]
        for name, network in task.networks.items():
            network.load_state_dict(state["networks"][name])
        for name, averaged in task.averaged.items():
            averaged.network.load_state_dict(state["averaged"][name])
        for name, optimizer in task.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        torch.set_rng_state(state["random"])
        if "random_cuda" in state and self.processes.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"], self.processes.device)
        self.numbers, self.sums, self.summed = state["numbers"], state["sums"], state["summed"]
        self.log.say(f"resumed at step {self.step}")

    def _fail(self, losses: dict[str, float], pieces: list[Batch]) -> None:
        rows = [str(name) for piece in pieces for name in self.data.names(piece)]
        everyone = [name for names in self.processes.gather(rows) for name in names]
        bad = ", ".join(name for name, value in losses.items() if not math.isfinite(value))
        raise NonFiniteLoss(f"step {self.step}: not finite: {bad}", everyone)


class _Stop:
    """Whether a signal asked to stop."""

    requested = False


@contextmanager
def _stop_on_signal() -> Iterator[_Stop]:
    """SIGINT and SIGTERM end the run after the step; the second SIGINT at once."""
    stop = _Stop()

    def handle(number: int, _frame: object) -> None:
        if stop.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.requested = True

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _say_nothing(_message: str) -> None:
    pass
