"""The light basis against the paper's formula and against colours that its own code made."""

import math

import numpy as np
import pytest
import torch

from cfr.model.lighting import AMBIENT_OFFSET, shade, spherical_harmonics


def unit_vectors(count: int, seed: int = 0) -> torch.Tensor:
    vectors = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return vectors / vectors.norm(dim=-1, keepdim=True)


def test_basis_functions_are_orthogonal_with_the_power_of_a_lambertian_surface():
    # Monte Carlo over the sphere: integral of (A_l Y_lm)(A_k Y_kn) = A_l^2 where both are the same, else 0; the paper's
    # 3z^2 - 1 is orthonormal too. Band 1 is -y, z, -x; A = pi, 2 pi / sqrt 3 and 2 pi / sqrt 8.
    basis = spherical_harmonics(unit_vectors(400_000))
    gram = 4 * math.pi * basis.T @ basis / len(basis)
    expected = torch.tensor([math.pi**2] + [4 * math.pi**2 / 3] * 3 + [4 * math.pi**2 / 8] * 5, dtype=torch.float64)
    torch.testing.assert_close(gram, torch.diag(expected), rtol=0.02, atol=0.1)


def test_ambient_light_is_the_same_everywhere():
    light = torch.zeros(1, 9, 3)
    light[:, 0] = AMBIENT_OFFSET
    shading = shade(unit_vectors(50).float()[None], light)
    torch.testing.assert_close(shading, torch.full_like(shading, AMBIENT_OFFSET * math.sqrt(math.pi) / 2))


@pytest.mark.parametrize(("band", "brighter", "darker"), [(1, (0, -1, 0), (0, 1, 0)), (3, (-1, 0, 0), (1, 0, 0))])
def test_directional_bands_light_the_side_they_name(band, brighter, darker):
    light = torch.zeros(1, 9, 3)
    light[0, band] = 1.0
    shading = shade(torch.tensor([[brighter, darker]], dtype=torch.float32), light)[0]
    assert (shading[0] > 0).all() and (shading[1] < 0).all()


def test_colours_agree_with_the_reference(shared_dir):
    face = np.load(shared_dir / "fixtures" / "standin_face_model.npz")
    made = np.load(shared_dir / "fixtures" / "reconstruction.npz")
    coefficients = torch.from_numpy(made["coef"])
    texture_mean = torch.from_numpy(face["meantex"].astype(np.float32))
    texture_basis = torch.from_numpy(face["texBase"].astype(np.float32))
    texture = (texture_mean + coefficients[:, 144:224] @ texture_basis.T).view(len(coefficients), -1, 3)
    light = coefficients[:, 227:254].view(-1, 3, 9).transpose(1, 2).clone()
    light[:, 0] += AMBIENT_OFFSET
    normals = torch.from_numpy(made["vertex_normals_front"]) @ torch.from_numpy(made["rotation"])
    colours = texture * shade(normals, light)
    torch.testing.assert_close(colours, torch.from_numpy(made["face_color"]), rtol=0, atol=1e-5)
