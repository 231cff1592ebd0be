"""`cfr pairs --face-model` with the visible recipe."""

import json
from pathlib import Path

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
