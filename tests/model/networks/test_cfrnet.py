"""CFRNet: the recorded outputs of the authors' code, and what holds with any weights."""

import pytest
import torch
from safetensors.torch import save_file

from cfr.model.checkpoints import load_generator
from cfr.model.networks.cfrnet import CFRNet
from cfr.model.networks.prepared_generator import PreparedGenerator
from cfr.model.networks.spectral import fold_spectral_norm

# With the stand-in weights, after the agreement with the authors' code was established.
IMAGE_SAMPLES = [-0.0720145, 0.655004, 0.569738, 0.570152, -0.104835]
MASK_SAMPLES = [0.408549, 0.44248, 0.0913758, 0.07974, 0.313268]
# Float32 against float64 differs by 1.8e-4 and 2.5e-6 here; the rest is room for other orders of summation.
IMAGE_TOLERANCE, MASK_TOLERANCE = 1e-3, 1e-4


@pytest.fixture(scope="module")
def reference(reference_state) -> CFRNet:
    network = CFRNet()
    network.load_state_dict(reference_state("CFRNet"))
    return network.eval()


@pytest.fixture(scope="module")
def network(stand_in) -> CFRNet:
    return stand_in(CFRNet())


@torch.inference_mode()
def test_agrees_with_the_authors_code(reference, recorded):
    expected = recorded("cfrnet")
    seen = {}
    for name, module in {
        "afd_c0_3": reference.afd,
        "down1": reference.downsample[0],
        "down2": reference.downsample[1],
        "resblocks_c0_3": reference.resblocks,
    }.items():
        module.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output}))
    image, mask = reference(expected["rot"], expected["gui"])
    seen["gate1_c0_3"], (seen["down2_c0_3"], seen["gate2_c0_3"]) = seen["down1"][1], seen["down2"]
    for name in ("afd_c0_3", "gate1_c0_3", "gate2_c0_3", "down2_c0_3", "resblocks_c0_3"):
        # Recorded in half precision: relative error up to 5e-4.
        torch.testing.assert_close(seen[name][:, :4], expected[name], rtol=1e-3, atol=1e-3)
    assert (image - expected["image"]).abs().max() < IMAGE_TOLERANCE
    assert (mask - expected["mask"]).abs().max() < MASK_TOLERANCE


@torch.inference_mode()
def test_output_is_known(network, picture, sampled):
    image, mask = network(*picture(2, 32).split(1))
    assert sampled(image) == pytest.approx(IMAGE_SAMPLES, abs=IMAGE_TOLERANCE)
    assert sampled(mask) == pytest.approx(MASK_SAMPLES, abs=MASK_TOLERANCE)


@pytest.mark.parametrize("height, width", [(32, 32), (8, 12), (64, 40)])
@torch.inference_mode()
def test_sizes_and_ranges(network, height, width):
    image, mask = network(*torch.rand(2, 3, 3, height, width) * 2 - 1)
    assert image.shape == (3, 3, height, width) and image.abs().max() <= 1
    assert mask.shape == (3, 1, height, width) and mask.min() >= 0 and mask.max() <= 1


@torch.inference_mode()
def test_a_face_does_not_depend_on_the_others_in_its_batch(network, picture):
    rotated, guidance = picture(4, 32).split(2)
    together = network(rotated, guidance)
    alone = [network(rotated[i : i + 1], guidance[i : i + 1]) for i in range(2)]
    for batch, singles in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(batch, torch.cat(singles), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_folding_spectral_norm_changes_the_speed_only(stand_in, picture):
    network = stand_in(CFRNet())
    inputs = picture(2, 32).split(1)
    before = network(*inputs)
    fold_spectral_norm(network)
    assert not any("weight_orig" in name for name in network.state_dict())
    for expected, found in zip(before, network(*inputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_everything_that_is_called_learns():
    network = CFRNet()
    image, mask = network(*torch.rand(2, 2, 3, 16, 16))
    (image.sum() + mask.sum()).backward()
    without = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert {name.split(".")[1] for name in without} == {"embedding_r", "embedding_g"}
    assert all(not parameter.requires_grad for name, parameter in network.named_parameters() if name in without)


@torch.inference_mode()
def test_width_and_depth_come_from_the_file(stand_in, picture, tmp_path):
    narrow = stand_in(CFRNet(width=8, residual_blocks=2))
    state = {name: value.contiguous() for name, value in narrow.state_dict().items()}
    save_file(state, tmp_path / "narrow.safetensors")
    loaded = load_generator(tmp_path / "narrow.safetensors")
    pictures = picture(2, 32).split(1)
    for found, expected in zip(loaded(*pictures), narrow(*pictures), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@torch.inference_mode()
def test_a_blended_generator_begins_at_its_inputs_and_comes_back_from_a_file(stand_in, picture, tmp_path):
    """The stand-in's mask lies between 0 and 1, its correction is small."""
    network = stand_in(CFRNet(width=8, residual_blocks=1, blended=True))
    network.correction.fill_(0.1)
    rotated, guidance = picture(2, 32).split(1)
    image, mask = network(rotated, guidance)
    assert (image - (rotated + (guidance - rotated) * mask)).abs().max() <= 0.1 + 1e-6
    assert image.abs().max() <= 1
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, tmp_path / "g.safetensors")
    loaded = load_generator(tmp_path / "g.safetensors")
    assert torch.equal(loaded(rotated, guidance)[0], image)
    prepared, _ = PreparedGenerator(loaded)(rotated, guidance)
    torch.testing.assert_close(prepared, image, rtol=0, atol=2e-3)
