"""The numbers that say how far a row can be trusted."""

import torch
import torch.nn.functional as F

from cfr.model.quality import fraction, quality, sharpness


def test_blur_lowers_the_sharpness_of_a_photo(astronaut):
    photo, fit = astronaut
    blurred = F.avg_pool2d(photo, 9, stride=1, padding=4)
    sharp, soft = float(sharpness(photo, fit.face_mask)), float(sharpness(blurred, fit.face_mask))
    assert 0 < soft < 0.2 < 0.6 < sharp < 1


def test_every_part_lowers_the_quality():
    best = {"fit_error": 0.0, "landmark_score": 1.0, "occluded": 0.0, "visible": 1.0, "sharp": 1.0}

    def value(**changed: float) -> float:
        return float(quality(**{name: torch.tensor([number]) for name, number in {**best, **changed}.items()}))

    assert value() == 1
    worse = {"fit_error": 0.1, "landmark_score": 0.3, "occluded": 0.8, "visible": 0.2, "sharp": 0.1}
    for name, number in worse.items():
        assert 0 <= value(**{name: number}) < 0.8
    assert value(fit_error=0.25) < 0.01


def test_fraction_of_nothing_is_nothing():
    empty = torch.zeros(1, 4, 4, dtype=torch.bool)
    assert fraction(~empty, empty) == 0
    assert fraction(~empty, ~empty) == 1
