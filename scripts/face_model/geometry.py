"""The face mesh: a part of the base mesh, refined once by Catmull-Clark and cut along a smooth line.

Every vertex of the result is a fixed linear combination of base-mesh vertices (`FaceMesh.weights`), so that each
morph target passes through the same sparse matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from base_mesh import AnnyData
from catmull_clark import Topology, concatenate, refine, subset, triangulate
from cutting import CUT_SIDE_VIEW, cut, cut_field, split_triangles
from scipy import sparse
from scipy.spatial import cKDTree

# The eyeball and its socket behind this plane (dm before the eyeball's centre) can never be seen.
SOCKET_DEPTH = 0.0
EYE_PARTS = ("l-eye", "r-eye")
# Brows are painted per vertex: triangles in this window beside and above an eyeball's centre (dm: outwards, up) are
# split.
BROW_WINDOW = ((-0.27, 0.33), (0.08, 0.34))


@dataclass(frozen=True)
class FaceMesh:
    """The final topology.

    weights: (V, N) sparse, rows sum to 1, base vertices -> face vertices. triangles: (F, 3) int64, counter-clockwise
    from outside. uv: (F, 3, 2) per corner. part: (F,) str. mirror: (V,) int64. border: (V,) bool, on the cut.
    """

    weights: sparse.csr_matrix
    triangles: np.ndarray
    uv: np.ndarray
    part: np.ndarray
    mirror: np.ndarray
    border: np.ndarray


def average_adult(data: AnnyData) -> np.ndarray:
    """(N, 3) float64: the average of the six young adults (three ethnicities, two sexes) on the base mesh."""
    names = [f"macrodetails/{e}-{s}-young" for e in ("african", "asian", "caucasian") for s in ("female", "male")]
    return data.base.vertices + sum(data.target(name) for name in names) / len(names)


def build_face_mesh(data: AnnyData, mean_base: np.ndarray) -> FaceMesh:
    """Select, refine, cut and number the face mesh.

    mean_base: (N, 3) float64, the mirror-symmetric average head on the base mesh; decides lengths and the cut only.
    """
    topology = _select(data, mean_base)
    topology = refine(topology)
    eyes = np.isin(topology.part, EYE_PARTS)
    topology = concatenate([subset(topology, ~eyes), _round_eyes(refine(subset(topology, eyes)), mean_base)])
    positions = topology.weights @ mean_base
    triangles, uv = triangulate(topology, positions)
    part = np.repeat(topology.part, 2)
    weights, triangles, uv, part, border = cut(topology.weights, triangles, uv, part, positions, cut_field(positions))
    positions = weights @ mean_base
    fine = _needs_detail(positions, triangles, part)
    weights, triangles, uv, part, border = split_triangles(weights, triangles, uv, part, border, positions, fine)
    weights, triangles, border = _drop_unused(weights, triangles, border)
    positions = weights @ mean_base
    mirror = _mirror_map(positions, part, triangles)
    swap = sparse.csr_matrix((np.ones(len(data.mirror)), (np.arange(len(data.mirror)), data.mirror)))
    weights = ((weights + weights[mirror] @ swap) * 0.5).tocsr()
    return FaceMesh(weights, triangles, uv, part, mirror, border)


def _select(data: AnnyData, mean_base: np.ndarray) -> Topology:
    base = data.base
    centre = mean_base[base.quads].mean(axis=1)
    keep = (centre[:, 1] > CUT_SIDE_VIEW[:, 1].min() - 0.3) & (np.abs(centre[:, 0]) < 1.1)
    for part in EYE_PARTS:
        eye = mean_base[np.unique(base.quads[base.part == part])]
        eye_centre = eye.mean(axis=0)
        radius = np.linalg.norm(eye - eye_centre, axis=1).mean()
        near = np.linalg.norm(centre - eye_centre, axis=1) < 1.2 * radius
        keep &= ~(near & (centre[:, 2] < eye_centre[2] + SOCKET_DEPTH))
    size = len(base.vertices)
    return Topology(sparse.identity(size, format="csr"), base.quads[keep], base.quad_uv[keep], base.part[keep])


def _round_eyes(topology: Topology, mean_base: np.ndarray) -> Topology:
    """Undo the shrinking of the coarse eyeballs by Catmull-Clark: scale them about their centres (a linear map)."""
    weights = topology.weights.tolil()
    for part in EYE_PARTS:
        rows = np.unique(topology.quads[topology.part == part])
        columns = np.unique(topology.weights[rows].indices)
        coarse = mean_base[columns]
        # The kept half ball: its centre is the one of the sphere through the coarse vertices.
        system = np.c_[2 * coarse, np.ones(len(coarse))]
        solution = np.linalg.lstsq(system, (coarse**2).sum(axis=1), rcond=None)[0]
        centre = solution[:3]
        radius = np.sqrt(solution[3] + centre @ centre)
        # Express that centre by the coarse vertices (minimum-norm weights, sum 1) so that it moves with them.
        constraint = np.c_[coarse, np.ones(len(coarse))].T
        centre_weights = np.linalg.lstsq(constraint, np.r_[centre, 1.0], rcond=None)[0]
        fine = topology.weights[rows] @ mean_base
        scale = radius / np.linalg.norm(fine - centre, axis=1)
        block = topology.weights[rows][:, columns].toarray()
        weights[rows[:, None], columns[None, :]] = scale[:, None] * block + (1 - scale)[:, None] * centre_weights
    return Topology(weights.tocsr(), topology.quads, topology.uv, topology.part)


def _needs_detail(positions: np.ndarray, triangles: np.ndarray, part: np.ndarray) -> np.ndarray:
    """(F,) bool: triangles of the brows."""
    eye = positions[np.unique(triangles[part == EYE_PARTS[0]])].mean(axis=0)
    beside = np.abs(positions[:, 0]) - abs(eye[0])
    above = positions[:, 1] - eye[1]
    (near, far), (low, high) = BROW_WINDOW
    inside = (beside > near) & (beside < far) & (above > low) & (above < high) & (positions[:, 2] > eye[2] - 0.2)
    return inside[triangles].all(axis=1) & (part == "body")


def _drop_unused(weights, triangles, border):
    used, local = np.unique(triangles, return_inverse=True)
    return weights[used], local.reshape(triangles.shape), border[used]


def _mirror_map(positions, part, triangles):
    kinds = {name: i for i, name in enumerate(sorted({name[-3:] if "eye" in name else name for name in part.tolist()}))}
    kind = np.zeros(len(positions))
    for name in np.unique(part):
        kind[triangles[part == name]] = kinds[name[-3:] if "eye" in name else name]
    keyed = np.c_[positions, kind]
    distance, mirror = cKDTree(keyed).query(keyed * [-1, 1, 1, 1])
    if distance.max() > 1e-6 or (mirror[mirror] != np.arange(len(mirror))).any():
        raise ValueError(f"the face mesh is not mirror-symmetric (worst distance {distance.max():.2e} dm)")
    return mirror
