"""The 68 points of iBUG 300-W on the mesh: FaceMesh landmarks with the same meaning, and the jaw line on the skull."""

from __future__ import annotations

import numpy as np

from correspondences import Correspondences, closest_points

# FaceMesh indices of the 68 iBUG points.
IBUG68 = (
    127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip




def ibug68(mean, triangles, mirror, skin, found: Correspondences) -> tuple[np.ndarray, np.ndarray]:
    """Triangles (68,) and barycentric weights (68, 3)."""
    return found.triangles[list(IBUG68)], found.barycentric[list(IBUG68)]
