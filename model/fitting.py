"""Fit of the morphable model to a face crop: dense landmarks, then pose and shape, then light and albedo.

Pose and shape come from the landmarks, from the coefficient regressor, or from both.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cfr.model.alignment import CROP_IN_CONTEXT
from cfr.model.coefficients import Coefficients
from cfr.model.covered_mouth import CoveredMouth
from cfr.model.face_landmarks import FaceMesh, dense_landmarks
from cfr.model.face_model import MorphableModel
from cfr.model.landmark_fit import LandmarkFit, LandmarkFitter
from cfr.model.occlusion import OccluderDetector
from cfr.model.photometric_fit import PhotometricFitter
from cfr.model.rendering import posed, render_guidance
from cfr.model.shape_estimate import ShapeEstimator
from cfr.model.turned_landmarks import TurnedLandmarkHead, TurnedLandmarks, with_turned_landmarks

# How many times larger than the regressor's own deviations its errors on photographs are taken to be.
DEVIATION_SCALE = 2.0


@dataclass(frozen=True)
class FaceFit:
    """Fitted faces of a mini-batch; tensors on the fitter's device.

    Attributes:
        coefficients: what was fitted.
        guidance: (B,3,224,224) float32 RGB 0..1, the model's picture of the face, black outside the mesh.
        face_mask: (B,224,224) bool, the mesh.
        landmarks: (B,468,3) FaceMesh points in crop px, those of turned faces by the head for them.
        landmark_score: (B,) 0..1, how far the landmarks can be trusted (see `TurnedLandmarks`).
        fit_error: (B,) normalised mean error between the landmarks and the fitted mesh's, a fraction.
    """

    coefficients: Coefficients
    guidance: Tensor
    face_mask: Tensor
    landmarks: Tensor
    landmark_score: Tensor
    fit_error: Tensor


class FaceFitter:
    """Fits a face model; one per process.

    Args:
        device: of the model and of the results.
        model: on that device; default: the one that comes with the package.
        fitter: what pose and shape are taken from: "landmarks", "regressor" or "regressor+landmarks".
        regressor: file of its weights, see `ShapeEstimator`.
    """

    def __init__(
        self, device: str = "cpu", model: MorphableModel | None = None, fitter: str = "landmarks", regressor: str = ""
    ):
        self.device = torch.device(device)
        self.model = model or MorphableModel.load_default(device)
        self.facemesh = FaceMesh.load_default(device)
        self.turned_head = TurnedLandmarkHead.load_default(device)
        self.fitter = fitter
        self.shape_estimator = None if fitter == "landmarks" else ShapeEstimator(self.model, regressor)
        self.landmark_fitter = LandmarkFitter(self.model)
        self.photometric_fitter = PhotometricFitter(self.model)
        self.occluder_detector = OccluderDetector(self.model)
        self.covered_mouth = CoveredMouth(self.model)

    @torch.inference_mode()
    def fit(self, context: Tensor, landmarks5: Tensor) -> FaceFit:
        """Fit every face of a mini-batch.

        Light and albedo are fitted twice: what the first guidance shows to be covered is left out of the second fit,
        and a covered mouth is closed before it.

        Args:
            context: (B,320,320,3) uint8 RGB, the crop with its margin.
            landmarks5: (B,5,2) float32 crop px.
        """
        pixels = context.to(self.device).permute(0, 3, 1, 2).float() / 255
        photo = pixels[:, :, CROP_IN_CONTEXT, CROP_IN_CONTEXT].contiguous()
        found = dense_landmarks(self.facemesh, pixels, landmarks5.to(self.device))
        turned = with_turned_landmarks(self.turned_head, found)
        shape = self._shape(pixels, landmarks5.to(self.device), turned)
        batch = len(photo)
        coefficients = Coefficients(
            shape.identity,
            shape.expression,
            torch.zeros(batch, len(self.model.log_albedo_basis), device=self.device),
            torch.zeros(batch, 9, 3, device=self.device),
            shape.pose,
            shape.translation,
        )
        mesh = posed(self.model, coefficients)
        gbuffer = mesh.rasterized(self.model.triangles)
        samples = self.photometric_fitter.sample(photo, mesh, gbuffer)
        albedo, light = self.photometric_fitter.start(samples)
        coefficients = _lit(coefficients, albedo, light)
        first_guidance = render_guidance(self.model, coefficients, mesh, gbuffer)
        covered = self.occluder_detector.detect(photo, first_guidance, gbuffer)
        coefficients, changed = self.covered_mouth.closed(coefficients, mesh, covered)
        if changed:
            mesh = posed(self.model, coefficients)
            gbuffer = mesh.rasterized(self.model.triangles)
            samples = self.photometric_fitter.sample(photo, mesh, gbuffer)
        coefficients = _lit(coefficients, *self.photometric_fitter.refine(samples, albedo, light, covered))
        guidance = render_guidance(self.model, coefficients, mesh, gbuffer)
        return FaceFit(coefficients, guidance, gbuffer.covered, turned.landmarks, turned.score, shape.error)

    def _shape(self, context: Tensor, landmarks5: Tensor, turned: TurnedLandmarks) -> LandmarkFit:
        """Pose and shape; context (B,3,320,320) 0..1."""
        if self.shape_estimator is None:
            return self.landmark_fitter.fit(turned.landmarks, turned.turned)
        prior = self.shape_estimator.estimate(context, landmarks5)
        if self.fitter == "regressor":
            coefficients = torch.cat([prior.identity, prior.expression.clamp(0, 1)], 1)
            return self.landmark_fitter.fitted(
                coefficients, prior.rotation, prior.translation, turned.landmarks[..., :2]
            )
        prior = replace(prior, deviation=prior.deviation * DEVIATION_SCALE)
        return self.landmark_fitter.fit(turned.landmarks, turned.turned, prior)


def _lit(coefficients: Coefficients, albedo: Tensor, light: Tensor) -> Coefficients:
    """With this albedo (B,A) and light (B,27), colour * 9 + band."""
    return replace(coefficients, albedo=albedo, light=light.unflatten(1, (3, 9)).transpose(1, 2))
