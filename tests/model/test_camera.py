"""Where points land on the crop, and the meaning of the angles."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cfr.model.camera import pose_from_rotation, project, rotation_matrix, to_camera_space, unproject

NOSE = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
CROWN = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)


def rotated(point, yaw=0.0, pitch=0.0, roll=0.0):
    return rotation_matrix(torch.tensor([yaw, pitch, roll], dtype=torch.float64)) @ point


def coordinate(limit):
    return st.floats(-limit, limit, allow_nan=False, width=32)


def test_angles_turn_the_head_as_named():
    assert rotated(NOSE, yaw=30)[0] > 0.4, "yaw > 0: nose towards image right"
    assert rotated(NOSE, pitch=30)[1] < -0.4, "pitch > 0: nose down"
    assert rotated(CROWN, roll=30)[0] < -0.4, "roll > 0: counter-clockwise on screen, so the crown goes left"


def test_pitch_is_applied_first_and_roll_last():
    expected = rotated(rotated(rotated(torch.eye(3, dtype=torch.float64), pitch=10), yaw=20), roll=30)
    torch.testing.assert_close(rotated(torch.eye(3, dtype=torch.float64), yaw=20, pitch=10, roll=30), expected)


def test_known_points_project_where_the_paper_puts_them():
    points = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 9.0]]])
    pixels, depth = project(points)
    torch.testing.assert_close(pixels[0], torch.tensor([[112.0, 112.0], [213.5, 112.0], [112.0, 10.5], [112.0, 112.0]]))
    torch.testing.assert_close(depth[0], torch.tensor([10.0, 10.0, 10.0, 1.0]))


@settings(deadline=None)
@given(coordinate(3), coordinate(3), coordinate(5))
def test_unproject_inverts_project(x, y, z):
    points = torch.tensor([[[x, y, z]]], dtype=torch.float64)
    torch.testing.assert_close(unproject(*project(points)), points)


@settings(deadline=None)
@given(coordinate(180), coordinate(180), coordinate(180))
def test_rotation_matrices_are_rotations(yaw, pitch, roll):
    rotation = rotated(torch.eye(3, dtype=torch.float64), yaw, pitch, roll)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(rotation) == pytest.approx(1.0)


@settings(deadline=None)
@given(coordinate(89.5), coordinate(179.5), coordinate(179.5))
def test_pose_from_rotation_inverts_rotation_matrix(yaw, pitch, roll):
    pose = torch.tensor([yaw, pitch, roll], dtype=torch.float64)
    torch.testing.assert_close(pose_from_rotation(rotation_matrix(pose)), pose, rtol=0, atol=1e-6)


@settings(deadline=None)
@given(st.sampled_from([-90.0, 90.0]), coordinate(170), coordinate(170))
def test_pose_at_full_profile_still_gives_the_same_rotation(yaw, pitch, roll):
    rotation = rotation_matrix(torch.tensor([yaw, pitch, roll], dtype=torch.float64))
    pose = pose_from_rotation(rotation)
    assert pose[0] == pytest.approx(yaw) and pose[2] == 0
    torch.testing.assert_close(rotation_matrix(pose), rotation, rtol=0, atol=1e-6)


def test_projection_is_differentiable():
    points = torch.randn(1, 5, 3, dtype=torch.float64, requires_grad=True)
    pose = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    shift = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda p, a, t: project(to_camera_space(p, rotation_matrix(a), t)), (points, pose, shift)
    )


def test_geometry_agrees_with_the_reference(shared_dir):
    made = np.load(shared_dir / "fixtures" / "reconstruction.npz")
    coefficients = torch.from_numpy(made["coef"])
    pitch_yaw_roll = torch.rad2deg(coefficients[:, 224:227])
    rotation = rotation_matrix(pitch_yaw_roll[:, [1, 0, 2]])
    torch.testing.assert_close(rotation.transpose(1, 2), torch.from_numpy(made["rotation"]), rtol=0, atol=1e-5)
    points = to_camera_space(torch.from_numpy(made["front_shape"]), rotation, coefficients[:, 254:257])
    torch.testing.assert_close(points, torch.from_numpy(made["face_shape"]), rtol=0, atol=1e-5)
    pixels, depth = project(points)
    upwards = torch.stack([pixels[..., 0], 224 - pixels[..., 1]], dim=-1)
    torch.testing.assert_close(upwards, torch.from_numpy(made["face_projection"]), rtol=0, atol=1e-3)
    torch.testing.assert_close(10 - depth, torch.from_numpy(made["z_buffer"])[..., 0], rtol=0, atol=1e-5)
