"""From the regressor's 257 numbers to a posed, coloured mesh (CFR-GAN, Deep3DFaceRecon)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cfr.model.camera import project, rotation_matrix, to_camera_space
from cfr.model.coefficients import Coefficients
from cfr.model.lighting import AMBIENT_OFFSET, shade
from cfr.model.networks.coefficient_regressor import LAYOUT
from cfr.model.paper.face_model import BaselFaceModel

REGRESSED_SIZE = LAYOUT["translation"].stop


def from_regressed(regressed: Tensor) -> Coefficients:
    """The regressor's numbers (B,257) in this software's conventions.

    Angles (pitch, yaw, roll in radians) become (yaw, pitch, roll) in degrees; gamma (3 colours, 9 bands) becomes light
    (9,3) with the constant 0.8 added to band 0; `albedo` holds the texture coefficients.

    Raises:
        ValueError: another number of coefficients.
    """
    if regressed.shape[-1] != REGRESSED_SIZE:
        raise ValueError(f"expected {REGRESSED_SIZE} coefficients, got {regressed.shape[-1]}")
    part = {name: regressed[:, place] for name, place in LAYOUT.items()}
    light = part["gamma"].unflatten(-1, (3, 9)).transpose(1, 2).clone()
    light[:, 0] += AMBIENT_OFFSET
    pose = torch.rad2deg(part["angles"][:, [1, 0, 2]])
    return Coefficients(part["identity"], part["expression"], part["texture"], light, pose, part["translation"])


@dataclass(frozen=True)
class Reconstruction:
    """A mini-batch of faces.

    Attributes:
        front_shape: (B,V,3) decimetres, before rotation and translation.
        shape: (B,V,3) decimetres, in front of the camera.
        colour: (B,V,3) RGB, texture times light; not clamped, may leave 0..1.
        pixels: (B,V,2) projections: crop px, x right, y down, pixel centres at +0.5.
        depth: (B,V) decimetres from the camera's plane.
    """

    front_shape: Tensor
    shape: Tensor
    colour: Tensor
    pixels: Tensor
    depth: Tensor


def reconstruct(model: BaselFaceModel, coefficients: Coefficients) -> Reconstruction:
    """Shape, colour and projection of the faces that the coefficients describe."""
    front = model.shape(coefficients.identity, coefficients.expression)
    rotation = rotation_matrix(coefficients.pose)
    shape = to_camera_space(front, rotation, coefficients.translation)
    normals = model.vertex_normals(front) @ rotation.transpose(1, 2)
    colour = model.texture(coefficients.albedo) * shade(normals, coefficients.light)
    pixels, depth = project(shape)
    return Reconstruction(front, shape, colour, pixels, depth)
