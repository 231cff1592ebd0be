"""The face mesh: a part of the base mesh, refined once by Catmull-Clark and cut along a smooth line.

Every vertex of the result is a fixed linear combination of base-mesh vertices (`FaceMesh.weights`), so that each
morph target passes through the same sparse matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from base_mesh import AnnyData
from scipy import sparse
from scipy.spatial import cKDTree

# The cut in the side view, (z, y) in dm around the face of base.obj, inside on the left when walking along it: hairline,
# over and behind the ear, down to the neck, forward under the chin. The front is left open (far outside).
CUT_SIDE_VIEW = np.array([
    (2.6, 8.24), (1.25, 8.05), (1.00, 7.98), (0.76, 7.90), (0.54, 7.83), (0.36, 7.75), (0.22, 7.58), (0.17, 7.30),
    (0.20, 7.00), (0.29, 6.74), (0.42, 6.50), (0.60, 6.28), (0.80, 6.13), (1.05, 6.03), (2.6, 5.85),
])  # fmt: skip
# The hairline falls towards the temples: y is raised by this much times x^2 (1/dm) before the cut.
CUT_TEMPLE_DROP = 0.3
# An existing vertex closer to the cut than this share of the crossed edge is moved onto the cut: no sliver triangles.
SNAP_SHARE = 0.4
# The eyeball and its socket behind this plane (dm before the eyeball's centre) can never be seen.
SOCKET_DEPTH = 0.0
EYE_PARTS = ("l-eye", "r-eye")
# Brows are painted per vertex: triangles in this window beside and above an eyeball's centre (dm: outwards, up) are split.
BROW_WINDOW = ((-0.27, 0.33), (0.08, 0.34))


@dataclass(frozen=True)
class Topology:
    """vertices are rows of `weights` (V, N sparse); quads (Q, 4); uv (Q, 4, 2); part (Q,) str."""

    weights: sparse.csr_matrix
    quads: np.ndarray
    uv: np.ndarray
    part: np.ndarray


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
    topology = _refine(topology)
    eyes = np.isin(topology.part, EYE_PARTS)
    topology = _concatenate([_subset(topology, ~eyes), _round_eyes(_refine(_subset(topology, eyes)), mean_base)])
    positions = topology.weights @ mean_base
    triangles, uv = _triangulate(topology, positions)
    part = np.repeat(topology.part, 2)
    weights, triangles, uv, part, border = _cut(topology.weights, triangles, uv, part, positions, _cut_field(positions))
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


def _subset(topology: Topology, rows: np.ndarray) -> Topology:
    return Topology(topology.weights, topology.quads[rows], topology.uv[rows], topology.part[rows])


def _concatenate(parts: list[Topology]) -> Topology:
    offsets = np.cumsum([0] + [part.weights.shape[0] for part in parts])
    quads = np.concatenate([part.quads + offset for part, offset in zip(parts, offsets, strict=False)])
    return Topology(
        sparse.vstack([part.weights for part in parts]).tocsr(),
        quads,
        np.concatenate([part.uv for part in parts]),
        np.concatenate([part.part for part in parts]),
    )


def _refine(topology: Topology) -> Topology:
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
        return sparse.csr_matrix((np.broadcast_to(values, np.shape(rows)).ravel(), (np.ravel(rows), np.ravel(columns))), shape)

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
        inverse @ around_faces @ face_points + 2 * inverse @ around_edges @ midpoints + sparse.diags_array(valence - 3) @ identity
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
    fine = [
        np.stack([quads[:, i], edge_ids[:, i], face_ids, edge_ids[:, (i - 1) % 4]], axis=1) for i in range(4)
    ]
    uv = topology.uv
    fine_uv = [
        np.stack([uv[:, i], (uv[:, i] + uv[:, (i + 1) % 4]) / 2, uv.mean(axis=1), (uv[:, i] + uv[:, (i - 1) % 4]) / 2], axis=1)
        for i in range(4)
    ]
    order = (quad_rows[:, None] + np.arange(4) * quad_count).ravel()
    return Topology(weights, np.concatenate(fine)[order], np.concatenate(fine_uv)[order], np.repeat(topology.part, 4))


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


def _triangulate(topology: Topology, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split every quad along its shorter diagonal; a tie goes to the diagonal from corner 0 (the same on both sides)."""
    q = topology.quads
    first = np.linalg.norm(positions[q[:, 0]] - positions[q[:, 2]], axis=1)
    second = np.linalg.norm(positions[q[:, 1]] - positions[q[:, 3]], axis=1)
    corners = np.where((first <= second + 1e-9)[:, None], [0, 1, 2, 0, 2, 3], [0, 1, 3, 1, 2, 3])
    triangles = np.take_along_axis(q, corners, axis=1).reshape(-1, 3)
    uv = np.take_along_axis(topology.uv, corners[:, :, None], axis=1).reshape(-1, 3, 2)
    return triangles, uv


