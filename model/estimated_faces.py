"""From regressed coefficients to landmarks and pictures, differentiably, for the face models that there are."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from cfr.model.camera import CROP_SIZE, project, rotation_matrix, to_camera_space
from cfr.model.coefficients import Coefficients
from cfr.model.face_model import MorphableModel
from cfr.model.face_model_files import load_face_model
from cfr.model.lighting import shade
from cfr.model.networks.coefficient_regressor import PAPER_SIZES
from cfr.model.paper.face_model import BaselFaceModel
from cfr.model.paper.reconstruction import from_regressed, reconstruct
from cfr.model.rasterize import interpolate, rasterize
from cfr.model.rendering import posed

DEFAULT_FACE_MODEL = "default"
# Signs of the bands of light in a mirrored picture: -1 for those that are odd in x (see `spherical_harmonics`).
_LIGHT_MIRROR = (1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, 1.0)


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

    def landmarks(self, regressed: Tensor) -> Tensor:
        """(B,68,2) crop px, the points of `faces`, by themselves where that is less work."""
        return self.faces(regressed).landmarks

    def render(self, faces: EstimatedFaces) -> tuple[Tensor, Tensor]:
        """Pictures (B,3,224,224) RGB, about 0..1 and not clamped, 0 outside the mesh; and where that is, (B,224,224)
        bool.

        Gradients flow to colours and, through the G-buffer's resolve, to vertices; not through the outline.
        """
        gbuffer = rasterize(faces.pixels, faces.depth, self.triangles, CROP_SIZE)
        return interpolate(gbuffer, faces.colour, self.triangles), gbuffer.covered


class MorphableFaceEstimator(FaceEstimator):
    """A face model in the layout of the package's own."""

    def __init__(self, model: MorphableModel):
        self.model = model
        self.sizes, self.triangles = model.sizes, model.triangles
        self.skin = model.region == model.region_names.index("skin")
        basis = model.log_albedo_basis
        self._albedo_mirror = torch.sign((basis * basis[:, model.mirror]).sum((1, 2)))
        corners = model.triangles[model.ibug68_triangles]

        def at_points(values: Tensor) -> Tensor:
            return (values[..., corners, :] * model.ibug68_barycentric[..., None]).sum(-2)

        self._points = at_points(model.mean_shape)
        self._identity_basis, self._expression_basis = (
            at_points(model.identity_basis),
            at_points(model.expression_basis),
        )

    def landmarks(self, regressed: Tensor) -> Tensor:
        """See `FaceEstimator.landmarks`."""
        return self.landmarks_of(from_regressed(regressed, self.sizes))

    def landmarks_of(self, found: Coefficients) -> Tensor:
        """(B,68,2) crop px."""
        points = self._points + torch.tensordot(found.identity, self._identity_basis, dims=1)
        points = points + torch.tensordot(found.expression, self._expression_basis, dims=1)
        return project(to_camera_space(points, rotation_matrix(found.pose), found.translation))[0]

    def mirrored(self, faces: Coefficients) -> Coefficients:
        """The faces of the mirrored pictures."""
        model = self.model
        return Coefficients(
            identity=faces.identity * model.identity_mirror,
            expression=faces.expression[:, model.expression_mirror],
            albedo=faces.albedo * self._albedo_mirror,
            light=faces.light * faces.light.new_tensor(_LIGHT_MIRROR)[:, None],
            pose=faces.pose * faces.pose.new_tensor([-1.0, 1.0, -1.0]),
            translation=faces.translation * faces.translation.new_tensor([-1.0, 1.0, 1.0]),
        )

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
        self.sizes, self.triangles, self.skin = PAPER_SIZES, model.triangles, model.skin

    def faces(self, regressed: Tensor) -> EstimatedFaces:
        """See `FaceEstimator.faces`."""
        model = self.model
        coefficients = from_regressed(regressed, self.sizes)
        mesh = reconstruct(model, coefficients)
        landmarks = mesh.pixels[:, model.keypoints]
        albedo = model.texture(coefficients.albedo)
        return EstimatedFaces(coefficients, landmarks, albedo, mesh.colour, mesh.pixels, mesh.depth)


def load_face_estimator(
    path: str | PathLike, device: str | torch.device = "cpu", own_conventions: bool = False
) -> FaceEstimator:
    """For a face model: `default`, `BFM_model_80.mat`, folder of ICT-FaceKit, a file of the default's layout (.npz).

    Args:
        path: of the face model.
        device: of its tensors.
        own_conventions: BFM, too, with the coefficients of this software, as `cfr pairs --face-model` uses it.

    Raises:
        FileNotFoundError, ValueError: no such file, or no face model. ImportError: a .mat file without SciPy.
    """
    default = str(path) == DEFAULT_FACE_MODEL
    if not default and not Path(path).exists():
        raise FileNotFoundError(f"no such file: {path}")
    if Path(path).suffix == ".mat" and not own_conventions:
        return BaselFaceEstimator(BaselFaceModel.load(path, device))
    return MorphableFaceEstimator(load_face_model("" if default else str(path), str(device)))
