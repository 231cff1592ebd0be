"""The order in which rows are trained on: a pure function of the seed and the position, whatever the processes.

Rows come epoch after epoch without a break, each row once per epoch, so that every batch is full and none is lost.
Within an epoch the row groups are shuffled, and then the rows within a window of some row groups: shuffled well enough,
while only a window has to be in memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cfr.model.training.shard_index import RowGroups


@dataclass(frozen=True)
class RowKey:
    """A row at its turn.

    Attributes:
        epoch: from 0.
        position: of its row group in `RowGroups`.
        row: its number within the row group.
        number: its place in `RowGroups.rows`, the same in every epoch.
    """

    epoch: int
    position: int
    row: int
    number: int


@dataclass(frozen=True)
class RowOrder:
    """The endless sequence of rows.

    Attributes:
        groups: the rows.
        seed: of the shuffling.
        window: row groups whose rows are shuffled together.
    """

    groups: RowGroups
    seed: int
    window: int

    def starting_at(self, sample: int) -> Iterator[RowKey]:
        """Rows from number `sample` of the whole training on; skipping costs no reading."""
        epoch, skip = divmod(sample, len(self.groups))
        while True:
            yield from self._epoch(epoch, skip)
            epoch, skip = epoch + 1, 0

    def _epoch(self, epoch: int, skip: int) -> Iterator[RowKey]:
        groups = self.groups
        order = np.random.default_rng((self.seed, epoch)).permutation(len(groups.group))
        for first in range(0, len(order), self.window):
            positions = order[first : first + self.window]
            counts = groups.starts[positions + 1] - groups.starts[positions]
            total = int(counts.sum())
            if skip >= total:
                skip -= total
                continue
            shuffled = np.random.default_rng((self.seed, epoch, 1 + first)).permutation(total)[skip:]
            skip = 0
            ends = np.cumsum(counts)
            which = np.searchsorted(ends, shuffled, side="right")
            numbers = groups.starts[positions[which]] + shuffled - (ends - counts)[which]
            for position, number in zip(positions[which].tolist(), numbers.tolist(), strict=True):
                yield RowKey(epoch, position, int(groups.rows[number]), number)


@dataclass(frozen=True)
class BatchPlan:
    """Batches of one process, for a DataLoader's `batch_sampler`.

    A step's batch is cut into equal pieces: first by accumulation, then by process. So the rows of a step, and which of
    them are accumulated together, do not depend on the number of processes.

    Attributes:
        order: the rows.
        batch_size: rows per step, over all processes.
        accumulate: pieces that a process works off one after the other.
        rank, world_size: this process and how many there are.
        first_step: where to begin.
        steps: how many steps.
    """

    order: RowOrder
    batch_size: int
    accumulate: int
    rank: int
    world_size: int
    first_step: int
    steps: int

    def __iter__(self) -> Iterator[list[RowKey]]:
        rows = self.order.starting_at(self.first_step * self.batch_size)
        piece = self.batch_size // (self.accumulate * self.world_size)
        for _ in range(self.steps * self.accumulate):
            pieces = [[next(rows) for _ in range(piece)] for _ in range(self.world_size)]
            yield pieces[self.rank]

    def __len__(self) -> int:
        return self.steps * self.accumulate
