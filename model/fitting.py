"""Fit of the morphable model to a face crop: dense landmarks, then pose and shape, then light and albedo.

Pose and shape come from the landmarks, from the coefficient regressor, or from both. Where something covers the face,
they are found twice: the second time in the photo with the first guidance painted over what covers it, since landmark
networks read an occluder's outlines as those of the face.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cfr.model.alignment import CROP_IN_CONTEXT
from cfr.model.coefficients import Coefficients
from cfr.model.covered_mouth import CoveredMouth
from cfr.model.face_landmarks import FaceMesh, dense_landmarks
from cfr.model.face_model import MorphableModel
from cfr.model.landmark_fit import LandmarkFit, LandmarkFitter
from cfr.model.morphology import dilate
from cfr.model.occlusion import OccluderDetector
from cfr.model.photometric_fit import PhotometricFitter
from cfr.model.quality import fraction
from cfr.model.rendering import posed, render_guidance
from cfr.model.shape_estimate import ShapeEstimator
from cfr.model.turned_landmarks import TurnedLandmarkHead, TurnedLandmarks, with_turned_landmarks

# How many times its own deviations the regressor's errors on photographs are taken to be. Chosen on labelled photos:
# below a half it pulls good landmark fits away, from two on it hardly matters.
DEVIATION_SCALE = 0.8
# Share of the mesh that has to be covered for a second look; less may be a false alarm, and moves few landmarks.
LEAST_COVERED = 0.1
# Faces of a mini-batch that get their second look together.
SECOND_LOOK_GROUP = 4
# Pixels around an occluder that are painted over as well, and the width of the soft edge.
COMPLETED_MARGIN, COMPLETED_EDGE = 7, 5


@dataclass(frozen=True)
class FaceFit:
    """Fitted faces of a mini-batch; tensors on the fitter's device.

    Attributes:
        coefficients: what was fitted.
        guidance: (B,3,224,224) float32 RGB 0..1, the model's picture of the face, black outside the mesh.
        face_mask: (B,224,224) bool, the mesh.
        landmarks: (B,468,3) FaceMesh points in crop px, those of turned faces by the head for them; those of the second
            look where there was one.
        landmark_score: (B,) 0..1, how far the landmarks can be trusted (see `TurnedLandmarks`), at the first look: a
            face that was painted is always found.
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
        regressor: file of its weights, "" for the package's own, see `ShapeEstimator`.
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
        before which covered faces get a second look and covered mouths are closed.

        Args:
            context: (B,320,320,3) uint8 RGB, the crop with its margin.
            landmarks5: (B,5,2) float32 crop px.
        """
        pixels = context.to(self.device).permute(0, 3, 1, 2).float() / 255
        landmarks5 = landmarks5.to(self.device)
        photo = pixels[:, :, CROP_IN_CONTEXT, CROP_IN_CONTEXT].contiguous()
        turned = self._landmarks(pixels, landmarks5)
        score = turned.score
        shape = self._shape(pixels, landmarks5, turned)
        coefficients = self.covered_mouth.closed_in_profile(self._unlit(shape))
        mesh = posed(self.model, coefficients)
        gbuffer = mesh.rasterized(self.model.triangles)
        samples = self.photometric_fitter.sample(photo, mesh, gbuffer)
        albedo, light = self.photometric_fitter.start(samples)
        first_guidance = render_guidance(self.model, _lit(coefficients, albedo, light), mesh, gbuffer)
        covered = self.occluder_detector.detect(photo, first_guidance, gbuffer)
        coefficients, changed = self.covered_mouth.closed(coefficients, mesh, covered)
        # The head for turned faces knows renderings of covered faces, and takes a wrong painting at its word.
        again = (fraction(covered, gbuffer.covered) > LEAST_COVERED) & (turned.turned < 1)
        for rows in _groups(again):
            lit = _rows(_lit(coefficients, albedo, light), rows)
            completed = self._completed(pixels[rows], lit, covered[rows])
            second = self._landmarks(completed, landmarks5[rows])
            second_shape = self._shape(completed, landmarks5[rows], second)
            seen = self._unlit(second_shape)
            closed, _ = self.covered_mouth.closed(seen, posed(self.model, seen), covered[rows])
            turned = _replaced(turned, rows, second)
            shape = _replaced(shape, rows, second_shape)
            coefficients, changed = _replaced(coefficients, rows, closed), True
        if changed:
            mesh = posed(self.model, coefficients)
            gbuffer = mesh.rasterized(self.model.triangles)
            samples = self.photometric_fitter.sample(photo, mesh, gbuffer)
        coefficients = _lit(coefficients, *self.photometric_fitter.refine(samples, albedo, light, covered))
        guidance = render_guidance(self.model, coefficients, mesh, gbuffer)
        return FaceFit(coefficients, guidance, gbuffer.covered, turned.landmarks, score, shape.error)

    def _landmarks(self, context: Tensor, landmarks5: Tensor) -> TurnedLandmarks:
        """Of context (B,3,320,320) 0..1."""
        return with_turned_landmarks(self.turned_head, dense_landmarks(self.facemesh, context, landmarks5))

    def _unlit(self, shape: LandmarkFit) -> Coefficients:
        """With albedo and light 0."""
        batch = len(shape.pose)
        return Coefficients(
            shape.identity,
            shape.expression,
            torch.zeros(batch, len(self.model.log_albedo_basis), device=self.device),
            torch.zeros(batch, 9, 3, device=self.device),
            shape.pose,
            shape.translation,
        )

    def _completed(self, context: Tensor, coefficients: Coefficients, covered: Tensor) -> Tensor:
        """The context (B,3,320,320) with the face painted over what covers it."""
        mesh = posed(self.model, coefficients)
        gbuffer = mesh.rasterized(self.model.triangles)
        face = gbuffer.covered[:, None]
        share = (dilate(covered, COMPLETED_MARGIN)[:, None] & face).float()
        share = F.avg_pool2d(share, COMPLETED_EDGE, stride=1, padding=COMPLETED_EDGE // 2) * face
        painted = context.clone()
        crop = painted[:, :, CROP_IN_CONTEXT, CROP_IN_CONTEXT]
        crop.lerp_(render_guidance(self.model, coefficients, mesh, gbuffer), share)
        return painted

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


def _groups(chosen: Tensor) -> list[Tensor]:
    """Indices of the rows of chosen (B,) bool, `SECOND_LOOK_GROUP` at a time, the last group filled with its last row.

    Always the same number, because a network's last bits depend on the size of its mini-batch.
    """
    rows = chosen.nonzero()[:, 0]
    if not len(rows):
        return []
    filled = torch.cat([rows, rows[-1:].expand(-len(rows) % SECOND_LOOK_GROUP)])
    return list(filled.split(SECOND_LOOK_GROUP))


def _rows(batch, rows: Tensor):
    """These rows of a dataclass of mini-batches."""
    return type(batch)(**{name: value[rows] for name, value in vars(batch).items()})


def _replaced(batch, rows: Tensor, new):
    """A dataclass of mini-batches with these rows from a smaller one."""
    return type(batch)(**{name: value.index_copy(0, rows, getattr(new, name)) for name, value in vars(batch).items()})


def _lit(coefficients: Coefficients, albedo: Tensor, light: Tensor) -> Coefficients:
    """With this albedo (B,A) and light (B,27), colour * 9 + band."""
    return replace(coefficients, albedo=albedo, light=light.unflatten(1, (3, 9)).transpose(1, 2))
