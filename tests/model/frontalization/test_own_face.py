"""Beards and the shade on a turned cheek belong to the face; masks, hands and dark things on it do not."""

import pytest
import torch
from photographed_faces import BLUE, FRONTAL_POSES, colour_of, lower_face, painted, photographed, region, share

from cfr.model.frontalization.own_face import OwnFace


@pytest.fixture(scope="module")
def own_face(face_model) -> OwnFace:
    return OwnFace(face_model)


@pytest.fixture(scope="module")
def frontal(face_model, rendered_faces):
    return photographed(face_model, rendered_faces.coefficients, *FRONTAL_POSES)


@pytest.fixture(scope="module")
def turned(face_model, rendered_faces):
    return photographed(face_model, rendered_faces.coefficients, (65.0, 0.0, 0.0), (-65.0, 0.0, 0.0))


def test_a_beard_around_visible_lips_is_the_face(face_model, own_face, frontal):
    photo, view = frontal
    beard = lower_face(face_model, view) & ~region(face_model, view, "lips")
    bearded = painted(photo, beard, colour_of(photo, region(face_model, view, "brows")))
    assert share(own_face.flagged(bearded, beard, view), beard) > 0.95
    # Flagged together with the lips, as a detector does that has learnt what masks look like.
    flagged = lower_face(face_model, view)
    assert share(own_face.flagged(bearded, flagged, view), flagged) > 0.95


def test_a_mask_is_not_the_face_even_in_the_colour_of_the_brows(face_model, own_face, frontal):
    photo, view = frontal
    mask = lower_face(face_model, view)
    for colour in (BLUE, (0.95, 0.95, 0.95), colour_of(photo, region(face_model, view, "brows"))):
        assert not own_face.flagged(painted(photo, mask, colour), mask, view).any()


def test_without_visible_brows_nothing_is_told(face_model, own_face, frontal):
    photo, view = frontal
    brows, lower = region(face_model, view, "brows"), lower_face(face_model, view)
    beard = lower & ~region(face_model, view, "lips")
    bearded = painted(photo, beard, colour_of(photo, region(face_model, view, "brows")))
    assert not own_face.flagged(bearded, beard | brows, view).any()


def test_a_shaded_cheek_of_a_turned_head_is_the_face(face_model, own_face, turned, frontal):
    photo, view = turned
    cheek = lower_face(face_model, view)
    shaded = torch.where(cheek[:, None], photo * 0.4, photo)
    # The window around a pixel mixes in what is not skin at the rim of the mesh.
    assert share(own_face.flagged(shaded, cheek, view), cheek) > 0.85
    for colour in (BLUE, (0.03, 0.03, 0.03), (0.9, 0.9, 0.9)):
        assert share(own_face.flagged(painted(photo, cheek, colour), cheek, view), cheek) < 0.05
    # From the front the same may be a hand.
    photo, view = frontal
    cheek, skin = lower_face(face_model, view), region(face_model, view, "skin")
    hand = painted(photo, cheek, colour_of(photo, skin))
    assert not own_face.flagged(hand, cheek, view).any()


def test_a_finer_photo_tells_the_same(face_model, own_face, frontal):
    photo, view = frontal
    beard = lower_face(face_model, view) & ~region(face_model, view, "lips")
    bearded = painted(photo, beard, colour_of(photo, region(face_model, view, "brows")))
    finer = bearded.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert torch.equal(own_face.flagged(finer, beard, view), own_face.flagged(bearded, beard, view))
