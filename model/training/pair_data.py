"""Batches of pairs for `cfr train`."""

from cfr.model.training.augmentation import NONE, Augmentation
from cfr.model.training.gan_config import TrainConfig
from cfr.model.training.pair_dataset import PairBatch, PairDataset
from cfr.model.training.shard_data import ShardData
from cfr.model.training.shard_index import RowGroups


class PairData(ShardData[PairBatch]):
    """The `engine.Data` of `cfr train`; see `ShardData`."""

    config: TrainConfig

    def dataset(self, groups: RowGroups, augmented: bool) -> PairDataset:
        """See `ShardData.dataset`."""
        config = self.config
        chances = Augmentation(config.flip, config.low_resolution, config.erase) if augmented else NONE
        return PairDataset(
            self.index.shards, groups, config.size, chances, config.seed, self.kept_groups, self.open_file
        )
