"""The frontalize job with stand-in models: rows, poses, the gate's consequences, image files, resuming, mistakes."""

import importlib.util
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stand_in_models as stand_in
from PIL import Image
from stand_in_models import write_photos

from cfr.pipeline import cli
from cfr.pipeline.errors import UserError
from cfr.transforms.write_frontals import image_name

KINDS = [stand_in.GOOD, stand_in.NO_FACE, stand_in.TWO_FACES, stand_in.ROTATION_RAISES, stand_in.NOT_AN_IMAGE]


@pytest.fixture
def photos(tmp_path) -> Path:
    """One shard of five photos, two of them good; the label is a person's name."""
    write_photos(tmp_path / "in" / "a.parquet", KINDS, label=["Ann", "Ann", "b/../Ç", "Ann", "Ann"])
    return tmp_path / "in"


def job(folder: Path, output: Path, *arguments, **keywords) -> int:
    """Run the job on a folder of shards, two rows per unit."""
    every = ("--input", folder / "*.parquet", "--output", output, "--unit-rows", "2", "--abort-failure-rate", "1")
    return stand_in.run_frontalize(*every, *arguments, **keywords)


def read(output: Path, folder: str = "frontal") -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted((output / folder).glob("*.parquet"))])


def stats(output: Path) -> dict:
    return json.loads((output / "_stats.json").read_text())


def opened(value: dict) -> Image.Image:
    return Image.open(io.BytesIO(value["bytes"]))


def test_one_row_per_face_and_pose(photos, tmp_path):
    poses = ("--pose", "frontal", "--pose=-30,0,0", "--pose", "40,5,0")
    assert job(photos, tmp_path / "out", *poses, "--faces", "all", "--keep-columns", "label") == 0
    rows = read(tmp_path / "out").to_pylist()
    expected = [
        f"a/000{row}.png#{face}.{pose}" for row, faces in ((0, 1), (2, 2)) for face in range(faces) for pose in range(3)
    ]
    assert [row["frontal_id"] for row in rows] == expected
    assert {(row["pose_index"], row["pose_yaw"], row["pose_pitch"]) for row in rows} == {
        (0, 0.0, 0.0),
        (1, -30.0, 0.0),
        (2, 40.0, 5.0),
    }
    assert {row["label"] for row in rows} == {"Ann", "b/../Ç"}
    failed = {row["image_id"]: row["reason"] for row in read(tmp_path / "out", "failures").to_pylist()}
    assert failed == {"a/0001.png": "no_face", "a/0003.png": "frontalize_faces_error", "a/0004.png": "decode_error"}
    totals = stats(tmp_path / "out")
    assert (totals["rows"], totals["rows_with_output"], totals["rows_failed"]) == (5, 2, 3)


def test_columns_and_pictures(photos, tmp_path):
    job(photos, tmp_path / "out", "--size", "64", "--encoding", "jpeg")
    table = read(tmp_path / "out")
    assert " ".join(table.schema.names) == (
        "frontal_id image_id face_index pose_index frontal source mask apply quality reasons kept_source "
        "yaw pitch roll pose_yaw pose_pitch pose_roll own_fraction mirrored_fraction occluded_fraction sharpness "
        "fit_error detection_score frontal_landmarks5 coefficients crop box landmarks5"
    )
    row = table.to_pylist()[0]
    assert opened(row["frontal"]).size == opened(row["mask"]).size == opened(row["source"]).size == (64, 64)
    assert (opened(row["frontal"]).format, opened(row["mask"]).format) == ("JPEG", "PNG")
    assert set(opened(row["mask"]).tobytes()) == {0, 255}
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["frontal"] == {"_type": "Image"}
    assert features["apply"]["dtype"] == "bool"


def test_what_the_gate_rejects_is_marked_replaced_or_left_out(photos, tmp_path):
    """The stand-in's photos are frontal: the first pose is rejected, the second is not."""
    poses = ("--pose", "0,0,0", "--pose", "30,0,0")
    for choice in ("mark", "keep-source", "drop"):
        assert job(photos, tmp_path / choice, *poses, "--when-rejected", choice) == 0
    marked, kept, dropped = (read(tmp_path / choice).to_pylist() for choice in ("mark", "keep-source", "drop"))
    assert [row["apply"] for row in marked] == [row["apply"] for row in kept] == [False, True] * 2
    assert [row["reasons"] for row in marked] == [["small_turn"], []] * 2
    assert [row["kept_source"] for row in kept] == [not row["apply"] for row in kept]
    assert not any(row["kept_source"] for row in marked)
    for row in kept:
        assert (row["frontal"] == row["source"]) != row["apply"]
        assert (max(opened(row["mask"]).tobytes()) == 0) != row["apply"]
    assert [row["frontal_id"] for row in dropped] == [row["frontal_id"] for row in marked if row["apply"]]


@pytest.mark.parametrize(("decides", "reasons"), [(True, ["identity_changed"]), (False, [])])
def test_a_recogniser_that_only_measures_does_not_change_the_gate(photos, tmp_path, decides, reasons):
    models = stand_in.StandInModels(identity_decides=decides)
    assert job(photos, tmp_path / "out", "--pose", "30,0,0", "--identity", "dlib", models=models) == 0
    for row in read(tmp_path / "out").to_pylist():
        assert row["identity_similarity"] == -0.5
        assert row["reasons"] == reasons


