"""Diffuse light as second-order spherical harmonics, in the basis and scaling of CFR-GAN (and of Deep3DFaceRecon).

Colour = albedo * shade: the product is taken in display (sRGB-encoded) values, as the paper does. Light is laid out
(B,9,3), band by colour, with the paper's constant 0.8 already added to band 0.
"""

import math

import torch
from torch import Tensor

# What the paper adds to band 0 of every colour, so that zero coefficients mean plain white light.
AMBIENT_OFFSET = 0.8

# Lambertian kernel of each band times the normalisation of its harmonics (Ramamoorthi and Hanrahan 2001).
_BAND_0 = math.pi / math.sqrt(4 * math.pi)
_BAND_1 = 2 * math.pi / math.sqrt(3) * math.sqrt(3) / math.sqrt(4 * math.pi)
_BAND_2 = 2 * math.pi / math.sqrt(8) * 3 * math.sqrt(5) / math.sqrt(12 * math.pi)


def spherical_harmonics(normals: Tensor) -> Tensor:
    """Basis functions at unit normals.

    Args:
        normals: (..., 3) float32 unit vectors in camera space (x right, y up, z towards the viewer).

    Returns:
        (..., 9): 1; -y, z, -x; xy, -yz, 3z^2 - 1, -xz, x^2 - y^2, each with the paper's factor.
    """
    x, y, z = normals.unbind(-1)
    return torch.stack(
        [
            torch.full_like(x, _BAND_0),
            -_BAND_1 * y,
            _BAND_1 * z,
            -_BAND_1 * x,
            _BAND_2 * x * y,
            -_BAND_2 * y * z,
            _BAND_2 * 0.5 / math.sqrt(3) * (3 * z * z - 1),
            -_BAND_2 * x * z,
            _BAND_2 * 0.5 * (x * x - y * y),
        ],
        dim=-1,
    )


def shade(normals: Tensor, light: Tensor) -> Tensor:
    """Light that reaches surface points, to be multiplied with their albedo.

    Args:
        normals: (B,V,3) float32 unit normals in camera space.
        light: (B,9,3) float32 coefficients, the 0.8 of band 0 included.

    Returns:
        (B,V,3) RGB factors; not clamped, may be negative or above 1.
    """
    return spherical_harmonics(normals) @ light
