"""Rotate to another view and back, so that what that view cannot see is damaged (double rotation of CFR-GAN).

Colours are never kept at vertices: each rendered pixel looks up the picture at its own projection there, after a depth
test. What was hidden stays a hole.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cfr.model.camera import rotation_matrix
from cfr.model.coefficients import Coefficients
from cfr.model.face_model import MorphableModel
from cfr.model.morphology import erode
from cfr.model.rasterize import GBuffer, interpolate, reproject, sample_image
from cfr.model.rendering import PosedMesh, pose_mesh

# Cosine between the surface and the line of sight below which a picture's pixels are smeared over too much surface.
GRAZING = 0.12
# A sampled colour counts only if at least this share of its bilinear weight lies on valid pixels.
VALID_SHARE = 0.6


@dataclass(frozen=True)
class DoubleRotation:
    """What the double rotation made of a mini-batch.

    Attributes:
        rotated_once: (B,3,H,W) float32 RGB 0..1, the face seen from the random view, black where unknown.
        rotated: (B,3,H,W) float32 RGB 0..1, back in the photo's view, black in the holes and outside the mesh.
        visible: (B,H,W) bool, mesh pixels of the photo's view whose colour survived both rotations.
    """

    rotated_once: Tensor
    rotated: Tensor
    visible: Tensor


def _facing(mesh: PosedMesh) -> Tensor:
    """(B,V,1) cosine between the vertex normal and the direction to the camera."""
    to_camera = -mesh.vertices
    to_camera = torch.cat([to_camera[..., :2], mesh.depth[..., None]], -1)
    return (F.normalize(to_camera, dim=-1) * mesh.normals).sum(-1, keepdim=True)


def _transfer(
    picture: Tensor, valid: Tensor, source: tuple[PosedMesh, GBuffer], target_gbuffer: GBuffer, triangles: Tensor
) -> tuple[Tensor, Tensor]:
    """Texture the target view from a picture of the source view.

    Args:
        picture: (B,3,H,W); valid (B,H,W) bool, where it may be trusted.
        source: mesh and G-buffer of the picture's view.
        target_gbuffer: of the view to texture.
        triangles: (F,3).

    Returns:
        (B,3,H,W) colours, black where unknown, and (B,H,W) bool where they are known.
    """
    mesh, gbuffer = source
    pixels, shown = reproject(target_gbuffer, gbuffer, mesh.pixels, mesh.depth, triangles)
    facing = interpolate(target_gbuffer, _facing(mesh), triangles)[:, 0]
    seen = shown & (facing > GRAZING)
    trusted = valid[:, None].float()
    share = sample_image(trusted, pixels)[:, 0]
    colour = sample_image(picture * trusted, pixels) / share.clamp(min=1e-6)[:, None]
    known = seen & (share > VALID_SHARE)
    return colour.clamp(0, 1) * known[:, None], known


class DoubleRotator:
    """Renders with a face model; one per process.

    Args:
        device: of the model and of the results.
        model: on that device; default: the one that comes with the package.
    """

    def __init__(self, device: str = "cpu", model: MorphableModel | None = None):
        self.device = torch.device(device)
        self.model = model or MorphableModel.load_default(device)
        # Turning about the middle of the head keeps every view within the crop.
        self.pivot = (self.model.mean_shape.amax(0) + self.model.mean_shape.amin(0)) / 2

    @torch.inference_mode()
    def rotate(self, texture: Tensor, coefficients: Tensor, view: Tensor) -> DoubleRotation:
        """Double rotation of a mini-batch.

        Args:
            texture: (B,3,224,224) float32 RGB 0..1, the roughly de-occluded photo.
            coefficients: (B,C) float32, layout of `Coefficients.concatenated`.
            view: (B,3) yaw, pitch, roll in degrees of the random view, absolute.
        """
        model = self.model
        fitted = Coefficients.split(coefficients.to(self.device), model.sizes)
        vertices = model.shape(fitted.identity, fitted.expression)
        normals = model.vertex_normals(vertices)
        photo_mesh = pose_mesh(vertices, normals, fitted.pose, fitted.translation)
        photo_gbuffer = photo_mesh.rasterized(model.triangles)
        view = view.to(self.device)
        shift = (rotation_matrix(fitted.pose) - rotation_matrix(view)) @ self.pivot
        view_mesh = pose_mesh(vertices, normals, view, fitted.translation + shift)
        view_gbuffer = view_mesh.rasterized(model.triangles)
        texture = texture.to(self.device)
        # The mesh's outermost pixel mixes with the background.
        inside = erode(photo_gbuffer.covered, 3)
        once, known_once = _transfer(texture, inside, (photo_mesh, photo_gbuffer), view_gbuffer, model.triangles)
        twice, known_twice = _transfer(once, known_once, (view_mesh, view_gbuffer), photo_gbuffer, model.triangles)
        return DoubleRotation(once, twice, known_twice)
