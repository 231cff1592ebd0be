"""The 68 points of iBUG 300-W on the mesh: FaceMesh landmarks of the same meaning, and a jaw line on the skull."""

from __future__ import annotations

import numpy as np
from correspondences import closest_points

# Where the jaw line of AFLW2000-3D (it follows the skull where the cheek hides it) lies on the mean face, image-left
# half from the temple to the chin, dm: median over ten labelled photos, by their depths, of where the line lies on a
# mesh fitted to the other labels.
JAW = np.array([
    (-0.738, 0.239, -0.598), (-0.716, 0.023, -0.587), (-0.673, -0.178, -0.574), (-0.636, -0.345, -0.539),
    (-0.575, -0.522, -0.444), (-0.477, -0.648, -0.278), (-0.363, -0.713, -0.088), (-0.216, -0.762, 0.079),
    (0.0, -0.796, 0.145),
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
# How far (0.1 mm; right, up, forward) the labels of the same photos lie from these means: ridge regression over the
# fits, both halves of the face together. Not for the seam of the lips, whose points would slide into the mouth.
LABEL_OFFSETS = {
    17: (4, -9, 3), 18: (15, -13, 5), 19: (22, -16, 4), 20: (10, -16, 0), 21: (-30, -8, -11),
    27: (0, -5, 12), 28: (0, -12, 25), 29: (0, -3, 32), 30: (0, -4, 4), 31: (7, -5, -13), 32: (2, 12, -22),
    33: (0, 2, -37), 36: (14, -2, -2), 37: (21, -1, 5), 38: (3, -4, -5), 39: (-5, -1, -13), 40: (2, 10, 0),
    41: (12, 5, 1),
    49: (11, 6, -10), 50: (12, 8, -8), 51: (0, 6, -15), 57: (0, 9, -11), 58: (-3, 9, -9), 59: (16, 18, -5),
}  # fmt: skip
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
        # Points of the other half follow from their mirror images below.
        offset = np.array(LABEL_OFFSETS.get(point, (0, 0, 0))) * 0.001
        place(point, facemesh[list(sources)].mean(axis=0) + offset, faces)
    for point, partner in MIRRORED:
        corners = mirror[triangles[found[point]]].tolist()
        other = index[tuple(sorted(corners))]
        order = [corners.index(vertex) for vertex in triangles[other].tolist()]
        found[partner], weights[partner] = other, weights[point][order]
    return found, weights
