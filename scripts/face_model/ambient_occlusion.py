"""How much of the sky each vertex of a mesh sees: the darkness of creases, sockets and nostrils."""

import math

import numpy as np
import torch

from cfr.model.rasterize import rasterize

MAP_SIZE = 768
# A vertex counts as lit up to this depth behind the nearest surface (decimetres): more than a map pixel's slope.
DEPTH_TOLERANCE = 0.012
# The orthographic views are depth maps at this distance, so far that perspective interpolation is linear in effect.
FAR = 60.0


def _directions(count: int) -> np.ndarray:
    """Evenly spread unit vectors (count, 3): a Fibonacci sphere."""
    index = np.arange(count) + 0.5
    height = 1 - 2 * index / count
    angle = math.pi * (1 + math.sqrt(5)) * index
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(angle), height, radius * np.sin(angle)], axis=1)


def sky_visibility(vertices: np.ndarray, triangles: np.ndarray, directions: int = 256) -> np.ndarray:
    """Share of the light that reaches each vertex past the rest of the mesh.

    The sky is brighter above and in front, as it is where photos of faces are taken. Visibility is tested in depth maps
    drawn from `directions` sides.

    Args:
        vertices: (V, 3) decimetres, x right, y up, z towards the viewer.
        triangles: (F, 3) int64, counter-clockwise seen from outside.
        directions: number of sky samples.

    Returns:
        (V,) float64 in [0, 1]; 1 = nothing in the way.
    """
    normals = _vertex_normals(vertices, triangles)
    received, total = np.zeros(len(vertices)), np.zeros(len(vertices))
    for direction in _directions(directions):
        cosine = np.clip(normals @ direction, 0, None)
        cosine *= (0.35 + 0.65 * max(direction[1], 0)) * (0.25 + 0.75 * max(direction[2], 0))
        total += cosine
        received += cosine * visible_from(vertices, triangles, direction)
    return received / np.maximum(total, 1e-9)


def visible_from(vertices: np.ndarray, triangles: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Vertices that an observer far away in `direction` (3,) sees, (V,) bool; arguments as for `sky_visibility`."""
    centred = vertices - vertices.mean(0)
    scale = MAP_SIZE / (2.1 * np.linalg.norm(centred, axis=1).max())
    side = np.cross([0, 1, 0] if abs(direction[1]) < 0.9 else [1, 0, 0], direction)
    side /= np.linalg.norm(side)
    up = np.cross(direction, side)
    pixels = np.stack([centred @ side, -(centred @ up)], axis=1) * scale + MAP_SIZE / 2
    depth = FAR - centred @ direction
    gbuffer = rasterize(
        torch.as_tensor(pixels, dtype=torch.float32)[None],
        torch.as_tensor(depth, dtype=torch.float32)[None],
        torch.as_tensor(triangles),
        MAP_SIZE,
        cull_back_faces=False,
    )
    columns, rows = np.clip(np.floor(pixels).astype(int), 0, MAP_SIZE - 1).T
    nearest = gbuffer.depth[0].numpy()[rows, columns]
    return depth <= nearest + DEPTH_TOLERANCE


def _vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals (V, 3)."""
    corners = vertices[triangles]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], face)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
