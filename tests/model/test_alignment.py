"""The five-point rule, affines and the context crop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cfr.model.alignment import (
    CONTEXT_MARGIN,
    CONTEXT_SIZE,
    CROP_SIZE,
    TARGET_SCALE,
    apply_affine,
    context_crop,
    crop_affine,
    invert_affine,
)

# Two synthetic cases of CFR-GAN's own preprocessing: height of the photo, landmarks, and its t (y up) and s.
REFERENCE = [
    (
        223,
        [[120.3, 80.2], [178.9, 84.6], [150.1, 118.7], [124.4, 150.9], [171.2, 153.3]],
        (148.49783784, 110.10676016),
        98.83259920,
    ),
    (
        260,
        [[20.5, 60.1], [95.2, 50.7], [60.9, 105.5], [35.7, 150.2], [100.3, 141.8]],
        (63.58797438, 166.68186866),
        129.83548615,
    ),
]
LANDMARKS = np.array(REFERENCE[0][1])


def identity(x: float, y: float) -> np.ndarray:
    """Affine that puts the photo's point (x, y) at the corner of the crop, at scale 1."""
    return np.array([1.0, 0.0, -x, 0.0, 1.0, -y])


@pytest.mark.parametrize(("height", "landmarks", "shift", "scale"), REFERENCE)
def test_same_scale_and_place_as_the_reference(height, landmarks, shift, scale):
    a, b, c, d, e, f = crop_affine(np.array(landmarks))
    assert (a, b, d) == (e, 0, 0)
    assert TARGET_SCALE / a == pytest.approx(scale, abs=1e-6)
    assert (CROP_SIZE / 2 - c) / a == pytest.approx(shift[0], abs=1e-6)
    assert height - 1 - (CROP_SIZE / 2 - f) / e == pytest.approx(shift[1], abs=1e-6)


def test_reference_cases_are_those_of_the_fixture(shared_dir):
    fixture = np.load(shared_dir / "fixtures" / "preprocess_synthetic.npz")
    for index, (height, landmarks, shift, scale) in enumerate(REFERENCE):
        assert fixture[f"img{index}_rgb_uint8"].shape[0] == height
        assert np.allclose(fixture[f"img{index}_lm5"], landmarks)
        assert np.allclose(fixture[f"img{index}_t"], shift)
        assert np.allclose(fixture[f"img{index}_s"], scale)


@given(
    scale=st.floats(0.05, 50),
    x=st.floats(-5000, 5000),
    y=st.floats(-5000, 5000),
    turn=st.floats(-np.pi, np.pi),
)
def test_the_crop_follows_the_face(scale, x, y, turn):
    """However a face is scaled and moved in the photo, it lies the same in the crop; rolled, it keeps its size."""
    expected = apply_affine(LANDMARKS, crop_affine(LANDMARKS))
    moved = LANDMARKS * scale + [x, y]
    assert np.allclose(apply_affine(moved, crop_affine(moved)), expected, atol=1e-6)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    rolled = (moved - moved[2]) @ rotation.T
    crop = apply_affine(rolled, crop_affine(rolled))
    assert np.linalg.norm(crop[0] - crop[4]) == pytest.approx(np.linalg.norm(expected[0] - expected[4]), rel=0.02)


@given(
    affine=st.tuples(*[st.floats(0.1, 10), st.floats(-0.05, 0.05), st.floats(-1e4, 1e4)] * 2).map(
        lambda v: np.array([v[0], v[1], v[2], v[4], v[3], v[5]])
    )
)
def test_inverse_undoes_the_affine(affine):
    points = np.array([[0.0, 0.0], [112.5, 7.25], [-300.0, 4000.0]])
    assert np.allclose(apply_affine(apply_affine(points, affine), invert_affine(affine)), points, atol=1e-6)


def test_singular_affine_has_no_inverse():
    with pytest.raises(ValueError, match="no inverse"):
        invert_affine(np.array([1.0, 2.0, 0.0, 2.0, 4.0, 0.0]))


