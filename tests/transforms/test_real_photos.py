"""The job with the real models on real photos: plausible rows, the same bytes however it is run, hostile files."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cfr.model.alignment import apply_affine
from cfr.model.images import decode_image
from cfr.pipeline import cli
from cfr.transforms.fit_faces import FitFaces


def ingest(photos: Path, folder: Path) -> Path:
    """Image shards of a folder of photos."""
    assert cli.main(["ingest", str(photos), "--output", str(folder)]) == 0
    return folder


def pairs(shards: Path, output: Path, *arguments: str) -> dict[str, bytes]:
    """Run the job; the shards' bytes."""
    assert cli.main(["pairs", "--input", str(shards / "*.parquet"), "--output", str(output), *arguments]) == 0
    return {path.name: path.read_bytes() for path in sorted(output.glob("pairs/*.parquet"))}


def rows(output: Path, folder: str = "pairs") -> list[dict]:
    return [row for path in sorted((output / folder).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def bundled(tmp_path_factory) -> Path:
    """Shards of the photos that come with the package."""
    photos = Path(__file__).resolve().parents[2] / "model" / "data" / "photos"
    return ingest(photos, tmp_path_factory.mktemp("bundled") / "shards")


@pytest.fixture(scope="module")
def made(bundled, tmp_path_factory) -> tuple[Path, dict[str, bytes]]:
    """Output folder and shards of a plain run, one photo per unit."""
    output = tmp_path_factory.mktemp("made") / "out"
    return output, pairs(bundled, output, "--unit-rows", "1", "--views-per-face", "2")


def test_rows_are_what_the_photos_show(made):
    found = rows(made[0])
    assert len(found) == 2 * len(made[1])
    for row in found:
        target, rotated, guidance = (decode_image(row[name]["bytes"]) for name in ("target", "rotated", "guidance"))
        mask, occlusion = (decode_image(row[name]["bytes"])[..., 0] for name in ("face_mask", "occlusion_mask"))
        assert target.shape == rotated.shape == guidance.shape == (224, 224, 3)
        assert 0.15 < (mask > 0).mean() < 0.7
        assert not rotated[mask == 0].any()
        assert not guidance[mask == 0].any()
        assert not occlusion[mask == 0].any()
        # Where the double rotation has something to show, it shows the photo.
        trusted = (mask > 0) & (occlusion == 0) & rotated.any(-1)
        assert np.abs(rotated[trusted].astype(float) - target[trusted]).mean() < 12
        # Eyes and mouth lie inside the crop, eyes above the mouth, at the alignment's height.
        points = apply_affine(np.reshape(row["landmarks5"], (5, 2)), row["crop"])
        assert (points > 40).all() and (points < 190).all()
        assert points[:2, 1].max() < points[2, 1] < points[3:, 1].min()
        assert abs(row["yaw"]) < 45 and abs(row["pitch"]) < 35
        assert abs(row["view_yaw"]) <= 90 and abs(row["view_pitch"]) <= 30
        assert row["fit_error"] < 0.06
        assert row["occluded_fraction"] < 0.3
        assert 0 < row["quality"] <= 1
        assert len(row["coefficients"]) > 100


def test_views_differ_and_hide_more_the_further_they_turn(made):
    by_face = {}
    for row in rows(made[0]):
        by_face.setdefault(row["image_id"], []).append(row)
    for views in by_face.values():
        turned = sorted(views, key=lambda row: abs(row["view_yaw"] - row["yaw"]))
        assert turned[0]["view_yaw"] != turned[1]["view_yaw"]
        assert turned[0]["visible_fraction"] > turned[1]["visible_fraction"]
        assert turned[0]["target"] == turned[1]["target"]


@pytest.mark.parametrize("arguments", [["--workers", "2"], ["--direct_runner_bundle_repeat=1"]], ids=" ".join)
def test_same_bytes_however_it_is_run(bundled, made, tmp_path, arguments):
    assert pairs(bundled, tmp_path / "out", "--unit-rows", "1", "--views-per-face", "2", *arguments) == made[1]


def test_same_bytes_after_a_bisected_bad_row(bundled, tmp_path, monkeypatch):
    """The face beside the one that fails, in the same mini-batch, must not change by a bit."""
    expected = pairs(bundled, tmp_path / "usual")
    compute = FitFaces.compute

    def fail_on_the_first_face(stage, batch, items):
        if (items == 0).any():
            raise ValueError("this face cannot be fitted")
        return compute(stage, batch, items)

    monkeypatch.setattr(FitFaces, "compute", fail_on_the_first_face)
    bisected = pairs(bundled, tmp_path / "bisected")
    assert bisected.keys() == expected.keys()
    assert rows(tmp_path / "bisected") == rows(tmp_path / "usual")[1:]
    assert [row["reason"] for row in rows(tmp_path / "bisected", "failures")] == ["fit_faces_error"]


def test_every_hostile_file_ends_as_a_pair_or_as_a_failure_that_says_why(shared_dir, tmp_path):
    hostile = shared_dir / "data" / "hostile"
    shards = ingest(hostile, tmp_path / "shards")
    pairs(shards, tmp_path / "out", "--columns", "face_mask")
    paired = {row["image_id"] for row in rows(tmp_path / "out")}
    failed = {row["image_id"]: row for row in rows(tmp_path / "out", "failures")}
    ids = {row["image_id"] for path in shards.glob("*.parquet") for row in pq.read_table(path).to_pylist()}
    assert paired | set(failed) == ids
    assert not paired & set(failed)
    reasons = {name: row["reason"] for name, row in failed.items()}
    assert set(reasons.values()) <= {"decode_error", "too_large", "too_small", "empty_image", "no_face", "fit_failed"}
    assert reasons["made_bomb.png"] == "too_large"
    assert reasons["made_zero_byte.jpg"] == "empty_image"
    assert reasons["made_html.png"] == reasons["made_text.jpg"] == "decode_error"
    assert all(";" in row["message"] for row in failed.values())  # "what happened; what to do"
    assert {f"made_exif_{number}.jpg" for number in range(1, 9)} <= paired
    for kind in ("gray.jpg", "cmyk.jpg", "gray16.png", "rgb16.png", "palette_alpha.png", "animated.gif"):
        assert f"made_{kind}" in paired
