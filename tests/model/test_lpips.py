"""LPIPS from torchvision's files, without torchvision."""

import pytest
import torch
from torch import nn

from cfr.model.checkpoints import CheckpointError
from cfr.model.lpips import alexnet, load_lpips, vgg16

torchmetrics_lpips = pytest.importorskip(
    "torchmetrics.functional.image.lpips", reason="the extra `metrics` is not installed"
)


def torchvision_file(network: nn.Module, path) -> None:
    """As torchvision saves it: with the classifier behind the features."""
    torch.save(network.state_dict() | {"classifier.6.bias": torch.zeros(1000)}, path)


@pytest.mark.parametrize(("name", "build"), [("alex", alexnet), ("vgg", vgg16)])
@torch.inference_mode()
def test_distances_are_those_of_torchmetrics(name, build, stand_in, picture, tmp_path, monkeypatch):
    """torchmetrics takes the features from torchvision; here it gets the same ones as ours. It adds 1e-8 to the squares
    of the features' lengths where the authors (and ours) add 1e-10 to the lengths."""
    network = stand_in(build())
    torchvision_file(network, tmp_path / "classifier.pth")
    monkeypatch.setattr(torchmetrics_lpips, "_get_tv_model_features", lambda *_: network.features)
    theirs = torchmetrics_lpips._LPIPS(net=name)
    image, target = picture(4, 64).split(2)
    found = load_lpips(tmp_path / "classifier.pth")(image, target)
    torch.testing.assert_close(found, theirs(image, target).flatten(), rtol=1e-4, atol=1e-6)
    assert found.min() > 0.01


@torch.inference_mode()
def test_a_nearer_picture_has_a_smaller_distance(stand_in, picture, tmp_path):
    torchvision_file(stand_in(alexnet()), tmp_path / "alexnet.pth")
    lpips = load_lpips(tmp_path / "alexnet.pth")
    target = picture(2, 64)
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    none, little, much = (lpips((target + share * noise).clamp(-1, 1), target) for share in (0, 0.05, 0.5))
    assert none.abs().max() == 0 and (little > 0).all() and (little < much).all()


def test_other_files_are_refused(tmp_path):
    torch.save({"features.0.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="neither torchvision's AlexNet nor its VGG-16"):
        load_lpips(tmp_path / "other.pth")
    state = {name: value for name, value in vgg16().state_dict().items() if name != "features.28.weight"}
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(CheckpointError, match=r"features\.28\.weight"):
        load_lpips(tmp_path / "part.pth")


def test_without_torchmetrics_the_extra_is_named(tmp_path, monkeypatch):
    torchvision_file(alexnet(), tmp_path / "alexnet.pth")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(CheckpointError, match=r"cfr\[metrics\]"):
        load_lpips(tmp_path / "alexnet.pth")
