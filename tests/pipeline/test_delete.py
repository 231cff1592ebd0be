"""`cfr delete`: the photos are gone from every file of an output, the rest has the same bytes, and they stay out."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import stand_in_models as stand_in
from stand_in_models import write_photos

from cfr.pipeline import cli, commit, manifests
from cfr.pipeline.manifests import Layout

KINDS = [stand_in.GOOD, stand_in.TWO_FACES, stand_in.NO_FACE, stand_in.GOOD, stand_in.FIT_RAISES, stand_in.GOOD]
WITHDRAWN = ["a/0001.png", "a/0002.png", "a/0004.png", "unknown.png"]


@pytest.fixture
def photos(tmp_path) -> Path:
    write_photos(tmp_path / "in" / "a.parquet", KINDS)
    return tmp_path / "in" / "a.parquet"


@pytest.fixture
def ids(tmp_path) -> Path:
    path = tmp_path / "withdrawn.txt"
    path.write_text("\n".join(WITHDRAWN) + "\n\n")
    return path


def make(photos: Path, output: Path, *arguments) -> int:
    every = ("--input", photos, "--output", output, "--unit-rows", "2", "--faces", "all", "--abort-failure-rate", "1")
    return stand_in.run_frontalize(*every, *arguments)


def rows(output: Path, folder: str = "frontal") -> list[dict]:
    return [row for path in sorted((output / folder).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_rows_failures_and_image_files_are_gone_and_the_rest_is_as_it_was(photos, ids, tmp_path, capsys):
    output, files = tmp_path / "out", tmp_path / "files"
    make(photos, output, "--write-images", files)
    before = rows(output)
    assert cli.main(["delete", "--ids", str(ids), str(output), "--images", str(files)]) == 0
    said = capsys.readouterr().out
    assert "deleted 2 rows and 2 failures of 3 photos in 3 units" in said
    assert "deleted 2 image files" in said
    assert "1 of 4 ids have no row there" in said
    assert rows(output) == [row for row in before if row["image_id"] not in WITHDRAWN]
    assert rows(output, "failures") == []
    assert len(list(files.iterdir())) == 3
    everything = b"".join(path.read_bytes() for path in output.rglob("*") if path.is_file())
    assert not any(image_id.encode() in everything for image_id in WITHDRAWN[:3])


def test_what_is_left_is_a_finished_job(photos, ids, tmp_path, capsys):
    output = tmp_path / "out"
    make(photos, output)
    cli.main(["delete", "--ids", str(ids), str(output)])
    totals = json.loads((output / "_stats.json").read_text())
    counts = [totals[name] for name in ("rows", "rows_with_output", "rows_failed", "rows_filtered", "outputs")]
    assert counts == [6, 3, 0, 3, 3]
    capsys.readouterr()
    assert make(photos, output, "--verify") == 0
    assert "3 units, 3 done, 0 to do" in capsys.readouterr().out


@pytest.mark.parametrize("way", ["overwrite", "unit redone"])
def test_they_stay_out_when_the_job_is_run_again(photos, ids, tmp_path, way):
    output = tmp_path / "out"
    make(photos, output)
    cli.main(["delete", "--ids", str(ids), str(output)])
    left = [row["frontal_id"] for row in rows(output)]
    if way == "unit redone":
        for path in output.glob("_manifest/*"):
            path.unlink()
    assert make(photos, output, *(["--overwrite"] if way == "overwrite" else [])) == 0
    assert [row["frontal_id"] for row in rows(output)] == left
    assert rows(output, "failures") == []
    assert json.loads((output / "_stats.json").read_text())["rows_filtered"] == 3


def test_an_interrupted_deletion_leaves_no_unit_half_done_and_goes_on(photos, ids, tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    make(photos, output)
    publish, calls = commit._publish, []

    def full_disk(layout, path, data):
        calls.append(path)
        if len(calls) == 2:
            raise OSError("no space left on device")
        return publish(layout, path, data)

    monkeypatch.setattr(commit, "_publish", full_disk)
    assert cli.main(["delete", "--ids", str(ids), str(output)]) == 2
    assert "the same command goes on" in capsys.readouterr().err
    # The unit that it stopped in is not done: the job would do it again, without the photos.
    assert len(manifests.read_done(Layout(str(output), "frontal")).manifests) == 2
    monkeypatch.undo()
    assert cli.main(["delete", "--ids", str(ids), str(output)]) == 0
    assert not {row["image_id"] for row in rows(output) + rows(output, "failures")} & set(WITHDRAWN)
    assert make(photos, output) == 0
    assert {row["image_id"] for row in rows(output)} == {"a/0000.png", "a/0003.png", "a/0005.png"}


def test_pairs_and_a_dry_run(photos, ids, tmp_path, capsys):
    output = tmp_path / "pairs"
    stand_in.run("--input", photos, "--output", output, "--unit-rows", "3", "--abort-failure-rate", "1")
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    assert cli.main(["delete", "--ids", str(ids), str(output), "--dry-run"]) == 0
    assert "would delete 1 rows and 2 failures" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
    assert cli.main(["delete", "--ids", str(ids), str(output)]) == 0
    assert [row["image_id"] for row in rows(output, "pairs")] == ["a/0000.png", "a/0003.png", "a/0005.png"]


def test_mistakes_are_one_line(tmp_path, ids, capsys):
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "folder").mkdir()
    for arguments, message in (
        (["--ids", "nowhere.txt", "out"], "cannot be read"),
        (["--ids", str(tmp_path / "empty.txt"), "out"], "no id in it"),
        (["--ids", str(ids), str(tmp_path / "folder")], "none of the folders pairs, frontal, occluded"),
    ):
        assert cli.main(["delete", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
