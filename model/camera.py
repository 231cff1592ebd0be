"""The paper's camera: where a point of the face model lands on the 224-pixel crop.

Camera space is x right, y up, z towards the viewer, in decimetres. The camera sits at z = 10 and looks to -z; depth d
is the distance from its plane, d = 10 - z. Pixels are x right, y down, with centres at +0.5, so the crop spans
[0, 224] and u = 112 + 1015 x / d, v = 112 - 1015 y / d.

A pose is (yaw, pitch, roll) in degrees, in this order: yaw > 0 turns the nose towards image right, pitch > 0 turns it
down, roll > 0 turns the head counter-clockwise on screen. R = Rz(roll) Ry(yaw) Rx(pitch) acts on column vectors.
"""

import torch
from torch import Tensor

CROP_SIZE = 224
FOCAL_LENGTH = 1015.0
CAMERA_DISTANCE = 10.0

# Below this cosine of the yaw, pitch and roll turn about the same axis and float32 cannot tell them apart.
_GIMBAL_LOCK = 1e-6
# Half a turn has no axis: cosine of half the angle that stands in for smaller ones.
_LEAST_COSINE = 0.05


def rotation_matrix(pose: Tensor) -> Tensor:
    """Rotation of a pose.

    Args:
        pose: (..., 3) yaw, pitch, roll in degrees.

    Returns:
        (..., 3, 3) R = Rz(roll) Ry(yaw) Rx(pitch), for column vectors.
    """
    sine, cosine = torch.sin(torch.deg2rad(pose)), torch.cos(torch.deg2rad(pose))
    sy, sp, sr = sine.unbind(-1)
    cy, cp, cr = cosine.unbind(-1)
    rows = [
        torch.stack([cr * cy, cr * sy * sp - sr * cp, cr * sy * cp + sr * sp], dim=-1),
        torch.stack([sr * cy, sr * sy * sp + cr * cp, sr * sy * cp - cr * sp], dim=-1),
        torch.stack([-sy, cy * sp, cy * cp], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def pose_from_rotation(rotation: Tensor) -> Tensor:
    """Pose of a rotation: the inverse of `rotation_matrix`.

    Args:
        rotation: (..., 3, 3) rotation matrices for column vectors.

    Returns:
        (..., 3) yaw in [-90, 90], pitch and roll in [-180, 180] degrees. At a yaw of +-90, where only the sum or the
        difference of pitch and roll is defined, roll is 0.
    """
    r = rotation
    cos_yaw = torch.linalg.vector_norm(r[..., :2, 0], dim=-1)
    locked = cos_yaw < _GIMBAL_LOCK
    yaw = torch.atan2(-r[..., 2, 0], cos_yaw)
    locked_pitch = torch.atan2(-torch.sign(r[..., 2, 0]) * r[..., 0, 1], r[..., 1, 1])
    pitch = torch.where(locked, locked_pitch, torch.atan2(r[..., 2, 1], r[..., 2, 2]))
    roll = torch.where(locked, torch.zeros_like(yaw), torch.atan2(r[..., 1, 0], r[..., 0, 0]))
    return torch.rad2deg(torch.stack([yaw, pitch, roll], dim=-1))


def rotation_vectors(rotation: Tensor, reference: Tensor) -> Tensor:
    """(B,3) turns about the camera's x, y and z, about radians, that lead from a reference (B,3,3) to a rotation.

    2 sin(angle / 2) times the axis: as the angle where that is small, growing up to half a turn.
    """
    turn = rotation @ reference.transpose(1, 2)
    axis = torch.stack(
        [turn[:, 2, 1] - turn[:, 1, 2], turn[:, 0, 2] - turn[:, 2, 0], turn[:, 1, 0] - turn[:, 0, 1]], dim=1
    )
    cosine = (1 + turn.diagonal(dim1=1, dim2=2).sum(1)).clamp_min(4 * _LEAST_COSINE**2).sqrt() / 2
    return axis / (2 * cosine[:, None])


def to_camera_space(vertices: Tensor, rotation: Tensor, translation: Tensor) -> Tensor:
    """Move model-space points in front of the camera: x_cam = R x_model + t.

    Args:
        vertices: (B, V, 3) decimetres, model space.
        rotation: (B, 3, 3) for column vectors.
        translation: (B, 3) decimetres.

    Returns:
        (B, V, 3) decimetres, camera space.
    """
    return vertices @ rotation.transpose(-1, -2) + translation[:, None]


def project(points: Tensor) -> tuple[Tensor, Tensor]:
    """Project camera-space points onto the crop.

    Args:
        points: (B, N, 3) decimetres, camera space.

    Returns:
        pixels (B, N, 2) in crop pixels, and depth d (B, N) in decimetres. Pixels of points in the camera's plane or
        behind it (d <= 0) mean nothing; the rasteriser leaves them out.
    """
    depth = CAMERA_DISTANCE - points[..., 2]
    scale = FOCAL_LENGTH / depth
    centre = CROP_SIZE / 2
    return torch.stack([centre + scale * points[..., 0], centre - scale * points[..., 1]], dim=-1), depth


def unproject(pixels: Tensor, depth: Tensor) -> Tensor:
    """Camera-space points of crop pixels at given depths: the inverse of `project`.

    Args:
        pixels: (..., 2) crop pixels.
        depth: (...) decimetres from the camera's plane.

    Returns:
        (..., 3) decimetres, camera space.
    """
    scale = depth / FOCAL_LENGTH
    centre = CROP_SIZE / 2
    x, y = (pixels[..., 0] - centre) * scale, (centre - pixels[..., 1]) * scale
    return torch.stack([x, y, CAMERA_DISTANCE - depth], dim=-1)
