"""`cfr demo`: the first thing that a newcomer runs."""

import hashlib
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cfr.model.double_rotation import DoubleRotator
from cfr.model.swap import transfer_occlusion
from cfr.pipeline.pair_pictures import NEEDED_COLUMNS, PairPainter
from cfr.pipeline.pair_rows import find_shards, read_rows, select_rows


def run_demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "cfr.pipeline.cli", "demo", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("demo")
    done = run_demo(folder)
    assert done.returncode == 0, done.stderr
    return folder / "cfr-demo", done.stdout


def digests(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*.parquet"))}


def test_it_says_where_to_look(demo):
    output, said = demo
    for path in (output / "sheet.png", output / "gallery" / "index.html", *(output / "pairs" / "pairs").iterdir()):
        assert path.is_file()
        assert str(path.relative_to(output.parent)) in said
    assert "$ cfr pairs --input" in said, "the commands are shown as a user would type them"


def test_every_bundled_photo_becomes_pairs(demo, photos_dir):
    rows = list(read_rows(select_rows(find_shards(str(demo[0] / "pairs")).rows, 99), ["image_id", "quality"]))
    photos = {path.name for path in photos_dir.iterdir() if path.suffix in (".png", ".jpg")}
    assert {row.values["image_id"] for row in rows} == photos
    assert len(rows) == 4 * len(photos)
    assert all(0 < row.values["quality"] <= 1 for row in rows)
    with Image.open(demo[0] / "sheet.png") as sheet:
        assert sheet.width > 1500
        assert sheet.height > 200 * len(rows)


def test_the_repeated_pictures_are_those_of_the_job(demo):
    rows = list(read_rows(select_rows(find_shards(str(demo[0] / "pairs")).rows, 99), NEEDED_COLUMNS))
    for row, pictures in zip(rows[::3], PairPainter().paint(rows[::3]), strict=True):
        stored = {name: decode(row.encoded_picture(name)) for name in ("target", "occluder_mask", "face_mask")}
        masks = [torch.from_numpy(stored[name][None] > 127) for name in ("occluder_mask", "face_mask")]
        clean = to_tensor(pictures["clean_guidance"])
        deoccluded, swapped = transfer_occlusion(to_tensor(stored["target"]), clean, *masks)
        assert difference(swapped, pictures["guidance"]) < 0.01
        coefficients, view = (
            torch.tensor([values], dtype=torch.float32)
            for values in (row.values["coefficients"], [row.values[f"view_{n}"] for n in ("yaw", "pitch", "roll")])
        )
        rotation = DoubleRotator().rotate((deoccluded * 255).round() / 255, coefficients, view)
        assert difference(rotation.rotated_once, pictures["rotated_once"]) < 0.01
        assert difference(rotation.rotated, pictures["rotated"]) < 0.01


def to_tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


def decode(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.array(picture)


def difference(tensor: torch.Tensor, picture: np.ndarray) -> float:
    """Share of the pixels that differ by more than 2/255."""
    array = (tensor[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    return float((np.abs(array - picture.astype(np.float32)).max(axis=2) > 2).mean())


def test_running_it_again_redoes_nothing(demo):
    output, _ = demo
    before = digests(output)
    done = run_demo(output.parent)
    assert done.returncode == 0, done.stderr
    assert "1 done, 0 to do" in done.stdout
    assert digests(output) == before


def test_an_unwritable_place_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = run_demo(tmp_path, "--output", "file/demo")
    assert done.returncode == 2
    assert "file/demo" in done.stderr
    assert "Traceback" not in done.stderr
