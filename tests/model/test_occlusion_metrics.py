"""Mask scores, picture scores and the two baselines, on cases whose result is known."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from cfr.model.face_model import MorphableModel
from cfr.model.images import decode_image
from cfr.model.known_occlusion import cropped_mask, difference_mask
from cfr.model.occlusion_metrics import LARGEST_PSNR, mask_scores, mean_colour, mirrored_pixels, psnr, ssim
from cfr.model.photo_fits import box_overlap, carried_mask
from cfr.model.rendering import pose_mesh


def _rectangle(top: int, left: int, bottom: int, right: int) -> torch.Tensor:
    mask = torch.zeros(224, 224, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def test_mask_scores_of_a_shifted_rectangle():
    face = _rectangle(0, 0, 200, 200)
    scores = mask_scores(_rectangle(100, 50, 200, 150), _rectangle(100, 0, 200, 100), face)
    assert scores.iou == pytest.approx(1 / 3)
    assert scores.recall == pytest.approx(0.5) and scores.precision == pytest.approx(0.5)
    assert scores.false_positive == pytest.approx(5000 / 30000)
    assert scores.cover == pytest.approx(0.25)


def test_nothing_outside_the_face_counts():
    face = _rectangle(0, 0, 100, 100)
    truth = _rectangle(50, 50, 150, 150)
    assert mask_scores(truth & face, truth, face).iou == 1
    assert mask_scores(truth | _rectangle(0, 150, 224, 224), truth, face) == mask_scores(truth, truth, face)


def test_ratios_without_a_denominator_are_none():
    nothing, face = torch.zeros(224, 224, dtype=torch.bool), _rectangle(0, 0, 9, 9)
    scores = mask_scores(nothing, nothing, face)
    assert (scores.iou, scores.recall, scores.precision, scores.false_positive) == (None, None, None, 0.0)
    with pytest.raises(ValueError, match="no pixel"):
        mask_scores(nothing, nothing, nothing)


def test_psnr_and_ssim_judge_their_region_only():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(3, 64, 64, generator=generator)
    region = torch.zeros(64, 64, dtype=torch.bool)
    region[20:40, 20:40] = True
    picture = torch.where(region, truth + 0.1, torch.rand(3, 64, 64, generator=generator))
    assert psnr(picture, truth, region) == pytest.approx(20, abs=1e-3)
    assert psnr(truth, truth, region) == LARGEST_PSNR
    damaged_elsewhere = torch.where(region, truth, picture)
    assert ssim(damaged_elsewhere, truth, region) == pytest.approx(1, abs=1e-5)
    noise = torch.where(region, torch.rand(3, 64, 64, generator=generator), truth)
    assert ssim(noise, truth, region) < 0.4


def test_ssim_of_a_uniform_shift_is_wangs_luminance_term():
    first, second = torch.full((3, 32, 32), 0.5), torch.full((3, 32, 32), 0.25)
    expected = (2 * 0.5 * 0.25 + 1e-4) / (0.5**2 + 0.25**2 + 1e-4)
    everywhere = torch.ones(32, 32, dtype=torch.bool)
    assert ssim(first, second, everywhere) == pytest.approx(expected, rel=1e-3)


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.load_default()


def _turned(model: MorphableModel, yaw: float):
    vertices = model.mean_shape[None]
    mesh = pose_mesh(vertices, model.vertex_normals(vertices), torch.tensor([[yaw, 0.0, 0.0]]), torch.zeros(1, 3))
    return mesh, mesh.rasterized(model.triangles)


def test_mirrored_pixels_come_from_the_other_half_of_a_turned_head(model):
    """A plain flip of the picture would fail here: the head is turned by 15 degrees."""
    mesh, gbuffer = _turned(model, 15.0)
    # Paint |model x|: symmetric on the head, not in the picture.
    from cfr.model.rasterize import interpolate

    picture = interpolate(gbuffer, model.mean_shape[None].abs() * torch.tensor([1.0, 0, 0]), model.triangles)[0]
    inside = gbuffer.covered[0]
    mirrored = mirrored_pixels(model, picture, mesh, gbuffer, inside)
    rim = torch.nn.functional.max_pool2d((~inside)[None].float(), 21, stride=1, padding=10)[0] > 0
    middle = inside & ~rim
    error = (mirrored - picture)[0, middle].abs()
    assert error.median() < 0.02 and picture[0, middle].max() > 0.4
    flipped = picture.flip(-1)
    assert (flipped - picture)[0, middle].abs().median() > 3 * error.median()


def test_mirrored_pixels_do_not_take_the_occluders_colour(model):
    """With both halves covered, as by sunglasses, the baseline falls back to the mean colour."""
    mesh, gbuffer = _turned(model, 0.0)
    covered = _rectangle(90, 0, 120, 224)
    photo = torch.where(
        covered, torch.tensor([0.0, 0.0, 1.0])[:, None, None], torch.tensor([0.7, 0.5, 0.4])[:, None, None]
    )
    visible = gbuffer.covered[0] & ~covered
    mirrored = mirrored_pixels(model, photo, mesh, gbuffer, visible)
    inside = gbuffer.covered[0] & covered
    torch.testing.assert_close(mirrored[:, inside], mean_colour(photo, visible)[:, inside], atol=1e-4, rtol=0)
    assert mean_colour(photo, visible)[:, 0, 0].tolist() == pytest.approx([0.7, 0.5, 0.4], abs=1e-4)


def test_what_was_drawn_on_a_photo_is_found_despite_jpeg(photos_dir, tmp_path):
    photo = decode_image((photos_dir / "grace_hopper.jpg").read_bytes())
    drawn = photo.copy()
    height, width = photo.shape[:2]
    drawn[height // 3 : height // 2, width // 3 : 2 * width // 3] = (120, 200, 230)
    # Two lossy copies of different quality, as photos and their masked versions on the web are.
    copies = []
    for array, quality in ((photo, 90), (drawn, 75)):
        Image.fromarray(array).save(tmp_path / "copy.jpg", quality=quality)
        copies.append(decode_image((tmp_path / "copy.jpg").read_bytes()))
    truth = (drawn != photo).any(-1)
    found = difference_mask(copies[1], copies[0])
    assert (found & truth).sum() / (found | truth).sum() > 0.95
    with pytest.raises(ValueError, match="different sizes"):
        difference_mask(photo, photo[:-1])


def test_a_photos_mask_lands_where_the_affine_puts_it():
    mask = np.zeros((400, 300), bool)
    mask[100:200, 50:150] = True
    # x' = 0.5 x + 10, y' = 0.5 y + 20
    affine = np.array([0.5, 0.0, 10.0, 0.0, 0.5, 20.0])
    found = cropped_mask(mask, affine)
    assert mask_scores(found, _rectangle(70, 35, 120, 85), _rectangle(0, 0, 224, 224)).iou > 0.98


def test_a_mask_is_carried_between_two_crops_of_one_photo():
    source = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    target = np.array([2.0, 0.0, -20.0, 0.0, 2.0, -40.0])
    carried = carried_mask(_rectangle(30, 20, 60, 70), source, target)
    assert torch.equal(carried, _rectangle(20, 20, 80, 120))
    # The first crop ends at 224: what the second shows beyond is unknown and so not face.
    beyond = carried_mask(torch.ones(224, 224, dtype=torch.bool), source, np.array([1.0, 0.0, -100.0, 0.0, 1.0, 0.0]))
    assert torch.equal(beyond, _rectangle(0, 0, 224, 124))


def test_box_overlap():
    boxes = np.array([[0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    assert box_overlap(boxes, boxes[0]).tolist() == pytest.approx([1.0, 1 / 3, 0.0])
    assert math.isfinite(box_overlap(boxes, boxes[2]).sum())
