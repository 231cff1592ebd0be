"""Posed meshes and the picture that the face model predicts for a photo (the guidance)."""

from dataclasses import dataclass

from torch import Tensor

from cfr.model.camera import CROP_SIZE, project, rotation_matrix, to_camera_space
from cfr.model.coefficients import Coefficients
from cfr.model.face_model import MorphableModel
from cfr.model.lighting import shade
from cfr.model.rasterize import GBuffer, interpolate, rasterize


@dataclass(frozen=True)
class PosedMesh:
    """A mini-batch of meshes in front of the camera.

    Attributes:
        vertices: (B,V,3) camera space, decimetres.
        normals: (B,V,3) unit, camera space.
        pixels: (B,V,2) projections, crop px.
        depth: (B,V) distance from the camera along its axis, decimetres.
    """

    vertices: Tensor
    normals: Tensor
    pixels: Tensor
    depth: Tensor

    def rasterized(self, triangles: Tensor, size: int = CROP_SIZE) -> GBuffer:
        """G-buffer of the crop; triangles (F,3)."""
        return rasterize(self.pixels, self.depth, triangles, size)


def pose_mesh(vertices: Tensor, normals: Tensor, pose: Tensor, translation: Tensor) -> PosedMesh:
    """Turn, shift and project meshes: vertices and normals (B,V,3) in model space, pose (B,3) degrees."""
    rotation = rotation_matrix(pose)
    in_camera = to_camera_space(vertices, rotation, translation)
    pixels, depth = project(in_camera)
    return PosedMesh(in_camera, normals @ rotation.transpose(1, 2), pixels, depth)


def posed(model: MorphableModel, coefficients: Coefficients) -> PosedMesh:
    """The mesh that the coefficients describe, as it stands in the photo."""
    vertices = model.shape(coefficients.identity, coefficients.expression)
    return pose_mesh(vertices, model.vertex_normals(vertices), coefficients.pose, coefficients.translation)


def render_guidance(model: MorphableModel, coefficients: Coefficients, mesh: PosedMesh, gbuffer: GBuffer) -> Tensor:
    """Albedo times spherical-harmonic light (CFR-GAN's guidance), (B,3,H,W) RGB 0..1, black outside the mesh."""
    colour = model.albedo(coefficients.albedo) * shade(mesh.normals, coefficients.light)
    return interpolate(gbuffer, colour.clamp(0, 1), model.triangles)
