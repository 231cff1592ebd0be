"""`cfr pairs --recipe paper` with stand-ins for the authors' files: its pairs, its resumption, its refusals."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from paper_files import write_basel_file, write_paper_files
from PIL import Image
from torch import Tensor

from cfr.model.coefficients import Coefficients
from cfr.model.images import decode_image
from cfr.model.paper.alignment import align_photo
from cfr.model.paper.face_model import BaselFaceModel
from cfr.model.paper.masks import ParsedFaces, full_mask, object_mask
from cfr.model.paper.reconstruction import reconstruct
from cfr.model.paper.renderer import render
from cfr.model.paper.rotation import rotate_twice
from cfr.model.paper.swap import swap
from cfr.model.paper.vertex_colours import sample_vertex_colours
from cfr.pipeline import cli


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[str]:
    """Flags that name the stand-ins."""
    return write_paper_files(tmp_path_factory.mktemp("authors"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """The bundled photographs."""
    photos = Path(__file__).resolve().parents[2] / "model" / "data" / "photos"
    folder = tmp_path_factory.mktemp("bundled")
    assert cli.main(["ingest", str(photos), "--output", str(folder)]) == 0
    return folder


def pairs(shards: Path, output: Path, *arguments: str) -> int:
    return cli.main(["pairs", "--input", str(shards / "*.parquet"), "--output", str(output), *arguments])


def shard_bytes(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(output.glob("pairs/*.parquet"))}


@pytest.fixture(scope="module")
def made(shards, files, tmp_path_factory) -> Path:
    """Output of a plain run: one unit, because each pays for a whole mini-batch of the parsing network."""
    output = tmp_path_factory.mktemp("made") / "out"
    assert pairs(shards, output, *files) == 0
    return output


def picture(row: dict, name: str) -> Tensor:
    """(1,3,224,224) of a picture, (1,224,224) of a mask, 0..1."""
    values = torch.from_numpy(np.asarray(Image.open(io.BytesIO(row[name]["bytes"]))).copy()).float() / 255
    return values[None] if values.ndim == 2 else values.permute(2, 0, 1)[None]


def test_rows_are_the_papers_chain(made, shards, files):
    """Every picture against the steps of the paper called one after the other, without stages and rounding."""
    model = BaselFaceModel.load(files[files.index("--face-model") + 1])
    photos = {row["image_id"]: row for path in shards.glob("*.parquet") for row in pq.read_table(path).to_pylist()}
    found = [row for path in sorted(made.glob("pairs/*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert len(found) == len(photos) == 2
    for row in found:
        photo = decode_image(photos[row["image_id"]]["image"]["bytes"])
        context, affine = align_photo(photo, np.reshape(row["landmarks5"], (5, 2)))
        crop = torch.from_numpy(context[48:272, 48:272].copy()).permute(2, 0, 1)[None].float() / 255
        assert torch.equal(picture(row, "target"), crop)
        assert row["crop"] == pytest.approx(affine.tolist(), rel=1e-5)
        coefficients = Coefficients.split(torch.tensor([row["coefficients"]]), (80, 64, 80))
        assert [row["yaw"], row["pitch"], row["roll"]] == coefficients.pose[0].tolist()
        assert row["yaw"] == pytest.approx(np.rad2deg(0.1), abs=1e-4)  # what the stand-in says of every photo
        faces = reconstruct(model, coefficients)
        textured = render(faces.shape, sample_vertex_colours(crop, faces.pixels), model.triangles)
        guidance = render(faces.shape, faces.colour, model.triangles)
        skin = torch.ones(1, 224, 224, dtype=torch.long)
        parsed = ParsedFaces.of(guidance, skin, skin)
        mask = object_mask(guidance, crop, parsed)
        deoccluded, carrying = swap(crop, guidance, textured, mask)
        view = torch.tensor([[row["view_yaw"], row["view_pitch"], row["view_roll"]]])
        _, rotated = rotate_twice(model, faces, deoccluded, view)
        full = full_mask(rotated, carrying, crop, ParsedFaces.of(carrying, skin, skin))
        for name, expected in (
            ("guidance", carrying),
            ("rotated", rotated),
            ("occluder_mask", mask[:, 0]),
            ("occlusion_mask", ((3 * full + mask) / 4)[:, 0]),
            ("face_mask", (guidance > 0).any(1).float()),
        ):
            # Rounding to 8 bits turns over single pixels that lie on a threshold.
            difference = (picture(row, name) - expected).abs()
            assert (difference > 1 / 255).float().mean() <= 1e-2, name
        assert 0 < row["quality"] < 1 and 0 < row["visible_fraction"] <= 1 and row["fit_error"] < 0.25


def test_shards_say_what_they_were_made_with(made, files):
    schema = pq.read_schema(next(made.glob("pairs/*.parquet")))
    assert schema.metadata[b"recipe"] == b"paper" and schema.metadata[b"lab"] == b"as published"
    models = {model["part"]: model for model in json.loads(schema.metadata[b"models"])}
    assert set(models) == {"detector", "fitting", "face_model", "face parsing"}
    assert all(len(model["digest"]) == 64 for model in models.values())
    layout = json.loads(schema.metadata[b"coefficients"])
    assert layout["pose"] == [251, 254] and layout["translation"] == [254, 257]


def test_the_same_bytes_in_a_worker_process_and_nothing_to_do_again(made, shards, files, tmp_path, capsys):
    assert pairs(shards, tmp_path / "out", "--workers", "2", *files) == 0
    assert shard_bytes(tmp_path / "out") == shard_bytes(made)
    capsys.readouterr()
    assert pairs(shards, tmp_path / "out", *files) == 0
    assert "1 units, 1 done, 0 to do" in capsys.readouterr().out


def test_other_files_and_recipes_are_not_mixed(made, shards, files, tmp_path, capsys):
    output = tmp_path / "out"
    shutil.copytree(made, output)
    other = write_basel_file(tmp_path / "other.mat", skinmask=np.zeros((1, 18107)))
    changed = [str(other) if flag.endswith("BFM_model_80.mat") else flag for flag in files]
    for arguments, difference in (
        ([], 'recipe = "paper", now it is "visible"'),
        ([*files, "--true-lab"], 'lab = "as published", now it is "true"'),
        (changed, "model face_model = "),
    ):
        assert pairs(shards, output, *arguments) == 2
        assert difference in capsys.readouterr().err


def test_wrong_files_stop_the_job_before_it_starts(shards, files, tmp_path, capsys):
    named = dict(zip(files[::2], files[1::2], strict=True))
    (tmp_path / "text.pth").write_text("no checkpoint")
    for flag, value, message in (
        ("--regressor", None, "--recipe paper needs --regressor FILE"),
        ("--parsing", None, "--recipe paper needs --parsing FILE"),
        ("--face-model", str(tmp_path / "none.mat"), "none.mat: no such file; it has to be the BFM_model_80.mat"),
        ("--face-model", str(tmp_path), "as of ICT-FaceKit, goes with --recipe visible"),
        ("--face-model", named["--parsing"], "parsing.pth is not a MATLAB file"),
        ("--regressor", named["--parsing"], "parsing.pth does not fit CoefficientRegressor"),
        ("--parsing", str(tmp_path / "text.pth"), "text.pth"),
        ("--recipe", "visible", "--regressor goes with --recipe paper"),
    ):
        changed = {**named, flag: value}
        arguments = [part for pair in changed.items() if pair[1] for part in pair]
        assert pairs(shards, tmp_path / "out", *arguments) == 2, flag
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1
    assert pairs(shards, tmp_path / "out", "--true-lab") == 2
    assert "--true-lab goes with --recipe paper" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
