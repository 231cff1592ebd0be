"""Cut the triangle mesh along a smooth line, and split triangles where more detail is wanted.

New vertices lie on edges, so they are linear combinations of their ends.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

# The cut in the side view, (z, y) in dm around the face of base.obj, inside on the left when walking along it:
# hairline, over and behind the ear, down to the neck, forward under the chin. The front is left open (far outside).
CUT_SIDE_VIEW = np.array([
    (2.6, 8.24), (1.25, 8.05), (1.00, 7.98), (0.76, 7.90), (0.54, 7.83), (0.36, 7.75), (0.22, 7.58), (0.17, 7.30),
    (0.20, 7.00), (0.29, 6.74), (0.42, 6.50), (0.60, 6.28), (0.80, 6.13), (1.05, 6.03), (2.6, 5.85),
])  # fmt: skip
# The hairline falls towards the temples: y is raised by this much times x^2 (1/dm) before the cut.
CUT_TEMPLE_DROP = 0.3
# An existing vertex closer to the cut than this share of the crossed edge is moved onto the cut: no sliver triangles.
SNAP_SHARE = 0.4


def cut_field(positions: np.ndarray) -> np.ndarray:
    """Signed distance (dm, > 0 inside) of each vertex to the rounded cut line in the side view."""
    line = CUT_SIDE_VIEW
    for _ in range(3):  # Chaikin's corner cutting
        line = np.concatenate(
            [
                line[:1],
                np.stack([0.75 * line[:-1] + 0.25 * line[1:], 0.25 * line[:-1] + 0.75 * line[1:]], 1).reshape(-1, 2),
                line[-1:],
            ]
        )
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


def cut(topology_weights, triangles, uv, part, positions, field):
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
    added = (
        sparse.diags_array(1 - share[:, 0]) @ weights[crossed[:, 0]]
        + sparse.diags_array(share[:, 0]) @ weights[crossed[:, 1]]
    )
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
