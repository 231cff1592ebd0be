"""Landmark error by the AFLW2000-3D protocol, with cases whose result is known by hand."""

import numpy as np
import pytest

from cfr.model.landmark_metrics import (
    YAW_BINS,
    area_under_roc,
    load_point_stack,
    mean_of_bins,
    normalised_mean_error,
    summarise,
    summarise_by_yaw,
    yaw_bin,
)


def _square(side: float) -> np.ndarray:
    return np.array([[0.0, 0.0], [side, 0.0], [0.0, side], [side, side]])


def test_error_is_the_mean_distance_over_the_side_of_the_true_box():
    truth = _square(100)
    assert normalised_mean_error(truth + np.array([3.0, 4.0]), truth) == pytest.approx(0.05)
    # The box is the truth's: twice the size halves the error, a large prediction changes nothing.
    assert normalised_mean_error(2 * truth + np.array([3.0, 4.0]), 2 * truth) == pytest.approx(0.025)
    assert normalised_mean_error(np.array([truth * 2, truth]), np.array([truth, truth])).shape == (2,)


def test_depth_is_ignored():
    truth = np.column_stack([_square(100), [1.0, 2.0, 3.0, 4.0]])
    assert normalised_mean_error(_square(100), truth) == 0


def test_degenerate_truth_is_refused():
    with pytest.raises(ValueError, match="no area"):
        normalised_mean_error(np.zeros((4, 2)), np.zeros((4, 2)))


@pytest.mark.parametrize(
    ("yaw", "name"), [(0, "0-30"), (-30, "0-30"), (30.1, "30-60"), (-60, "30-60"), (60.5, "60-90"), (-95, "60-90")]
)
def test_bins_take_the_absolute_yaw_and_their_upper_boundary(yaw, name):
    assert yaw_bin(yaw) == name


def test_the_protocols_figure_weighs_bins_and_not_photos():
    by_yaw = summarise_by_yaw([0.02, 0.02, 0.02, 0.04, 0.06], [0, 5, -5, 45, -80])
    assert [by_yaw[name].n for name in YAW_BINS] == [3, 1, 1]
    assert mean_of_bins(by_yaw) == pytest.approx(0.04)


def test_an_empty_bin_leaves_the_protocols_figure_undefined():
    assert mean_of_bins(summarise_by_yaw([0.02, 0.03], [0, 45])) is None


def test_bootstrap_interval_holds_the_mean_narrows_with_n_and_repeats():
    generator = np.random.default_rng(0)
    few, many = generator.normal(5, 1, 10), generator.normal(5, 1, 1000)
    small, large = summarise(few), summarise(many)
    assert small.interval[0] < small.mean < small.interval[1]
    assert large.interval[1] - large.interval[0] < small.interval[1] - small.interval[0]
    # 1.96 standard errors either side for normal values.
    assert large.interval[1] - large.interval[0] == pytest.approx(2 * 1.96 * many.std() / np.sqrt(1000), rel=0.1)
    assert summarise(few) == small
    assert summarise([]).mean is None and summarise([1.0]).interval is None


def test_area_under_roc_counts_ordered_pairs():
    assert area_under_roc([0.9, 0.8, 0.1], [True, True, False]) == 1.0
    assert area_under_roc([0.9, 0.2, 0.5], [True, True, False]) == 0.5
    assert area_under_roc([0.5, 0.5], [True, False]) == 0.5
    assert area_under_roc([0.5, 0.4], [True, True]) is None


@pytest.mark.parametrize("layout", [(7, 68, 2), (7, 68, 3), (7, 2, 68), (7, 3, 68)])
def test_every_layout_of_prediction_files_gives_the_same_points(layout):
    points = np.random.default_rng(0).random((7, 68, 3))
    stored = points if layout[1] == 68 else points.transpose(0, 2, 1)
    stored = stored[..., : layout[2]] if layout[1] == 68 else stored[:, : layout[1]]
    np.testing.assert_array_equal(load_point_stack(stored), points[..., :2])


def test_a_wrong_number_of_points_is_refused():
    with pytest.raises(ValueError, match="68"):
        load_point_stack(np.zeros((7, 5, 2)))
