"""Losses that train the 3D estimator (CFR-GAN, section 3.1): stage 1 on photos, stage 2 from a teacher.

The weights with which they are added up are in `cfr.model.training.estimator_config`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

# iBUG points, from 0: bridge of the nose, inner lips, eyes.
_NOSE_AND_INNER_LIPS = (28, 29, 30, *range(60, 68))
_EYES = tuple(range(37, 49))
# Weights of (bridge of the nose and inner lips, eyes, others).
FITTING_WEIGHTS, TEACHING_WEIGHTS = (20.0, 5.0, 1.0), (5.0, 3.0, 1.0)
# Of identity, expression and texture in the regularisation.
_PRIOR_WEIGHTS = (1.0, 0.1, 1.7e-3)
_STAGE_WEIGHTS = (1 / 8, 1 / 4, 1 / 2, 1.0)
# Colour losses are in levels of 8 bits: with pictures in 0..1 the paper's weights would leave nothing of them.
_LEVELS = 255.0
# Keeps the gradient of a norm finite where two colours agree, levels squared.
_SMALLEST_SQUARE = 1e-6


def point_weights(weights: tuple[float, float, float]) -> Tensor:
    """(68,) float32 weights of the points; of `FITTING_WEIGHTS` or `TEACHING_WEIGHTS`."""
    values = torch.full((68,), weights[2])
    values[list(_NOSE_AND_INNER_LIPS)] = weights[0]
    values[list(_EYES)] = weights[1]
    return values


def landmark_squares(points: Tensor, truth: Tensor) -> Tensor:
    """Squared distances of points (B,68,2), px, weighted by 20, 5 and 1, mean over points and faces."""
    weights = point_weights(FITTING_WEIGHTS).to(points)
    return (weights * (points - truth).square().sum(2)).mean()


def landmark_distances(points: Tensor, truth: Tensor) -> Tensor:
    """Absolute differences in x and y of points (B,68,2), px, weighted by 5, 3 and 1, mean over points and faces."""
    weights = point_weights(TEACHING_WEIGHTS).to(points)
    return (weights * (points - truth).abs().sum(2)).mean()


def coefficient_prior(identity: Tensor, expression: Tensor, texture: Tensor) -> Tensor:
    """Squared coefficients (B,I), (B,E), (B,T) of each face, weighted by 1, 0.1 and 1.7e-3; mean over faces."""
    parts = zip(_PRIOR_WEIGHTS, (identity, expression, texture), strict=True)
    return sum(weight * part.square().sum(1).mean() for weight, part in parts)


def photometric(picture: Tensor, photo: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Length of the colour difference, in levels, over a mask: numerator and denominator of its mean.

    Args:
        picture, photo: (B,3,H,W) RGB 0..1.
        mask: (B,H,W) bool or 0..1: where both show the face.
    """
    error = ((picture - photo) * _LEVELS).square().sum(1).add(_SMALLEST_SQUARE).sqrt()
    return (error * mask).sum(), mask.sum() + 1e-7


def skin_uniformity(albedo: Tensor, skin: Tensor) -> Tensor:
    """Variance, levels squared, of the albedo (B,V,3) over the skin's vertices (V,) bool; mean over colours and faces.

    Keeps light and shadow out of the albedo.
    """
    shown = albedo[:, skin] * _LEVELS
    return (shown - shown.mean(1, keepdim=True)).square().mean()


def white_light(light: Tensor) -> Tensor:
    """How far light (B,9,3) is from the mean of its three colours: mean square."""
    return (light - light.mean(2, keepdim=True)).square().mean()


def feature_matching(features: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Mean squared errors of the features of four stages, weighted by 1/8, 1/4, 1/2 and 1."""
    stages = zip(_STAGE_WEIGHTS, features, wanted, strict=True)
    return sum(weight * mse_loss(found, target) for weight, found, target in stages)


def normalised_errors(points: Tensor, truth: Tensor) -> Tensor:
    """(B,) mean distances of points (B,68,2) over the geometric mean of the sides of the true points' box."""
    sides = truth.amax(1) - truth.amin(1)
    return (points - truth).norm(dim=2).mean(1) / sides.prod(1).clamp_min(1e-6).sqrt()
