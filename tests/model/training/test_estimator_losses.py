"""The estimator's losses: gradients against finite differences on a tiny face, weights, and what they are zero for."""

import pytest
import torch
from tiny_face import random_rows, write_face_model

from cfr.model import estimator_losses as losses
from cfr.model.camera import rotation_matrix, rotation_vectors
from cfr.model.estimated_faces import BaselFaceEstimator, MorphableFaceEstimator, load_face_estimator
from cfr.model.face_model import MorphableModel
from cfr.model.paper.face_model import BaselFaceModel


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> MorphableFaceEstimator:
    """In double precision, for finite differences."""
    model = MorphableModel.load(write_face_model(tmp_path_factory.mktemp("face") / "tiny.npz"))
    return MorphableFaceEstimator(model.double())


def agrees(loss, rows: torch.Tensor) -> None:
    """The gradient of a loss of rows is that of central differences."""
    assert torch.autograd.gradcheck(loss, rows.double().requires_grad_(), eps=1e-6, atol=1e-4, rtol=1e-4)


GEOMETRIC = {
    "landmark squares": lambda faces, truth: losses.landmark_squares(faces.landmarks, truth.landmarks),
    "landmark distances": lambda faces, truth: losses.landmark_distances(faces.landmarks, truth.landmarks),
    "prior": lambda faces, truth: losses.coefficient_prior(
        faces.coefficients.identity, faces.coefficients.expression, faces.coefficients.albedo
    ),
    "light": lambda faces, truth: losses.white_light(faces.coefficients.light),
    "points": lambda faces, truth: losses.point_distances(faces.landmarks, truth.landmarks),
    "likelihood": lambda faces, truth: losses.coefficient_likelihood(faces.coefficients, truth.coefficients, None),
}


@pytest.mark.parametrize("name", GEOMETRIC)
def test_gradients_of_losses_of_coefficients_and_points(tiny, name):
    truth = tiny.faces(random_rows(2, 1).double())
    agrees(lambda rows: GEOMETRIC[name](tiny.faces(rows), truth), random_rows(2, 2))


def test_a_network_that_knows_its_errors_is_more_likely(tiny):
    """Of all deviations the one that the errors have is the most likely; gradients are those of finite differences."""
    found, truth = (tiny.faces(random_rows(64, seed).double()).coefficients for seed in (1, 2))
    deviation = losses.geometry_errors(found, truth).square().mean(0).sqrt().log().expand(64, -1)
    plain = {
        shift: torch.distributions.Normal(0, (deviation + shift).exp())
        .log_prob(losses.geometry_errors(found, truth))
        .mean()
        for shift in (-0.5, 0.0, 0.5)
    }
    assert plain[0.0] > max(plain[-0.5], plain[0.5])
    log = deviation.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(losses.coefficient_likelihood(found, truth, log), log)
    # The weight of an error is not differentiated, so that the deviations still end where the likelihood is largest.
    assert gradient.mean(0).abs().max() < 1e-9
    (gradient,) = torch.autograd.grad(losses.coefficient_likelihood(found, truth, log + 0.5), log)
    assert (gradient.mean(0) > 0).all()


def test_rotation_vectors_are_axis_and_angle():
    base = rotation_matrix(torch.tensor([[40.0, -10.0, 20.0]], dtype=torch.double))
    for axis in range(3):
        for degrees in (-120.0, -5.0, 0.0, 3.0, 90.0):
            angle = torch.tensor(degrees, dtype=torch.double).deg2rad()
            vector = torch.zeros(3, dtype=torch.double)
            vector[axis] = angle
            cross = torch.zeros(3, 3, dtype=torch.double)
            cross[[2, 0, 1], [1, 2, 0]], cross[[1, 2, 0], [2, 0, 1]] = vector, -vector
            found = rotation_vectors(torch.matrix_exp(cross) @ base, base)[0]
            expected = torch.zeros(3, dtype=torch.double)
            expected[axis] = 2 * (angle / 2).sin()
            torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)
            assert losses.turned_by(torch.matrix_exp(cross) @ base, base).item() == pytest.approx(
                abs(degrees), abs=1e-5
            )


def test_mirrored_coefficients_are_the_mirrored_face(tiny):
    """Of the package's face: vertices of the mirrored face are those of the face on the other side."""
    own = load_face_estimator("default")
    generator = torch.Generator().manual_seed(0)
    row = torch.randn(2, sum(own.sizes) + 33, generator=generator) * 0.3
    faces = own.faces(row)
    mirrored = own.mirrored(faces.coefficients)
    vertices = own.model.shape(mirrored.identity, mirrored.expression)
    there = own.model.shape(faces.coefficients.identity, faces.coefficients.expression)[:, own.model.mirror]
    torch.testing.assert_close(vertices, there * torch.tensor([-1.0, 1.0, 1.0]), atol=5e-3, rtol=0)
    middle = tuple(range(27, 31))  # bridge of the nose
    points = own.landmarks_of(mirrored)[:, middle]
    expected = faces.landmarks[:, middle] * torch.tensor([-1.0, 1.0]) + torch.tensor([224.0, 0.0])
    torch.testing.assert_close(points, expected, atol=0.5, rtol=0)
    torch.testing.assert_close(own.landmarks(row), faces.landmarks, atol=0.01, rtol=0)