def _cut_field(positions: np.ndarray) -> np.ndarray:
    """Signed distance (dm, > 0 inside) of each vertex to the rounded cut line in the side view."""
    line = CUT_SIDE_VIEW
    for _ in range(3):  # Chaikin's corner cutting
        line = np.concatenate([line[:1], np.stack([0.75 * line[:-1] + 0.25 * line[1:], 0.25 * line[:-1] + 0.75 * line[1:]], 1).reshape(-1, 2), line[-1:]])
    point = np.stack([positions[:, 2], positions[:, 1] + CUT_TEMPLE_DROP * positions[:, 0] ** 2], axis=1)
    start, step = line[:-1], np.diff(line, axis=0)
    along = ((point[:, None] - start) * step).sum(2) / (step**2).sum(1)
    offset = point[:, None] - (start + np.clip(along, 0, 1)[..., None] * step)
    distance = np.linalg.norm(offset, axis=2)
    nearest = distance.argmin(axis=1)
    rows = np.arange(len(point))
    away = point - start[nearest]
    side = step[nearest, 0] * away[:, 1] - step[nearest, 1] * away[:, 0]
    return np.where(side > 0, 1.0, -1.0) * distance[rows, nearest]


def _cut(topology_weights, triangles, uv, part, positions, field):
    """Keep the body's part where field > 0: vertices near the cut are moved onto it, crossing triangles are clipped.

    Returns weights, triangles, uv, part and the border flag per vertex.
    """
    body = part == "body"
    field = field.copy()
    edges = np.concatenate([triangles[body][:, [i, (i + 1) % 3]] for i in range(3)])
    edges = np.unique(np.sort(edges, axis=1), axis=0)
    crossed = edges[field[edges[:, 0]] * field[edges[:, 1]] < 0]
    ends = np.concatenate([crossed, crossed[:, ::-1]])
    share = field[ends[:, 0]] / (field[ends[:, 0]] - field[ends[:, 1]])
    best = np.full(len(field), np.inf)
    np.minimum.at(best, ends[:, 0], share)
    moved = np.nonzero(best < SNAP_SHARE)[0]
    weights = topology_weights.tolil()
    for vertex in moved:
        # Mirror twins of an edge at a vertex on the plane x = 0 tie: their average keeps the symmetry.
        tied = np.nonzero((ends[:, 0] == vertex) & (share < best[vertex] + 1e-6))[0]
        row = sum((1 - share[i]) * topology_weights[vertex] + share[i] * topology_weights[ends[i, 1]] for i in tied)
        weights[vertex] = row / len(tied)
    weights = weights.tocsr()
    field[moved] = 0.0

    crossed = edges[field[edges[:, 0]] * field[edges[:, 1]] < 0]
    share = (field[crossed[:, 0]] / (field[crossed[:, 0]] - field[crossed[:, 1]]))[:, None]
    added = sparse.diags_array(1 - share[:, 0]) @ weights[crossed[:, 0]] + sparse.diags_array(share[:, 0]) @ weights[crossed[:, 1]]
    added_positions = (1 - share) * positions[crossed[:, 0]] + share * positions[crossed[:, 1]]
    places = np.concatenate([positions, added_positions])
    added_id = {tuple(edge): len(field) + i for i, edge in enumerate(crossed.tolist())}
    share_of = {tuple(edge): s for edge, s in zip(crossed.tolist(), share[:, 0], strict=True)}

    new_triangles, new_uv, new_part = [triangles[~body]], [uv[~body]], [part[~body]]
    signs = np.sign(field[triangles])
    whole = body & (signs >= 0).all(axis=1) & (signs > 0).any(axis=1)
    new_triangles.append(triangles[whole])
    new_uv.append(uv[whole])
    new_part.append(part[whole])
    for row in np.nonzero(body & (signs < 0).any(axis=1) & (signs > 0).any(axis=1))[0]:
        polygon, polygon_uv = [], []
        for i in range(3):
            a, b = int(triangles[row, i]), int(triangles[row, (i + 1) % 3])
            if field[a] >= 0:
                polygon.append(a)
                polygon_uv.append(uv[row, i])
            if field[a] * field[b] < 0:
                edge = (min(a, b), max(a, b))
                s = share_of[edge] if a < b else 1 - share_of[edge]
                polygon.append(added_id[edge])
                polygon_uv.append((1 - s) * uv[row, i] + s * uv[row, (i + 1) % 3])
        for corners in _polygon_corners(places[polygon]):
            new_triangles.append(np.array(polygon)[None, corners])
            new_uv.append(np.array(polygon_uv)[None, corners])
            new_part.append(np.array(["body"]))
    border = np.zeros(len(places), bool)
    border[moved] = True
    border[len(field) :] = True
    weights = sparse.vstack([weights, added]).tocsr()
    return weights, np.concatenate(new_triangles), np.concatenate(new_uv), np.concatenate(new_part), border


