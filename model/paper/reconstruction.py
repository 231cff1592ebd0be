"""From the regressor's 257 numbers to a posed, coloured mesh (CFR-GAN, Deep3DFaceRecon)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cfr.model.camera import project, rotation_matrix, to_camera_space
from cfr.model.coefficients import Coefficients
from cfr.model.lighting import AMBIENT_OFFSET, shade
from cfr.model.networks.coefficient_regressor import PAPER_SIZES
from cfr.model.paper.face_model import BaselFaceModel

# Angles, light and translation.
_OTHERS = (3, 27, 3)
REGRESSED_SIZE = sum(PAPER_SIZES) + sum(_OTHERS)


def from_regressed(regressed: Tensor, sizes: tuple[int, int, int] = PAPER_SIZES) -> Coefficients:
    """The regressor's numbers in this software's conventions.

    Angles (pitch, yaw, roll in radians) become (yaw, pitch, roll) in degrees; gamma (3 colours, 9 bands) becomes light
    (9,3) with the constant 0.8 added to band 0; `albedo` holds the texture coefficients.

    Args:
        regressed: (B,C): identity, expression, texture, angles, gamma, translation; 257 with the paper's face model.
        sizes: identity, expression and texture coefficients of the face model.

    Raises:
        ValueError: another number of coefficients.
    """
    widths = [*sizes, *_OTHERS]
    if regressed.shape[-1] != sum(widths):
        raise ValueError(f"expected {sum(widths)} coefficients, got {regressed.shape[-1]}")
    identity, expression, texture, angles, gamma, translation = torch.split(regressed, widths, dim=-1)
    light = gamma.unflatten(-1, (3, 9)).transpose(1, 2).clone()
    light[:, 0] += AMBIENT_OFFSET
    return Coefficients(identity, expression, texture, light, torch.rad2deg(angles[:, [1, 0, 2]]), translation)


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
