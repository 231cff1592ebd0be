"""Losses that train the 3D estimator: stage 0 on renderings; stages 1 and 2 are those of CFR-GAN, section 3.1.

The weights with which they are added up are in `cfr.model.training.estimator_config`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from cfr.model.camera import rotation_matrix, rotation_vectors
from cfr.model.coefficients import Coefficients

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
# Spread of rotations (radians, about each axis), translations (dm) and light in renderings; identity and albedo have 1.
_EXPRESSION_SPREAD, _ROTATION_SPREAD, _TRANSLATION_SPREAD, _LIGHT_SPREAD = 0.25, 0.5, (0.1, 0.1, 0.6), 0.2
# What the parts weigh in the mean: identity, expression, rotation, translation; and what no point tells of.
_PART_WEIGHTS, _APPEARANCE_WEIGHT = (1.0, 1.0, 4.0, 2.0), 0.25
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


def turned_by(rotation: Tensor, reference: Tensor) -> Tensor:
    """(B,) angles in degrees between rotations (B,3,3)."""
    trace = (rotation @ reference.transpose(1, 2)).diagonal(dim1=1, dim2=2).sum(1)
    return torch.rad2deg(((trace - 1) / 2).clamp(-1, 1).acos())


def geometry_spread(sizes: tuple[int, int, int]) -> Tensor:
    """(I+E+6,) units of `geometry_errors`: spread of identity, expression, rotation and translation in renderings."""
    identity, expression, _ = sizes
    shape = [1.0] * identity + [_EXPRESSION_SPREAD] * expression
    return torch.tensor([*shape, *[_ROTATION_SPREAD] * 3, *_TRANSLATION_SPREAD])


def geometry_errors(found: Coefficients, truth: Coefficients) -> Tensor:
    """(B,I+E+6) errors of identity, expression, rotation (see `rotation_vectors`) and translation, in their spreads."""
    turn = rotation_vectors(rotation_matrix(found.pose), rotation_matrix(truth.pose))
    shape = (found.identity - truth.identity, found.expression - truth.expression)
    errors = torch.cat([*shape, turn, found.translation - truth.translation], dim=1)
    sizes = (found.identity.shape[1], found.expression.shape[1], 0)
    return errors / geometry_spread(sizes).to(errors)


def coefficient_likelihood(found: Coefficients, truth: Coefficients, log_deviations: Tensor | None) -> Tensor:
    """Negative log likelihood of the true geometry, and squared errors of albedo and light; mean over faces.

    Normal, with the deviations that the network expects. Each error is weighted by its deviation so that faces of which
    the network is unsure are not given up (beta-NLL with beta = 1/2, Seitzer et al. 2022).

    Args:
        found, truth: faces of one face model.
        log_deviations: (B,I+E+6) of `geometry_errors`; None: 0.
    """
    errors = geometry_errors(found, truth)
    log = torch.zeros_like(errors) if log_deviations is None else log_deviations
    likelihood = (0.5 * (errors * (-log).exp()).square() + log) * log.detach().exp()
    widths = (found.identity.shape[1], found.expression.shape[1], 3, 3)
    parts = torch.split(likelihood, widths, dim=1)
    geometry = sum(weight * part.mean() for weight, part in zip(_PART_WEIGHTS, parts, strict=True))
    light = ((found.light - truth.light) / _LIGHT_SPREAD).square().mean()
    return geometry + _APPEARANCE_WEIGHT * (mse_loss(found.albedo, truth.albedo) + light)


def point_distances(points: Tensor, truth: Tensor) -> Tensor:
    """Mean distance of points (B,N,2), px."""
    return (points - truth).square().sum(2).add(_SMALLEST_SQUARE).sqrt().mean()
