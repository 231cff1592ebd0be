"""`BFM_model_80.mat`: what is read from it, and what is said about files that are something else."""

import numpy as np
import pytest
import torch
from paper_files import write_basel_file

from cfr.model.face_model import MorphableModel
from cfr.model.paper.face_model import BaselFaceModel, FaceModelError
from cfr.model.paper.reconstruction import REGRESSED_SIZE, from_regressed, reconstruct


def test_file_holds_the_model(tmp_path):
    default = MorphableModel.load_default()
    model = BaselFaceModel.load(write_basel_file(tmp_path / "BFM_model_80.mat"))
    assert model.texture_basis.shape == (80, 18107, 3) and len(model.digest) == 64
    identity = torch.randn(2, 80, generator=torch.Generator().manual_seed(0))
    expression = torch.zeros(2, 64)
    expression[:, 10] = 0.7
    ours = default.shape(identity, expression[:, :52]) - default.mean_shape.mean(0)
    torch.testing.assert_close(model.shape(identity, expression), ours, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.texture(torch.zeros(1, 80))[0], default.log_albedo_mean.exp())


def test_normals_are_those_of_the_mesh(own_model):
    """One vertex of this mesh has more than eight triangles, so its list is cut short: all others agree."""
    default = MorphableModel.load_default()
    vertices = own_model.mean_shape[None]
    cosine = (own_model.vertex_normals(vertices) * default.vertex_normals(vertices)).sum(-1)
    assert (cosine < 1 - 1e-5).sum() <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exBase": None}, "no array 'exBase'"),
        ({"idBase": np.zeros((30, 80))}, "'idBase' has shape (30, 80), expected (54321, 80)"),
        (
            {"tri": MorphableModel.load_default().triangles.numpy() + 1},
            "'tri' points outside 0..18106; CFR-GAN's file counts from 0",
        ),
        ({"meantex": np.full((1, 54321), np.nan)}, "'meantex' holds something else than finite numbers"),
    ],
)
def test_other_contents_are_named(tmp_path, changes, message):
    with pytest.raises(FaceModelError) as error:
        BaselFaceModel.load(write_basel_file(tmp_path / "model.mat", **changes))
    assert message in str(error.value) and "model.mat" in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a MATLAB file"),
        (b"PK\x03\x04 a zip file, or a checkpoint of torch" * 9, "not a MATLAB file"),
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(600), "7.3 file; save it again"),
    ],
)
def test_other_files_are_named(tmp_path, data, message):
    (tmp_path / "model.mat").write_bytes(data)
    with pytest.raises(FaceModelError, match=message):
        BaselFaceModel.load(tmp_path / "model.mat")
    with pytest.raises(FaceModelError, match="cannot be read: No such file"):
        BaselFaceModel.load(tmp_path / "none.mat")


def test_regressed_numbers_become_conventions():
    """Angles: pitch, yaw, roll in radians there; gamma: by colour there, by band here, and 0.8 is added to band 0."""
    regressed = torch.arange(REGRESSED_SIZE, dtype=torch.float32)[None]
    coefficients = from_regressed(regressed)
    assert coefficients.identity[0, 0] == 0 and coefficients.expression[0, 0] == 80 and coefficients.albedo[0, 0] == 144
    torch.testing.assert_close(coefficients.pose, torch.rad2deg(torch.tensor([[225.0, 224.0, 226.0]])))
    assert coefficients.light[0, 0].tolist() == pytest.approx([227.8, 236.8, 245.8])
    assert coefficients.light[0, 1].tolist() == [228, 237, 246]
    assert coefficients.translation.tolist() == [[254, 255, 256]]
    with pytest.raises(ValueError, match="expected 257 coefficients, got 258"):
        from_regressed(torch.zeros(1, 258))


def test_reconstruction_of_three_faces(own_model):
    """The authors' code gets the normals wrong at a batch of exactly three; here each face is on its own."""
    generator = torch.Generator().manual_seed(1)
    coefficients = from_regressed(0.2 * torch.randn(3, REGRESSED_SIZE, generator=generator))
    three = reconstruct(own_model, coefficients)
    for number in range(3):
        one = reconstruct(own_model, from_regressed(_regressed_rows(coefficients, number)))
        torch.testing.assert_close(three.colour[number], one.colour[0], atol=1e-4, rtol=0)


def _regressed_rows(coefficients, number: int) -> torch.Tensor:
    one = slice(number, number + 1)
    light = coefficients.light[one].clone()
    light[:, 0] -= 0.8
    angles = torch.deg2rad(coefficients.pose[one][:, [1, 0, 2]])
    parts = [coefficients.identity[one], coefficients.expression[one], coefficients.albedo[one], angles]
    return torch.cat([*parts, light.transpose(1, 2).flatten(1), coefficients.translation[one]], dim=1)
