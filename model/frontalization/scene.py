"""Everything that is known of a face before its wanted view is painted."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cfr.model.coefficients import Coefficients
from cfr.model.face_model import MorphableModel
from cfr.model.frontalization.occluders import FOREHEAD, HAIRLINE, RemovableOccluders
from cfr.model.frontalization.templates import Template
from cfr.model.frontalization.views import View, mirrored, photo_view, wanted_view
from cfr.model.lighting import shade
from cfr.model.morphology import erode
from cfr.model.rasterize import interpolate

# Window of pixels that must lie inside the photo: those at its edge are mixed with the black beyond.
_EDGE = 7


@dataclass(frozen=True)
class SourceFaces:
    """A mini-batch of fitted faces in their photos.

    Attributes:
        photo: (B,3,320k,320k) float32 RGB 0..1, the crop with its margin; k = 1, or more for larger results.
        inside: (B,320,320) bool, what lies inside the photo.
        occluder: (B,224,224) bool, what covers the face in the crop.
        coefficients: (B,C) float32.
    """

    photo: Tensor
    inside: Tensor
    occluder: Tensor
    coefficients: Tensor


@dataclass(frozen=True)
class Scene:
    """A mini-batch of faces with the photo's view and the wanted view.

    Attributes:
        photo: as in SourceFaces.
        inside: (B,1,320,320) float32 0/1, well inside the photo.
        usable: the same, and nothing that is to be removed.
        pose: (B,3) yaw, pitch, roll in the photo, degrees.
        source, flipped, target: the photo's view, that of its mirror image, the wanted view.
        guidance: (B,3,S,S) float32 RGB 0..1, the fitted model in the wanted view, black outside the mesh.
        crown: (V,1) float32, of the model's vertices: from the forehead, 0, to where hair begins, 1.
        eyes: (V,4) float32 0/1, of the model's vertices: iris and sclera of the eye at image left, and of the other.
        triangles: (F,3).
    """

    photo: Tensor
    inside: Tensor
    usable: Tensor
    pose: Tensor
    source: View
    flipped: View
    target: View
    guidance: Tensor
    crown: Tensor
    eyes: Tensor
    triangles: Tensor


def crown(model: MorphableModel) -> Tensor:
    """`Scene.crown` of a face model."""
    return ((model.mean_shape[:, 1:2] - FOREHEAD) / (HAIRLINE - FOREHEAD)).clamp(0, 1)


def eyes(model: MorphableModel) -> Tensor:
    """`Scene.eyes` of a face model."""
    iris, sclera = model.in_regions("iris", "pupil"), model.in_regions("sclera")
    left = model.mean_shape[:, 0] < 0
    return torch.stack([left & iris, left & sclera, ~left & iris, ~left & sclera], dim=1).float()


def build_scene(
    model: MorphableModel,
    occluders: RemovableOccluders,
    faces: SourceFaces,
    pose: Tensor,
    template: Template,
    size: int,
) -> Scene:
    """Pose the faces and find what of the photos can be used; pose (B,3) degrees, template and size of the result."""
    fitted = Coefficients.split(faces.coefficients, model.sizes)
    vertices = model.shape(fitted.identity, fitted.expression)
    normals = model.vertex_normals(vertices)
    source = photo_view(model, vertices, normals, fitted)
    target = wanted_view(model, vertices, normals, pose, template, size)
    inside = erode(faces.inside, _EDGE)
    usable = inside & ~occluders.select(faces.photo, faces.occluder, source)
    # The light stays with the face, as that of the photo's texture does.
    colour = model.albedo(fitted.albedo) * shade(source.mesh.normals, fitted.light)
    return Scene(
        photo=faces.photo,
        inside=inside[:, None].float(),
        usable=usable[:, None].float(),
        pose=fitted.pose,
        source=source,
        flipped=mirrored(source, model.mirror),
        target=target,
        guidance=interpolate(target.gbuffer, colour.clamp(0, 1), model.triangles),
        crown=crown(model),
        eyes=eyes(model),
        triangles=model.triangles,
    )
