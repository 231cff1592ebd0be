"""Pose, identity and expression from dense landmarks: a batched, robust, bounded Gauss-Newton fit."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cfr.model.camera import CAMERA_DISTANCE, FOCAL_LENGTH, pose_from_rotation, project, rotation_vectors
from cfr.model.face_model import MorphableModel

ITERATIONS = 12
# One landmark's error in crop pixels. Neighbouring points err together, so 468 of them carry about the information
# of 60: the deviation is widened by the square root of that ratio.
LANDMARK_DEVIATION = 1.5 * math.sqrt(468 / 60)
# Residual (px) at which a point starts to count as an outlier (Geman-McClure).
OUTLIER_SCALE = 8.0
EXPRESSION_DEVIATION = 0.4
DISTANCE_DEVIATION = 1.5
# A point whose surface is turned away keeps this share of its weight: FaceMesh guesses it. The head for turned faces
# has learnt where it is.
HIDDEN_WEIGHT, TURNED_HIDDEN_WEIGHT = 0.15, 0.6
OUT_OF_BOUNDS_STIFFNESS = 1e6
LEVENBERG_DAMPING = 1e-3


@dataclass(frozen=True)
class LandmarkFit:
    """identity (B,I); expression (B,E) in 0..1; pose (B,3) degrees; translation (B,3) dm; error (B,) NME.

    The error is the mean distance between fitted and detected points over sqrt(width * height) of the box around the
    detected points.
    """

    identity: Tensor
    expression: Tensor
    pose: Tensor
    translation: Tensor
    error: Tensor


@dataclass(frozen=True)
class ShapePrior:
    """What is known of faces before their landmarks are looked at: means, and how far off they may be.

    Attributes:
        identity, expression: (B,I), (B,E).
        rotation: (B,3,3).
        translation: (B,3) dm.
        deviation: (B,I+E+6), of identity, expression, rotation about the camera's axes (radians) and translation.
    """

    identity: Tensor
    expression: Tensor
    rotation: Tensor
    translation: Tensor
    deviation: Tensor


def _cross_matrix(vectors: Tensor) -> Tensor:
    """(...,3) -> (...,3,3) with `matrix @ other = vectors x other`."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*vectors.shape, 3)


