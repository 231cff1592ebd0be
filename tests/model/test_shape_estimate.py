"""The regressor's look at a face, whatever its weights: rolled and mirrored pictures give rolled and mirrored faces."""

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from cfr.model.camera import pose_from_rotation, rotation_matrix
from cfr.model.networks.facemesh_regressor import FaceMeshRegressor
from cfr.model.shape_estimate import ShapeEstimator


@pytest.fixture(scope="module")
def estimator(face_model, tmp_path_factory) -> ShapeEstimator:
    """With random weights, which answer differently to every picture."""
    torch.manual_seed(3)
    network = FaceMeshRegressor(face_model.sizes)
    network.start_at_mean_face()
    torch.nn.init.normal_(network.numbers.weight, std=0.05)
    torch.nn.init.normal_(network.deviations.weight, std=0.05)
    path = tmp_path_factory.mktemp("weights") / "regressor.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    return ShapeEstimator(face_model, str(path))


@pytest.fixture(scope="module")
def face() -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth picture (1,3,320,320) and the five points of an upright face in its crop."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 9, 9, generator=generator)
    picture = functional.interpolate(coarse, size=(320, 320), mode="bicubic").clamp(0, 1)
    points = torch.tensor([[[80.0, 85.0], [144.0, 85.0], [112.0, 120.0], [88.0, 150.0], [136.0, 150.0]]])
    return picture, points


def turned(picture: torch.Tensor, points: torch.Tensor, degrees: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Picture and points, turned counter-clockwise on the screen about the middle."""
    angle = torch.deg2rad(torch.tensor(degrees))
    cos, sin = angle.cos(), angle.sin()
    grid = functional.affine_grid(
        torch.tensor([[[cos, -sin, 0], [sin, cos, 0]]]), [1, 3, 320, 320], align_corners=False
    )
    offset = points - 112
    moved = torch.stack([cos * offset[..., 0] + sin * offset[..., 1], cos * offset[..., 1] - sin * offset[..., 0]], -1)
    return functional.grid_sample(picture, grid, mode="bilinear", align_corners=False), moved + 112


def test_a_rolled_picture_is_a_rolled_face(estimator, face):
    straight = estimator.estimate(*face)
    rolled = estimator.estimate(*turned(*face, 30.0))
    roll = rotation_matrix(torch.tensor([[0.0, 0.0, 30.0]]))
    # Resampling the picture twice changes it a little: a degree, and a hundredth of what coefficients vary by.
    expected = pose_from_rotation(roll @ straight.rotation)
    torch.testing.assert_close(pose_from_rotation(rolled.rotation), expected, rtol=0, atol=1.0)
    torch.testing.assert_close(rolled.translation, (roll @ straight.translation[..., None])[..., 0], rtol=0, atol=0.02)
    torch.testing.assert_close(rolled.identity, straight.identity, rtol=0, atol=0.05)
    assert straight.identity.std() > 0.02


def test_a_mirrored_picture_is_the_mirrored_face(estimator, face, face_model):
    picture, points = face
    mirrored_points = (points * torch.tensor([-1.0, 1.0]) + torch.tensor([224.0, 0.0]))[:, [1, 0, 2, 4, 3]]
    straight, other = estimator.estimate(picture, points), estimator.estimate(picture.flip(3), mirrored_points)
    signs = torch.tensor([-1.0, 1.0, -1.0])
    pose = pose_from_rotation(straight.rotation)
    torch.testing.assert_close(pose_from_rotation(other.rotation), pose * signs, rtol=0, atol=0.01)
    torch.testing.assert_close(other.identity, straight.identity * face_model.identity_mirror, rtol=0, atol=1e-3)
    mirror = face_model.expression_mirror
    torch.testing.assert_close(other.expression, straight.expression[:, mirror], rtol=0, atol=1e-3)
    identities = face_model.sizes[0]
    deviation = straight.deviation.clone()
    deviation[:, identities:-6] = deviation[:, identities:-6][:, mirror]
    torch.testing.assert_close(other.deviation, deviation, rtol=1e-3, atol=1e-4)
