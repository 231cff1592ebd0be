"""Depth of the mean face: MakeHuman's average head is flatter around the nose and the corners of the eyes than people.

Such a face looks like a photo from the side at too little yaw already.
"""

from __future__ import annotations

import numpy as np
from geometry import EYE_PARTS
from scipy.interpolate import RBFInterpolator

# How far (0.1 mm) the surface at a FaceMesh landmark moves forward; the landmark on the other side moves with it.
# Where people's faces differ from the mean face: FaceMesh's depths on the bundled photographs and their mirror images,
# scaled to the mean face, agree in sign and shape with the depths of the AFLW2000-3D labels (nasal bridge +45 to +69,
# tip +34, outer corner of the eye -27, corner of the mouth -31); values are between the two.
FORWARD = {
    10: 0, 151: 0, 9: 0, 8: 4, 168: 20, 6: 34, 197: 46, 195: 54, 5: 58, 4: 40, 1: 26, 2: 0, 164: 4,
    122: 26, 174: 24, 217: 10, 198: 24, 209: 18, 126: 8, 49: 28, 64: 26, 129: 10, 98: 8, 97: 6,
    33: -32, 246: -30, 161: -30, 160: -28, 159: -26, 158: -24, 157: -22, 173: -20, 133: -20,
    7: -26, 163: -24, 144: -22, 145: -20, 153: -18, 154: -17, 155: -18, 130: -28, 226: -14, 243: -18, 112: -14,
    25: -16, 110: -14, 23: -14, 22: -13, 31: -6, 228: -4, 230: -6, 232: -8,
    55: -8, 107: -2, 66: 0, 105: 4, 63: 18, 70: 28, 71: 30, 68: 20, 104: 8, 21: 30, 54: 20, 67: 0, 109: 0, 103: 5,
    121: 0, 120: 0, 119: 0, 118: 8, 117: 10, 111: 8, 116: 20, 101: 14, 100: 12, 50: 20, 36: 16, 205: 20, 187: 28,
    147: 36, 123: 30, 137: 30, 177: 30, 207: 20, 216: 2, 212: -4, 214: 8, 192: 14, 127: 15, 234: 10, 93: 10, 132: 10,
    61: -48, 78: -44, 146: -36, 91: -24, 181: -12, 84: -4, 185: -32, 40: -16, 39: -4, 37: 6, 0: 8, 13: 0, 14: -6,
    17: -4, 57: -28, 43: -24, 106: -16, 182: -10, 83: -2, 18: -2, 200: 0, 199: 0, 175: 0, 152: 0,
    32: 0, 140: 0, 150: 0, 136: 0, 172: 0, 58: 0,
}  # fmt: skip
# Parts that keep their form move by the mean of landmarks: eyeballs by the lids', teeth and tongue by the lips'.
LIDS, INNER_LIPS = (160, 159, 158, 144, 145, 153), (13, 14)
SMOOTHING = 2e-3
# Every so many vertices of the parts that stay where they are pin the field to zero.
PIN_STEP = 12


def forward_field(
    mean: np.ndarray, landmarks: np.ndarray, triangles: np.ndarray, part: np.ndarray, fixed: np.ndarray
) -> np.ndarray:
    """(V,) forward displacement (dm) of every vertex.

    mean: (V, 3) dm, mirror-symmetric. landmarks: (468, 3) its FaceMesh points. triangles: (F, 3), part: (F,) str of the
    mesh. fixed: (V,) bool, vertices that stay (ears, neck, scalp).
    """
    index = np.array(list(FORWARD))
    value = np.array(list(FORWARD.values())) / 1000
    places = landmarks[index]
    pins = mean[np.nonzero(fixed)[0][::PIN_STEP]]
    # A mirrored anchor that coincides with its twin (the middle line) would make the system singular.
    beside = np.abs(places[:, 0]) > 0.01
    anchors = np.concatenate([places, places[beside] * [-1, 1, 1], pins, pins * [-1, 1, 1]])
    values = np.concatenate([value, value[beside], np.zeros(2 * len(pins))])
    _, first = np.unique(anchors.round(4), axis=0, return_index=True)
    field = RBFInterpolator(anchors[first], values[first], kernel="linear", smoothing=SMOOTHING, degree=0)
    forward = (field(mean) + field(mean * [-1, 1, 1])) / 2
    for name in np.setdiff1d(part, ["body"]):
        landmarks_of_part = LIDS if name in EYE_PARTS else INNER_LIPS
        forward[np.unique(triangles[part == name])] = np.mean([FORWARD[i] for i in landmarks_of_part]) / 1000
    return forward
