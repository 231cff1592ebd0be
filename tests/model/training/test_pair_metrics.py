"""Scores within regions against plain loops in float64."""

import numpy as np
import pytest
import torch

from cfr.model.training.pair_metrics import LEAST_PIXELS, mask_overlap, region_scores, ssim_map


@pytest.fixture
def pictures() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    image, target = torch.rand(2, 3, 3, 20, 24, generator=generator)
    region = torch.rand(3, 1, 20, 24, generator=generator) < 0.4
    return image, target, region


def test_l1_and_psnr(pictures):
    scores = region_scores(*pictures)
    for n, (image, target, region) in enumerate(zip(*(each.double().numpy() for each in pictures), strict=True)):
        difference = (image - target)[:, region[0] > 0]
        assert scores["l1"][n] == pytest.approx(np.abs(difference).mean(), rel=1e-5)
        assert scores["psnr"][n] == pytest.approx(10 * np.log10(1 / (difference**2).mean()), rel=1e-5)


def test_ssim_of_one_pixel(pictures):
    image, target, _ = pictures
    found = ssim_map(image, target)
    y, x = 9, 12
    steps = np.arange(-5, 6)
    window = np.exp(-(steps[:, None] ** 2 + steps**2) / (2 * 1.5**2))
    window /= window.sum()
    a, b = (each[0, 1, y - 5 : y + 6, x - 5 : x + 6].double().numpy() for each in (image, target))
    mean_a, mean_b = (window * a).sum(), (window * b).sum()
    var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
    covariance = (window * (a - mean_a) * (b - mean_b)).sum()
    expected = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
    expected /= (mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)
    assert found[0, 1, y, x] == pytest.approx(expected, abs=1e-4)
    assert ssim_map(image, image).min() > 0.9999


def test_pixels_outside_the_region_do_not_count(pictures):
    image, target, region = pictures
    elsewhere = torch.where(region, image, 1 - image)
    for name in ("l1", "psnr"):
        assert torch.allclose(
            region_scores(image, target, region)[name], region_scores(elsewhere, target, region)[name]
        )


def test_small_regions_are_not_measured(pictures):
    image, target, region = pictures
    region = torch.zeros_like(region)
    region.view(3, -1)[1, :LEAST_PIXELS] = True
    for score in region_scores(image, target, region).values():
        assert score.isnan().tolist() == [True, False, True]


def test_mask_overlap():
    mask = torch.zeros(3, 1, 4, 4, dtype=torch.bool)
    target = mask.clone()
    mask[0, 0, 0], target[0, 0, :2] = True, True
    mask[1] = True
    assert mask_overlap(mask, target)[:2].tolist() == [0.5, 0.0]
    assert mask_overlap(mask, target)[2].isnan()
