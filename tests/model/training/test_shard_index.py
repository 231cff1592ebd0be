"""Choosing, splitting and reading rows of shards."""

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pair_shards import pair_table, write_shard

from cfr.model.training.shard_index import RowGroupReader, RowGroups, Shard, TrainingDataError, build_index


def identities(index, groups: RowGroups) -> set[str]:
    reader = RowGroupReader(index.shards, ["identity"], 2)
    found = set()
    for position, (shard, group) in enumerate(zip(groups.shard, groups.group, strict=True)):
        rows = groups.rows[groups.starts[position] : groups.starts[position + 1]]
        found |= set(reader.read(int(shard), int(group)).column("identity").take(pa.array(rows)).to_pylist())
    return found


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> list[Shard]:
    folder = tmp_path_factory.mktemp("shards")
    people = [f"person {row // 3}" for row in range(90)]
    return [
        Shard(
            str(write_shard(folder / f"{n}.parquet", pair_table(30, 16, 30 * n, identity=people[30 * n :][:30]))),
            f"{n}",
        )
        for n in range(3)
    ]


def test_no_identity_is_trained_on_and_held_out(shards):
    index = build_index(shards, "identity", 0.3)
    training, held_out = identities(index, index.training), identities(index, index.validation)
    assert training and held_out and not training & held_out
    assert len(training | held_out) == 30
    assert len(index.training) + len(index.validation) == index.rows == 90
    # 30 identities, each held out with chance 0.3: 2 to 17 with a probability of 0.999.
    assert 2 <= len(held_out) <= 17


def test_a_value_stays_where_it_is_when_shards_are_added(shards):
    before = build_index(shards[:2], "identity", 0.3)
    after = build_index(shards, "identity", 0.3)
    assert identities(before, before.validation) <= identities(after, after.validation)
    assert identities(before, before.training) <= identities(after, after.training)
    assert before.digest() != after.digest()


def test_only_rows_that_pass_the_filter_take_part(shards):
    index = build_index(shards, "image_id", 0.0, pc.field("quality") > 0.5, ["quality"])
    assert len(index.training) == 45
    assert (index.training.rows >= 0).all() and index.rows == 90
    everything = build_index(shards, "image_id", 0.0)
    kept = {(s, g) for s, g in zip(index.training.shard, index.training.group, strict=True)}
    assert kept < {(s, g) for s, g in zip(everything.training.shard, everything.training.group, strict=True)}


@pytest.mark.parametrize(
    ("fraction", "where", "told"),
    [(0.1, pc.field("quality") > 2, "no row passes --where"), (1.0, None, "lower --validation-fraction")],
)
def test_nothing_to_train_on_says_why(shards, fraction, where, told):
    with pytest.raises(TrainingDataError, match=told):
        build_index(shards, "image_id", fraction, where, ["quality"])


def test_rows_without_a_value_are_trained_on(tmp_path):
    path = write_shard(tmp_path / "a.parquet", pair_table(4, 16, identity=pa.array(["x", None, None, "y"])))
    index = build_index([Shard(str(path), "a")], "identity", 0.999999)
    assert index.training.rows.tolist() == [1, 2]


def test_a_damaged_shard_is_named(tmp_path, shards):
    path = tmp_path / "cut.parquet"
    whole = Path(shards[0].path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TrainingDataError, match="cut"):
        build_index([Shard(str(path), "x")], "image_id", 0.1)


def test_reader_keeps_a_few_row_groups_and_travels_to_workers(shards):
    reader = RowGroupReader(shards, ["image_id"], 2)
    first = reader.read(0, 0)
    assert reader.read(0, 0) is first
    reader.read(0, 1), reader.read(1, 0)
    assert reader.read(0, 0) is not first
    assert pickle.loads(pickle.dumps(reader)).read(0, 0).equals(first)
    assert dataclasses.is_dataclass(shards[0]) and np.array_equal(
        first.column(0).to_pylist(), [f"photo-{n}.png" for n in range(4)]
    )
