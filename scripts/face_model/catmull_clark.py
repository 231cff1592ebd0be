"""One Catmull-Clark step as a sparse matrix, so that morph targets pass through it like the vertices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse


@dataclass(frozen=True)
class Topology:
    """vertices are rows of `weights` (V, N sparse); quads (Q, 4); uv (Q, 4, 2); part (Q,) str."""

    weights: sparse.csr_matrix
    quads: np.ndarray
    uv: np.ndarray
    part: np.ndarray


def subset(topology: Topology, rows: np.ndarray) -> Topology:
    """The quads `rows`; vertices keep their numbers."""
    return Topology(topology.weights, topology.quads[rows], topology.uv[rows], topology.part[rows])


def concatenate(parts: list[Topology]) -> Topology:
    """Several meshes as one, their vertices numbered one after the other."""
    offsets = np.cumsum([0] + [part.weights.shape[0] for part in parts])
    quads = np.concatenate([part.quads + offset for part, offset in zip(parts, offsets, strict=False)])
    return Topology(
        sparse.vstack([part.weights for part in parts]).tocsr(),
        quads,
        np.concatenate([part.uv for part in parts]),
        np.concatenate([part.part for part in parts]),
    )


def refine(topology: Topology) -> Topology:
    """One Catmull-Clark step; borders follow the cubic B-spline rule."""
    quads = topology.quads
    used, local = np.unique(quads, return_inverse=True)
    quads = local.reshape(quads.shape)
    vertex_count, quad_count = len(used), len(quads)
    corner_edges = np.sort(np.stack([quads, np.roll(quads, -1, axis=1)], axis=2), axis=2).reshape(-1, 2)
    edges, edge_of_corner, uses = np.unique(corner_edges, axis=0, return_inverse=True, return_counts=True)
    edge_of_corner = edge_of_corner.reshape(quads.shape)
    if uses.max() > 2:
        raise ValueError("the selected part of the base mesh is not a manifold")
    edge_rows = np.arange(len(edges))
    quad_rows = np.arange(quad_count)

    def matrix(rows, columns, values, shape):
        return sparse.csr_matrix(
            (np.broadcast_to(values, np.shape(rows)).ravel(), (np.ravel(rows), np.ravel(columns))), shape
        )

    face_points = matrix(np.repeat(quad_rows, 4), quads.ravel(), 0.25, (quad_count, vertex_count))
    midpoints = matrix(np.repeat(edge_rows, 2), edges.ravel(), 0.5, (len(edges), vertex_count))
    edge_faces = matrix(edge_of_corner.ravel(), np.repeat(quad_rows, 4), 0.5, (len(edges), quad_count)) @ face_points
    inner = sparse.diags_array((uses == 2).astype(float))
    edge_points = inner @ (0.5 * midpoints + 0.5 * edge_faces) + (sparse.identity(len(edges)) - inner) @ midpoints

    valence = np.bincount(quads.ravel(), minlength=vertex_count).astype(float)
    around_faces = matrix(quads.ravel(), np.repeat(quad_rows, 4), 1.0, (vertex_count, quad_count))
    around_edges = matrix(edges.ravel(), np.repeat(edge_rows, 2), 1.0, (vertex_count, len(edges)))
    inverse = sparse.diags_array(1.0 / valence)
    identity = sparse.identity(vertex_count)
    smooth = inverse @ (
        inverse @ around_faces @ face_points
        + 2 * inverse @ around_edges @ midpoints
        + sparse.diags_array(valence - 3) @ identity
    )
    border_edge = uses == 1
    border_vertices = np.zeros(vertex_count, bool)
    border_vertices[edges[border_edge]] = True
    crease = 0.5 * identity + 0.25 * around_edges @ sparse.diags_array(border_edge.astype(float)) @ midpoints
    on_border = sparse.diags_array(border_vertices.astype(float))
    vertex_points = on_border @ crease + (identity - on_border) @ smooth

    weights = sparse.vstack([vertex_points, edge_points, face_points]).tocsr() @ topology.weights[used]
    edge_ids = vertex_count + edge_of_corner
    face_ids = vertex_count + len(edges) + quad_rows
    fine = [np.stack([quads[:, i], edge_ids[:, i], face_ids, edge_ids[:, (i - 1) % 4]], axis=1) for i in range(4)]
    uv = topology.uv
    fine_uv = [
        np.stack(
            [uv[:, i], (uv[:, i] + uv[:, (i + 1) % 4]) / 2, uv.mean(axis=1), (uv[:, i] + uv[:, (i - 1) % 4]) / 2],
            axis=1,
        )
        for i in range(4)
    ]
    order = (quad_rows[:, None] + np.arange(4) * quad_count).ravel()
    return Topology(weights, np.concatenate(fine)[order], np.concatenate(fine_uv)[order], np.repeat(topology.part, 4))


def triangulate(topology: Topology, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split every quad along its shorter diagonal; a tie goes to the one from corner 0 (the same on both sides)."""
    q = topology.quads
    first = np.linalg.norm(positions[q[:, 0]] - positions[q[:, 2]], axis=1)
    second = np.linalg.norm(positions[q[:, 1]] - positions[q[:, 3]], axis=1)
    corners = np.where((first <= second + 1e-9)[:, None], [0, 1, 2, 0, 2, 3], [0, 1, 3, 1, 2, 3])
    triangles = np.take_along_axis(q, corners, axis=1).reshape(-1, 3)
    uv = np.take_along_axis(topology.uv, corners[:, :, None], axis=1).reshape(-1, 3, 2)
    return triangles, uv
