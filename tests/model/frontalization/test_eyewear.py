"""The frame goes with the lenses; without lenses nothing does."""

import pytest
import torch
from photographed_faces import FRONTAL_POSES, lower_face, painted, photographed, region, share

from cfr.model.frontalization.eyewear import Eyewear
from cfr.model.morphology import dilate

BLACK = (0.03, 0.03, 0.03)


@pytest.fixture(scope="module")
def eyewear(face_model) -> Eyewear:
    return Eyewear(face_model)


@pytest.fixture(scope="module")
def frontal(face_model, rendered_faces):
    """A photo of two faces of pale and dark skin, and its view."""
    return photographed(face_model, rendered_faces.coefficients, *FRONTAL_POSES)


def glasses(face_model, view) -> tuple[torch.Tensor, torch.Tensor]:
    """Lenses and the frame around them, off the brows, (B,320,320) bool each."""
    lenses = dilate(region(face_model, view, "sclera", "iris", "pupil"), 13)
    frame = dilate(lenses, 9) & ~lenses & ~dilate(region(face_model, view, "brows"), 7)
    return lenses, frame


@pytest.mark.parametrize("colour", [BLACK, (0.95, 0.95, 0.95), (0.1, 0.2, 0.8)])
def test_the_frame_goes_with_the_lenses(face_model, eyewear, frontal, colour):
    photo, view = frontal
    lenses, frame = glasses(face_model, view)
    worn = painted(painted(photo, lenses, BLACK), frame, colour)
    found = eyewear.added(worn, lenses, ~lenses, view)
    assert share(found, lenses) == 1
    assert share(found, frame) > 0.9
    # The shade beside the nose may look like a frame, too, but not much of the face.
    assert share(found, view.gbuffer.covered & ~lenses & ~frame) < 0.05
    assert not (found & region(face_model, view, "brows") & ~lenses).any()


def test_a_frame_in_the_colour_of_skin_cannot_be_told(face_model, eyewear, frontal):
    photo, view = frontal
    lenses, _ = glasses(face_model, view)
    found = eyewear.added(painted(photo, lenses, BLACK), lenses, ~lenses, view)
    assert share(found, view.gbuffer.covered & ~lenses) < 0.03


def test_only_what_covers_the_eyes_has_a_frame(face_model, eyewear, frontal):
    photo, view = frontal
    _, frame = glasses(face_model, view)
    worn = painted(photo, frame, BLACK)
    mask = lower_face(face_model, view)
    assert torch.equal(eyewear.added(worn, mask, ~mask, view), mask)
    nothing = torch.zeros_like(mask)
    assert not eyewear.added(worn, nothing, ~nothing, view).any()
