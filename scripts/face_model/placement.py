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


def rough_five_points(positions: np.ndarray, skin: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(5, 3): image-left eye, image-right eye, nose tip, mouth corners, from plain geometry.

    positions: (V, 3) in any place and size near 1 dm per dm. skin: (F,) bool. triangles: (F, 3).
    """
    balls = np.setdiff1d(np.unique(triangles[~skin]), np.unique(triangles[skin]))
    top = positions[balls][:, 1].max()
    eye_points = positions[balls][(positions[balls][:, 1] > top - 0.4) & (positions[balls][:, 0] > 0)]
    low, high = eye_points.min(axis=0), eye_points.max(axis=0)
    eye = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, high[2] - 0.02])
    tip = positions[np.abs(positions[:, 0]) < 0.02]
    tip = tip[tip[:, 2].argmax()]
    # Relative to eyes and nose the mouth corners of the base mesh barely move between heads.
    drop = eye[1] - tip[1]
    corner = np.array([0.70 * eye[0], tip[1] - 0.85 * drop, tip[2] - 0.29])
    flip = np.array([-1, 1, 1])
    return np.stack([eye * flip, eye, tip * [0, 1, 1], corner * flip, corner])


def place_mean(mean: np.ndarray, mesh: FaceMesh) -> tuple[np.ndarray, float]:
    """Scale and shift the mean face so that it projects onto the crop like the standard face.

    Returns the placed mean (V, 3) in dm and the scale that the displacements need as well.
    """
    if set(EYE_PARTS) - set(mesh.part.tolist()):
        raise ValueError("the mesh has no eyeballs")
    five = rough_five_points(mean, mesh.part == "body", mesh.triangles)[[1, 2, 4]]
    scale, shift = 1.0, np.array([0.0, 0.0, 0.0])
    for _ in range(ROUNDS):
        shift[2] = STANDARD_EYE_DEPTH - scale * five[0, 2]
        depth = CAMERA_DISTANCE - (scale * five[:, 2] + shift[2])
        target = STANDARD * ALIGNMENT_SCALE * depth[:, None] / FOCAL_LENGTH
        # Both sides of the face count; the nose tip and all heights share one shift.
        xs = np.array([five[0, 0], five[2, 0]])
        design = np.concatenate([np.c_[xs, np.zeros(2)], np.c_[five[[0, 2], 1], np.ones(2)], [[five[1, 1] / 1, 1.0]]])
        values = np.r_[target[[0, 2], 0], target[[0, 2], 1], target[1, 1]]
        weight = np.sqrt([2, 2, 2, 2, 1])
        scale, shift[1] = np.linalg.lstsq(design * weight[:, None], values * weight, rcond=None)[0]
    return mean * scale + shift, float(scale)
