"""Double rotation, swap and views: what was seen comes back, what was hidden is a hole."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cfr.model.double_rotation import DoubleRotator
from cfr.model.morphology import dilate, erode
from cfr.model.occlusion_metrics import psnr
from cfr.model.swap import transfer_occlusion
from cfr.model.views import random_view


@pytest.fixture(scope="module")
def rotator() -> DoubleRotator:
    return DoubleRotator()


def _rotate(rotator, astronaut, yaw: float):
    photo, fit = astronaut
    view = fit.coefficients.pose + torch.tensor([[yaw, 0.0, 0.0]])
    return photo, fit, rotator.rotate(photo, fit.coefficients.concatenated(), view)


@pytest.mark.parametrize(("yaw", "share", "decibels"), [(0.0, 0.9, 45), (25.0, 0.6, 27), (-25.0, 0.6, 27)])
def test_what_stays_visible_survives_both_rotations(rotator, astronaut, yaw, share, decibels):
    """At the photo's own view only rounding is lost; at 25 degrees two bilinear samplings blur the detail."""
    photo, fit, result = _rotate(rotator, astronaut, yaw)
    assert result.visible.sum() > share * fit.face_mask.sum()
    assert psnr(result.rotated[0], photo[0], result.visible[0]) > decibels


@pytest.mark.parametrize("yaw", [80.0, -80.0])
def test_the_far_side_is_a_hole(rotator, astronaut, yaw):
    """Turned so that the nose points right, the camera sees the face's image-left side, and the other way round."""
    _, fit, result = _rotate(rotator, astronaut, yaw)
    left, right = result.visible[0, :, :100].sum(), result.visible[0, :, 125:].sum()
    near, far = (left, right) if yaw > 0 else (right, left)
    assert near > 20 * far.clamp(min=1)
    assert (result.rotated[:, :, ~result.visible[0]] == 0).all()
    assert not (result.visible & ~fit.face_mask).any()


def test_rotated_pictures_hold_no_colour_of_a_background_that_the_mesh_does_not_cover(rotator, astronaut):
    photo, fit = astronaut
    marked = torch.where(
        fit.face_mask[:, None], 0.5 * torch.ones_like(photo), torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1)
    )
    result = rotator.rotate(marked, fit.coefficients.concatenated(), fit.coefficients.pose + 30)
    green = (result.rotated_once[:, 1] > 0.55).sum()
    assert green == 0


def test_swap_changes_what_is_covered_and_nothing_else():
    generator = torch.Generator().manual_seed(1)
    photo, guidance = torch.rand(2, 1, 3, 64, 64, generator=generator)
    face = torch.zeros(1, 64, 64, dtype=torch.bool)
    face[:, 8:56, 8:56] = True
    occluder = torch.zeros_like(face)
    occluder[:, 20:40, 24:60] = True
    occluder &= face
    guidance = guidance * face[:, None]
    clean, swapped = transfer_occlusion(photo, guidance, occluder, face)
    deep, near = erode(occluder, 7), dilate(occluder, 7)
    # The de-occluded photo keeps no pixel of the occluder, not even at the seam.
    assert torch.allclose(clean[:, :, occluder[0]], guidance[:, :, occluder[0]])
    assert torch.equal(clean[:, :, ~near[0]], photo[:, :, ~near[0]])
    assert torch.allclose(swapped[:, :, deep[0]], photo[:, :, deep[0]])
    # The guidance is painted on with nothing but the occluder.
    assert torch.allclose(swapped[:, :, (~occluder)[0]], guidance[:, :, (~occluder)[0]])


@settings(max_examples=60, deadline=None)
@given(
    pose=st.tuples(st.floats(-90, 90), st.floats(-30, 30), st.floats(-30, 30)),
    seed=st.integers(0, 2**31),
    image_id=st.text(max_size=20),
    view_index=st.integers(0, 50),
)
def test_views_keep_the_papers_limits_and_depend_on_their_key_only(pose, seed, image_id, view_index):
    key = {"seed": seed, "image_id": image_id, "face_index": 0, "view_index": view_index}
    view = random_view(np.array(pose), **key)
    assert np.array_equal(view, random_view(np.array(pose), **key))
    assert (np.abs(view) <= [90, 30, 30]).all()
    assert (np.abs(view - np.array(pose)) <= np.array([90, 15, 15]) + 1e-3).all()


def test_views_are_spread_evenly():
    views = np.stack(
        [random_view(np.zeros(3), seed=0, image_id="a", face_index=0, view_index=index) for index in range(2000)]
    )
    # Uniform in +-90 and +-15: the mean of 2000 draws is within 4 deviations of 0, the spread within 5%.
    assert np.abs(views.mean(0) / (np.array([90, 15, 15]) / np.sqrt(3 * 2000))).max() < 4
    np.testing.assert_allclose(views.std(0), np.array([90, 15, 15]) / np.sqrt(3), rtol=0.05)
    other = random_view(np.zeros(3), seed=0, image_id="a", face_index=1, view_index=0)
    assert not np.array_equal(views[0], other)
