"""Mouths that an occluder hides or that are seen from the side are closed; others stay as they were fitted."""

from dataclasses import replace

import pytest
import torch

from cfr.model.covered_mouth import CoveredMouth
from cfr.model.rendering import posed

UPPER_LIP, LOWER_LIP = 13, 14


@pytest.fixture(scope="module")
def speaking(face_model, rendered_faces):
    """Coefficients and mesh of the two faces, talking and smiling."""
    expression = torch.zeros_like(rendered_faces.coefficients.expression)
    for name, value in {"jawOpen": 0.4, "mouthSmileLeft": 0.6, "mouthSmileRight": 0.6, "eyeBlinkLeft": 0.8}.items():
        expression[:, face_model.expression_names.index(name)] = value
    coefficients = replace(rendered_faces.coefficients, expression=expression)
    return coefficients, posed(face_model, coefficients)


def _lip_gap(model, coefficients) -> torch.Tensor:
    """(B,) distance between the middles of the inner lips, dm."""
    vertices = model.shape(coefficients.identity, coefficients.expression)
    points = model.surface_points(vertices, model.facemesh_triangles, model.facemesh_barycentric)
    return (points[:, UPPER_LIP] - points[:, LOWER_LIP]).norm(dim=-1)


def _around_the_mouth(model, mesh) -> torch.Tensor:
    """(B,224,224) bool: 70 x 50 pixels around each mouth."""
    points = model.surface_points(mesh.pixels, model.facemesh_triangles, model.facemesh_barycentric)
    centre = points[:, [UPPER_LIP, LOWER_LIP]].mean(1)
    y, x = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
    return ((x - centre[:, :1, None]).abs() < 35) & ((y - centre[:, 1:, None]).abs() < 25)


def test_a_covered_mouth_closes_and_nothing_else_changes(face_model, speaking):
    coefficients, mesh = speaking
    covered = _around_the_mouth(face_model, mesh)
    covered[1] = False
    closed, changed = CoveredMouth(face_model).closed(coefficients, mesh, covered)
    assert changed
    before, after = _lip_gap(face_model, coefficients), _lip_gap(face_model, closed)
    assert after[0] < 0.35 * before[0]
    assert torch.equal(after[1], before[1])
    for name in ("mouthSmileLeft", "mouthSmileRight", "eyeBlinkLeft"):
        index = face_model.expression_names.index(name)
        assert torch.equal(closed.expression[:, index], coefficients.expression[:, index])


def test_a_mouth_that_is_seen_stays_as_it_is(face_model, speaking):
    coefficients, mesh = speaking
    covered = torch.zeros(2, 224, 224, dtype=torch.bool)
    covered[:, :80] = True  # hair over the forehead
    same, changed = CoveredMouth(face_model).closed(coefficients, mesh, covered)
    assert not changed
    assert torch.equal(same.expression, coefficients.expression)


def test_a_mouth_in_profile_closes_from_either_side(face_model, speaking):
    coefficients, _ = speaking
    turned = replace(coefficients, pose=torch.tensor([[70.0, 0.0, 0.0], [-70.0, 5.0, 10.0]]))
    closed = CoveredMouth(face_model).closed_in_profile(turned)
    assert (_lip_gap(face_model, closed) < 0.25 * _lip_gap(face_model, turned)).all()
    blink = face_model.expression_names.index("eyeBlinkLeft")
    assert torch.equal(closed.expression[:, blink], turned.expression[:, blink])
    frontal = replace(coefficients, pose=torch.tensor([[40.0, 0.0, 0.0], [0.0, 30.0, 0.0]]))
    assert torch.equal(CoveredMouth(face_model).closed_in_profile(frontal).expression, frontal.expression)
