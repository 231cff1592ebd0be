"""The plan: which rows of which files become which units."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_in_models import GOOD, write_photos

from cfr.pipeline import work_units
from cfr.pipeline.errors import UserError
from cfr.pipeline.work_units import InputFile, UnreadableFile, find_inputs, pack_units, plan_units, read_footer

SCHEMA = pa.schema([("image_id", pa.string()), ("image", pa.binary())])


def a_file(rows: int, name: str = "a") -> InputFile:
    return InputFile(f"/in/{name}.parquet", f"{name}-00000000", f"1-{name}", rows, 1, 1, SCHEMA)


@given(rows=st.lists(st.integers(0, 40), max_size=4), unit_rows=st.integers(1, 9), limit=st.none() | st.integers(1, 60))
def test_units_cover_the_rows_once(rows, unit_rows, limit):
    files = [a_file(count, f"f{number}") for number, count in enumerate(rows)]
    units = plan_units(files, unit_rows, limit)
    covered = [(unit.path, row) for unit in units for row in range(unit.first_row, unit.first_row + unit.rows)]
    everything = [(file.path, row) for file in files for row in range(file.rows)]
    assert covered == everything[: len(covered)]
    wanted = len(everything) if limit is None else min(limit, len(everything))
    assert wanted <= len(covered) < wanted + unit_rows
    assert len({unit.unit_id for unit in units}) == len(units)
    unpacked = [unit for runs in pack_units(files, unit_rows, units[::2]) for unit in runs.units()]
    assert unpacked == units[::2]


def test_names_depend_on_the_path_below_the_globs_root_only(tmp_path):
    for root in ("one", "two [a]"):
        write_photos(tmp_path / root / "x" / "part.parquet", [GOOD])
        write_photos(tmp_path / root / "y" / "part.parquet", [GOOD])
    keys = [[key for _, key in find_inputs([str(tmp_path / root / "*" / "*.parquet")])] for root in ("one", "two [a]")]
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 2
    assert all(key.startswith("part-") for key in keys[0])


def test_a_glob_its_expansion_and_the_folder_mean_the_same(tmp_path):
    for name in ("a", "b c", "ü"):
        write_photos(tmp_path / f"{name}.parquet", [GOOD])
    by_glob = find_inputs([str(tmp_path / "*.parquet")])
    assert len(by_glob) == 3
    assert find_inputs(sorted(str(path) for path in tmp_path.iterdir())) == by_glob
    assert find_inputs([str(tmp_path)]) == by_glob
    assert find_inputs([str(tmp_path / "*.parquet"), str(tmp_path / "a.parquet")]) == by_glob


def test_a_relative_glob_works(tmp_path, monkeypatch):
    write_photos(tmp_path / "in" / "a.parquet", [GOOD])
    monkeypatch.chdir(tmp_path)
    assert find_inputs(["in/*.parquet"]) == find_inputs([str(tmp_path / "in" / "*.parquet")])
    monkeypatch.chdir(tmp_path / "in")
    assert len(find_inputs(["*.parquet"])) == 1
    with pytest.raises(UserError, match="no file matches"):
        find_inputs(["*.pq"])


def test_the_footer_is_enough_to_plan(tmp_path):
    path = tmp_path / "a.parquet"
    write_photos(path, [GOOD] * 5)
    data = path.read_bytes()
    footer = read_footer(str(path), "k")
    assert (footer.rows, footer.size) == (5, len(data))
    path.write_bytes(bytes(200) + data[200:])  # the rows are gone, the footer is not
    assert read_footer(str(path), "k") == footer
    write_photos(path, [GOOD] * 6)
    assert read_footer(str(path), "k").input_identity != footer.input_identity
    length = int.from_bytes(data[-8:-4], "little")
    for damaged in (data[:-9], b"", b"PAR1", data[: -8 - length] + bytes(length) + data[-8:]):
        path.write_bytes(damaged)
        assert isinstance(read_footer(str(path), "k"), UnreadableFile)


def test_a_long_footer_is_read_whole(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"image_id": ["x"], "image": [b"y"]}).replace_schema_metadata({"long": "z" * 300_000})
    pq.write_table(table, path)
    assert read_footer(str(path), "k").rows == 1


def test_unique_ids(tmp_path):
    write_photos(tmp_path / "a.parquet", [GOOD] * 3)
    write_photos(tmp_path / "b.parquet", [GOOD] * 3)
    files = [read_footer(path, key) for path, key in find_inputs([str(tmp_path)])]
    work_units.check_unique_ids(files, "image_id")
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes())
    with pytest.raises(UserError, match="3 ids come more than once"):
        work_units.check_unique_ids(files, "image_id")
