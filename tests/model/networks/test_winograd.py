"""Winograd's convolution computes what a convolution computes, for inference and in training."""

import pytest
import torch
from torch import nn

from cfr.model.networks.winograd import TrainableWinogradConv2d, WinogradConv2d


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("size", [(8, 8), (9, 14), (3, 5)])
def test_winograds_convolution_is_the_convolution(padding, size):
    torch.manual_seed(0)
    convolution = nn.Conv2d(7, 5, 3, padding=padding).requires_grad_(False)
    x = torch.randn(2, 7, *size)
    expected = convolution.double()(x.double())
    found = WinogradConv2d(convolution.float())(x)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)


def test_other_convolutions_are_refused():
    for convolution in (nn.Conv2d(2, 2, 5), nn.Conv2d(2, 2, 3, stride=2), nn.Conv2d(2, 2, 3, bias=False)):
        with pytest.raises(ValueError, match="Winograd is for 3 x 3"):
            WinogradConv2d(convolution)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("size", [(8, 8), (9, 14), (3, 5)])
def test_gradients_are_those_of_the_convolution(padding, size):
    """Sums of 128 products of numbers near 1, whose rounding is 4e-5 of their size."""
    torch.manual_seed(0)
    ours = TrainableWinogradConv2d(128, 130, padding)
    theirs = nn.Conv2d(128, 130, 3, padding=padding).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 128, *size, requires_grad=True)
    exact = x.detach().double().requires_grad_()
    found, expected = ours(x), theirs(exact)
    assert not torch.equal(found, ours.eval()(x)), "the other algorithm was used"
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, its in (
        (found, expected),
        (x.grad, exact.grad),
        (ours.weight.grad, theirs.weight.grad),
        (ours.bias.grad, theirs.bias.grad),
    ):
        assert mine.shape == its.shape
        assert (mine - its).abs().max() < 4e-5 * its.abs().max()


def test_what_is_not_trained_has_no_gradient():
    convolution = TrainableWinogradConv2d(128, 128, padding=1).requires_grad_(False)
    x = torch.randn(1, 128, 6, 6, requires_grad=True)
    convolution(x).sum().backward()
    assert x.grad is not None and convolution.weight.grad is None


@pytest.mark.parametrize(("channels", "mode"), [(16, True), (128, False)])
def test_few_channels_and_evaluation_take_torchs_algorithm(channels, mode):
    convolution = TrainableWinogradConv2d(channels, channels, padding=1).train(mode)
    x = torch.randn(1, channels, 9, 9)
    expected = nn.functional.conv2d(x, convolution.weight, convolution.bias, padding=1)
    assert torch.equal(convolution(x), expected)