def _polygon_corners(places: np.ndarray) -> list[list[int]]:
    """Triangles of a clipped triangle (3 or 4 corners), split along the shorter diagonal."""
    if len(places) == 3:
        return [[0, 1, 2]]
    first, second = np.linalg.norm(places[0] - places[2]), np.linalg.norm(places[1] - places[3])
    return [[0, 1, 2], [0, 2, 3]] if first <= second else [[0, 1, 3], [1, 2, 3]]


def _needs_detail(positions: np.ndarray, triangles: np.ndarray, part: np.ndarray) -> np.ndarray:
    """(F,) bool: triangles of the brows."""
    eye = positions[np.unique(triangles[part == EYE_PARTS[0]])].mean(axis=0)
    beside = np.abs(positions[:, 0]) - abs(eye[0])
    above = positions[:, 1] - eye[1]
    (near, far), (low, high) = BROW_WINDOW
    inside = (beside > near) & (beside < far) & (above > low) & (above < high) & (positions[:, 2] > eye[2] - 0.2)
    return inside[triangles].all(axis=1) & (part == "body")


def split_triangles(weights, triangles, uv, part, border, positions, chosen):
    """Split the chosen triangles 1:4 at their edges' midpoints; neighbours that share such an edge are split to fit.

    Takes and returns weights, triangles, uv, part, border as in `FaceMesh`; positions (V, 3), chosen (F,) bool.
    """
    size = len(positions)
    edges = np.sort(np.concatenate([triangles[chosen][:, [i, (i + 1) % 3]] for i in range(3)]), axis=1)
    edges = np.unique(edges, axis=0)
    middle_of = {tuple(edge): size + i for i, edge in enumerate(edges.tolist())}
    places = np.concatenate([positions, positions[edges].mean(axis=1)])
    new = {"triangles": [], "uv": [], "part": []}
    for row, corners in enumerate(triangles.tolist()):
        pairs = [tuple(sorted((corners[i], corners[(i + 1) % 3]))) for i in range(3)]
        split = [pair in middle_of for pair in pairs]
        # Corners 0-2 and the midpoints 3-5 of the edges 01, 12, 20.
        ids = np.array(corners + [middle_of.get(pair, -1) for pair in pairs])
        corner_uv = np.concatenate([uv[row], (uv[row] + uv[row][[1, 2, 0]]) / 2])
        for local in _split_pattern(split, places[ids]):
            new["triangles"].append(ids[local])
            new["uv"].append(corner_uv[local])
            new["part"].append(part[row])
    middles = (weights[edges[:, 0]] + weights[edges[:, 1]]) * 0.5
    weights = sparse.vstack([weights, middles]).tocsr()
    border = np.concatenate([border, np.zeros(len(edges), bool)])
    return weights, np.stack(new["triangles"]), np.stack(new["uv"]), np.array(new["part"]), border


def _split_pattern(split: list[bool], places: np.ndarray) -> list[list[int]]:
    """Triangles of corners 0-2 and midpoints 3-5 for the edges (01, 12, 20) that are split."""
    if not any(split):
        return [[0, 1, 2]]
    if all(split):
        return [[0, 3, 5], [3, 1, 4], [5, 4, 2], [3, 4, 5]]
    turn = next(i for i in range(3) if split[i] and not split[(i + 2) % 3])  # the first split edge of a run
    a, b, c = turn, (turn + 1) % 3, (turn + 2) % 3
    first, second = 3 + turn, 3 + (turn + 1) % 3
    if sum(split) == 1:
        return [[a, first, c], [first, b, c]]
    cut = [[first, b, second]]
    if np.linalg.norm(places[a] - places[second]) <= np.linalg.norm(places[first] - places[c]):
        return [*cut, [a, first, second], [a, second, c]]
    return [*cut, [a, first, c], [first, second, c]]


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
