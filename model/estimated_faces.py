"""From regressed coefficients to landmarks and pictures, differentiably, for the face models that there are."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from cfr.model.camera import CROP_SIZE
from cfr.model.coefficients import Coefficients
from cfr.model.face_model import MorphableModel
from cfr.model.lighting import shade
from cfr.model.paper.face_model import SIZES, BaselFaceModel
from cfr.model.paper.reconstruction import from_regressed, reconstruct
from cfr.model.rasterize import interpolate, rasterize
from cfr.model.rendering import posed

DEFAULT_FACE_MODEL = "default"


@dataclass(frozen=True)
class EstimatedFaces:
    """A mini-batch; everything carries gradients to the coefficients.

    Attributes:
        coefficients: in this software's conventions.
        landmarks: (B,68,2) crop px, the 68 points of iBUG 300-W.
        albedo: (B,V,3) vertex colours without light, RGB, about 0..1.
        colour: (B,V,3) with light; not clamped.
        pixels: (B,V,2) projected vertices, crop px. depth: (B,V) decimetres.
    """

    coefficients: Coefficients
    landmarks: Tensor
    albedo: Tensor
    colour: Tensor
    pixels: Tensor
    depth: Tensor


class FaceEstimator(ABC):
    """What a regressor's numbers mean with one face model.

    Attributes:
        sizes: identity, expression and albedo coefficients.
        triangles: (F,3) int64.
        skin: (V,) bool, vertices that show skin.
    """

    sizes: tuple[int, int, int]
    triangles: Tensor
    skin: Tensor

    @abstractmethod
    def faces(self, regressed: Tensor) -> EstimatedFaces:
        """Faces of regressed rows (B,C); see `from_regressed`."""

    def render(self, faces: EstimatedFaces) -> tuple[Tensor, Tensor]:
        """Pictures (B,3,224,224) RGB, about 0..1 and not clamped, 0 outside the mesh; and where that is, (B,224,224)
        bool.

        Gradients flow to colours and, through the G-buffer's resolve, to vertices; not through the outline.
        """
        gbuffer = rasterize(faces.pixels, faces.depth, self.triangles, CROP_SIZE)
        return interpolate(gbuffer, faces.colour, self.triangles), gbuffer.covered


class MorphableFaceEstimator(FaceEstimator):
    """The package's face model, or another file of its layout."""

    def __init__(self, model: MorphableModel):
        self.model = model
        self.sizes, self.triangles = model.sizes, model.triangles
        self.skin = model.region == model.region_names.index("skin")

    def faces(self, regressed: Tensor) -> EstimatedFaces:
        """See `FaceEstimator.faces`."""
        model = self.model
        coefficients = from_regressed(regressed, self.sizes)
        mesh = posed(model, coefficients)
        albedo = model.albedo(coefficients.albedo)
        landmarks = model.surface_points(mesh.pixels, model.ibug68_triangles, model.ibug68_barycentric)
        colour = albedo * shade(mesh.normals, coefficients.light)
        return EstimatedFaces(coefficients, landmarks, albedo, colour, mesh.pixels, mesh.depth)


class BaselFaceEstimator(FaceEstimator):
    """The paper's face model."""

    def __init__(self, model: BaselFaceModel):
        self.model = model
        self.sizes, self.triangles, self.skin = SIZES, model.triangles, model.skin

    def faces(self, regressed: Tensor) -> EstimatedFaces:
        """See `FaceEstimator.faces`."""
        model = self.model
        coefficients = from_regressed(regressed, self.sizes)
        mesh = reconstruct(model, coefficients)
        landmarks = mesh.pixels[:, model.keypoints]
        albedo = model.texture(coefficients.albedo)
        return EstimatedFaces(coefficients, landmarks, albedo, mesh.colour, mesh.pixels, mesh.depth)


def load_face_estimator(path: str | PathLike, device: str | torch.device = "cpu") -> FaceEstimator:
    """For a face model: `default`, `BFM_model_80.mat`, or a file of the default's layout (.npz).

    Raises:
        FileNotFoundError, ValueError: no such file, or no face model. ImportError: a .mat file without SciPy.
    """
    if str(path) == DEFAULT_FACE_MODEL:
        return MorphableFaceEstimator(MorphableModel.load_default(str(device)))
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}")
    if Path(path).suffix == ".mat":
        return BaselFaceEstimator(BaselFaceModel.load(path, device))
    return MorphableFaceEstimator(MorphableModel.load(path, device))
