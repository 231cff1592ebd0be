"""The occlude job with stand-in models, and once with the real ones on a bundled photo."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stand_in_models as stand_in
from PIL import Image, ImageDraw
from stand_in_models import write_photos

from cfr.pipeline import cli
from cfr.pipeline.errors import UserError

KINDS = [stand_in.GOOD, stand_in.NO_FACE, stand_in.TWO_FACES, stand_in.FIT_RAISES, stand_in.GOOD]


@pytest.fixture
def photos(tmp_path) -> Path:
    write_photos(tmp_path / "in" / "a.parquet", KINDS, label=list("abcde"))
    return tmp_path / "in"


def job(folder: Path, output: Path, *arguments, **keywords) -> int:
    """Run the job on a folder of shards, two rows per unit."""
    every = ("--input", folder / "*.parquet", "--output", output, "--unit-rows", "2", "--abort-failure-rate", "1")
    return stand_in.run_occlude(*every, *arguments, **keywords)


def read(output: Path, folder: str = "occluded") -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted((output / folder).glob("*.parquet"))])


def pixels(value: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(value["bytes"]))).astype(int)


def write_cutouts(folder: Path, *names: str) -> Path:
    """Cut-outs: green discs on nothing."""
    folder.mkdir()
    for name in names:
        picture = Image.new("RGBA", (60, 60), (0, 0, 0, 0))
        ImageDraw.Draw(picture).ellipse([2, 2, 57, 57], fill=(0, 255, 0, 255))
        picture.save(folder / name)
    return folder


def test_one_row_per_face_and_copy(photos, tmp_path):
    output = tmp_path / "out"
    assert job(photos, output, "--copies", "3", "--faces", "all", "--keep-columns", "label") == 0
    table = read(output)
    expected = [("a/0000.png", 0), ("a/0002.png", 0), ("a/0002.png", 1), ("a/0004.png", 0)]
    ids = [f"{name}#{face}.{copy}" for name, face in expected for copy in range(3)]
    assert table["occlusion_id"].to_pylist() == ids
    assert set(table["label"].to_pylist()) == {"a", "c", "e"}
    failed = {row["image_id"]: row["reason"] for row in read(output, "failures").to_pylist()}
    assert failed == {"a/0001.png": "no_face", "a/0003.png": "fit_faces_error"}
    totals = json.loads((output / "_stats.json").read_text())
    assert (totals["rows"], totals["rows_with_output"], totals["rows_failed"]) == (5, 3, 2)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["occluded"] == {"_type": "Image"}
    assert table.schema.field("landmarks68").type == pa.list_(pa.float32(), 136)


def test_only_the_masked_pixels_and_their_soft_edge_differ(photos, tmp_path):
    job(photos, tmp_path / "out", "--copies", "4", "--shadows", "0", "--faces", "all")
    for row in read(tmp_path / "out").to_pylist():
        mask = pixels(row["occluder_mask"])
        assert set(np.unique(mask)) == {0, 255}
        assert 300 < (mask > 0).sum() < 0.6 * mask.size
        changed = np.abs(pixels(row["occluded"]) - pixels(row["original"])).max(-1) > 0
        grown = np.zeros_like(changed)
        for dy in range(-9, 10):
            for dx in range(-9, 10):
                grown |= np.roll(mask > 0, (dy, dx), (0, 1))
        assert not (changed & ~grown).any()
        face = pixels(row["face_mask"]) > 0
        assert row["occluded_fraction"] == pytest.approx((face & (mask > 0)).sum() / face.sum(), abs=1e-6)


def test_shadows_darken_what_is_beside_the_occluder(photos, tmp_path):
    for share in ("0", "1"):
        job(photos, tmp_path / share, "--shadows", share, "--colour-matched", "0")
    without, shaded = (read(tmp_path / share).to_pylist() for share in ("0", "1"))
    assert [row["shadow"] for row in without + shaded] == [False, False, False, True, True, True]
    for row, other in zip(shaded, without, strict=True):
        mask = pixels(row["occluder_mask"]) > 0
        assert row["occluder_mask"] == other["occluder_mask"]
        difference = pixels(row["occluded"]) - pixels(row["original"])
        assert difference[~mask].sum() < (pixels(other["occluded"]) - pixels(other["original"]))[~mask].sum()


def test_resumed_repeated_and_split_differently_the_pictures_are_the_same(photos, tmp_path, capsys):
    job(photos, tmp_path / "a", "--copies", "2")
    first = sorted((tmp_path / "a" / "occluded").glob("*.parquet"))
    whole = {path: path.read_bytes() for path in first}
    (tmp_path / "a" / "_manifest" / f"{first[0].stem}.json").unlink()
    capsys.readouterr()
    assert job(photos, tmp_path / "a", "--copies", "2") == 0
    assert "3 units, 2 done, 1 to do" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in first} == whole
    stand_in.run_occlude("--input", photos / "*.parquet", "--output", tmp_path / "b", "--copies", "2")
    columns = ["occlusion_id", "occluded", "occluder_mask"]
    assert read(tmp_path / "a").select(columns).to_pylist() == read(tmp_path / "b").select(columns).to_pylist()
    job(photos, tmp_path / "c", "--copies", "2", "--seed", "1")
    assert read(tmp_path / "a")["occluder_mask"].to_pylist() != read(tmp_path / "c")["occluder_mask"].to_pylist()
    with pytest.raises(UserError, match="made with copies"):
        job(photos, tmp_path / "a", "--copies", "3")


def test_cut_outs_of_a_folder(tmp_path, photos_dir):
    """With the real models: the cut-out covers the face, and the 68 points lie on it."""
    folder = write_cutouts(tmp_path / "cutouts", "mask_green.png", "mask_left.png")
    assert cli.main(["ingest", str(photos_dir / "astronaut.png"), "--output", str(tmp_path / "shards")]) == 0
    arguments = ["--input", str(tmp_path / "shards" / "*.parquet"), "--output", str(tmp_path / "out")]
    assert cli.main(["occlude", *arguments, "--occluders", str(folder), "--shapes", "0", "--device", "cpu"]) == 0
    (row,) = read(tmp_path / "out").to_pylist()
    assert (row["occluder"], row["occluder_kind"], row["colour_matched"]) == ("mask_green", "mask", False)
    points = np.reshape(row["landmarks68"], (68, 2))
    mask = pixels(row["occluder_mask"]) > 0
    mouth, brows = points[48:68].mean(0).astype(int), points[17:27].mean(0).astype(int)
    assert mask[mouth[1], mouth[0]]
    assert not mask[brows[1], brows[0]]
    assert points[36:42, 1].mean() < points[30, 1] < points[48:60, 1].mean() < points[8, 1]
    assert points[36:42, 0].mean() < points[30, 0] < points[42:48, 0].mean()
    green = pixels(row["occluded"])[mouth[1], mouth[0]]
    assert green[1] > 150
    # Other cut-outs make another job.
    (folder / "mask_other.png").write_bytes((folder / "mask_green.png").read_bytes())
    assert cli.main(["occlude", *arguments, "--occluders", str(folder), "--shapes", "0", "--device", "cpu"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--occluders", "nothing"], "no such folder"),
        (["--occluders", "."], "no usable cut-out"),
        (["--shapes", "0.3"], "give a folder of them"),
        (["--shapes", "2"], "--shapes"),
        (["--columns", "target"], "no such picture"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_line(photos, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    command = ["occlude", "--input", str(photos / "*.parquet"), "--output", str(tmp_path / "out"), *arguments]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