@pytest.mark.parametrize(
    ("landmarks", "message"),
    [
        (np.full((5, 2), 30.0), "coincide"),
        (np.full((5, 2), np.nan), "finite"),
        (np.zeros((4, 2)), "five"),
    ],
)
def test_useless_landmarks_are_refused(landmarks, message):
    with pytest.raises(ValueError, match=message):
        crop_affine(landmarks)


@pytest.fixture(scope="module")
def astronaut(photos_dir) -> np.ndarray:
    with Image.open(photos_dir / "astronaut.png") as image:
        return np.asarray(image.convert("RGB"))


def test_context_at_scale_one_is_the_photo_itself(astronaut):
    context = context_crop(astronaut, identity(120, 100))
    top, left = 100 - CONTEXT_MARGIN, 120 - CONTEXT_MARGIN
    assert np.array_equal(context, astronaut[top : top + CONTEXT_SIZE, left : left + CONTEXT_SIZE])


def test_outside_the_photo_is_black(astronaut):
    context = context_crop(astronaut, identity(-30, 400))
    inside = CONTEXT_MARGIN + 30
    assert not context[:, : inside - 1].any()
    assert not context[512 - 400 + CONTEXT_MARGIN + 1 :].any()
    rows = slice(CONTEXT_MARGIN, CONTEXT_MARGIN + 100)
    assert np.array_equal(context[rows, inside:], astronaut[400:500, : CONTEXT_SIZE - inside])


@pytest.mark.parametrize("corner", [(5000, 5000), (-5000, 100), (100, -5000)])
def test_far_outside_the_photo_all_is_black(astronaut, corner):
    assert not context_crop(astronaut, identity(*corner)).any()


@pytest.mark.parametrize("zoom", [0.07, 0.3, 0.8, 1.0, 1.7, 6.0])
def test_context_shows_each_point_where_the_affine_says(zoom):
    """On a photo whose colour is the position, the crop's colours are the positions by the inverse affine."""
    size = 6000 if zoom < 0.1 else 1500
    ramp = np.linspace(0, 255, size)
    photo = np.empty((size, size, 3), np.uint8)
    photo[..., 0] = np.round(ramp)
    photo[..., 1] = np.round(ramp)[:, None]
    photo[..., 2] = 77
    affine = np.array([zoom, 0, CROP_SIZE / 2 - zoom * size * 0.5, 0, zoom, CROP_SIZE / 2 - zoom * size * 0.45])
    context = context_crop(photo, affine)
    centres = np.arange(CONTEXT_SIZE) + 0.5 - CONTEXT_MARGIN
    seen = apply_affine(np.column_stack([centres, centres]), invert_affine(affine)) - 0.5
    expected = seen * 255 / (size - 1)
    assert np.abs(context[160, :, 0] - expected[:, 0]).max() <= 1.5
    assert np.abs(context[:, 160, 1] - expected[:, 1]).max() <= 1.5
    assert (context[..., 2] == 77).all()


def test_fine_stripes_become_grey_not_moire():
    stripes = np.zeros((2000, 2000, 3), np.uint8)
    stripes[:, ::2] = 255
    context = context_crop(stripes, np.array([0.23, 0, -120.0, 0, 0.23, -120.0]))
    assert np.abs(context.astype(int) - 127).max() <= 8


@pytest.mark.parametrize(
    "affine",
    [[1, 0.1, 0, 0, 1, 0], [-1, 0, 0, 0, 1, 0], [1, 0, np.nan, 0, 1, 0], [0, 0, 0, 0, 0, 0]],
    ids=["shear", "mirror", "nan", "zero"],
)
def test_crops_are_scaled_and_shifted_only(astronaut, affine):
    with pytest.raises(ValueError, match="scales and shifts only"):
        context_crop(astronaut, np.array(affine))
