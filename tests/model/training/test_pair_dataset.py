"""From shards to tensors: right pictures, reproducible augmentation, clear errors."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from pair_shards import pair_pictures, pair_table, png, write_shard

from cfr.model.training.augmentation import NONE, Augmentation, augment, face_region
from cfr.model.training.order import BatchPlan, RowOrder
from cfr.model.training.pair_dataset import PairDataset
from cfr.model.training.shard_index import Shard, TrainingDataError, build_index
from cfr.model.training.stored_pictures import data_loader, first_rows

ALWAYS = Augmentation(1, 1, 1)


def dataset_of(path, size=32, chances=NONE) -> PairDataset:
    index = build_index([Shard(str(path), "x")], "image_id", 0.0)
    return PairDataset(index.shards, index.training, size, chances, 7, 4)


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    return write_shard(tmp_path_factory.mktemp("shard") / "a.parquet", pair_table(10, 32))


def test_pictures_are_those_of_the_rows(shard):
    dataset = dataset_of(shard)
    batch = dataset.__getitems__(first_rows(dataset.groups, 10))
    assert batch.names == tuple(f"photo-{row}.png#0.0" for row in range(10))
    for row in range(10):
        expected = pair_pictures(32, row)
        for name in ("target", "rotated", "guidance"):
            assert np.array_equal(getattr(batch, name)[row].permute(1, 2, 0), expected[name])
        assert np.array_equal(batch.occlusion_mask[row, 0], expected["occlusion_mask"])


def test_smaller_pictures_are_averaged(shard):
    dataset = dataset_of(shard, size=16)
    batch = dataset.__getitems__(first_rows(dataset.groups, 1))
    expected = pair_pictures(32, 0)["target"].astype(float).reshape(16, 2, 16, 2, 3).mean((1, 3))
    assert np.abs(batch.target[0].permute(1, 2, 0).numpy() - expected).max() <= 1.01  # Pillow rounds twice


def test_rows_spread_over_all(shard):
    groups = dataset_of(shard).groups
    assert [key.number for key in first_rows(groups, 4)] == [0, 3, 6, 9]
    assert len(first_rows(groups, 99)) == 10


def test_workers_give_what_this_process_gives(shard):
    dataset = dataset_of(shard, chances=ALWAYS)
    plan = BatchPlan(RowOrder(dataset.groups, 7, 2), 4, 1, 0, 1, 0, 5)
    state = torch.get_rng_state()
    alone, helped = (list(data_loader(dataset, plan, workers, False)) for workers in (0, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert len(alone) == 5
    for ours, theirs in zip(alone, helped, strict=True):
        assert ours.names == theirs.names
        for name in ("target", "rotated", "guidance", "occlusion_mask"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))


def test_augmentation_differs_between_epochs_and_rows_only(shard):
    dataset = dataset_of(shard, chances=ALWAYS)
    keys = first_rows(dataset.groups, 2)
    later = [type(keys[0])(1, key.position, key.row, key.number) for key in keys]
    once, again, next_epoch = (dataset.__getitems__(each) for each in (keys, keys, later))
    assert torch.equal(once.rotated, again.rotated)
    assert not torch.equal(once.rotated, next_epoch.rotated)


def test_what_is_erased_is_in_the_mask():
    pair = pair_pictures(64, 3)
    face = face_region(pair["guidance"])
    erased = 0
    for seed in range(60):
        changed = augment(pair, Augmentation(0, 0, 1), np.random.default_rng(seed))
        different = (changed["rotated"] != pair["rotated"]).any(-1)
        erased += different.any()
        assert (changed["occlusion_mask"][different] == 255).all()
        assert not changed["rotated"][~face].any()
        assert not changed["occlusion_mask"][~face].any()
        assert all(np.array_equal(changed[name], pair[name]) for name in ("target", "guidance"))
    assert erased > 45  # a few boxes fall beside this small face


def test_flip_mirrors_everything():
    pair = pair_pictures(32, 5)
    flipped = augment(pair, Augmentation(1, 0, 0), np.random.default_rng(0))
    assert all(np.array_equal(flipped[name], pair[name][:, ::-1]) for name in pair)


def test_low_resolution_keeps_colours_and_loses_detail():
    pair = pair_pictures(32, 5)
    pair["rotated"] = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    coarse = augment(pair, Augmentation(0, 1, 0), np.random.default_rng(0))["rotated"].astype(float)
    assert abs(coarse.mean() - pair["rotated"].mean()) < 3
    assert coarse.std() < 0.6 * pair["rotated"].std()


def with_column(table: pa.Table, column: str, row: int, value: dict | None) -> pa.Table:
    values = table.column(column).to_pylist()
    values[row] = value
    index = table.schema.get_field_index(column)
    return table.set_column(index, column, pa.array(values, table.schema.field(column).type))


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("rotated", png(np.zeros((16, 16, 3), np.uint8)), r"rotated has 16x16 pixels, the first row's .* 32x32"),
        ("guidance", {"bytes": b"no picture", "path": None}, "guidance is no picture"),
        ("occlusion_mask", None, "no occlusion_mask"),
    ],
)
def test_bad_pictures_name_shard_row_and_column(tmp_path, column, value, told):
    path = write_shard(tmp_path / "bad.parquet", with_column(pair_table(8), column, 6, value))
    dataset = dataset_of(path)
    with pytest.raises(TrainingDataError, match=told) as error:
        dataset.__getitems__(first_rows(dataset.groups, 8))
    assert "bad.parquet, row 2 of row group 1 (photo-6.png#0.0)" in str(error.value)
