"""`--detector`: RetinaFace in place of MTCNN."""

import json

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from cfr.model.networks.catalogue import expected_shapes
from cfr.model.networks.cfrnet import CFRNet
from cfr.model.retinaface import RetinaFace
from cfr.pipeline import cli


def save_empty(network: type, path) -> str:
    """A checkpoint with the right names and shapes that takes no room on the disk; such a RetinaFace sees no face."""
    torch.save({name: torch.zeros(()).expand(shape) for name, shape in expected_shapes(network).items()}, path)
    return str(path)


@pytest.fixture(scope="module")
def shards(photos_dir, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("shards")
    # Small, since the detector looks three times where it sees no face.
    with Image.open(photos_dir / "astronaut.png") as photo:
        photo.resize((128, 128)).save(folder / "small.png")
    assert cli.main(["ingest", str(folder / "small.png"), "--output", str(folder / "shards")]) == 0
    return str(folder / "shards" / "*.parquet")


@pytest.mark.parametrize(("command", "product"), [("pairs", "pairs"), ("frontalize", "frontal")])
def test_the_files_detector_looks_for_the_faces(command, product, shards, tmp_path):
    detector = save_empty(RetinaFace, tmp_path / "retinaface.pth")
    arguments = ["--input", shards, "--output", str(tmp_path / "out"), "--detector", detector]
    cli.main([command, *arguments, "--abort-failure-rate", "1"])
    (shard,) = (tmp_path / "out" / product).glob("*.parquet")
    table = pq.read_table(shard)
    assert table.num_rows == 0
    model = next(part for part in json.loads(table.schema.metadata[b"models"]) if part["part"] == "detector")
    assert model["name"] == "RetinaFace, ResNet-50" and len(model["digest"]) == 64
    (failures,) = (tmp_path / "out" / "failures").glob("*.parquet")
    assert set(pq.read_table(failures)["reason"].to_pylist()) == {"no_face"}


@pytest.mark.parametrize("command", ["pairs", "frontalize"])
def test_a_wrong_file_stops_the_job(command, shards, tmp_path, capsys):
    arguments = [command, "--input", shards, "--output", str(tmp_path / "out"), "--detector"]
    assert cli.main([*arguments, str(tmp_path / "nothing.pth")]) == 2
    assert "nothing.pth: no such file" in capsys.readouterr().err
    assert cli.main([*arguments, save_empty(CFRNet, tmp_path / "generator.pth")]) == 2
    assert "looks like: CFRNet generator" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
