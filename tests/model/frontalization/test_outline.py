"""The background inside a badly fitted outline is not taken for the face."""

import torch

from cfr.model.frontalization.outline import outline_trust
from cfr.model.frontalization.views import photo_view


def test_background_within_the_far_outline_is_found_on_the_side_that_the_nose_points_to(face_model, rendered_faces):
    coefficients = rendered_faces.coefficients
    pose = torch.tensor([[55.0, 0.0, 0.0], [-55.0, 0.0, 0.0]])
    vertices = face_model.shape(coefficients.identity, coefficients.expression)
    turned = type(coefficients)(*{**vars(coefficients), "pose": pose}.values())
    view = photo_view(face_model, vertices, face_model.vertex_normals(vertices), turned)
    covered = view.gbuffer.covered
    # Skin everywhere; a green background reaches 25 pixels further in than the mesh says, on both sides.
    inner = torch.nn.functional.conv2d(covered[:, None].float(), torch.ones(1, 1, 1, 51), padding=(0, 25))[:, 0] == 51
    skin, green = torch.tensor([0.8, 0.6, 0.5]), torch.tensor([0.2, 0.7, 0.3])
    photo = torch.where(inner[..., None], skin, green).permute(0, 3, 1, 2)
    trust = outline_trust(photo, view, pose)[:, 0]
    row = 160
    for face, step in ((0, 1), (1, -1)):
        columns = covered[face, row].nonzero()[:, 0]
        far, near = (columns[-1], columns[0]) if step == 1 else (columns[0], columns[-1])
        assert trust[face, row, far - step * 15] == 0
        assert trust[face, row, near + step * 20] > 0
        assert trust[face, row, (far + near) // 2] > 0.9


def test_a_frontal_face_is_trusted_up_to_its_rim(face_model, rendered_faces):
    coefficients = rendered_faces.coefficients
    pose = torch.zeros(2, 3)
    vertices = face_model.shape(coefficients.identity, coefficients.expression)
    frontal = type(coefficients)(*{**vars(coefficients), "pose": pose}.values())
    view = photo_view(face_model, vertices, face_model.vertex_normals(vertices), frontal)
    trust = outline_trust(torch.full((2, 3, 640, 640), 0.5), view, pose)
    share = trust.sum() / view.gbuffer.covered.sum()
    assert trust.shape == (2, 1, 320, 320)
    assert share > 0.9
