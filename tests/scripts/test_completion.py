"""The benchmark of completed pairs, on a run that cannot tell anything."""

import importlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
STAND_IN = Path(__file__).resolve().parents[1] / "stand_in"


@pytest.fixture
def pairs(tmp_path, monkeypatch) -> Path:
    """Two of them; the benchmark is about to be called on these and a run."""
    monkeypatch.syspath_prepend(STAND_IN)
    monkeypatch.syspath_prepend(BENCHMARKS)
    pairs = importlib.import_module("pair_shards").write_pairs(tmp_path / "pairs", shards=1, rows=2)
    (tmp_path / "config.toml").write_text('split_column = ""\nwhere = ""\nvalidation_fraction = 0.0\n')
    monkeypatch.setattr("sys.argv", ["completion.py", str(tmp_path), "--pairs", str(pairs)])
    return pairs


def test_a_run_that_held_nothing_out_is_refused(pairs):
    with pytest.raises(SystemExit, match="held out"):
        importlib.import_module("completion").main()


def test_pairs_of_another_face_model_are_refused(pairs):
    """Catches: their coefficients are taken for those of the model in use, and the composite looks bad."""
    (shard,) = pairs.rglob("*.parquet")
    table = pq.read_table(shard)
    models = json.dumps([{"part": "face_model", "digest": "0" * 64}])
    pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), b"models": models}), shard)
    with pytest.raises(SystemExit, match="another face model"):
        importlib.import_module("completion").main()
