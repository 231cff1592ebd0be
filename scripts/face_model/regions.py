"""Which part of the face each vertex belongs to, as labels and as soft weights for painting.

Lips, lids and ears come from MPFB's masks (CC0 textures of the base mesh); eyes from the eyeballs' geometry; brows,
nostrils and the rest from measurements relative to the eyeballs and the lips.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ambient_occlusion import visible_from
from PIL import Image
from scipy.spatial import cKDTree

REGION_NAMES = (
    "skin", "lips", "brows", "eyelids", "sclera", "iris", "pupil", "nostrils", "mouth_interior", "teeth", "tongue",
    "ears", "neck", "scalp", "border",
)  # fmt: skip
# Angular radii (degrees from the gaze) of iris and pupil on eyeballs 15 mm in radius: 11.7 mm and 4 mm across.
IRIS_ANGLE = 23.0
PUPIL_ANGLE = 8.0
# The eyeballs of the face that the measures in this file (decimetres) were taken on lie this far from the middle.
EYE_DISTANCE = 0.2889
# FaceMesh sees the brows of this painted face this much (dm) higher above their hair than on photos: its landmarks are
# looked for on a face whose brows are painted that much higher.
LANDMARK_BROW_SHIFT = 0.025
# Middle line of a brow: outwards and up from the eyeball's centre, and half its height (dm).
BROW_LINE = np.array([
    (-0.185, 0.166, 0.040), (-0.120, 0.171, 0.046), (-0.030, 0.184, 0.045), (0.060, 0.199, 0.040),
    (0.130, 0.198, 0.032), (0.200, 0.178, 0.024), (0.270, 0.138, 0.012),
])  # fmt: skip


@dataclass(frozen=True)
class FaceRegions:
    """Parts of the face.

    labels: (V,) int64 into `REGION_NAMES`. weights: soft masks (V,) float64 0..1 by name: lips, brows, lash_line,
    lower_lash_line, lids_upper, lids_lower, ears, nostrils, under_eye, cheeks, nose_tip, forehead, chin, nasolabial,
    stubble, moustache, neck, hairline.
    points: (V, 3) the vertices in the size of the face that `EYE_DISTANCE` belongs to (dm), as are all other lengths.
    eye_centres: (2, 3), of the side x < 0 and x > 0. gaze_angle: (V,) degrees from straight ahead on the eyeballs, inf
    elsewhere. beside_eye: (V, 2) outwards and up from the nearer eyeball's centre. mouth: (3,) middle of the lips, at
    their front. lips_depth: (V,) how far behind the lips' front a vertex lies.
    """

    labels: np.ndarray
    weights: dict[str, np.ndarray]
    points: np.ndarray
    eye_centres: np.ndarray
    gaze_angle: np.ndarray
    beside_eye: np.ndarray
    mouth: np.ndarray
    lips_depth: np.ndarray

    def has(self, *names: str) -> np.ndarray:
        """(V,) bool: vertices with one of these labels."""
        return np.isin(self.labels, [REGION_NAMES.index(name) for name in names])


def smoothstep(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 at `low`, 1 at `high` (which may be the smaller one), smooth in between."""
    share = np.clip((value - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)


def blob(points: np.ndarray, centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    """Gaussian bump of height 1: points (V, D), centre and standard deviations (D,)."""
    return np.exp(-0.5 * (((points - np.asarray(centre)) / np.asarray(radii)) ** 2).sum(1))


def build_regions(
    vertices: np.ndarray,
    triangles: np.ndarray,
    uv: np.ndarray,
    part: np.ndarray,
    border: np.ndarray,
    sky: np.ndarray,
    textures: Path,
    brow_shift: float = 0.0,
) -> FaceRegions:
    """Label the vertices of the average face.

    Args:
        vertices: (V, 3) dm, mirror-symmetric about x = 0.
        triangles: (F, 3) int64.
        uv: (F, 3, 2) texture coordinates per corner, v up.
        part: (F,) str: body, l-eye, r-eye, upper-teeth, lower-teeth or tongue.
        border: (V,) bool, on the cut.
        sky: (V,) 0..1 of `ambient_occlusion.sky_visibility`: finds the nostrils.
        textures: MPFB's folder `textures` with mpfb_lips.jpg and so on.
        brow_shift: paints the brows this much higher (dm).
    """
    mask = {name: _sample_mask(textures / f"mpfb_{name}.jpg", triangles, uv, part, len(vertices)) for name in
            ("lips", "eyelids", "ears", "inside-mouth")}  # fmt: skip
    member = {name: np.isin(np.arange(len(vertices)), triangles[part == name]) for name in np.unique(part)}
    body = member["body"]
    balls = member["l-eye"] | member["r-eye"]
    centres = _eyeballs(vertices, balls)
    scale = EYE_DISTANCE / centres[1, 0]
    vertices, centres = vertices * scale, centres * scale
    nearer = (vertices[:, 0] > 0).astype(int)
    from_eye = vertices - centres[nearer]
    outward = np.abs(vertices[:, 0]) - centres[1, 0]
    beside_eye = np.stack([outward, from_eye[:, 1]], axis=1)
    distance = np.linalg.norm(from_eye, axis=1)
    gaze_angle = np.where(balls, np.degrees(np.arccos(np.clip(from_eye[:, 2] / distance, -1, 1))), np.inf)

    # The mask bleeds 1 mm over the lips' edge.
    lips = smoothstep(mask["lips"], 0.35, 1.0) * body
    lip_points = vertices[lips > 0.5]
    front = lip_points[:, 2].max()
    mouth = np.array([0.0, (lip_points[:, 1].min() + lip_points[:, 1].max()) / 2, front])
    lips_depth = front - vertices[:, 2]
    near_mouth = (np.abs(vertices[:, 0]) < 0.45) & (np.abs(vertices[:, 1] - mouth[1]) < 0.45)
    inner = body & (mask["inside-mouth"] > 0.5) & near_mouth
    lips = np.where(inner, 0.0, lips)
    nose = _nose_tip(vertices, body, mouth, centres)

    weights = _soft_weights(vertices, beside_eye, body & ~inner, mouth, nose, centres, sky)
    weights["lips"] = lips
    weights["ears"] = mask["ears"] * body
    weights["brows"] = brow_weight(beside_eye - [0, brow_shift]) * body * (vertices[:, 2] > centres[0, 2] - 0.3)
    above, to_opening = _lid_margin(vertices, body, balls & visible_from(vertices, triangles, np.array([0.0, 0, 1])))
    margin = np.exp(-0.5 * (to_opening / 0.016) ** 2) * body
    weights["lash_line"] = margin * above
    weights["lower_lash_line"] = margin * (1 - above)
    weights["lids_upper"] = mask["eyelids"] * body * above
    weights["lids_lower"] = mask["eyelids"] * body * (1 - above)
    nostrils = weights["nostrils"]

    labels = np.zeros(len(vertices), np.int64)

    def label(name: str, where: np.ndarray) -> None:
        labels[where] = REGION_NAMES.index(name)

    label("neck", body & (weights["neck"] > 0.5))
    label("scalp", body & (weights["hairline"] > 0.5))
    label("ears", weights["ears"] > 0.5)
    label("border", border & body)
    label("brows", weights["brows"] > 0.5)
    label("eyelids", mask["eyelids"] * body > 0.5)
    label("lips", lips > 0.5)
    label("nostrils", nostrils > 0.5)
    label("mouth_interior", inner)
    label("teeth", member["upper-teeth"] | member["lower-teeth"])
    label("tongue", member["tongue"])
    label("sclera", balls)
    label("iris", gaze_angle < IRIS_ANGLE + 0.5)
    label("pupil", gaze_angle < PUPIL_ANGLE)
    return FaceRegions(labels, weights, vertices, centres, gaze_angle, beside_eye, mouth, lips_depth)


def _sample_mask(path: Path, triangles: np.ndarray, uv: np.ndarray, part: np.ndarray, count: int) -> np.ndarray:
    """(V,) 0..1: a grey texture of the body at the vertices, averaged over corners and mirrored halves' noise cut."""
    picture = np.asarray(Image.open(path).convert("L"), float) / 255
    height, width = picture.shape
    body = part == "body"
    columns = np.clip((uv[body][..., 0] * width).astype(int), 0, width - 1)
    rows = np.clip(((1 - uv[body][..., 1]) * height).astype(int), 0, height - 1)
    value = np.bincount(triangles[body].ravel(), picture[rows, columns].ravel(), minlength=count)
    uses = np.bincount(triangles[body].ravel(), minlength=count)
    return value / np.maximum(uses, 1)


def _eyeballs(vertices: np.ndarray, balls: np.ndarray) -> np.ndarray:
    """Centres (2, 3), of x < 0 and x > 0, of the least-squares spheres through the eyeballs."""
    right = vertices[balls & (vertices[:, 0] > 0)]
    solution = np.linalg.lstsq(np.c_[2 * right, np.ones(len(right))], (right**2).sum(1), rcond=None)[0]
    centre = solution[:3]
    return np.stack([centre * [-1, 1, 1], centre])


def _nose_tip(vertices: np.ndarray, body: np.ndarray, mouth: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(3,) the foremost point between the eyes and the mouth."""
    y = vertices[:, 1]
    middle = body & (np.abs(vertices[:, 0]) < 0.1) & (y > mouth[1] + 0.15) & (y < centres[0, 1])
    candidates = vertices[middle]
    tip = candidates[candidates[:, 2].argmax()].copy()
    tip[0] = 0.0
    return tip


def brow_weight(beside_eye: np.ndarray, thickness: float = 1.0) -> np.ndarray:
    """(V,) 0..1: hair of the brow, soft at the edges and at its inner end, thinning outwards.

    Args:
        beside_eye: (V, 2) outwards and up from the nearer eyeball's centre; not only on the skin.
        thickness: relative to the average brow.
    """
    steps, knots = np.linspace(0, 1, 120), np.linspace(0, 1, len(BROW_LINE))
    line = np.stack([np.interp(steps, knots, column) for column in BROW_LINE.T], 1)
    offset = np.linalg.norm(beside_eye[:, None] - line[:, :2], axis=2)
    nearest = offset.argmin(1)
    distance = offset[np.arange(len(offset)), nearest] / (line[nearest, 2] * thickness)
    along = nearest / (len(line) - 1)
    density = smoothstep(along, -0.12, 0.14) * (1 - 0.35 * smoothstep(along, 0.7, 1.0))
    return smoothstep(distance, 1.35, 0.45) * density


def _lid_margin(vertices: np.ndarray, body: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a vertex lies around the opening of its eye, seen from the front.

    Returns:
        above: (V,) 0..1, 1 above the line from corner to corner; distance: (V,) dm to the visible part `seen` of the
        eyeball (more than 1 off the body).
    """
    side_y = np.stack([np.abs(vertices[:, 0]), vertices[:, 1]], axis=1)
    opening = side_y[seen]
    distance = np.full(len(vertices), 9.0)
    distance[body] = cKDTree(opening).query(side_y[body])[0]
    inner, outer = opening[opening[:, 0].argmin()], opening[opening[:, 0].argmax()]
    line = np.interp(side_y[:, 0], [inner[0], outer[0]], [inner[1], outer[1]])
    return smoothstep(side_y[:, 1] - line, -0.004, 0.012), distance


def _soft_weights(
    vertices: np.ndarray,
    beside_eye: np.ndarray,
    outside: np.ndarray,
    mouth: np.ndarray,
    nose: np.ndarray,
    centres: np.ndarray,
    sky: np.ndarray,
) -> dict[str, np.ndarray]:
    """Gaussian and step-shaped masks of parts that have no clear outline."""
    side = np.abs(vertices[:, 0])
    x_y = np.stack([side, vertices[:, 1]], 1)
    eye_x, eye_y, eye_z = centres[1]
    chin_to_eye = eye_y - mouth[1]
    front = smoothstep(vertices[:, 2], eye_z - 0.9, eye_z - 0.3) * outside
    low = vertices[:, 1] - mouth[1]
    behind = mouth[2] - vertices[:, 2]
    beard_top = np.interp(behind, [0.0, 0.15, 0.40, 0.60, 0.75, 0.90], [-0.10, -0.06, -0.02, 0.08, 0.30, 0.55])
    moustache = smoothstep(side, 0.36, 0.20) * smoothstep(low, -0.1, 0.0)
    moustache *= smoothstep(vertices[:, 1], nose[1] - 0.05, nose[1] - 0.16)
    one_side = np.stack([side, vertices[:, 1], vertices[:, 2]], 1)
    hole = blob(one_side, (0.07, nose[1] - 0.08, nose[2] - 0.17), (0.045, 0.032, 0.09))
    neck_drop = mouth[1] - 0.38 + 0.35 * np.clip(behind - 0.13, 0, 0.9) - vertices[:, 1]
    return {
        "nostrils": smoothstep(hole, 0.15, 0.5) * smoothstep(sky, 0.80, 0.55) * outside,
        "under_eye": np.maximum(
            blob(beside_eye, (-0.04, -0.125), (0.12, 0.040)), 0.8 * blob(beside_eye, (-0.15, -0.03), (0.035, 0.05))
        ) * front,
        "cheeks": blob(x_y, (eye_x + 0.07, mouth[1] + 0.50 * chin_to_eye), (0.17, 0.14)) * front,
        "nose_tip": blob(vertices, tuple(nose + np.array([0, -0.02, -0.08])), (0.16, 0.11, 0.16)) * outside,
        "forehead": smoothstep(vertices[:, 1], eye_y + 0.28, eye_y + 0.45) * front,
        "chin": blob(x_y, (0.0, mouth[1] - 0.33), (0.16, 0.10)) * front,
        "nasolabial": blob(x_y, (0.20, (mouth[1] + nose[1]) / 2 + 0.02), (0.03, 0.07)) * front,
        "stubble": smoothstep(beard_top - low, -0.05, 0.12)
        * smoothstep(behind, 1.05, 0.85)
        * smoothstep(neck_drop, 0.15, -0.05)
        * outside,
        "moustache": moustache * front,
        "neck": smoothstep(neck_drop, -0.06, 0.10) * outside,
        "hairline": smoothstep(np.maximum(vertices[:, 1] - eye_y - 0.66, (0.75 * eye_z - 0.30 - vertices[:, 2]) * 0.6
                                          + 0.5 * (vertices[:, 1] - eye_y)), 0.0, 0.14) * outside,
    }  # fmt: skip
