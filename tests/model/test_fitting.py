"""Fits of faces whose coefficients are known: rendered with the model itself, clean and covered."""

import pytest
import torch

from cfr.model.camera import FOCAL_LENGTH, project, rotation_matrix
from cfr.model.coefficients import Coefficients, coefficient_layout
from cfr.model.landmark_fit import LandmarkFitter, ShapePrior
from cfr.model.occlusion import OccluderDetector
from cfr.model.occlusion_metrics import psnr
from cfr.model.photometric_fit import PhotometricFitter
from cfr.model.rendering import render_guidance


def _landmarks(model, faces) -> torch.Tensor:
    """The 468 points in crop px, with a depth in the units of x as FaceMesh gives it."""
    points = model.surface_points(faces.mesh.vertices, model.facemesh_triangles, model.facemesh_barycentric)
    pixels, depth = project(points)
    return torch.cat([pixels, (depth - depth.mean(1, keepdim=True))[..., None] * FOCAL_LENGTH / 10], -1)


def test_landmarks_of_a_known_face_give_its_pose_back(face_model, rendered_faces):
    fit = LandmarkFitter(face_model).fit(_landmarks(face_model, rendered_faces), torch.zeros(2))
    # The priors pull identity to the mean, so the pose is not exact; a degree is far below what
    # the landmarks' noise does to it on photos.
    torch.testing.assert_close(fit.pose, rendered_faces.coefficients.pose, rtol=0, atol=1.0)
    assert (fit.error < 0.01).all()
    assert ((fit.expression >= 0) & (fit.expression <= 1)).all()
    assert (fit.expression[:, face_model.frozen_expressions] == 0).all()


def test_a_fifth_of_the_landmarks_may_be_anywhere(face_model, rendered_faces):
    landmarks = _landmarks(face_model, rendered_faces)
    wrong = torch.randperm(468, generator=torch.Generator().manual_seed(0))[:93]
    landmarks[:, wrong, :2] += torch.tensor([25.0, -25.0])
    fit = LandmarkFitter(face_model).fit(landmarks, torch.zeros(2))
    torch.testing.assert_close(fit.pose, rendered_faces.coefficients.pose, rtol=0, atol=5.0)


def _prior(faces, deviation: float, turn: float = 0.0) -> ShapePrior:
    """The truth, but turned by some degrees of yaw; rotation and translation are known to a deviation."""
    truth = faces.coefficients
    size = truth.identity.shape[1] + truth.expression.shape[1] + 6
    deviations = torch.full((2, size), 0.3)
    deviations[:, -6:] = deviation
    rotation = rotation_matrix(truth.pose + torch.tensor([turn, 0.0, 0.0]))
    return ShapePrior(truth.identity, truth.expression, rotation, truth.translation, deviations)


def test_a_sure_prior_outweighs_landmarks_and_an_unsure_one_does_not(face_model, rendered_faces):
    """A prior 10 degrees off: the fit stays there if it is said to be sure, and goes where the landmarks are if not."""
    fitter, landmarks = LandmarkFitter(face_model), _landmarks(face_model, rendered_faces)
    truth = rendered_faces.coefficients.pose[:, 0]
    sure = fitter.fit(landmarks, torch.zeros(2), _prior(rendered_faces, 1e-4, turn=10.0))
    unsure = fitter.fit(landmarks, torch.zeros(2), _prior(rendered_faces, 1.0, turn=10.0))
    torch.testing.assert_close(sure.pose[:, 0], truth + 10, rtol=0, atol=0.5)
    torch.testing.assert_close(unsure.pose[:, 0], truth, rtol=0, atol=1.0)
    assert (unsure.error < 0.01).all()


def test_a_right_prior_holds_the_fit_where_landmarks_are_wrong(face_model, rendered_faces):
    """Half of the landmarks far off: the fit alone is drawn away, with the prior it stays within two degrees."""
    landmarks = _landmarks(face_model, rendered_faces)
    wrong = torch.randperm(468, generator=torch.Generator().manual_seed(0))[:234]
    landmarks[:, wrong, :2] += torch.tensor([25.0, -10.0])
    fitter, truth = LandmarkFitter(face_model), rendered_faces.coefficients.pose
    held = fitter.fit(landmarks, torch.zeros(2), _prior(rendered_faces, 0.02))
    alone = fitter.fit(landmarks, torch.zeros(2))
    assert ((held.pose - truth).abs().amax(1) < 2).all()
    assert ((alone.pose - truth).abs().amax(1) > (held.pose - truth).abs().amax(1)).all()


