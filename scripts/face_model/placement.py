"""Where the mean face lies in model space, and how big it is: as the five-point alignment expects a face."""

from __future__ import annotations

import numpy as np
from geometry import EYE_PARTS, FaceMesh

# Standard face of the alignment (model/alignment.py), symmetrised: right eye, nose tip, right mouth corner (x, y), dm.
STANDARD = np.array([(0.3106, 0.2900), (0.0, -0.0462), (0.2503, -0.3813)])
# Depth (dm) of the eyes' lids in that face.
STANDARD_EYE_DEPTH = 0.133
# Pixels per decimetre of the alignment, and of the camera at z = 0.
ALIGNMENT_SCALE, FOCAL_LENGTH, CAMERA_DISTANCE = 102.0, 1015.0, 10.0
ROUNDS = 6


def rough_five_points(positions: np.ndarray, mesh: FaceMesh) -> np.ndarray:
    """(5, 3): image-left eye, image-right eye, nose tip, mouth corners of a face (V, 3) in dm, from plain geometry."""
    eye_points = positions[np.unique(mesh.triangles[np.isin(mesh.part, EYE_PARTS)])]
    eye_points = eye_points[eye_points[:, 0] > 0]
    low, high = eye_points.min(axis=0), eye_points.max(axis=0)
    eye = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, high[2] - 0.02])
    middle = positions[np.abs(positions[:, 0]) < 0.02]
    tip = middle[middle[:, 2].argmax()] * [0, 1, 1]
    corner = np.array([0.70 * eye[0], tip[1] - 0.85 * (eye[1] - tip[1]), tip[2] - 0.29])
    flip = np.array([-1, 1, 1])
    return np.stack([eye * flip, eye, tip, corner * flip, corner])


def five_points(facemesh: np.ndarray) -> np.ndarray:
    """(5, 3) five points of the alignment from the FaceMesh points (468, 3)."""
    eyes = [(facemesh[33] + facemesh[133]) / 2, (facemesh[263] + facemesh[362]) / 2]
    return np.stack([*eyes, (2 * facemesh[4] + facemesh[1]) / 3, facemesh[61], facemesh[291]])


def place_mean(mean: np.ndarray, five: np.ndarray) -> tuple[np.ndarray, float]:
    """Scale and shift a symmetric mean face so that it projects onto the crop like the standard face.

    mean: (V, 3) dm. five: (5, 3) its five points. Returns the placed mean (V, 3) and the scale, which the displacements
    need as well.
    """
    eye, tip, corner = five[[1, 2, 4]]
    scale, shift = 1.0, np.zeros(3)
    heights = np.array([eye[1], tip[1], corner[1]])
    design = np.r_[np.c_[[eye[0], corner[0]], np.zeros(2)], np.c_[heights, np.ones(3)]]
    # Eyes and corners count for both sides.
    weight = np.sqrt([2.0, 2.0, 2.0, 1.0, 2.0])
    for _ in range(ROUNDS):
        shift[2] = STANDARD_EYE_DEPTH - scale * eye[2]
        depth = CAMERA_DISTANCE - (scale * np.array([eye[2], tip[2], corner[2]]) + shift[2])
        target = STANDARD * ALIGNMENT_SCALE * depth[:, None] / FOCAL_LENGTH
        values = np.r_[target[[0, 2], 0], target[:, 1]]
        scale, shift[1] = np.linalg.lstsq(design * weight[:, None], values * weight, rcond=None)[0]
    return mean * scale + shift, float(scale)
