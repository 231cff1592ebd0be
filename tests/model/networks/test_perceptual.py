"""The perceptual networks take torchvision's files as well as their own states."""

import pytest
import torch
from torch import nn

from cfr.model.checkpoints import CheckpointError, load_checkpoint, read_states, recognise
from cfr.model.networks.coefficient_regressor import CoefficientRegressor
from cfr.model.networks.perceptual import ResNet50Slices, VGG19Slices
from cfr.model.networks.residual import Bottleneck, ResidualNetwork

# With the stand-in weights, after the agreement with the authors' code was established: samples of the last slice.
SAMPLES = {
    VGG19Slices: [0.0, 0.0247013, 0.0597364, 0.0, 0.0],
    ResNet50Slices: [0.229114, 0.0884912, 0.0391454, 0.181975, 0.160561],
}


def torchvision_vgg19(slices: VGG19Slices) -> dict[str, torch.Tensor]:
    state = {f"features.{name.split('.', 1)[1]}": value for name, value in slices.state_dict().items()}
    later = {f"features.{index}.weight": torch.zeros(512, 512, 3, 3) for index in (30, 32, 34)}
    return state | later | {"classifier.6.bias": torch.zeros(1000)}


def torchvision_resnet50() -> nn.Module:
    network = ResidualNetwork(Bottleneck, (3, 4, 6, 3))
    network.fc = nn.Linear(2048, 1000)
    return network


@pytest.mark.parametrize("kind", [VGG19Slices, ResNet50Slices])
@torch.inference_mode()
def test_output_is_known(kind, stand_in, picture, sampled):
    features = stand_in(kind())(picture(1, 64))
    assert len(features) == len(kind.slice_weights)
    assert sampled(features[-1]) == pytest.approx(SAMPLES[kind], abs=1e-3)


@torch.inference_mode()
def test_torchvisions_vgg19_is_taken(stand_in, tmp_path, picture):
    expected = stand_in(VGG19Slices())
    torch.save(torchvision_vgg19(expected), tmp_path / "vgg19.pth")
    found = load_checkpoint(tmp_path / "vgg19.pth", VGG19Slices())
    for a, b in zip(found(picture(1, 32)), expected(picture(1, 32)), strict=True):
        assert torch.equal(a, b)


@torch.inference_mode()
def test_torchvisions_resnet50_is_taken(stand_in, tmp_path, picture):
    whole = stand_in(torchvision_resnet50())
    torch.save(whole.state_dict(), tmp_path / "resnet50.pth")
    found = load_checkpoint(tmp_path / "resnet50.pth", ResNet50Slices()).eval()
    for a, b in zip(found(picture(1, 64)), whole.stages(picture(1, 64))[:3], strict=True):
        assert torch.equal(a, b)


def test_the_regressor_is_no_perceptual_network(stand_in, tmp_path):
    torch.save(CoefficientRegressor().state_dict(), tmp_path / "regressor.pth")
    with pytest.raises(CheckpointError, match="looks like: ResNet-50 coefficient regressor"):
        load_checkpoint(tmp_path / "regressor.pth", ResNet50Slices())
    assert recognise(read_states(tmp_path / "regressor.pth")[""]).name == "ResNet-50 coefficient regressor"
