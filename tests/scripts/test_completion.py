"""The benchmark of completed pairs, on a run that cannot tell anything."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
STAND_IN = Path(__file__).resolve().parents[1] / "stand_in"


def test_a_run_that_held_nothing_out_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(STAND_IN)
    monkeypatch.syspath_prepend(BENCHMARKS)
    pairs = importlib.import_module("pair_shards").write_pairs(tmp_path / "pairs", shards=1, rows=2)
    (tmp_path / "config.toml").write_text('split_column = ""\nwhere = ""\nvalidation_fraction = 0.0\n')
    monkeypatch.setattr("sys.argv", ["completion.py", str(tmp_path), "--pairs", str(pairs)])
    with pytest.raises(SystemExit, match="held out"):
        importlib.import_module("completion").main()
