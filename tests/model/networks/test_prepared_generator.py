"""CFRNet prepared for inference gives the pictures of the network as it is."""

import pytest
import torch

from cfr.model.networks.cfrnet import CFRNet
from cfr.model.networks.prepared_generator import PreparedGenerator


@pytest.mark.parametrize("side", [32, 40])
@torch.inference_mode()
def test_pictures_and_masks_are_those_of_the_network(stand_in, picture, side):
    inputs = picture(4, side).split(2)
    expected = stand_in(CFRNet())(*inputs)
    found = PreparedGenerator(stand_in(CFRNet()))(*inputs)
    # Half a grey level of 8 bits is 4e-3 of -1..1.
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-3)
        assert (ours - theirs).abs().mean() < 1e-4


def test_prepared_network_agrees_with_the_authors_code(reference_state, recorded):
    network = CFRNet()
    network.load_state_dict(reference_state("CFRNet"))
    expected = recorded("cfrnet")
    image, mask = PreparedGenerator(network)(expected["rot"], expected["gui"])
    assert (image - expected["image"]).abs().max() < 1e-3
    assert (mask - expected["mask"]).abs().max() < 1e-4


@pytest.mark.cuda
@torch.inference_mode()
def test_on_cuda_it_is_close_in_bfloat16(stand_in, picture):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    inputs = picture(4, 32).split(2)
    expected = stand_in(CFRNet())(*inputs)
    found = PreparedGenerator(stand_in(CFRNet()), "cuda")(*(each.cuda() for each in inputs))
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.cpu() - theirs).abs().mean() < 0.05
