"""Skin tone and light in words, from coefficients."""

import pytest
import torch

from cfr.model.appearance import light_on_face, skin_colour, tone_group, typology_angle
from cfr.model.face_model import MorphableModel


def test_typology_angle_of_known_colours():
    # L*a*b* by hand: (194, 150, 130) has L* 65.6, b* 17.6: arctan(15.6 / 17.6) = 41.6; white on the b* = 0 axis is 90.
    angles = typology_angle(torch.tensor([[194, 150, 130], [255, 255, 255], [60, 40, 30]]) / 255)
    assert angles[0].item() == pytest.approx(41.6, abs=1.5)
    assert angles[1].item() == pytest.approx(90, abs=1)
    assert angles[2].item() < -60
    assert [tone_group(value) for value in (60, 45, 30, 20, 0, -50)] == [
        "very light",
        "light",
        "intermediate",
        "tan",
        "brown",
        "dark",
    ]


def test_albedo_coefficients_change_the_skin():
    model = MorphableModel.load_default()
    albedo = torch.zeros(3, model.sizes[2])
    direction = model.log_albedo_basis.mean((1, 2))
    albedo[1], albedo[2] = direction / direction.norm() * 2, -direction / direction.norm() * 2
    mean, lighter, darker = typology_angle(skin_colour(model, albedo))
    assert darker < mean < lighter


def test_light_comes_from_where_it_was_put():
    light = torch.zeros(4, 9, 3)
    light[:, 0] = 1.0
    light[0, 2], light[1, 3], light[2, 3], light[3, 1] = 0.3, -0.3, 0.3, -0.3  # camera, right, left, above
    brightness, azimuth, elevation = light_on_face(light)
    assert brightness[0] > brightness[1]
    assert azimuth.tolist() == pytest.approx([0, 90, -90, 0], abs=1e-3)
    assert elevation.tolist() == pytest.approx([0, 0, 0, 90], abs=1e-3)
