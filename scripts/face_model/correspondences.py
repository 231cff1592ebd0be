"""Find the 468 FaceMesh landmarks on the mesh: render it from many sides, run FaceMesh, project the landmarks back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from cfr.model.camera import project, rotation_matrix, to_camera_space
from cfr.model.face_landmarks import FaceMesh, dense_landmarks
from cfr.model.face_model import MorphableModel
from cfr.model.rasterize import interpolate, rasterize

CONTEXT, MARGIN, OVERSAMPLING = 320, 48, 2
# A landmark beside the drawn surface (outline, gap) is moved to the nearest surface pixel at most this far away (px).
REACH = 4.0
# Observations farther than this from the current estimate are outliers (dm); tightened in every round.
TOLERANCES = (0.3, 0.15, 0.10, 0.08)
# A landmark is believed where the surface faces the camera at least so much.
FACING = 0.35
# Landmarks on the middle line are believed up to this yaw (degrees), those on the outline while their side is turned
# towards the camera.
TURNED_AWAY = 55.0
# Neutral mouths cannot tell the inner lips apart: estimates are made on this expression.
REFERENCE_JAW_OPEN = 0.35
# On photos of closed mouths FaceMesh leaves about a pixel more between the inner lips than on our renderings: its inner
# lips are put this much (dm) onto the outer side of the lips, or closed mouths would be fitted with a slit.
INNER_LIPS_APART = 0.006
UPPER_INNER_LIP = (191, 80, 81, 82, 13, 312, 311, 310, 415)
LOWER_INNER_LIP = (95, 88, 178, 87, 14, 317, 402, 318, 324)


@dataclass(frozen=True)
class Correspondences:
    """triangles (468,), barycentric (468, 3) on the mesh; spread (468,) median distance of the believed observations
    from the estimate, dm; views (468,) how many observations were believed; mirror (468,) the mirrored landmark."""

    triangles: np.ndarray
    barycentric: np.ndarray
    spread: np.ndarray
    views: np.ndarray
    mirror: np.ndarray


@dataclass(frozen=True)
class _Hits:
    """What the back-projection found in N views: triangle (N, 468), -1 nothing; barycentric (N, 468, 3);
    facing (N, 468), cosine between the surface's normal and the view; yaw (N,) degrees."""

    triangle: np.ndarray
    barycentric: np.ndarray
    facing: np.ndarray
    yaw: np.ndarray


def find_correspondences(
    model: MorphableModel, colours: torch.Tensor, skin: np.ndarray, five: torch.Tensor, views: int, seed: int
) -> Correspondences:
    """Where FaceMesh sees its landmarks on the model.

    colours: (V, 3) RGB albedo. skin: (F,) bool, triangles a landmark may lie on (no eyeballs, teeth, tongue).
    five: (5, 3) model space, rough five points (eyes, nose tip, mouth corners; image-left first).
    """
    network = FaceMesh.load_default()
    hits = _observe(model, network, colours, skin, five, views, seed)
    mirror, side = _mirrored_landmarks(network, model, colours, five)
    expression = torch.zeros(1, len(model.expression_names))
    expression[0, model.expression_names.index("jawOpen")] = REFERENCE_JAW_OPEN
    reference = model.shape(torch.zeros(1, len(model.identity_basis)), expression)
    reference = reference[0].numpy()
    triangles = model.triangles.numpy()
    places = (reference[triangles[hits.triangle]] * hits.barycentric[..., None]).sum(axis=2)
    # Beyond its own side a landmark of the outline slides along the visible outline: such views say nothing.
    exposed = -side * hits.yaw[:, None] > -(1 - np.abs(side)) * TURNED_AWAY
    believed = (hits.triangle >= 0) & (hits.facing > FACING) & exposed
    # Symmetric data: each observation also counts, mirrored, for the mirrored landmark.
    places = np.concatenate([places, (places * [-1, 1, 1])[:, mirror]])
    believed = np.concatenate([believed, believed[:, mirror]])
    centres, spread, counts = _robust_centres(places, believed)
    centres[list(UPPER_INNER_LIP), 1] += INNER_LIPS_APART
    centres[list(LOWER_INNER_LIP), 1] -= INNER_LIPS_APART
    found, weights = _onto_surface(centres, reference, triangles, skin)
    found, weights = _symmetrised(found, weights, model, mirror)
    return Correspondences(found, weights, spread, counts, mirror)


