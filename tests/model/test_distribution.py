"""Distances of two sets of features, where the answer is known, and which files the features come from."""

import pytest
import torch

from cfr.model.checkpoints import CheckpointError
from cfr.model.distribution import load_feature_network, nearest, set_distances
from cfr.model.networks.coefficient_regressor import CoefficientRegressor
from cfr.model.networks.identity_encoder import IdentityEncoder
from cfr.model.networks.perceptual import ResNet50Slices, VGG19Slices


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(60, 8, generator=torch.Generator().manual_seed(1))


def kernel_by_hand(first: torch.Tensor, second: torch.Tensor) -> float:
    """Squared maximum mean discrepancy without bias (Gretton et al. 2012, equation 3)."""

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a.double() @ b.double().T / a.shape[1] + 1) ** 3

    def within(a: torch.Tensor) -> torch.Tensor:
        return (kernel(a, a).sum() - kernel(a, a).diagonal().sum()) / (len(a) * (len(a) - 1))

    return float(within(first) + within(second) - 2 * kernel(first, second).mean())


def test_a_shifted_set_is_as_far_as_the_shift(features):
    shift = torch.tensor([3.0, 0, 0, 4.0, 0, 0, 0, 0])
    found = set_distances(features, features + shift)
    assert found.frechet.value == pytest.approx(25, rel=1e-5)  # the distributions have the same covariance
    assert found.kernel.value == pytest.approx(kernel_by_hand(features, features + shift), rel=1e-6)


def test_a_spread_set_is_as_far_as_the_deviations_differ(features):
    centred = features - features.mean(0)
    found = set_distances(centred, 3 * centred)
    # Tr(S + 9 S - 2 * 3 S) = 4 Tr S
    assert found.frechet.value == pytest.approx(4 * float(centred.T.cov().trace()), rel=1e-5)


def test_fewer_pictures_than_features_are_measured_the_same(features):
    """The same points in a space of more dimensions are as far from each other."""
    turn, _ = torch.linalg.qr(torch.randn(300, 300, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    wide = (features.double() @ turn[:8]).float()
    plain, embedded = (set_distances(each[:30], each[30:]) for each in (features, wide))
    assert embedded.frechet.value == pytest.approx(plain.frechet.value, rel=1e-4)


def test_the_interval_is_as_wide_as_other_draws_differ():
    """Standard errors of sixteen draws, against the deviation of their values: a factor of 2 for 12 halves and luck."""
    generator = torch.Generator().manual_seed(3)
    draws = [
        set_distances(torch.randn(200, 4, generator=generator), 1 + torch.randn(200, 4, generator=generator), seed)
        for seed in range(16)
    ]
    for name in ("frechet", "kernel"):
        found = [getattr(each, name) for each in draws]
        deviation = float(torch.tensor([each.value for each in found]).std())
        error = float(torch.tensor([each.error for each in found]).mean())
        assert deviation / 2 < error < 2 * deviation
        assert found[0].interval[0] < found[0].value < found[0].interval[1]
    assert 0 < draws[0].frechet_floor < draws[0].frechet.value / 4


def test_the_same_seed_gives_the_same_figures(features):
    assert set_distances(features[:30], features[30:]) == set_distances(features[:30], features[30:])


def test_too_few_to_halve(features):
    found = set_distances(features[:3], features[3:9])
    assert (found.frechet.error, found.frechet.interval, found.frechet_floor) == (None, None, None)


def test_nearest(features):
    distance, index = nearest(features[[7, 3]] + 0.001, features)
    assert index.tolist() == [7, 3]
    assert distance.tolist() == pytest.approx([0.001 * 8**0.5] * 2, rel=0.2)  # rounding of a difference


@pytest.mark.parametrize(
    ("network", "width"), [(ResNet50Slices, 1024), (VGG19Slices, 512), (IdentityEncoder, 512)], ids=str
)
@torch.inference_mode()
def test_networks_for_features(tmp_path, picture, network, width):
    torch.save(network().state_dict(), tmp_path / "weights.pth")
    found = load_feature_network(tmp_path / "weights.pth")
    features = found.extract(picture(2, 48) * 0.5 + 0.5)
    assert features.shape == (2, width) and features.isfinite().all()
    assert not found.published


def test_a_file_of_another_network_is_named(tmp_path):
    torch.save(CoefficientRegressor().state_dict(), tmp_path / "regressor.pth")
    with pytest.raises(CheckpointError, match=r"Inception-v3 of FID.*looks like: ResNet-50 coefficient regressor"):
        load_feature_network(tmp_path / "regressor.pth")
