"""The steps of `cfr pairs --recipe paper`, as its stages call them: fit by regression, swap, double rotation.

Between the steps pictures and masks have 8 bits, where the authors' code goes on with floats; but for that, and for
what the docstrings say, a step does what theirs does.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cfr.model.alignment import CROP_IN_CONTEXT
from cfr.model.coefficients import Coefficients
from cfr.model.networks.coefficient_regressor import PAPER_SIZES, CoefficientRegressor
from cfr.model.networks.face_parsing import FaceParsing
from cfr.model.paper.face_model import BaselFaceModel
from cfr.model.paper.masks import ParsedFaces, full_mask, object_mask
from cfr.model.paper.reconstruction import Reconstruction, from_regressed, reconstruct
from cfr.model.paper.renderer import rasterize_screen_linear, render
from cfr.model.paper.rotation import rotate_twice
from cfr.model.paper.swap import swap
from cfr.model.paper.vertex_colours import sample_vertex_colours
from cfr.model.swap import RotatedFaces, SwappedFaces

# The five points of the alignment among the 68 (from 0): middles of eye corners, nose tip, mouth corners.
_FIVE_POINTS = ((36, 39), (42, 45), (30, 30), (48, 48), (54, 54))


@dataclass(frozen=True)
class RegressedFaces:
    """Fitted faces of a mini-batch; the counterpart of `cfr.model.fitting.FaceFit`.

    Attributes:
        coefficients: what the regressor says, in this software's conventions; `albedo` holds the texture coefficients.
        guidance: (B,3,224,224) float32 RGB 0..1, the model's picture of the face, black outside the mesh.
        face_mask: (B,224,224) bool, the mesh.
        landmark_score: (B,) 1: the regressor does not say how sure it is.
        fit_error: (B,) mean distance between the five detected landmarks and the fitted mesh's, over the square root of
            width times height of the box around the mesh's 68 points.
    """

    coefficients: Coefficients
    guidance: Tensor
    face_mask: Tensor
    landmark_score: Tensor
    fit_error: Tensor


class RegressionFitter:
    """Fit by one pass of the regressor.

    Args:
        regressor: for inference.
        model: its face model.
        device: of both, and of the results.
    """

    def __init__(self, regressor: CoefficientRegressor, model: BaselFaceModel, device: str = "cpu"):
        self.regressor, self.model, self.device = regressor, model, device

    @torch.inference_mode()
    def fit(self, context: Tensor, landmarks5: Tensor) -> RegressedFaces:
        """Fit every face of a mini-batch; context (B,320,320,3) uint8 RGB, landmarks5 (B,5,2) crop px."""
        crop = context.to(self.device)[:, CROP_IN_CONTEXT, CROP_IN_CONTEXT]
        photo = crop.permute(0, 3, 1, 2).float() / 255
        coefficients = from_regressed(self.regressor(photo))
        faces = reconstruct(self.model, coefficients)
        gbuffer = rasterize_screen_linear(faces.shape, self.model.triangles)
        guidance = render(faces.shape, faces.colour, self.model.triangles, gbuffer)
        error = _landmark_error(faces.pixels[:, self.model.keypoints], landmarks5.to(self.device))
        return RegressedFaces(coefficients, guidance, gbuffer.covered, torch.ones_like(error), error)


def _landmark_error(keypoints: Tensor, landmarks5: Tensor) -> Tensor:
    """(B,) see `RegressedFaces`; keypoints (B,68,2), landmarks5 (B,5,2) px."""
    five = keypoints[:, torch.tensor(_FIVE_POINTS, device=keypoints.device)].mean(2)
    extent = keypoints.amax(1) - keypoints.amin(1)
    return (five - landmarks5).norm(dim=-1).mean(1) / extent.prod(1).clamp(min=1).sqrt()


class OcclusionTransfer:
    """Object mask and swap.

    Args:
        model: the face model.
        parsing: for inference.
        true_lab: compare colours in Lab, and not in what the authors' code takes for it.
        device: of both models and of the results.
    """

    def __init__(self, model: BaselFaceModel, parsing: FaceParsing, true_lab: bool = False, device: str = "cpu"):
        self.model, self.parsing, self.true_lab, self.device = model, parsing, true_lab, device

    @torch.inference_mode()
    def transfer(self, photo: Tensor, guidance: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mask and swap of a mini-batch.

        Args:
            photo: (B,3,224,224) float32 RGB 0..1.
            guidance: not used: it is rendered again, without the rounding to 8 bits.
            coefficients: (B,C) float32, layout of `Coefficients.concatenated`.

        Returns:
            Object mask (B,224,224) float32 0..1, photo with the guidance in its place and guidance with the occluder
            painted on (B,3,224,224) float32.
        """
        faces = _reconstructed(self.model, coefficients)
        gbuffer = rasterize_screen_linear(faces.shape, self.model.triangles)
        guidance = render(faces.shape, faces.colour, self.model.triangles, gbuffer)
        colours = sample_vertex_colours(photo, faces.pixels)
        textured = render(faces.shape, colours, self.model.triangles, gbuffer)
        parsed = ParsedFaces.of(guidance, self.parsing.labels(photo), self.parsing.labels(guidance))
        mask = object_mask(guidance, photo, parsed, self.true_lab)
        return mask[:, 0], *swap(photo, guidance, textured, mask)


class DoubleRotator:
    """Rotate and render twice; see `OcclusionTransfer` for the arguments."""

    def __init__(self, model: BaselFaceModel, parsing: FaceParsing, true_lab: bool = False, device: str = "cpu"):
        self.model, self.parsing, self.true_lab, self.device = model, parsing, true_lab, device

    @torch.inference_mode()
    def rotate(self, faces: SwappedFaces, coefficients: Tensor, view: Tensor) -> RotatedFaces:
        """Double rotation of a mini-batch.

        Args:
            faces: with the object mask as occluder mask.
            coefficients: (B,C) float32.
            view: (B,3) yaw, pitch, roll in degrees, absolute.

        Returns:
            Visible is where the full mask is 0; the occlusion mask is three quarters full and one quarter object mask.
        """
        mesh = _reconstructed(self.model, coefficients)
        _, rotated = rotate_twice(self.model, mesh, faces.deoccluded, view)
        labels = self.parsing.labels(faces.photo), self.parsing.labels(faces.guidance)
        parsed = ParsedFaces.of(faces.guidance, *labels)
        full = full_mask(rotated, faces.guidance, faces.photo, parsed, self.true_lab)[:, 0]
        return RotatedFaces(rotated, full == 0, (3 * full + faces.occluder_mask) / 4)


def _reconstructed(model: BaselFaceModel, coefficients: Tensor) -> Reconstruction:
    """From a row of `Coefficients.concatenated`."""
    return reconstruct(model, Coefficients.split(coefficients, PAPER_SIZES))
