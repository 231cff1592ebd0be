"""Batches of pairs for a run: trained on, held out, and shown."""

from collections.abc import Iterator, Sequence

from torch.utils.data import DataLoader

from cfr.model.training.augmentation import NONE, Augmentation
from cfr.model.training.gan_config import TrainConfig
from cfr.model.training.order import BatchPlan, RowOrder
from cfr.model.training.pair_dataset import PairBatch, PairDataset, data_loader, first_rows
from cfr.model.training.processes import Processes
from cfr.model.training.shard_index import OpenFile, RowGroups, ShardIndex


class PairData:
    """The `engine.Data` of `cfr train`.

    Args:
        index: chosen rows.
        config: of the training.
        processes: this process and the others.
        open_file: see `shard_index.OpenFile`.
    """

    def __init__(self, index: ShardIndex, config: TrainConfig, processes: Processes, open_file: OpenFile | None = None):
        self.index, self.config, self.processes = index, config, processes
        self._open_file = open_file
        self.rows = len(index.training)
        self.digest = index.digest()
        self._order = RowOrder(index.training, config.seed, config.window)

    def training(self, first_step: int, steps: int) -> DataLoader:
        """Pieces of the batches from a step on; see `BatchPlan`."""
        config = self.config
        chances = Augmentation(config.flip, config.low_resolution, config.erase)
        plan = BatchPlan(
            self._order,
            config.batch_size,
            config.accumulate,
            self.processes.rank,
            self.processes.world_size,
            first_step,
            steps,
        )
        return data_loader(
            self._dataset(self.index.training, chances), plan, config.workers, self.processes.device.type == "cuda"
        )

    def validation(self) -> Iterator[PairBatch]:
        """Every n-th of the held-out rows that are measured, as they are."""
        keys = first_rows(self.index.validation, self.config.validation_rows)
        mine = keys[self.processes.rank :: self.processes.world_size]
        size = max(1, self.config.batch_size // self.config.accumulate // self.processes.world_size)
        batches = [mine[start : start + size] for start in range(0, len(mine), size)]
        if batches:
            yield from data_loader(self._dataset(self.index.validation, NONE), batches, 0, False)

    def samples(self) -> PairBatch:
        """Rows to show: held-out ones, or if there are none, ones that are trained on."""
        groups = self.index.validation if len(self.index.validation) else self.index.training
        return self._dataset(groups, NONE).__getitems__(first_rows(groups, self.config.sample_rows))

    def names(self, batch: PairBatch) -> Sequence[str]:
        """`pair_id` of each row."""
        return batch.names

    def _dataset(self, groups: RowGroups, chances: Augmentation) -> PairDataset:
        config = self.config
        # The rows of two windows may be in one batch.
        kept = 2 * config.window
        return PairDataset(self.index.shards, groups, config.size, chances, config.seed, kept, self._open_file)