def test_angles_that_are_kept_are_the_photos(photos, tmp_path):
    """The stand-in's second photo of a mini-batch has yaw, pitch and roll of a thousandth of a degree."""
    assert job(photos, tmp_path / "out", "--faces", "all", "--keep-yaw", "--keep-roll", "--pose", "0,5,7") == 0
    rows = read(tmp_path / "out").to_pylist()
    assert any(row["yaw"] for row in rows)
    for row in rows:
        assert (row["pose_yaw"], row["pose_pitch"], row["pose_roll"]) == (row["yaw"], 5, row["roll"])


def test_rows_without_any_result_left_count_as_filtered(photos, tmp_path):
    assert job(photos, tmp_path / "out", "--when-rejected", "drop") == 0
    totals = stats(tmp_path / "out")
    assert (totals["outputs"], totals["rows_failed"], totals["rows_filtered"]) == (0, 3, 2)
    assert (tmp_path / "out" / "_SUCCESS").exists()


def test_image_files_in_a_tree(photos, tmp_path):
    files = tmp_path / "files"
    assert job(photos, tmp_path / "out", "--write-images", files, "--folder-column", "label") == 0
    rows = read(tmp_path / "out").to_pylist()
    written = {path.relative_to(files).as_posix(): path.read_bytes() for path in files.rglob("*") if path.is_file()}
    assert sorted(written.values()) == sorted(row["frontal"]["bytes"] for row in rows)
    folders = {name.split("/")[0] for name in written}
    assert len(folders) == 2
    assert all(name.count("/") == 1 and name.isascii() and ".." not in name for name in written)
    assert any(name.startswith("Ann-") for name in folders)
    assert [path.name for path in files.iterdir() if path.name.startswith("_")] == []


def test_names_of_image_files_are_safe_and_never_the_same():
    ids = ["a.jpg", "A.jpg", "a/b.jpg", "a_b.jpg", "a\\b.jpg", "../../etc/passwd", "..", "", "ü" * 300, "é.png", "e"]
    names = [image_name(image_id) for image_id in ids]
    assert len({name.lower() for name in names}) == len(ids)
    assert all(name.isascii() and len(name) < 140 and not name.startswith(".") for name in names)
    assert not any(character in name for name in names for character in '/\\:*?"<>|')
    assert image_name("a.jpg") == "a.jpg"
    assert len({image_name("a", 0, 0), image_name("a", 0, 1), image_name("a", 1, 0), image_name("a")}) == 4


def test_resume_and_refusal(photos, tmp_path, capsys):
    output = tmp_path / "out"
    job(photos, output)
    before = {path: path.stat().st_mtime_ns for path in output.glob("frontal/*.parquet")}
    whole = {path: path.read_bytes() for path in before}
    first = next(iter(before))
    (output / "_manifest" / f"{first.stem}.json").unlink()
    capsys.readouterr()
    assert job(photos, output) == 0
    assert "3 units, 2 done, 1 to do" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in before} == whole
    assert [path for path in before if path.stat().st_mtime_ns != before[path]] == [first]
    with pytest.raises(UserError, match="made with poses"):
        job(photos, output, "--pose", "10,0,0")
    with pytest.raises(UserError, match="made with job"):
        stand_in.run("--input", photos / "*.parquet", "--output", output)


def test_a_bad_face_changes_no_other_rows_bytes(tmp_path):
    good = [stand_in.GOOD] * 6
    write_photos(tmp_path / "good" / "a.parquet", good)
    write_photos(tmp_path / "bad" / "a.parquet", [*good[:2], stand_in.ROTATION_RAISES, *good[3:]])
    for name in ("good", "bad"):
        assert job(tmp_path / name, tmp_path / f"{name}-out", "--unit-rows", "6") == 0
    expected = [row for row in read(tmp_path / "good-out").to_pylist() if row["image_id"] != "a/0002.png"]
    assert read(tmp_path / "bad-out").to_pylist() == expected


def test_without_the_extra_its_name_is_said(photos, tmp_path, capsys, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "dlib" else find_spec(name))
    command = ["frontalize", "--input", str(photos / "*.parquet"), "--output", str(tmp_path / "out")]
    assert cli.main([*command, "--identity", "dlib"]) == 2
    error = capsys.readouterr().err
    assert "--identity dlib: " in error and "pip install 'cfr[identity]'" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pose", "95,0,0"], "yaw must be within -90 and 90"),
        (["--pose", "sideways"], "neither `frontal` nor YAW,PITCH,ROLL"),
        (["--pose", "1,2"], "neither `frontal` nor YAW,PITCH,ROLL"),
        (["--pose", "nan,0,0"], "yaw must be within"),
        (["--size", "5000"], "32 to 672 pixels"),
        (["--size", "8"], "32 to 672 pixels"),
        (["--columns", "frontal,guidance"], "no such picture"),
        (["--folder-column", "label"], "--write-images"),
        (["--write-images", "x", "--folder-column", "name"], "no such column"),
        (["--keep-roll", "--template", "arcface112"], "upright"),
        (["--keep-yaw", "--pose", "frontal", "--pose", "30,0,0"], "differ only in an angle that is kept"),
        (["--face-model", "nothing"], "--face-model nothing: no such file or folder"),
        (["--generator", "nothing.pth"], "no such file"),
        (["--identity", __file__], "not a checkpoint"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_line(photos, tmp_path, capsys, arguments, message):
    command = ["frontalize", "--input", str(photos / "*.parquet"), "--output", str(tmp_path / "out"), *arguments]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
