"""Which rows a step trains on: every row once per epoch, the same for any number of processes and any start."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cfr.model.training.order import BatchPlan, RowOrder
from cfr.model.training.shard_index import RowGroups


def groups_of(sizes: list[int]) -> RowGroups:
    """Row groups with so many chosen rows each."""
    return RowGroups(
        np.arange(len(sizes), dtype=np.int32) // 3,
        np.arange(len(sizes), dtype=np.int32) % 3,
        np.cumsum([0, *sizes]).astype(np.int64),
        np.concatenate([np.arange(size, dtype=np.int32) * 2 for size in sizes]),
    )


ORDERS = st.builds(
    RowOrder,
    st.lists(st.integers(1, 7), min_size=1, max_size=9).map(groups_of),
    st.integers(0, 2**40),
    st.integers(1, 12),
)


@given(ORDERS)
def test_each_epoch_has_each_row_once(order):
    rows = len(order.groups)
    keys = list(itertools.islice(order.starting_at(0), 3 * rows))
    for epoch in range(3):
        part = keys[epoch * rows : (epoch + 1) * rows]
        assert {key.epoch for key in part} == {epoch}
        assert sorted(key.number for key in part) == list(range(rows))
        for key in part:
            assert order.groups.starts[key.position] <= key.number < order.groups.starts[key.position + 1]
            assert order.groups.rows[key.number] == key.row


@given(ORDERS, st.integers(0, 200))
def test_starting_later_continues_the_same_sequence(order, start):
    whole = itertools.islice(order.starting_at(0), start, start + 20)
    assert list(whole) == list(itertools.islice(order.starting_at(start), 20))


@given(ORDERS, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 5))
def test_processes_share_what_one_process_would_train_on(order, world_size, accumulate, piece, first_step):
    batch = world_size * accumulate * piece
    alone = BatchPlan(order, batch, accumulate, 0, 1, first_step, 4)
    together = [BatchPlan(order, batch, accumulate, rank, world_size, first_step, 4) for rank in range(world_size)]
    assert len(alone) == 4 * accumulate
    for pieces in zip(alone, *together, strict=True):
        assert pieces[0] == [key for part in pieces[1:] for key in part]


def test_orders_differ_between_seeds_and_epochs():
    groups = groups_of([8] * 8)
    sequences = [
        [key.number for key in itertools.islice(RowOrder(groups, seed, 4).starting_at(64 * epoch), 64)]
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len({tuple(sequence) for sequence in sequences}) == 4
    # Neighbours in the file are no neighbours any more: a window mixes its row groups.
    steps = np.abs(np.diff(sequences[0]))
    assert (steps == 1).mean() < 0.2


def test_a_window_is_all_that_is_needed_at_once():
    order = RowOrder(groups_of([5] * 12), 3, 4)
    keys = list(itertools.islice(order.starting_at(0), 60))
    for start in range(0, 60, 20):
        assert len({key.position for key in keys[start : start + 20]}) == 4