@torch.no_grad()
def render(
    model: MorphableModel, colours: torch.Tensor, identity, expression, pose, translation, light
) -> tuple[torch.Tensor, object, torch.Tensor]:
    """Context pictures (B,3,320,320), the G-buffer at twice their size and the normals in camera space (B,V,3)."""
    vertices = model.shape(identity, expression)
    rotation = rotation_matrix(pose)
    normals = model.vertex_normals(vertices) @ rotation.transpose(1, 2)
    pixels, depth = project(to_camera_space(vertices, rotation, translation))
    gbuffer = rasterize((pixels + MARGIN) * OVERSAMPLING, depth, model.triangles, CONTEXT * OVERSAMPLING)
    shading = 0.45 + 0.6 * (normals * light[:, None]).sum(-1, keepdim=True).clamp(min=0)
    picture = interpolate(gbuffer, (colours * shading).clamp(0, 1), model.triangles)
    picture = torch.where(gbuffer.covered[:, None], picture, torch.full_like(picture, 0.35))
    return torch.nn.functional.avg_pool2d(picture, OVERSAMPLING), gbuffer, normals


@torch.no_grad()
def _observe(model, network, colours, skin, five, views, seed) -> _Hits:
    generator = torch.Generator().manual_seed(seed)
    triangles, barycentric, facing, yaws = [], [], [], []
    skin_faces = torch.from_numpy(skin)
    for view in range(views):
        identity, expression, pose, translation, light = _random_view(model, view, generator)
        picture, gbuffer, normals = render(model, colours, identity, expression, pose, translation, light)
        rough, _ = project(to_camera_space(five[None], rotation_matrix(pose), translation))
        found = dense_landmarks(network, picture, rough)
        if found.score[0] < 0.5:
            continue
        points = (found.landmarks[0, :, :2].numpy() + MARGIN) * OVERSAMPLING
        shown = gbuffer.triangle_id[0]
        usable = (shown >= 0) & skin_faces[shown.clamp(min=0)]
        rows, columns = usable.nonzero(as_tuple=True)
        pixels = np.stack([columns.numpy() + 0.5, rows.numpy() + 0.5], axis=1)
        distance, nearest = cKDTree(pixels).query(points)
        row, column = rows[nearest], columns[nearest]
        triangle = shown[row, column].numpy()
        weights = gbuffer.barycentric[0, row, column].numpy()
        normal = (normals[0].numpy()[model.triangles.numpy()[triangle]] * weights[..., None]).sum(axis=1)
        triangles.append(np.where(distance < REACH * OVERSAMPLING, triangle, -1))
        barycentric.append(weights)
        facing.append(normal[:, 2] / np.linalg.norm(normal, axis=1).clip(1e-9))
        yaws.append(float(pose[0, 0]))
    return _Hits(np.stack(triangles), np.stack(barycentric), np.stack(facing), np.array(yaws))


def _random_view(model, view, generator):
    """One view: a third frontal, a third turned, a third more; half of them with an open mouth."""

    def uniform(low, high):
        return low + (high - low) * torch.rand((), generator=generator)

    reach = (12.0, 40.0, 65.0)[view % 3]
    pose = torch.stack([uniform(-reach, reach), uniform(-20, 20), uniform(-8, 8)])[None]
    identity = torch.randn(1, len(model.identity_basis), generator=generator) * (0.0 if view % 4 == 0 else 0.6)
    expression = torch.zeros(1, len(model.expression_names))
    names = model.expression_names
    if view % 2:
        expression[0, names.index("jawOpen")] = uniform(0.15, 0.6)
    if view % 5 == 0:
        for name in ("mouthSmileLeft", "mouthSmileRight"):
            expression[0, names.index(name)] = 0.5
    translation = torch.stack([uniform(-0.05, 0.05), uniform(-0.05, 0.05), uniform(-0.5, 0.5)])[None]
    light = torch.stack([uniform(-0.6, 0.6), uniform(-0.1, 0.7), torch.tensor(0.8)])[None]
    return identity, expression, pose, translation, light / light.norm()


