"""The 68 points of iBUG 300-W on the mesh: FaceMesh landmarks of the same meaning, and a jaw line on the skull."""

from __future__ import annotations

import numpy as np
from correspondences import closest_points

# Where the jaw line of labelled photos (AFLW2000-3D: it follows the skull where the cheek hides it) lies on the mean
# face, image-left half from the temple to the chin, dm. FaceMesh's outline is spaced otherwise.
JAW = np.array([
    (-0.745, 0.285, -0.52), (-0.740, 0.100, -0.52), (-0.720, -0.120, -0.50), (-0.670, -0.325, -0.45),
    (-0.590, -0.520, -0.40), (-0.500, -0.630, -0.20), (-0.360, -0.700, -0.05), (-0.175, -0.775, 0.09),
    (0.0, -0.790, 0.155),
])  # fmt: skip
# FaceMesh indices whose mean is the point, for the points 17-67: labelled brows run along their middle; labelled
# corners of the eyes and lips lie a little inside FaceMesh's.
BROWS_TO_LIPS = (
    (70, 46), (63, 53), (105, 52), (66, 65), (107, 55), (336, 285), (296, 295), (334, 282), (293, 283), (300, 276),
    (168, 6), (197,), (5,), (4, 4, 1), (75, 240), (97,), (2,), (326,), (305, 460),
    (33, 246, 7), (160,), (158,), (133, 173, 155), (153,), (144,),
    (362, 398, 382), (385,), (387,), (263, 466, 249), (373,), (380,),
    (61,), (39, 40), (37,), (0,), (267,), (269, 270), (291,), (405, 321), (314, 315), (17, 16), (84, 85), (181, 91),
    (78,), (82,), (13,), (312,), (308,), (317,), (14,), (87,),
)  # fmt: skip
# Image-left points and their mirror images.
MIRRORED = (
    *((i, 16 - i) for i in range(8)), *((17 + i, 26 - i) for i in range(5)), (31, 35), (32, 34),
    (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46), (48, 54), (49, 53), (50, 52), (59, 55), (58, 56),
    (60, 64), (61, 63), (67, 65),
)  # fmt: skip


def ibug68(arrays: dict[str, np.ndarray], skin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangles (68,) and barycentric weights (68, 3) on the placed mean face.

    arrays: of the model file, with the FaceMesh correspondences. skin: (F,) bool.
    """
    mean, triangles, mirror = arrays["mean_shape"], arrays["triangles"], arrays["mirror"]
    index = {tuple(sorted(triangle)): i for i, triangle in enumerate(triangles.tolist())}
    own = arrays["facemesh_triangles"]
    facemesh = (mean[triangles[own]] * arrays["facemesh_barycentric"][..., None]).sum(axis=1)
    faces = np.nonzero(skin)[0]
    found, weights = np.zeros(68, np.int64), np.zeros((68, 3))

    def place(point: int, target: np.ndarray, candidates: np.ndarray) -> None:
        points, barycentric = closest_points(target, mean[triangles[candidates]])
        best = np.linalg.norm(points - target, axis=1).argmin()
        found[point], weights[point] = candidates[best], barycentric[best]

    for point, target in enumerate(JAW):
        place(point, target, faces)
    for point, sources in enumerate(BROWS_TO_LIPS, start=17):
        if len(sources) == 1:
            found[point], weights[point] = own[sources[0]], arrays["facemesh_barycentric"][sources[0]]
        else:
            place(point, facemesh[list(sources)].mean(axis=0), faces)
    for point, partner in MIRRORED:
        corners = mirror[triangles[found[point]]].tolist()
        other = index[tuple(sorted(corners))]
        order = [corners.index(vertex) for vertex in triangles[other].tolist()]
        found[partner], weights[partner] = other, weights[point][order]
    return found, weights
