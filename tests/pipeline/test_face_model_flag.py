"""`--face-model` of `cfr pairs` with the visible recipe, of `cfr frontalize` and of `cfr evaluate`."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from ict_files import write_ict_folder

from cfr.pipeline import cli


@pytest.fixture(scope="module")
def ict_folder(tmp_path_factory) -> Path:
    return write_ict_folder(tmp_path_factory.mktemp("ict") / "ICT-FaceKit")


def test_pairs_with_another_face_model(ict_folder, photos_dir, tmp_path, capsys):
    assert cli.main(["ingest", str(photos_dir), "--output", str(tmp_path / "shards")]) == 0
    pairs = ["pairs", "--input", str(tmp_path / "shards" / "*.parquet"), "--output", str(tmp_path / "out")]
    assert cli.main([*pairs, "--face-model", str(ict_folder)]) == 0
    (path,) = (tmp_path / "out" / "pairs").iterdir()
    table = pq.read_table(path)
    assert table.num_rows == 2 and max(table["fit_error"].to_pylist()) < 0.05
    model = next(part for part in json.loads(table.schema.metadata[b"models"]) if part["part"] == "face_model")
    assert model["name"].startswith("ICT-FaceKit") and len(model["digest"]) == 64
    assert json.loads(table.schema.metadata[b"coefficients"])["identity"] == [0, 4]
    capsys.readouterr()
    assert cli.main(pairs) == 2
    assert "was made with model face_model = " in capsys.readouterr().err


def test_frontals_with_another_face_model(ict_folder, photos_dir, tmp_path):
    assert cli.main(["ingest", str(photos_dir), "--output", str(tmp_path / "shards")]) == 0
    frontalize = ["frontalize", "--input", str(tmp_path / "shards" / "*.parquet"), "--output", str(tmp_path / "out")]
    assert cli.main([*frontalize, "--pose", "25,0,0", "--face-model", str(ict_folder)]) == 0
    (path,) = (tmp_path / "out" / "frontal").iterdir()
    table = pq.read_table(path)
    model = next(part for part in json.loads(table.schema.metadata[b"models"]) if part["part"] == "face_model")
    assert model["name"].startswith("ICT-FaceKit")
    rows = table.to_pylist()
    assert len(rows) == 2
    for row in rows:
        assert row["own_fraction"] + row["mirrored_fraction"] > 0.7
        (eye, other, nose, *mouth) = np.reshape(row["frontal_landmarks5"], (5, 2))
        assert eye[0] < other[0] and max(eye[1], other[1]) < nose[1] < min(point[1] for point in mouth)
        # Turned to image right: the nose is nearer to the eye on that side.
        assert nose[0] - eye[0] > other[0] - nose[0]


def test_evaluating_another_face_model(ict_folder, photos_dir, tmp_path, capsys):
    for number, photo in enumerate(sorted(photos_dir.glob("*.[jp]*g"))):
        (tmp_path / f"frontal_{number}{photo.suffix}").write_bytes(photo.read_bytes())
    found = []
    for model in ([], ["--face-model", str(ict_folder)]):
        assert cli.main(["evaluate", "pose", str(tmp_path), "--json", *model]) == 0
        found.append(json.loads(capsys.readouterr().out)["frontal"])
    assert [entry["n"] for entry in found] == [2, 2]
    assert found[0]["mean_error"] != found[1]["mean_error"] < 15
    assert cli.main(["evaluate", "pose", str(tmp_path), "--face-model", str(tmp_path / "none")]) == 2
    assert "no such file or folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: None, "no such file or folder"),
        (lambda folder: folder.mkdir(), "a folder without generic_neutral_mesh.obj"),
        (lambda folder: folder.write_bytes(b"nothing"), "is not a face model file"),
    ],
)
def test_what_is_no_face_model_stops_the_job(photos_dir, tmp_path, capsys, change, message):
    change(tmp_path / "model")
    arguments = ["pairs", "--input", "none.parquet", "--output", str(tmp_path / "out")]
    assert cli.main([*arguments, "--face-model", str(tmp_path / "model")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
