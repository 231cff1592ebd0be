"""The bootstrap over people of benchmarks/verification.py."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "verification.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("verification_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def comparison(benchmark):
    """Two frontal photos and one profile of each of three people, whose descriptors differ in how alike they are."""
    generator = np.random.default_rng(3)
    person = np.repeat(np.arange(3), 3)
    frontal = np.tile([True, True, False], 3)
    raw = np.eye(3)[person] + generator.normal(0, 0.1, (9, 3)) * (1 + person[:, None])
    photos = benchmark.Photos(person, frontal, frontal, np.zeros(9), raw, raw * 0.9)
    return benchmark.Comparison(photos, ~frontal, {"raw": (raw, raw), "turned": (raw * 0.9, raw)})


def _similarity(comparison, people, way="raw") -> float:
    return comparison.measure(np.array(people))[way][0]


@pytest.mark.parametrize("way", ["raw", "turned"])
def test_a_person_who_is_drawn_twice_counts_twice(comparison, way):
    alone = [_similarity(comparison, [person], way) for person in range(3)]
    # All have the same number of pairs.
    assert _similarity(comparison, [0, 1, 2], way) == pytest.approx(np.mean(alone))
    assert _similarity(comparison, [0, 0, 2], way) == pytest.approx((2 * alone[0] + alone[2]) / 3)
    assert _similarity(comparison, [1, 1, 1], way) == pytest.approx(alone[1])


def test_two_copies_of_a_person_are_never_compared_as_two_people(comparison):
    assert np.isnan(comparison.measure(np.array([1, 1, 1]))["raw"][1])
    assert comparison.measure(np.array([0, 0, 1]))["raw"][1] == comparison.measure(np.array([0, 1]))["raw"][1]