def test_gradient_of_skin_uniformity(tiny):
    agrees(lambda rows: losses.skin_uniformity(tiny.faces(rows).albedo, tiny.skin) / 1e3, random_rows(2, 2))


def test_gradient_of_the_photometric_loss(tiny):
    """Through the G-buffer's resolve, to shape, pose, albedo and light.

    Pixels near an edge of a triangle are left out: there a step of the difference may show another triangle.
    """
    rows = random_rows(1, 2).double()
    with torch.no_grad():
        photo, there = tiny.render(tiny.faces(random_rows(1, 3).double()))
    _, covered = tiny.render(tiny.faces(rows))
    mask = there & covered

    def loss(rows):
        picture, _ = tiny.render(tiny.faces(rows))
        error, weight = losses.photometric(picture, photo, mask)
        return error / weight / 255

    rows.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(rows), rows)
    step = 1e-6
    for index in range(40):
        change = torch.zeros_like(rows)
        change[0, index] = step
        with torch.no_grad():
            expected = (loss(rows + change) - loss(rows - change)) / (2 * step)
        assert gradient[0, index] == pytest.approx(expected.item(), rel=1e-3, abs=1e-5), index


def test_gradient_of_feature_matching():
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 4, 8, 8), (2, 8, 4, 4), (2, 16, 2, 2), (2, 32, 1, 1)]
    found, wanted = ([torch.randn(s, generator=generator, dtype=torch.double) for s in shapes] for _ in range(2))
    inputs = [each.requires_grad_() for each in found]
    assert torch.autograd.gradcheck(lambda *features: losses.feature_matching(features, wanted), inputs)
    ones = [torch.ones(s) for s in shapes]
    assert losses.feature_matching(ones, [2 * each for each in ones]) == pytest.approx(1 / 8 + 1 / 4 + 1 / 2 + 1)


def test_points_are_weighted_as_in_the_paper():
    truth = torch.zeros(1, 68, 2)
    for weights, loss, power in (
        (losses.FITTING_WEIGHTS, losses.landmark_squares, 2),
        (losses.TEACHING_WEIGHTS, losses.landmark_distances, 1),
    ):
        for point, group in ((30, 0), (60, 0), (67, 0), (37, 1), (48, 1), (0, 2), (27, 2), (36, 2), (59, 2)):
            moved = truth.clone()
            moved[0, point, 0] = 3
            assert loss(moved, truth) == pytest.approx(weights[group] * 3**power / 68)


def test_photometric_is_the_length_of_the_difference_within_the_mask():
    photo = torch.zeros(1, 3, 2, 2)
    picture = photo.clone()
    picture[0, :, 0, 0] = torch.tensor([3.0, 4.0, 0.0]) / 255
    picture[0, :, 1, 1] = 1
    mask = torch.tensor([[[True, True], [False, False]]])
    error, weight = losses.photometric(picture, photo, mask)
    assert (error / weight).item() == pytest.approx(2.5, abs=1e-2)  # a norm of 1e-3 stands for zero


def test_uniform_skin_and_white_light_cost_nothing():
    skin = torch.tensor([True, True, False])
    albedo = torch.tensor([[[0.5, 0.4, 0.3], [0.5, 0.4, 0.3], [0.0, 0.0, 0.0]]])
    assert losses.skin_uniformity(albedo, skin) == 0
    assert losses.skin_uniformity(albedo, torch.tensor([True, True, True])) > 1
    assert losses.white_light(torch.randn(2, 9, 1).expand(-1, -1, 3)).item() == pytest.approx(0, abs=1e-12)


def test_every_face_model_gives_landmarks_and_a_picture():
    """The package's face, and the same one in the layout of the paper's model, look the same way."""
    from paper_files import basel_arrays

    own = load_face_estimator("default")
    for estimator in (own, BaselFaceEstimator(BaselFaceModel(basel_arrays()))):
        faces = estimator.faces(torch.zeros(1, sum(estimator.sizes) + 33))
        picture, covered = estimator.render(faces)
        assert picture.shape == (1, 3, 224, 224)
        assert 0.1 < covered.float().mean() < 0.9
        points = faces.landmarks[0]
        assert 100 < points[30, 0] < 124
        assert points[36, 0] < points[30, 0] < points[45, 0]
        assert points[36, 1] < points[30, 1] < points[57, 1] < points[8, 1]
        assert estimator.skin.any()
