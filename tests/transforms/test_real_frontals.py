"""`cfr frontalize` with the real models on real photos: what the rows show, the same bytes however it is run."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from cfr.model.images import decode_image
from cfr.model.networks.cfrnet import CFRNet
from cfr.model.networks.identity_encoder import IdentityEncoder
from cfr.pipeline import cli

POSES = ("--pose", "frontal", "--pose", "-30,0,0")


@pytest.fixture(scope="module")
def bundled(tmp_path_factory) -> Path:
    """Shards of the photos that come with the package."""
    photos = Path(__file__).resolve().parents[2] / "model" / "data" / "photos"
    folder = tmp_path_factory.mktemp("bundled") / "shards"
    assert cli.main(["ingest", str(photos), "--output", str(folder)]) == 0
    return folder


def frontals(shards: Path, output: Path, *arguments: str) -> dict[str, bytes]:
    """Run the job; the shards' bytes."""
    command = ["frontalize", "--input", str(shards / "*.parquet"), "--output", str(output), "--unit-rows", "1"]
    assert cli.main([*command, *arguments]) == 0
    return {path.name: path.read_bytes() for path in sorted(output.glob("frontal/*.parquet"))}


def rows(output: Path) -> list[dict]:
    return [row for path in sorted((output / "frontal").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def made(bundled, tmp_path_factory) -> tuple[Path, dict[str, bytes]]:
    """Output folder and shards of a plain run, one photo per unit, two poses."""
    output = tmp_path_factory.mktemp("made") / "out"
    return output, frontals(bundled, output, *POSES)


def test_rows_are_what_the_photos_show(made):
    found = rows(made[0])
    assert [row["pose_yaw"] for row in found] == [0, -30] * 2
    for row in found:
        frontal, source, mask = (decode_image(row[name]["bytes"]) for name in ("frontal", "source", "mask"))
        assert frontal.shape == source.shape == mask.shape == (224, 224, 3)
        points = np.reshape(row["frontal_landmarks5"], (5, 2))
        assert points[:2, 1].max() < points[2, 1] < points[3:, 1].min()
        assert 0 <= row["quality"] <= 1
        assert row["apply"] == (row["reasons"] == [])
        # The bundled faces are frontal: the frontal result is nearly the photo, and the gate keeps the photo.
        if row["pose_yaw"] == 0:
            assert row["reasons"] == ["small_turn"]
            middle = (slice(60, 190), slice(60, 164))
            # Framed by the mesh's five points instead of the detector's: a shift of some pixels is to be expected.
            shifted = [np.roll(frontal.astype(float), (dy, dx), (0, 1)) for dy in range(-4, 5) for dx in range(-4, 5)]
            assert min(np.abs(each[middle] - source[middle]).mean() for each in shifted) < 20
            assert (mask[80:160, 80:144] > 0).mean() < 0.1
            assert row["own_fraction"] > 0.85


def test_a_turned_result_is_seen_turned_by_the_job_itself(made, tmp_path):
    """Results at yaw -30, taken as photos: detector and fit agree with what was asked for."""
    folder = tmp_path / "turned"
    folder.mkdir()
    for number, row in enumerate(row for row in rows(made[0]) if row["pose_yaw"] == -30):
        (folder / f"{number}.png").write_bytes(row["frontal"]["bytes"])
    cli.main(["ingest", str(folder), "--output", str(tmp_path / "shards")])
    frontals(tmp_path / "shards", tmp_path / "out")
    found = rows(tmp_path / "out")
    assert len(found) == 2
    for row in found:
        assert row["yaw"] == pytest.approx(-30, abs=9)
        assert row["pitch"] == pytest.approx(0, abs=10)
        assert row["roll"] == pytest.approx(0, abs=6)


@pytest.mark.parametrize(
    "arguments",
    [["--workers", "2"], pytest.param(["--direct_runner_bundle_repeat=1"], marks=pytest.mark.slow)],
    ids=" ".join,
)
def test_same_bytes_however_it_is_run(bundled, made, tmp_path, arguments):
    assert frontals(bundled, tmp_path / "out", *POSES, *arguments) == made[1]


def test_with_a_generator_an_identity_encoder_and_the_recognisers_template(bundled, tmp_path):
    torch.manual_seed(0)
    generator, encoder = tmp_path / "generator.pth", tmp_path / "encoder.pth"
    torch.save(CFRNet(width=8, residual_blocks=1).state_dict(), generator)
    torch.save(IdentityEncoder().state_dict(), encoder)
    brought = ("--generator", str(generator), "--identity", str(encoder), "--template", "arcface112")
    frontals(bundled, tmp_path / "out", *brought, "--when-rejected", "keep-source")
    path = next((tmp_path / "out" / "frontal").glob("*.parquet"))
    assert b"CFRNet" in pq.read_schema(path).metadata[b"models"]
    for row in rows(tmp_path / "out"):
        assert decode_image(row["frontal"]["bytes"]).shape == (112, 112, 3)
        assert -1 <= row["identity_similarity"] <= 1
        assert row["kept_source"] and row["frontal"] == row["source"]


def test_a_larger_result_is_the_same_picture(bundled, made, tmp_path):
    frontals(bundled, tmp_path / "out", "--size", "448", "--columns", "frontal")
    small = [row for row in rows(made[0]) if row["pose_yaw"] == 0]
    for row, other in zip(rows(tmp_path / "out"), small, strict=True):
        large, usual = (decode_image(each["frontal"]["bytes"]).astype(float) for each in (row, other))
        reduced = large.reshape(224, 2, 224, 2, 3).mean((1, 3))
        assert np.abs(reduced - usual)[60:190, 60:164].mean() < 6
        assert {"source", "mask"}.isdisjoint(row)
