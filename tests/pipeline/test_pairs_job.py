"""The pairs job with stand-in models: what comes out for what goes in, and what a second run does."""

import json
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stand_in_models as stand_in
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stand_in_models import write_photos

from cfr.pipeline import cli, launch
from cfr.pipeline.errors import UserError
from cfr.transforms import align_faces

KINDS = [stand_in.GOOD, stand_in.TWO_FACES, *stand_in.REASON]


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two shards, 10 and 5 photos, all good."""
    write_photos(tmp_path / "in" / "a.parquet", [stand_in.GOOD] * 10, label=list(range(10)))
    write_photos(tmp_path / "in" / "b.parquet", [stand_in.GOOD] * 5, label=list(range(100, 105)))
    return tmp_path / "in"


def job(folder: Path, output: Path, *arguments, **keywords) -> int:
    """Run the job on a folder of shards, four rows per unit."""
    return stand_in.run("--input", folder / "*.parquet", "--output", output, "--unit-rows", "4", *arguments, **keywords)


def read(output: Path, folder: str = "pairs") -> pa.Table:
    """All shards of an output."""
    return pa.concat_tables([pq.read_table(path) for path in sorted((output / folder).glob("*.parquet"))])


def shard_bytes(output: Path) -> dict[str, bytes]:
    """Everything that must be reproducible."""
    return {str(p.relative_to(output)): p.read_bytes() for p in sorted(output.glob("[pf]a*/*.parquet"))}


def stats(output: Path) -> dict:
    return json.loads((output / "_stats.json").read_text())


def test_every_row_becomes_a_pair(photos, tmp_path):
    output = tmp_path / "out"
    assert job(photos, output) == 0
    table = read(output)
    assert table.num_rows == 15
    assert sorted(table["pair_id"].to_pylist())[0] == "a/0000.png#0.0"
    assert (output / "_SUCCESS").exists()
    names = [path.name for path in (output / "pairs").iterdir()]
    assert len(names) == 5
    assert all(re.fullmatch(r"[ab]-[0-9a-f]{8}-\d+-\d+\.parquet", name) for name in names)
    assert not (output / "failures").exists()
    assert not list((output / "_tmp").iterdir())


def test_schema_is_what_the_design_says(photos, tmp_path):
    job(photos, tmp_path / "out", "--keep-columns", "label")
    path = next((tmp_path / "out" / "pairs").glob("a-*-8-2.parquet"))
    schema = pq.read_schema(path)
    assert " ".join(schema.names) == (
        "pair_id image_id face_index view_index target rotated guidance occlusion_mask occluder_mask face_mask "
        "yaw pitch roll view_yaw view_pitch view_roll coefficients crop box landmarks5 detection_score fit_error "
        "occluded_fraction visible_fraction sharpness quality label"
    )
    metadata = {key.decode(): value.decode() for key, value in schema.metadata.items()}
    assert metadata["schema_version"] == "1"
    assert json.loads(metadata["models"])[0]["licence"] == "none"
    assert json.loads(metadata["coefficients"])["pose"] == [33, 36]
    features = json.loads(metadata["huggingface"])["info"]["features"]
    assert features["target"] == {"_type": "Image"}
    assert set(features) == set(schema.names)
    assert pq.read_table(path)["label"].to_pylist() == [8, 9]
    row = pq.read_table(path).slice(0, 1).to_pylist()[0]
    assert row["target"]["bytes"].startswith(b"\x89PNG")
    assert row["visible_fraction"] == pytest.approx((112 - 70) / 90)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.lists(st.sampled_from(KINDS), max_size=11), min_size=1, max_size=3),
    views=st.integers(1, 2),
    faces=st.sampled_from(["best", "largest", "all"]),
)
def test_no_row_is_lost(tmp_path_factory, kinds, views, faces):
    folder = tmp_path_factory.mktemp("rows")
    expected_rows, expected_failures = {}, {}
    for number, of_file in enumerate(kinds):
        for image_id, kind in zip(write_photos(folder / "in" / f"{number}.parquet", of_file), of_file, strict=True):
            if kind in stand_in.REASON:
                expected_failures[image_id] = stand_in.REASON[kind]
            else:
                expected_rows[image_id] = views * (2 if kind == stand_in.TWO_FACES and faces == "all" else 1)
    output = folder / "out"
    arguments = ("--views-per-face", str(views), "--faces", faces, "--abort-failure-rate", "1")
    assert job(folder / "in", output, *arguments) == 0
    found = {}
    if any(kinds):
        for image_id in read(output)["image_id"].to_pylist():
            found[image_id] = found.get(image_id, 0) + 1
    assert found == expected_rows
    failed = read(output, "failures").to_pylist() if expected_failures else []
    assert {row["image_id"]: row["reason"] for row in failed} == expected_failures
    assert all(len(row["message"]) > 20 for row in failed)
    totals = stats(output)
    assert totals["rows"] == sum(map(len, kinds)) == totals["rows_with_output"] + totals["rows_failed"]
    assert totals["rows_with_output"] == len(expected_rows)


def test_a_bad_row_changes_no_other_rows_bytes(tmp_path):
    good = [stand_in.GOOD] * 11
    for poison in (stand_in.FIT_RAISES, stand_in.FIT_IS_NAN, stand_in.ROTATION_RAISES):
        folder = tmp_path / str(poison)
        write_photos(folder / "good" / "a.parquet", good)
        write_photos(folder / "bad" / "a.parquet", [*good[:5], poison, *good[6:]])
        for name in ("good", "bad"):
            arguments = ("--input", folder / name / "*.parquet", "--output", folder / f"out-{name}")
            assert stand_in.run(*arguments, "--unit-rows", "16") == 0
        before = read(folder / "out-good").to_pylist()
        after = read(folder / "out-bad").to_pylist()
        if poison == stand_in.ROTATION_RAISES:  # its photo is another one, the others must be the same
            assert len(after) == 10
        assert after == [row for number, row in enumerate(before) if number != 5]


def test_a_face_that_fails_leaves_the_rows_other_face(tmp_path):
    write_photos(tmp_path / "in" / "a.parquet", [stand_in.GOOD, stand_in.ROTATION_RAISES, stand_in.TWO_FACES])
    assert job(tmp_path / "in", tmp_path / "out", "--faces", "all", "--views-per-face", "2") == 0
    totals = stats(tmp_path / "out")
    assert (totals["rows"], totals["rows_with_output"], totals["rows_failed"]) == (3, 2, 1)
    assert totals["faces_failed"] == 2  # both views of the one face
    assert totals["outputs"] == 6


def test_a_photo_of_too_many_faces_gives_the_best_ones_and_says_so(tmp_path, monkeypatch):
    """Catches: a pattern with thousands of "faces" that fills the memory, or faces that are left out silently."""
    ids = write_photos(tmp_path / "in" / "a.parquet", [stand_in.TWO_FACES, stand_in.GOOD])
    monkeypatch.setattr(align_faces, "MAX_FACES", 2)
    assert job(tmp_path / "in", tmp_path / "two", "--faces", "all") == 0
    assert read(tmp_path / "two")["image_id"].to_pylist() == [ids[0], ids[0], ids[1]]
    assert not stats(tmp_path / "two")["failures"]
    monkeypatch.setattr(align_faces, "MAX_FACES", 1)
    assert job(tmp_path / "in", tmp_path / "one", "--faces", "all") == 0
    assert read(tmp_path / "one")["image_id"].to_pylist() == ids
    (failure,) = read(tmp_path / "one", "failures").to_pylist()
    assert (failure["image_id"], failure["reason"]) == (ids[0], "too_many_faces")
    assert stats(tmp_path / "one")["faces_failed"] == 1


def test_ids_must_be_there_and_unique(tmp_path):
    path = tmp_path / "in" / "a.parquet"
    path.parent.mkdir()
    picture = stand_in.photo(stand_in.GOOD)
    ids = ["x", "x", None, ""]
    pq.write_table(pa.table({"image_id": ids, "image": pa.array([picture] * 4, pa.binary())}), path)
    assert job(tmp_path / "in", tmp_path / "out") == 0
    assert read(tmp_path / "out")["image_id"].to_pylist() == ["x"]
    assert read(tmp_path / "out", "failures")["reason"].to_pylist() == ["duplicate_id", "missing_id", "missing_id"]
    with pytest.raises(UserError, match=r"'x' is in .* again"):
        job(tmp_path / "in", tmp_path / "other", "--check-ids")


def test_a_unit_without_a_pair_writes_an_empty_shard(tmp_path):
    write_photos(tmp_path / "in" / "a.parquet", [stand_in.NO_FACE] * 2)
    assert job(tmp_path / "in", tmp_path / "out") == 0
    table = read(tmp_path / "out")
    assert table.num_rows == 0
    assert "target" in table.column_names
    assert read(tmp_path / "out", "failures").num_rows == 2


def test_img2dataset_shards_are_recognised(tmp_path):
    (tmp_path / "in").mkdir()
    table = pa.table({"key": ["0", "1"], "jpg": pa.array([stand_in.photo(stand_in.GOOD)] * 2, pa.binary())})
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    assert job(tmp_path / "in", tmp_path / "out") == 0
    assert read(tmp_path / "out")["image_id"].to_pylist() == ["0", "1"]


def test_pictures_and_their_encoding_can_be_chosen(photos, tmp_path):
    job(photos, tmp_path / "out", "--columns", "target,face_mask", "--encoding", "webp")
    table = read(tmp_path / "out")
    assert not {"rotated", "guidance"} & set(table.column_names)
    row = table.slice(0, 1).to_pylist()[0]
    assert row["target"]["bytes"][8:12] == b"WEBP"
    assert row["face_mask"]["bytes"].startswith(b"\x89PNG")


def test_limit_is_rounded_up_to_whole_units_and_can_be_raised_later(photos, tmp_path):
    output = tmp_path / "out"
    assert job(photos, output, "--limit", "5") == 0
    assert read(output).num_rows == 8
    first = shard_bytes(output)
    assert job(photos, output) == 0
    assert read(output).num_rows == 15
    assert first.items() <= shard_bytes(output).items()


def test_running_again_does_nothing(photos, tmp_path, capsys):
    output = tmp_path / "out"
    job(photos, output)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.parquet")}
    assert job(photos, output) == 0
    assert "5 units, 5 done, 0 to do" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in output.rglob("*.parquet")}


def test_only_the_damaged_shard_is_done_again(photos, tmp_path, capsys):
    output = tmp_path / "out"
    job(photos, output)
    before = shard_bytes(output)
    cut, flipped = sorted((output / "pairs").iterdir())[:2]
    cut.write_bytes(cut.read_bytes()[:-100])
    content = bytearray(flipped.read_bytes())
    content[200] ^= 255
    flipped.write_bytes(content)
    capsys.readouterr()
    assert job(photos, output) == 0
    assert "5 units, 4 done, 1 to do" in capsys.readouterr().out
    assert job(photos, output, "--verify") == 0
    assert "5 units, 4 done, 1 to do" in capsys.readouterr().out
    assert shard_bytes(output) == before


def test_retry_failed_redoes_units_with_such_failures(tmp_path, capsys):
    write_photos(tmp_path / "in" / "a.parquet", [stand_in.GOOD] * 4 + [stand_in.NO_FACE] * 4 + [stand_in.EMPTY] * 4)
    output = tmp_path / "out"
    job(tmp_path / "in", output)
    for flag, todo in (("--retry-failed=no_face", 1), ("--retry-failed", 2), ("--retry-failed=too_large", 0)):
        capsys.readouterr()
        assert job(tmp_path / "in", output, flag) == 0
        assert f"3 units, {3 - todo} done, {todo} to do" in capsys.readouterr().out
    assert stats(output)["failures"] == {"empty_image": 4, "no_face": 4}


def test_an_output_of_other_parameters_is_refused(photos, tmp_path):
    output = tmp_path / "out"
    job(photos, output)
    with pytest.raises(UserError, match=r"seed = 0, now it is 7.*--overwrite"):
        job(photos, output, "--seed", "7")
    with pytest.raises(UserError, match="model stand-in"):
        job(photos, output, models=stand_in.StandInModels(digest="1"))
    with pytest.raises(UserError, match="keep_columns"):
        job(photos, output, "--keep-columns", "label")
    before = shard_bytes(output)
    (output / "my notes.txt").write_text("keep me")
    assert job(photos, output, "--seed", "7", "--overwrite") == 0
    assert shard_bytes(output).keys() == before.keys()
    assert shard_bytes(output) != before
    assert (output / "my notes.txt").exists()


def test_new_and_changed_inputs_redo_only_their_own_units(photos, tmp_path, capsys):
    output = tmp_path / "out"
    job(photos, output)
    write_photos(photos / "c.parquet", [stand_in.GOOD] * 3, label=[1, 2, 3])
    capsys.readouterr()
    assert job(photos, output) == 0
    assert "6 units, 5 done, 1 to do" in capsys.readouterr().out
    write_photos(photos / "a.parquet", [stand_in.GOOD] * 6, label=list(range(6)))
    assert job(photos, output) == 0
    out = capsys.readouterr().out
    assert "5 units, 3 done, 2 to do" in out
    assert "2 units of inputs that have changed are removed" in out
    assert read(output).num_rows == 6 + 5 + 3


def test_an_unreadable_file_among_many_is_a_failed_unit(photos, tmp_path, capsys):
    output = tmp_path / "out"
    (photos / "cut.parquet").write_bytes((photos / "a.parquet").read_bytes()[:-50])
    (photos / "text.parquet").write_text("no Parquet at all")
    data = bytearray((photos / "a.parquet").read_bytes())
    data[50:1500] = bytes(1450)
    (photos / "holes.parquet").write_bytes(data)
    assert job(photos, output) == 1
    out = capsys.readouterr().out
    for name in ("cut.parquet", "text.parquet", "holes.parquet"):
        assert re.search(f"failed unit.*{name}", out)
    assert not (output / "_SUCCESS").exists()
    assert {i for i in read(output)["image_id"].to_pylist() if i.startswith("b")} == {f"b/000{n}.png" for n in range(5)}
    for name in ("cut", "text", "holes"):
        (photos / f"{name}.parquet").unlink()
    assert job(photos, output) == 0
    assert (output / "_SUCCESS").exists()


def test_dry_run_changes_nothing(photos, tmp_path, capsys):
    assert job(photos, tmp_path / "out", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "5 units, 0 done, 5 to do" in out
    assert re.search(r"about 0\.\d+ hours, .* GB of output, .* GB free: enough", out)
    assert not (tmp_path / "out").exists()


def test_failure_rates(tmp_path, capsys):
    write_photos(tmp_path / "in" / "a.parquet", [stand_in.GOOD] * 6 + [stand_in.NO_FACE] * 6)
    assert job(tmp_path / "in", tmp_path / "out") == 0
    assert job(tmp_path / "in", tmp_path / "out", "--max-failure-rate", "0.4") == 1
    assert "50.0% of the rows failed" in capsys.readouterr().err
    assert not (tmp_path / "out" / "_SUCCESS").exists()


def test_the_circuit_breaker_stops_a_hopeless_job(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "0.05")
    write_photos(tmp_path / "in" / "a.parquet", [stand_in.FIT_RAISES] * 400)
    assert job(tmp_path / "in", tmp_path / "out") == 1
    assert "--abort-failure-rate" in capsys.readouterr().err
    assert len(list((tmp_path / "out" / "_manifest").iterdir())) < 100
    assert not list((tmp_path / "out" / "_progress").glob("started-*"))  # stopped, not crashed: no strike


def test_workers_that_sign_off_at_the_end_are_not_missed(photos, tmp_path, monkeypatch):
    """A job longer than workers may take to start: none is registered any more while the runner winds up."""
    registered = [[os.getpid()]]
    monkeypatch.setenv("PYTHONPATH", str(Path(stand_in.__file__).parent))
    monkeypatch.setattr(launch, "_START_SECONDS", 0.0)
    monkeypatch.setattr(launch.local_worker, "dead_workers", lambda folder: [])
    monkeypatch.setattr(launch.local_worker, "running_workers", lambda folder: registered.pop() if registered else [])
    assert job(photos, tmp_path / "out", "--workers", "2") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--keep-columns", "nope"], "no such column"),
        (["--keep-columns", "image_id"], "rename the input's"),
        (["--id-column", "nope"], "no column 'nope'"),
        (["--image-column", "label"], "not binary"),
        (["--columns", "picture"], "no such picture"),
        (["--runner", "DaskRunner"], "loses data"),
        (["--runner", "DataflowRunner"], "give a gs:// folder"),
        (["--runner", "FlinkRunner", "--workers", "2"], "--workers is for local runs"),
        (["--direct_num_workers", "2"], "--workers"),
        (["--runer", "DirectRunner"], "unknown argument '--runer'.*did you mean --runner"),
        (["--views-per-face", "0"], "positive"),
        (["--device", "cuda"], "no CUDA device"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_2(photos, tmp_path, capsys, arguments, message):
    import torch

    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    code = cli.main(["pairs", "--input", str(photos / "*.parquet"), "--output", str(tmp_path / "out"), *arguments])
    err = capsys.readouterr().err
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert re.search(message, err)
    assert not (tmp_path / "out").exists()


def test_no_input_and_unusable_output_exit_2(photos, tmp_path, capsys, monkeypatch):
    nothing = ["pairs", "--input", str(tmp_path / "none" / "*.parquet"), "--output", str(tmp_path / "out")]
    assert cli.main(nothing) == 2
    assert "no file matches" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        job(photos, tmp_path / "file" / "out")
    monkeypatch.setattr(launch, "free_bytes", lambda output: 1000)
    with pytest.raises(UserError, match=r"about .* GB needed, .* GB free"):
        job(photos, tmp_path / "out")
    assert not (tmp_path / "out" / "pairs").exists()