def _rigid_start(mean: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation (B,3,3) and translation (B,3) that turn the mean points (N,3) onto 3D landmarks (B,N,3) in crop px.

    The landmark network's depth is in the units of its x (weak perspective), so a similarity between the two point
    sets (Umeyama 1991) gives the rotation; distance follows from the scale.
    """
    target = landmarks * landmarks.new_tensor([1.0, -1.0, -1.0])
    target_centre = target.mean(1, keepdim=True)
    mean_centre = mean.mean(0)
    source = (mean - mean_centre).expand_as(target)
    covariance = (target - target_centre).transpose(1, 2) @ source
    u, singular, vt = torch.linalg.svd(covariance)
    sign = torch.ones_like(singular)
    sign[:, 2] = torch.sign(torch.linalg.det(u @ vt))
    rotation = u @ torch.diag_embed(sign) @ vt
    scale = (singular * sign).sum(1) / source.pow(2).sum((1, 2))
    distance = (FOCAL_LENGTH / scale).clamp(CAMERA_DISTANCE * 0.5, CAMERA_DISTANCE * 2)
    centre_px = landmarks[..., :2].mean(1)
    offset_x = (centre_px[:, 0] - 112) * distance / FOCAL_LENGTH
    offset_y = -(centre_px[:, 1] - 112) * distance / FOCAL_LENGTH
    centre = torch.stack([offset_x, offset_y, CAMERA_DISTANCE - distance], 1)
    return rotation, centre - (rotation @ mean_centre)


class LandmarkFitter:
    """Keeps the morphable model at the landmarks' surface points only, which makes an iteration cheap.

    Args:
        model: gives the correspondences of the 468 FaceMesh points and the bases.
    """

    def __init__(self, model: MorphableModel):
        corners = model.triangles[model.facemesh_triangles]
        weights = model.facemesh_barycentric
        self.mean = (model.mean_shape[corners] * weights[..., None]).sum(1)
        bases = torch.cat([model.identity_basis, model.expression_basis])
        self.basis = (bases[:, corners] * weights[..., None]).sum(2).permute(1, 2, 0).contiguous()
        normals = model.vertex_normals(model.mean_shape[None])[0]
        self.normals = torch.nn.functional.normalize((normals[corners] * weights[..., None]).sum(1), dim=-1)
        self.identity_size = len(model.identity_basis)
        self.free = ~model.frozen_expressions

    def points(self, coefficients: Tensor) -> Tensor:
        """Surface points (B,N,3) in model space for identity and expression side by side, (B,I+E)."""
        return self.mean + torch.einsum("nck,bk->bnc", self.basis, coefficients)

    def fit(self, landmarks: Tensor, turned_share: Tensor, prior: ShapePrior | None = None) -> LandmarkFit:
        """Fit every face of the mini-batch.

        The energy is a Geman-McClure sum of reprojection errors under full perspective, the bounds 0..1 on expression,
        and a prior: without another one a unit Gaussian on identity, a Gaussian around zero on expression, and a weak
        one on the distance.

        Args:
            landmarks: (B,468,3) crop px, of which z only starts the rotation.
            turned_share: (B,) 0..1, how far they come from the head for turned faces.
            prior: of each face; the fit starts there.
        """
        batch, device = len(landmarks), landmarks.device
        target = landmarks[..., :2]
        expression = slice(self.identity_size, None)
        if prior is None:
            rotation, translation = _rigid_start(self.mean, landmarks)
            mean = torch.zeros(batch, self.basis.shape[-1], device=device)
            precision = torch.full((6 + mean.shape[1],), 1.0, device=device)
            precision[:5] = 0.0
            precision[5] = DISTANCE_DEVIATION**-2
            precision[6 + self.identity_size :] = EXPRESSION_DEVIATION**-2
        else:
            rotation, translation = prior.rotation, prior.translation
            mean = torch.cat([prior.identity, prior.expression], 1)
            precision = torch.cat([prior.deviation[:, -6:], prior.deviation[:, :-6]], 1).pow(-2)
        coefficients = mean.clone()
        coefficients[:, expression] = coefficients[:, expression].clamp(0, 1)
        locked = torch.zeros(6 + coefficients.shape[1], dtype=torch.bool, device=device)
        locked[6 + self.identity_size :] = ~self.free
        for iteration in range(ITERATIONS):
            turned = self.points(coefficients) @ rotation.transpose(1, 2)
            in_camera = turned + translation[:, None]
            pixels, depth = project(in_camera)
            residual = pixels - target
            weight = self._weights(rotation, residual, turned_share, anneal=iteration / (ITERATIONS - 1))
            jacobian = self._jacobian(rotation, turned, in_camera, depth)
            weighted = jacobian * (weight / LANDMARK_DEVIATION**2)[..., None, None]
            flat, flat_weighted = jacobian.flatten(1, 2), weighted.flatten(1, 2)
            normal = flat.transpose(1, 2) @ flat_weighted
            gradient = torch.einsum("bnp,bn->bp", flat_weighted, residual.flatten(1))
            if prior is None:
                rigid_error = torch.cat([torch.zeros(batch, 5, device=device), translation[:, 2:]], 1)
            else:
                turn = rotation_vectors(rotation, prior.rotation)
                rigid_error = torch.cat([turn, translation - prior.translation], 1)
            prior_error = torch.cat([rigid_error, coefficients - mean], 1)
            gradient = gradient + precision * prior_error
            value = coefficients[:, expression]
            slope = gradient[:, 6 + self.identity_size :]
            at_bound = ((value <= 0) & (slope > 0)) | ((value >= 1) & (slope < 0))
            stiff = torch.zeros_like(gradient)
            stiff[:, 6 + self.identity_size :] = at_bound * OUT_OF_BOUNDS_STIFFNESS
            diagonal = precision + LEVENBERG_DAMPING + stiff + locked * OUT_OF_BOUNDS_STIFFNESS
            normal = normal + torch.diag_embed(diagonal)
            step = -torch.cholesky_solve(gradient[..., None], torch.linalg.cholesky(normal))[..., 0]
            rotation = torch.matrix_exp(_cross_matrix(step[:, :3].clamp(-0.5, 0.5))) @ rotation
            translation = translation + step[:, 3:6]
            coefficients = coefficients + step[:, 6:] * ~locked[6:]
            coefficients[:, expression] = coefficients[:, expression].clamp(0, 1)
        return self.fitted(coefficients, rotation, translation, target)

    def fitted(self, coefficients: Tensor, rotation: Tensor, translation: Tensor, target: Tensor) -> LandmarkFit:
        """Faces (B,I+E), (B,3,3), (B,3), and how far they are from landmarks (B,468,2), crop px."""
        pixels, _ = project(self.points(coefficients) @ rotation.transpose(1, 2) + translation[:, None])
        extent = target.amax(1) - target.amin(1)
        error = (pixels - target).norm(dim=-1).mean(1) / extent.prod(1).clamp(min=1).sqrt()
        identity, expression = coefficients[:, : self.identity_size], coefficients[:, self.identity_size :]
        return LandmarkFit(identity, expression, pose_from_rotation(rotation), translation, error)

    def _weights(self, rotation: Tensor, residual: Tensor, turned_share: Tensor, anneal: float) -> Tensor:
        """(B,N): less for outliers (scale shrinks from 4 times its final value) and for surfaces turned away."""
        facing = (self.normals @ rotation.transpose(1, 2))[..., 2]
        hidden = (HIDDEN_WEIGHT + (TURNED_HIDDEN_WEIGHT - HIDDEN_WEIGHT) * turned_share)[:, None]
        seen = hidden + (1 - hidden) * torch.sigmoid((facing - 0.05) / 0.08)
        scale = OUTLIER_SCALE * (4.0 - 3.0 * anneal)
        return seen / (1 + residual.pow(2).sum(-1) / scale**2).pow(2)

    def _jacobian(self, rotation: Tensor, turned: Tensor, in_camera: Tensor, depth: Tensor) -> Tensor:
        """Derivative of the projections with respect to (rotation, translation, coefficients): (B,N,2,6+I+E)."""
        inverse = FOCAL_LENGTH / depth
        zero = torch.zeros_like(inverse)
        row_u = torch.stack([inverse, zero, inverse * in_camera[..., 0] / depth], -1)
        row_v = torch.stack([zero, -inverse, -inverse * in_camera[..., 1] / depth], -1)
        camera = torch.stack([row_u, row_v], -2)
        by_rotation = camera @ -_cross_matrix(turned)
        by_shape = torch.einsum("bnij,njk->bnik", camera @ rotation[:, None], self.basis)
        return torch.cat([by_rotation, camera, by_shape], -1)
