"""The losses of the paper (section 3.4) in the form of the authors' code. Pictures are float RGB in -1..1."""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, mse_loss

from cfr.model.networks.face_parsing import IMAGENET_MEAN, IMAGENET_STD
from cfr.model.networks.identity_encoder import IdentityEncoder, identity_crop
from cfr.model.networks.perceptual import ResNet50Slices, VGG19Slices

_GRADIENT_POWER = 6


def wgan_div_critic(real_scores: Tensor, fake_scores: Tensor, real: Tensor) -> Tensor:
    """Loss of the critic: Wasserstein divergence (Wu et al. 2018) with k = 2, p = 6, its penalty on real images only.

    Args:
        real_scores, fake_scores: (B,P) scores of all patches.
        real: (B,3,H,W), the images of `real_scores`; they must have required gradients when they were scored.

    Returns:
        Scalar: -mean(real scores) + mean(fake scores) + mean over images of |d sum(scores) / d image|^6.
    """
    (gradient,) = torch.autograd.grad(real_scores.sum(), real, create_graph=True)
    penalty = gradient.square().sum((1, 2, 3)) ** (_GRADIENT_POWER / 2)
    return fake_scores.mean() - real_scores.mean() + penalty.mean()


def adversarial(fake_scores: Tensor) -> Tensor:
    """Loss of the generator against the critic, from scores (B,P) of its images."""
    return -fake_scores.mean()


def occlusion_mask(mask: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of a predicted mask (B,1,H,W) against the pair's, both 0..1."""
    return mse_loss(mask, target)


def masked_error(image: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Numerator and denominator of `masked_reconstruction`: several processes add them up before they divide."""
    error = (image - target).abs().sum(1, keepdim=True)
    return (error * mask).sum(), mask.sum() + 1e-7


def masked_reconstruction(image: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Absolute error (B,3,H,W), summed over colours, as a mean weighted by the *predicted* mask (B,1,H,W).

    The gradient flows into the mask, too, as in the authors' code.
    """
    error, weight = masked_error(image, target, mask)
    return error / weight


def perceptual(network: VGG19Slices | ResNet50Slices, image: Tensor, target: Tensor) -> Tensor:
    """Weighted sum over the network's slices of the mean squared error of features; pictures (B,3,H,W)."""
    return feature_distance(network, imagenet_normalised(image), imagenet_normalised(target))


def feature_distance(network: VGG19Slices | ResNet50Slices, image: Tensor, target: Tensor) -> Tensor:
    """As `perceptual`, of pictures that have ImageNet's mean and deviation already. No gradient into the target."""
    with torch.no_grad():
        targets = network(target)
    pairs = zip(network.slice_weights, network(image), targets, strict=True)
    return sum(weight * mse_loss(found, wanted) for weight, found, wanted in pairs)


def identity(encoder: IdentityEncoder, image: Tensor, target: Tensor) -> Tensor:
    """1 - cosine of the embeddings of two aligned pictures (B,3,224,224), mean. No gradient into the target."""
    with torch.no_grad():
        wanted = encoder(identity_crop(target))
    return (1 - cosine_similarity(encoder(identity_crop(image)), wanted)).mean()


def imagenet_normalised(image: Tensor) -> Tensor:
    """Pictures (B,3,H,W) in -1..1, brought to ImageNet's mean and deviation."""
    mean, std = (image.new_tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (image * 0.5 + 0.5 - mean) / std
