"""`cfr photo`: the pictures of all stages and a mesh of one photo."""

import json
import sys

import numpy as np
from PIL import Image

from cfr.model.textured_mesh import FORMATS
from cfr.pipeline.cli import main
from cfr.pipeline.photo import _FORMATS


def test_pictures_and_mesh(photos_dir, tmp_path, capsys):
    place = tmp_path / "deep" / "out"
    photo = str(photos_dir / "astronaut.png")
    assert main(["photo", photo, "--output", str(place), "--export-mesh", "obj", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert sorted(report["files"]) == sorted(map(str, place.iterdir()))
    assert abs(report["yaw"]) < 10 and report["quality"] > 0.5 and report["occluded_fraction"] < 0.1
    pictures = {path.stem: np.asarray(Image.open(path)) for path in place.glob("*.png") if path.stem != "face"}
    assert {name: picture.shape[:2] for name, picture in pictures.items()} == dict.fromkeys(pictures, (224, 224))
    # The photo is frontal: where nothing was synthesised its frontal view is nearly itself.
    kept = (pictures["synthesised"] == 0) & (pictures["face_mask"] > 0)
    assert kept.mean() > 0.1
    assert np.abs(pictures["frontal"].astype(int) - pictures["crop"])[kept].mean() < 25
    assert "map_Kd face.png" in (place / "face.mtl").read_text()


def test_mistakes_are_one_line(photos_dir, tmp_path, capsys, monkeypatch):
    photo = str(photos_dir / "astronaut.png")
    Image.new("RGB", (300, 300), "grey").save(tmp_path / "empty.png")
    (tmp_path / "text.jpg").write_text("no picture")
    out = ["--output", str(tmp_path / "out")]
    mistakes = {
        "no face found": [str(tmp_path / "empty.png"), *out],
        "text.jpg is no photo": [str(tmp_path / "text.jpg"), *out],
        "absent.jpg": [str(tmp_path / "absent.jpg"), *out],
        "--output": [photo, "--output", str(tmp_path / "text.jpg" / "out")],
    }
    for message, arguments in mistakes.items():
        assert main(["photo", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    monkeypatch.setitem(sys.modules, "trimesh", None)
    assert main(["photo", photo, *out, "--export-mesh", "glb"]) == 2
    assert "pip install 'cfr[mesh]'" in capsys.readouterr().err


def test_formats_are_those_of_the_meshes():
    assert _FORMATS == FORMATS
