"""The paper's losses: recorded values of the authors' code, and values that can be worked out by hand."""

import math

import pytest
import torch
from torch import nn

from cfr.model import losses
from cfr.model.networks.discriminator import TwoScaleDiscriminator
from cfr.model.networks.perceptual import ResNet50Slices, VGG19Slices

RELATIVE = 1e-3


def scores(critic: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return torch.cat(critic(images), dim=1)


def test_critic_loss_and_its_gradients_agree_with_the_authors_code(reference_state, recorded):
    critic = TwoScaleDiscriminator()
    critic.load_state_dict(reference_state("TwoScaleDiscriminator"))
    critic.eval()
    expected = recorded("wgan_div")
    real = (2 * expected["real_rgb_uint8"] / 255 - 1).requires_grad_()
    real_scores, fake_scores = scores(critic, real), scores(critic, 2 * expected["fake_rgb_uint8"] / 255 - 1)
    torch.testing.assert_close(real_scores, expected["real_validity"], rtol=0, atol=1e-5)
    torch.testing.assert_close(fake_scores, expected["fake_validity"], rtol=0, atol=1e-5)
    loss = losses.wgan_div_critic(real_scores, fake_scores, real)
    assert loss.item() == pytest.approx(expected["loss"].item(), rel=RELATIVE)
    loss.backward()
    norms = {name: parameter.grad.norm().item() for name, parameter in critic.named_parameters()}
    for name, norm in zip(expected["param_names"], expected["param_grad_norms"].tolist(), strict=True):
        assert norms[str(name)] == pytest.approx(norm, rel=RELATIVE, abs=1e-9), name


@pytest.mark.parametrize(
    "network, name, prefix", [(VGG19Slices, "VGG19Slices", "vgg"), (ResNet50Slices, "ResNet50Slices", "resnet")]
)
def test_perceptual_loss_and_its_gradient_agree_with_the_authors_code(reference_state, recorded, network, name, prefix):
    network = network()
    network.load_state_dict(reference_state(name))
    network.eval().requires_grad_(False)
    expected = recorded("perceptual")
    values = {"vgg": "vgg_loss", "resnet": "resnet_loss_per_sample"}
    loss_expected = expected[values[prefix]].item()
    image, target = (2 * expected[f"{part}_rgb_uint8"] / 255 - 1 for part in ("output", "target"))
    assert losses.perceptual(network, image, target).item() == pytest.approx(loss_expected, rel=RELATIVE)
    mean, std = (expected[part].view(3, 1, 1) for part in ("mean", "std"))
    normalised = ((image * 0.5 + 0.5 - mean) / std).requires_grad_()
    losses.feature_distance(network, normalised, (target * 0.5 + 0.5 - mean) / std).backward()
    assert normalised.grad.norm().item() == pytest.approx(expected[f"{prefix}_grad_norm"].item(), rel=RELATIVE)


def test_critic_loss_of_a_linear_critic():
    # d sum(scores) / d image is the weight: a norm of 2 for 12 values of 1/sqrt(3).
    weight = torch.full((1, 3, 2, 2), 1 / math.sqrt(3), requires_grad=True)
    real, fake = torch.rand(4, 3, 2, 2, requires_grad=True), torch.rand(5, 3, 2, 2)
    real_scores, fake_scores = ((image * weight).sum((1, 2, 3))[:, None] for image in (real, fake))
    loss = losses.wgan_div_critic(real_scores, fake_scores, real)
    assert loss.item() == pytest.approx(fake_scores.mean().item() - real_scores.mean().item() + 2**6, rel=1e-5)
    loss.backward()
    # d |w|^6 / dw = 6 |w|^4 w = 96 w: the penalty teaches the critic.
    expected = fake.mean(0) - real.detach().mean(0) + 96 * weight.detach()[0]
    torch.testing.assert_close(weight.grad[0], expected, rtol=1e-4, atol=1e-4)


def test_losses_on_pictures_with_known_values():
    image, target = torch.full((2, 3, 4, 4), 0.5), torch.full((2, 3, 4, 4), 0.25)
    mask = torch.zeros(2, 1, 4, 4)
    mask[:, :, :2] = 0.5
    assert losses.adversarial(torch.tensor([[1.0, 3.0]])).item() == -2
    assert losses.masked_reconstruction(image, target, mask).item() == pytest.approx(0.75)
    assert losses.occlusion_mask(mask, torch.ones_like(mask)).item() == pytest.approx((0.25 + 1) / 2)
    image[:, :, 2:] = 9  # outside the mask
    assert losses.masked_reconstruction(image, target, mask).item() == pytest.approx(0.75)
    assert losses.masked_reconstruction(image, target, torch.zeros_like(mask)).item() == 0


def test_reconstruction_teaches_the_mask_too():
    image, target = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    image[..., 0] = 1
    mask = torch.full((1, 1, 2, 2), 0.5, requires_grad=True)
    losses.masked_reconstruction(image, target, mask).backward()
    assert (mask.grad[..., 0] > 0).all() and (mask.grad[..., 1] < 0).all()


class MeanColour(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean((2, 3))


def test_identity_loss_is_one_minus_the_cosine_and_does_not_move_the_target():
    red, green = torch.zeros(1, 3, 224, 224), torch.zeros(1, 3, 224, 224)
    red[:, 0], green[:, 1] = 1, 1
    red.requires_grad_(), green.requires_grad_()
    assert losses.identity(MeanColour(), red, red.detach()).item() == pytest.approx(0, abs=1e-6)
    loss = losses.identity(MeanColour(), red, green)
    assert loss.item() == pytest.approx(1)
    loss.backward()
    assert red.grad.abs().max() > 0
    assert green.grad is None


def test_perceptual_loss_of_a_picture_with_itself_is_zero(stand_in, picture):
    network = stand_in(ResNet50Slices())
    assert losses.perceptual(network, picture(2, 64), picture(2, 64)).item() == 0