@torch.no_grad()
def _mirrored_landmarks(network, model, colours, five) -> tuple[np.ndarray, np.ndarray]:
    """(468,) permutation, FaceMesh's landmark on the other side, and (468,) side: -1 image-left outline to 1 right.

    From a symmetric frontal picture, compared with its mirror image.
    """
    zero = torch.zeros(1, 3)
    identity, expression = torch.zeros(1, len(model.identity_basis)), torch.zeros(1, len(model.expression_names))
    expression[0, model.expression_names.index("jawOpen")] = REFERENCE_JAW_OPEN
    picture, _, _ = render(model, colours, identity, expression, zero, zero, torch.tensor([[0.0, 0.3, 0.95]]))
    rough, _ = project(five[None])
    places = dense_landmarks(network, picture, rough).landmarks[0, :, :2].numpy()
    flipped = places * [-1, 1] + [224, 0]
    cost = np.square(places[:, None] - flipped[None]).sum(axis=2)
    rows, mirror = linear_sum_assignment(np.minimum(cost + cost.T, 400.0))
    if (mirror[mirror] != rows).any():
        raise ValueError("FaceMesh's landmarks could not be paired")
    side = (places[:, 0] - places[mirror, 0]) / np.ptp(places[:, 0])
    return mirror, side.clip(-1, 1)


def _robust_centres(places: np.ndarray, believed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    centres = np.zeros((places.shape[1], 3))
    spread, counts = np.zeros(len(centres)), np.zeros(len(centres), np.int64)
    for landmark in range(len(centres)):
        own = places[:, landmark][believed[:, landmark]]
        if not len(own):
            raise ValueError(f"landmark {landmark} was never seen on the surface")
        centre = np.median(own, axis=0)
        for tolerance in TOLERANCES:
            distance = np.linalg.norm(own - centre, axis=1)
            near = distance < max(tolerance, np.median(distance))
            centre = own[near].mean(axis=0)
        centres[landmark] = centre
        spread[landmark], counts[landmark] = np.median(np.linalg.norm(own[near] - centre, axis=1)), near.sum()
    return centres, spread, counts


def _onto_surface(centres, reference, triangles, skin):
    """Closest point of the skin to each centre."""
    faces = np.nonzero(skin)[0]
    corners = reference[triangles[faces]]
    middle = cKDTree(corners.mean(axis=1))
    found, weights = np.zeros(len(centres), np.int64), np.zeros((len(centres), 3))
    for landmark, centre in enumerate(centres):
        nearby = middle.query(centre, k=60)[1]
        points, bary = closest_points(centre, corners[nearby])
        best = np.linalg.norm(points - centre, axis=1).argmin()
        found[landmark], weights[landmark] = faces[nearby[best]], bary[best]
    return found, weights


def closest_points(point: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Closest points (K, 3) and their barycentric weights (K, 3) on triangles (K, 3, 3) to one point (3,)."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    candidates = []
    normal = np.cross(b - a, c - a)
    area = (normal**2).sum(axis=1).clip(1e-30)
    w_b = (np.cross(point - a, c - a) * normal).sum(axis=1) / area
    w_c = (np.cross(b - a, point - a) * normal).sum(axis=1) / area
    inner = np.stack([1 - w_b - w_c, w_b, w_c], axis=1)
    candidates.append(np.where((inner >= 0).all(axis=1)[:, None], inner, np.nan))
    for i, j in ((0, 1), (1, 2), (2, 0)):
        step = corners[:, j] - corners[:, i]
        share = (((point - corners[:, i]) * step).sum(axis=1) / (step**2).sum(axis=1).clip(1e-30)).clip(0, 1)
        weights = np.zeros((len(corners), 3))
        weights[:, i], weights[:, j] = 1 - share, share
        candidates.append(weights)
    stacked = np.stack(candidates)
    points = (stacked[..., None] * corners[None]).sum(axis=2)
    distance = np.nan_to_num(np.linalg.norm(points - point, axis=2), nan=np.inf)
    best = distance.argmin(axis=0)
    rows = np.arange(len(corners))
    return points[best, rows], stacked[best, rows]


def _symmetrised(found, weights, model, mirror):
    """Landmarks with the lower index decide; their partners get the mirrored triangle; unpaired ones stay."""
    triangles, vertex_mirror = model.triangles.numpy(), model.mirror.numpy()
    index = {tuple(sorted(triangle)): i for i, triangle in enumerate(triangles.tolist())}
    for landmark, partner in enumerate(mirror):
        if partner > landmark:
            corners = vertex_mirror[triangles[found[landmark]]]
            other = index[tuple(sorted(corners.tolist()))]
            order = [corners.tolist().index(vertex) for vertex in triangles[other].tolist()]
            found[partner], weights[partner] = other, weights[landmark][order]
    return found, weights
