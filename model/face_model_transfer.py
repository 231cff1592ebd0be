"""How the mean face of another model lies on the package's own, so that one can take over what it lacks.

Both know the 68 points of iBUG 300-W. These bring them together, rigidly and then by a thin-plate spline, refined with
nearest points of the two surfaces; after that, what lies in the same place is the same.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cfr.model.face_model import MorphableModel

# How far (squared, per unit of the spline's stiffness) a point may stay from its partner; the jaw line is defined
# differently from model to model.
_STIFFNESS = {"inner": 1e-3, "jaw": 0.3, "surface": 0.05}
JAW_POINTS = 17
_SURFACE_POINTS = 500
_REFINEMENTS = 4
# Nearest points with other normals (cosine), or farther away (decimetres), are no partners.
_LEAST_COSINE = 0.7
_FARTHEST = 0.15
# Triangles near enough to be asked for the nearest point.
_CANDIDATES = 24


@dataclass(frozen=True)
class Surface:
    """A mean face: vertices (V,3) float32 decimetres, triangles (F,3) int64, keypoints (68,3) of iBUG 300-W."""

    vertices: Tensor
    triangles: Tensor
    keypoints: Tensor

    def normals(self) -> Tensor:
        """(F,3) unit normals of the triangles."""
        a, b, c = self.vertices[self.triangles].unbind(1)
        return torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)


def own_surface(own: MorphableModel) -> Surface:
    """The package's mean face."""
    points = own.surface_points(own.mean_shape[None], own.ibug68_triangles, own.ibug68_barycentric)[0]
    return Surface(own.mean_shape, own.triangles, points)


def upright(vertices: Tensor, keypoints: Tensor, own: MorphableModel) -> tuple[Tensor, Tensor]:
    """Rotation (3,3) and translation (3,) that bring another mean face into the package's model space.

    By the points of brows, nose, eyes and mouth, so that a pose means the same for both.
    """
    return rigid_alignment(vertices[keypoints[JAW_POINTS:]], own_surface(own).keypoints[JAW_POINTS:])


