"""`cfr models check` on every kind of file that can be brought along, and on files that cannot."""

import json

import numpy as np
import pytest
import torch
from scipy.io import savemat

from cfr.model.networks.catalogue import NETWORKS, expected_shapes
from cfr.model.networks.cfrnet import CFRNet
from cfr.model.networks.discriminator import TwoScaleDiscriminator
from cfr.model.networks.face_parsing import FaceParsing
from cfr.pipeline import cli


def empty_state(network: type, **sizes: int) -> dict[str, torch.Tensor]:
    """A state with the right names and shapes that takes no room on the disk."""
    return {name: torch.zeros(()).expand(shape) for name, shape in expected_shapes(network, **sizes).items()}


@pytest.fixture
def saved(tmp_path):
    def save(content: object, name: str = "weights.pth") -> str:
        torch.save(content, tmp_path / name)
        return str(tmp_path / name)

    return save


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_recognised(name, saved, capsys):
    path = saved({f"module.{key}": value for key, value in empty_state(NETWORKS[name]).items()})
    assert cli.main(["models", "check", path]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{path}: {name}, fits\n")
    assert "use: " in out


def test_the_use_of_every_network_that_can_be_brought_is_told(saved, capsys):
    path = saved(empty_state(CFRNet))
    assert cli.main(["models", "check", path]) == 0
    assert "cfr frontalize --generator FILE" in capsys.readouterr().out


def test_states_in_a_training_checkpoint_are_told_one_by_one(saved, capsys):
    generator, critic = empty_state(CFRNet, width=8, residual_blocks=2), empty_state(TwoScaleDiscriminator, width=16)
    path = saved({"epoch": 3, "G_state_dict": generator, "D_state_dict": critic, "G_optimizer": {"state": {}}})
    assert cli.main(["models", "check", path, "--json"]) == 0
    found = {finding["place"]: finding for finding in json.loads(capsys.readouterr().out)[path]}
    assert found["G_state_dict"]["kind"] == "CFRNet generator"
    assert found["G_state_dict"]["about"].endswith("width 8, residual blocks 2")
    assert found["D_state_dict"]["kind"] == "two-scale discriminator"
    assert all(finding["fits"] for finding in found.values())


def test_names_that_differ_are_listed(saved, capsys):
    state = empty_state(TwoScaleDiscriminator)
    del state["D1.net.1.conv2d.bias"]
    state["D2.net.4.conv2d.weight_orig"] = torch.zeros(1, 512, 3, 3)
    state["D3.bias"] = torch.zeros(2)
    path = saved(state)
    assert cli.main(["models", "check", path]) == 2
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{path}: two-scale discriminator, does not fit\n")
    assert "D2.net.4.conv2d.weight_orig: shape [1, 512, 3, 3], expected [1, 512, 1, 1]" in captured.out
    assert "D1.net.1.conv2d.bias: missing" in captured.out
    assert "D3.bias: not part of it" in captured.out
    assert captured.err.count("\n") == 1
    assert path in captured.err and "looks like two-scale discriminator, but does not fit: D2.net.4" in captured.err


def test_an_unknown_checkpoint_is_an_error(saved, capsys):
    path = saved({f"layer{number}.weight": torch.zeros(2) for number in range(50)})
    assert cli.main(["models", "check", path]) == 2
    captured = capsys.readouterr()
    assert "no network that is known here" in captured.err
    assert "layer0.weight [2]" in captured.out and "and 30 more" in captured.out


def test_order_of_the_labels_of_a_parsing_network_is_told(saved, capsys, monkeypatch):
    path = saved(empty_state(FaceParsing))
    assert cli.main(["models", "check", path]) == 0
    assert "unknown order" in capsys.readouterr().out
    monkeypatch.setattr("cfr.model.model_files.label_order", lambda network: "the order of face-parsing.PyTorch")
    assert cli.main(["models", "check", path]) == 0
    assert "the order of face-parsing.PyTorch (converted when it is loaded)" in capsys.readouterr().out


def basel_arrays(vertices: int = 5, triangles: int = 3) -> dict[str, np.ndarray]:
    return {
        "meanshape": np.zeros((1, 3 * vertices)),
        "idBase": np.zeros((3 * vertices, 80)),
        "exBase": np.zeros((3 * vertices, 64)),
        "meantex": np.zeros((1, 3 * vertices)),
        "texBase": np.zeros((3 * vertices, 80)),
        "tri": np.zeros((triangles, 3), np.int64),
        "point_buf": np.full((vertices, 8), triangles),
        "keypoints": np.zeros((1, 68), np.int64),
        "skinmask": np.ones((1, vertices)),
    }


def test_the_papers_face_model_is_recognised(tmp_path, capsys):
    path = str(tmp_path / "BFM_model_80.mat")
    savemat(path, basel_arrays())
    assert cli.main(["models", "check", path]) == 0
    out = capsys.readouterr().out
    assert "Basel face model of CFR-GAN (BFM_model_80.mat), fits" in out
    assert "5 vertices; 80 identity, 64 expression, 80 colour components" in out
    assert "--face-model FILE" in out


def test_another_matlab_file_is_an_error(tmp_path, capsys):
    path = str(tmp_path / "BFM_model_front.mat")
    savemat(path, {"meanshape": np.zeros((1, 15))})
    assert cli.main(["models", "check", path]) == 2
    assert "has no array 'idBase'" in capsys.readouterr().err


def test_the_default_face_model_is_recognised(photos_dir, capsys):
    assert cli.main(["models", "check", str(photos_dir.parent / "face_model.npz")]) == 0
    assert "face model of this package's layout, fits" in capsys.readouterr().out


@pytest.fixture
def ict_folder(tmp_path):
    folder = tmp_path / "ICT-FaceKit" / "FaceXModel"
    folder.mkdir(parents=True)
    (folder / "generic_neutral_mesh.obj").write_text("# mesh\n" + "v 0 0 0\n" * 9409 + "vn 0 0 1\nf 1 2 3\n")
    for name in ("identity000", "identity001", "jawOpen", "browDown_L", "browDown_R"):
        (folder / f"{name}.obj").touch()
    return folder


def test_ict_facekit_is_recognised_by_its_folder(ict_folder, capsys):
    for path in (ict_folder, ict_folder.parent):
        assert cli.main(["models", "check", str(path)]) == 0
        out = capsys.readouterr().out
        assert f"{path}: ICT-FaceKit face model, fits" in out
        assert "9409 vertices; 2 identity, 3 expression, 0 colour components" in out


def test_an_incomplete_ict_folder_is_an_error(ict_folder, capsys):
    (ict_folder / "identity000.obj").unlink()
    assert cli.main(["models", "check", str(ict_folder)]) == 2
    assert "lacks identity000.obj" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is not a checkpoint"),
        (b"<!DOCTYPE html><html>Google Drive: sign in", "starts with b'<!DOCTYPE html"),
        (b"PK\x03\x04damaged", "damaged"),
        (b"MATLAB 5.0 MAT-file, but no more", "is not a MATLAB file"),
        (b"\x80\x04\x95anything", "can run code"),
    ],
    ids=["empty", "html", "zip", "matlab", "pickle"],
)
def test_files_that_are_no_models_are_errors_of_one_line(content, told, tmp_path, capsys):
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    assert cli.main(["models", "check", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert str(path) in captured.err and told in captured.err


def test_all_files_are_looked_at_before_the_error(saved, tmp_path, photos_dir, capsys):
    good, photo, nothing = saved(empty_state(CFRNet)), str(photos_dir / "grace_hopper.jpg"), str(tmp_path / "nothing")
    assert cli.main(["models", "check", nothing, photo, good, str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert f"{good}: CFRNet generator, fits" in captured.out
    for path in (nothing, photo, str(tmp_path)):
        assert path in captured.err


def test_json_flag_counts_before_and_after_the_action(saved, capsys):
    path = saved(empty_state(CFRNet))
    for arguments in (["models", "--json", "check", path], ["models", "check", "--json", path]):
        assert cli.main(arguments) == 0
        assert path in json.loads(capsys.readouterr().out)


def test_a_file_is_asked_for(capsys):
    assert cli.main(["models", "check"]) == 2
    assert "FILE" in capsys.readouterr().err
