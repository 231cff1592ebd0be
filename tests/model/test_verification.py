"""Verification figures on similarities whose figures are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfr.model.verification import cosine_similarity, equal_error_rate, fold_accuracies, roc_curve, true_accept_rate


def normal_scores(distance: float, count: int = 20000):
    generator = np.random.default_rng(0)
    same = np.arange(2 * count) < count
    return generator.normal(0, 1, 2 * count) + distance * same, same


def test_two_normal_distributions():
    # d' = 2: EER = Phi(-1) = 0.1587; TAR at FAR 1 % = Phi(2 - 2.3263) = 0.372. Tolerance: three standard errors.
    similarity, same = normal_scores(2.0)
    roc = roc_curve(similarity, same)
    assert equal_error_rate(roc) == pytest.approx(0.1587, abs=0.008)
    assert true_accept_rate(roc, 0.01) == pytest.approx(0.372, abs=0.03)
    folds = np.random.default_rng(1).integers(0, 10, len(same))
    accuracies = fold_accuracies(similarity, same, folds)
    assert accuracies.shape == (10,)
    assert accuracies.mean() == pytest.approx(0.8413, abs=0.01)


def test_perfect_and_useless():
    same = np.array([True, True, False, False] * 10)
    perfect = roc_curve(same * 1.0, same)
    assert equal_error_rate(perfect) == 0 and true_accept_rate(perfect, 0.0) == 1
    assert fold_accuracies(same * 1.0, same, np.arange(40) % 10).tolist() == [1.0] * 10
    useless = roc_curve(np.zeros(40), same)  # ties are accepted together
    assert equal_error_rate(useless) == pytest.approx(0.5)
    assert true_accept_rate(useless, 0.5) == 0


def test_threshold_is_not_chosen_on_the_fold_that_it_judges():
    # Fold 0 is separable, but at a threshold under which the others fail.
    similarity = np.array([0.9, 0.8, 0.9, 0.8, 0.5, 0.1])
    same = np.array([True, False] * 3)
    assert fold_accuracies(similarity, same, np.array([0, 0, 0, 0, 1, 1]))[1] == 0.5


def test_accepting_nothing_can_be_best():
    similarity, same = np.array([0.9, 0.8, 0.1, 0.9, 0.2]), np.array([False, False, True, False, True])
    assert fold_accuracies(similarity, same, np.array([0, 0, 0, 1, 1]))[1] == 0.5


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=40))
def test_curve_rises_and_rates_agree_with_counting(scores):
    similarity, same = (np.array(column) for column in zip(*scores, strict=True))
    if same.all() or not same.any():
        with pytest.raises(ValueError, match="two persons"):
            roc_curve(similarity, same)
        return
    roc = roc_curve(similarity, same)
    assert (np.diff(roc.true_accepts) >= 0).all() and (np.diff(roc.false_accepts) >= 0).all()
    assert roc.true_accepts[-1] == roc.false_accepts[-1] == 1
    for threshold, false, true in zip(roc.thresholds, roc.false_accepts, roc.true_accepts, strict=True):
        assert false == pytest.approx((similarity[~same] >= threshold).mean())
        assert true == pytest.approx((similarity[same] >= threshold).mean())
    assert 0 <= equal_error_rate(roc) <= 1


def test_cosine_similarity():
    first, second = np.array([[2.0, 0], [1, 1], [0, 0]]), np.array([[1.0, 0], [1, -1], [1, 0]])
    assert cosine_similarity(first, second).tolist() == pytest.approx([1, 0, 0])