def rigid_alignment(moving: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation (3,3) and translation (3,) that bring points (N,3) onto others (Kabsch): x -> x R^T + t."""
    moving_centre, fixed_centre = moving.mean(0), fixed.mean(0)
    u, _, vt = torch.linalg.svd((fixed - fixed_centre).T @ (moving - moving_centre))
    sign = torch.eye(3, dtype=moving.dtype)
    sign[2, 2] = torch.sign(torch.linalg.det(u @ vt))
    rotation = u @ sign @ vt
    return rotation, fixed_centre - moving_centre @ rotation.T


class ThinPlateSpline:
    """Smooth map of space that takes points near to others: affine plus |x - p| (Bookstein 1989, in three dimensions).

    Args:
        points, targets: (N,3).
        stiffness: (N,) how much smoothness counts against this point.
    """

    def __init__(self, points: Tensor, targets: Tensor, stiffness: Tensor):
        points, targets = points.double(), targets.double()
        self.points = points
        kernel = torch.cdist(points, points) - torch.diag(stiffness.double())  # |x| is conditionally negative definite
        affine = torch.cat([points, torch.ones_like(points[:, :1])], 1)
        corner = points.new_zeros(4, 4)
        system = torch.cat([torch.cat([kernel, affine], 1), torch.cat([affine.T, corner], 1)])
        solution = torch.linalg.solve(system, torch.cat([targets, points.new_zeros(4, 3)]))
        self.weights, self.affine = solution[: len(points)], solution[len(points) :]

    def __call__(self, places: Tensor) -> Tensor:
        """Mapped places (M,3)."""
        places = places.double()
        bent = torch.cdist(places, self.points) @ self.weights
        return (bent + places @ self.affine[:3] + self.affine[3]).float()


def warp_between(moving: Surface, fixed: Surface) -> ThinPlateSpline:
    """Map of space that takes the moving mean face onto the fixed one."""
    stiffness = torch.full((68,), _STIFFNESS["inner"])
    stiffness[:JAW_POINTS] = _STIFFNESS["jaw"]
    warp = ThinPlateSpline(moving.keypoints, fixed.keypoints, stiffness)
    # Evenly spread over the mesh's list of triangles, which follows the surface.
    chosen = torch.linspace(0, len(moving.triangles) - 1, _SURFACE_POINTS).long()
    middles = moving.vertices[moving.triangles[chosen]].mean(1)
    fixed_normals = fixed.normals()
    for _ in range(_REFINEMENTS):
        normals = Surface(warp(moving.vertices), moving.triangles, moving.keypoints).normals()[chosen]
        places = warp(middles)
        triangles, weights = nearest_on_surface(places, fixed.vertices, fixed.triangles)
        found = (fixed.vertices[fixed.triangles[triangles]] * weights[..., None]).sum(1)
        cosine = (normals * fixed_normals[triangles]).sum(-1)
        kept = (cosine > _LEAST_COSINE) & ((found - places).norm(dim=-1) < _FARTHEST)
        surface = torch.full((int(kept.sum()),), _STIFFNESS["surface"])
        warp = ThinPlateSpline(
            torch.cat([moving.keypoints, middles[kept]]),
            torch.cat([fixed.keypoints, found[kept]]),
            torch.cat([stiffness, surface]),
        )
    return warp


def nearest_on_surface(places: Tensor, vertices: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor]:
    """The surface's point nearest to each place (M,3): triangle (M,) int64 and barycentric weights (M,3)."""
    corners = vertices[triangles]
    count = min(_CANDIDATES, len(triangles))
    candidates = _tree(corners.mean(1)).query(places.numpy(), count)[1].reshape(len(places), count)
    candidates = torch.from_numpy(candidates)
    barycentric = _nearest_in_triangle(places[:, None], corners[candidates])
    points = (corners[candidates] * barycentric[..., None]).sum(2)
    best = (points - places[:, None]).square().sum(-1).argmin(1)
    row = torch.arange(len(places))
    return candidates[row, best], barycentric[row, best]


def nearest_vertex(places: Tensor, vertices: Tensor) -> Tensor:
    """(M,) int64 index of the vertex (V,3) nearest to each place (M,3)."""
    return torch.from_numpy(_tree(vertices).query(places.numpy())[1])


def _tree(points: Tensor):
    """Search tree of points (N,3).

    Raises:
        ImportError: SciPy is not installed.
    """
    try:
        from scipy.spatial import KDTree
    except ImportError:
        raise ImportError("another face model needs SciPy: pip install 'cfr[face-models]'") from None
    return KDTree(points.numpy())


def _nearest_in_triangle(place: Tensor, corners: Tensor) -> Tensor:
    """Barycentric weights (...,3) of the points of triangles (...,3,3) that are nearest to places (...,3)."""
    a, b, c = corners.unbind(-2)
    edges = torch.stack([b - a, c - a], -1)
    gram = edges.transpose(-1, -2) @ edges
    right = (edges.transpose(-1, -2) @ (place - a)[..., None])[..., 0]
    determinant = (gram[..., 0, 0] * gram[..., 1, 1] - gram[..., 0, 1] ** 2).clamp_min(1e-20)
    along_b = (gram[..., 1, 1] * right[..., 0] - gram[..., 0, 1] * right[..., 1]) / determinant
    along_c = (gram[..., 0, 0] * right[..., 1] - gram[..., 0, 1] * right[..., 0]) / determinant
    inside = torch.stack([1 - along_b - along_c, along_b, along_c], -1)
    best = inside
    best_distance = torch.where((inside >= 0).all(-1), _squared_distance(place, corners, inside), torch.inf)
    for first, second in ((0, 1), (1, 2), (2, 0)):
        start, end = corners[..., first, :], corners[..., second, :]
        edge = end - start
        share = (((place - start) * edge).sum(-1) / edge.square().sum(-1).clamp_min(1e-20)).clamp(0, 1)
        on_edge = torch.zeros_like(inside)
        on_edge[..., first], on_edge[..., second] = 1 - share, share
        distance = _squared_distance(place, corners, on_edge)
        nearer = distance < best_distance
        best = torch.where(nearer[..., None], on_edge, best)
        best_distance = torch.where(nearer, distance, best_distance)
    return best


def _squared_distance(place: Tensor, corners: Tensor, weights: Tensor) -> Tensor:
    return ((corners * weights[..., None]).sum(-2) - place).square().sum(-1)
