"""Batches of a run from shards: trained on, held out, and shown; what a row holds is the datasets' business."""

from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from torch.utils.data import DataLoader, Dataset

from cfr.model.training.config import EngineConfig
from cfr.model.training.order import BatchPlan, RowOrder
from cfr.model.training.processes import Processes
from cfr.model.training.shard_index import OpenFile, RowGroups, ShardIndex
from cfr.model.training.stored_pictures import data_loader, first_rows


class Named(Protocol):
    """A batch whose rows have names."""

    names: tuple[str, ...]


Batch = TypeVar("Batch", bound=Named)


class ShardData(Generic[Batch]):
    """An `engine.Data`.

    Args:
        index: chosen rows.
        config: of the training.
        processes: this process and the others.
        open_file: see `shard_index.OpenFile`.
    """

    def __init__(
        self, index: ShardIndex, config: EngineConfig, processes: Processes, open_file: OpenFile | None = None
    ):
        self.index, self.config, self.processes = index, config, processes
        self.open_file = open_file
        self.rows = len(index.training)
        self.digest = index.digest()
        self._order = RowOrder(index.training, config.seed, config.window)

    def dataset(self, groups: RowGroups, augmented: bool) -> Dataset:
        """The rows, changed at random or as they are; its `__getitems__` makes a batch of keys."""
        raise NotImplementedError

    @property
    def kept_groups(self) -> int:
        """Row groups to keep in memory: the rows of two windows may be in one batch."""
        return 2 * self.config.window

    def training(self, first_step: int, steps: int) -> DataLoader:
        """Pieces of the batches from a step on; see `BatchPlan`."""
        config = self.config
        plan = BatchPlan(
            self._order,
            config.batch_size,
            config.accumulate,
            self.processes.rank,
            self.processes.world_size,
            first_step,
            steps,
        )
        pin_memory = self.processes.device.type == "cuda"
        return data_loader(self.dataset(self.index.training, True), plan, config.workers, pin_memory)

    def validation(self) -> Iterator[Batch]:
        """Every n-th of the held-out rows that are measured, as they are."""
        keys = first_rows(self.index.validation, self.config.validation_rows)
        mine = keys[self.processes.rank :: self.processes.world_size]
        size = max(1, self.config.batch_size // self.config.accumulate // self.processes.world_size)
        batches = [mine[start : start + size] for start in range(0, len(mine), size)]
        if batches:
            yield from data_loader(self.dataset(self.index.validation, False), batches, 0, False)

    def samples(self) -> Batch:
        """Rows to show: held-out ones, or if there are none, ones that are trained on."""
        groups = self.index.validation if len(self.index.validation) else self.index.training
        return self.dataset(groups, False).__getitems__(first_rows(groups, self.config.sample_rows))

    def names(self, batch: Batch) -> Sequence[str]:
        """What each row is called in its shard."""
        return batch.names