def _photometric(model, faces, photo):
    fitter, detector = PhotometricFitter(model), OccluderDetector(model)

    def picture(albedo, light):
        lit = Coefficients(
            faces.coefficients.identity,
            faces.coefficients.expression,
            albedo,
            light.unflatten(1, (3, 9)).transpose(1, 2),
            faces.coefficients.pose,
            faces.coefficients.translation,
        )
        return render_guidance(model, lit, faces.mesh, faces.gbuffer)

    samples = fitter.sample(photo, faces.mesh, faces.gbuffer)
    start = fitter.start(samples)
    covered = detector.detect(photo, picture(*start), faces.gbuffer)
    guidance = picture(*fitter.refine(samples, *start, covered))
    return guidance, detector.detect(photo, guidance, faces.gbuffer)


def test_colours_of_a_known_face_are_found_and_nothing_is_flagged(face_model, rendered_faces):
    guidance, occluder = _photometric(face_model, rendered_faces, rendered_faces.picture)
    for item in range(2):
        # The priors hold light and tone back a little: below 25 dB a tone would be visibly wrong.
        assert psnr(guidance[item], rendered_faces.picture[item], rendered_faces.gbuffer.covered[item]) > 25
    assert occluder.sum() < 0.01 * rendered_faces.gbuffer.covered.sum()


@pytest.mark.parametrize("colour", [(0.2, 0.5, 0.9), (0.95, 0.97, 1.0), (0.05, 0.05, 0.06)])
def test_an_occluder_is_found_and_not_soaked_up(face_model, rendered_faces, colour):
    inside = rendered_faces.gbuffer.covered
    truth = inside.clone()
    truth[:, :130] = False  # all below the nose, as a mask covers it
    painted = torch.tensor(colour)[None, :, None, None].expand_as(rendered_faces.picture)
    photo = torch.where(truth[:, None], painted, rendered_faces.picture)
    guidance, occluder = _photometric(face_model, rendered_faces, photo)
    union, common = (occluder | truth).sum((1, 2)), (occluder & truth).sum((1, 2))
    assert (common / union > 0.7).all()
    for item in range(2):
        with_face = psnr(guidance[item], rendered_faces.picture[item], truth[item])
        with_occluder = psnr(photo[item], rendered_faces.picture[item], truth[item])
        assert with_face > with_occluder + 3


def test_black_and_nothing_do_not_break_the_fit(face_model, rendered_faces):
    for photo in (torch.zeros(2, 3, 224, 224), torch.ones(2, 3, 224, 224)):
        guidance, _ = _photometric(face_model, rendered_faces, photo)
        assert torch.isfinite(guidance).all()


def test_a_real_photo_is_fitted(astronaut):
    photo, fit = astronaut
    assert float(fit.fit_error) < 0.02
    assert abs(float(fit.coefficients.pose[0, 0])) < 10  # she looks at the camera
    middle = torch.zeros_like(fit.face_mask)
    middle[:, 90:180, 70:150] = True
    # An average face in the right colours; grey would give about 12 dB.
    assert psnr(fit.guidance[0], photo[0], middle[0] & fit.face_mask[0]) > 15


def test_a_row_of_coefficients_is_split_as_it_was_made(face_model, rendered_faces):
    row = rendered_faces.coefficients.concatenated()
    again = Coefficients.split(row, face_model.sizes)
    for name, part in vars(rendered_faces.coefficients).items():
        assert torch.equal(getattr(again, name), part)
    first, last = coefficient_layout(face_model.sizes)["pose"]
    assert torch.equal(row[:, first:last], rendered_faces.coefficients.pose)
    with pytest.raises(ValueError, match="another face model"):
        Coefficients.split(row[:, 1:], face_model.sizes)
