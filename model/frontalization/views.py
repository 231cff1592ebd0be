"""The photo's view and the wanted view of the same fitted face, as meshes with G-buffers."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cfr.model.alignment import CONTEXT_MARGIN, CONTEXT_SIZE, invert_affine
from cfr.model.camera import project, rotation_matrix, unproject
from cfr.model.coefficients import Coefficients
from cfr.model.face_model import MorphableModel
from cfr.model.frontalization.templates import Template, five_points
from cfr.model.rasterize import GBuffer, interpolate
from cfr.model.rendering import PosedMesh, pose_mesh


@dataclass(frozen=True)
class View:
    """A mini-batch of faces, each seen from one pose, in a frame of its own.

    Attributes:
        mesh: posed; `pixels` are those of the frame.
        gbuffer: of the frame.
        rotation: (B,3,3), translation: (B,3) decimetres, model space -> camera space.
        affine: (B,6) float32, px of the camera's crop -> px of the frame.
        landmarks5: (B,5,2) float32 px of the frame: eyes, nose tip, mouth corners of the mesh.
    """

    mesh: PosedMesh
    gbuffer: GBuffer
    rotation: Tensor
    translation: Tensor
    affine: Tensor
    landmarks5: Tensor

    def to_frame(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Where points in model space (B,N,3) dm appear: px of the frame (B,N,2), depth (B,N) dm."""
        camera = points @ self.rotation.transpose(1, 2) + self.translation[:, None]
        pixels, depth = project(camera)
        return _mapped(pixels, self.affine), depth

    def to_model(self, pixels: Tensor, depth: Tensor) -> Tensor:
        """Points in model space (B,N,3) dm that appear at px of the frame (B,N,2) in a depth (B,N) dm."""
        back = torch.from_numpy(np.stack([invert_affine(affine) for affine in self.affine.cpu().numpy()]))
        camera = unproject(_mapped(pixels, back.to(pixels)), depth)
        return (camera - self.translation[:, None]) @ self.rotation


def _mapped(pixels: Tensor, affine: Tensor) -> Tensor:
    """Points (B,N,2) by affines (B,6)."""
    matrix = affine.view(-1, 2, 3)
    return pixels @ matrix[:, :, :2].transpose(1, 2) + matrix[:, None, :, 2]


def photo_view(model: MorphableModel, vertices: Tensor, normals: Tensor, coefficients: Coefficients) -> View:
    """The face as it stands in the context crop (320 px); vertices and normals (B,V,3) in model space."""
    mesh = pose_mesh(vertices, normals, coefficients.pose, coefficients.translation)
    margin = float(CONTEXT_MARGIN)
    affine = vertices.new_tensor([1, 0, margin, 0, 1, margin]).expand(len(vertices), 6)
    return _view(model, mesh, coefficients.pose, coefficients.translation, affine, CONTEXT_SIZE)


def wanted_view(
    model: MorphableModel, vertices: Tensor, normals: Tensor, pose: Tensor, template: Template, size: int
) -> View:
    """The face turned to a pose (B,3) degrees and framed by a template in a square of `size` pixels.

    It turns about the middle of the head; how far away it stands is that of the mean face.
    """
    pivot = (model.mean_shape.amax(0) + model.mean_shape.amin(0)) / 2
    translation = pivot - rotation_matrix(pose) @ pivot
    mesh = pose_mesh(vertices, normals, pose, translation)
    points = _landmarks5(model, mesh).cpu().numpy()
    affine = np.stack([template.affine(each, size) for each in points]).astype(np.float32)
    return _view(model, mesh, pose, translation, torch.from_numpy(affine).to(vertices), size)


def shown_labels(view: View, labels: Tensor, triangles: Tensor) -> tuple[Tensor, ...]:
    """Where a view shows each of the L labels of the vertices (V,L) float32 0/1: L masks (B,H,W) bool."""
    batch = len(view.gbuffer.depth)
    return (interpolate(view.gbuffer, labels.expand(batch, -1, -1), triangles) > 0.5).unbind(1)


def _landmarks5(model: MorphableModel, mesh: PosedMesh) -> Tensor:
    """(B,5,2) px of the camera's crop."""
    corners = model.surface_points(mesh.vertices, model.ibug68_triangles, model.ibug68_barycentric)
    return five_points(project(corners)[0])


def _view(model: MorphableModel, mesh: PosedMesh, pose: Tensor, translation: Tensor, affine: Tensor, size: int) -> View:
    framed = PosedMesh(mesh.vertices, mesh.normals, _mapped(mesh.pixels, affine), mesh.depth)
    gbuffer = framed.rasterized(model.triangles, size)
    landmarks5 = _mapped(_landmarks5(model, mesh), affine)
    return View(framed, gbuffer, rotation_matrix(pose), translation, affine, landmarks5)


def mirrored(view: View, mirror: Tensor) -> View:
    """The same photo flipped left to right, with the same vertices: each stands where its mirror image's did.

    Args:
        view: of a square frame that has the camera's crop in its middle.
        mirror: (V,) the vertex on the other side of the face.
    """
    width = view.gbuffer.depth.shape[-1]
    flip = view.mesh.pixels.new_tensor([-1.0, 1.0])
    side = view.mesh.pixels.new_tensor([float(width), 0.0])
    across = view.mesh.vertices.new_tensor([-1.0, 1.0, 1.0])
    mesh = PosedMesh(
        view.mesh.vertices[:, mirror] * across,
        view.mesh.normals[:, mirror] * across,
        view.mesh.pixels[:, mirror] * flip + side,
        view.mesh.depth[:, mirror],
    )
    # The flipped triangles have other numbers; a depth test needs the depths alone.
    shown = view.gbuffer
    flipped = GBuffer(shown.triangle_id.flip(2), shown.barycentric.flip(2), shown.depth.flip(2))
    reflection = torch.diag(across)
    turned = reflection @ view.rotation @ reflection
    # The five points in the order in which they lie in the flipped photo.
    landmarks5 = (view.landmarks5 * flip + side)[:, [1, 0, 2, 4, 3]]
    return View(mesh, flipped, turned, view.translation * across, view.affine, landmarks5)
