"""Colours of the face model: the average albedo and the ways in which people's albedo differs.

Everything is painted by this script in log sRGB, where pigments multiply: no photo goes in.
albedo = exp(mean + basis c) with c of unit variance. Colours are what a face shows under white light of strength 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from regions import FaceRegions, blob, brow_weight, smoothstep
from surface_harmonics import symmetric_harmonics

# sRGB under white light of strength 1.
SKIN = (0.70, 0.545, 0.455)
SCLERA = (0.66, 0.61, 0.58)
IRIS = (0.215, 0.16, 0.125)
LIMBUS = (0.10, 0.085, 0.08)
CATCHLIGHT = (0.75, 0.75, 0.75)
PUPIL = (0.04, 0.035, 0.035)
TEETH = (0.68, 0.635, 0.56)
TONGUE = (0.42, 0.22, 0.21)
MOUTH = (0.30, 0.13, 0.12)
NOSTRIL = (0.16, 0.085, 0.07)
BROW = (0.25, 0.185, 0.145)
LASH = (0.16, 0.115, 0.10)
BROW_OPACITY = 0.76
# Standard deviations of the brows' height and of their ends' (dm), and of their thickness (share).
BROW_HEIGHT_DEVIATION, BROW_TILT_DEVIATION, BROW_THICKNESS_DEVIATION = 0.012, 0.010, 0.20
# Log-colour directions. Melanin takes away blue most and, in sRGB values, compresses saturation in dark skin; blood
# takes away green; the third is the undertone (golden against pink) that the first two leave out.
MELANIN = np.array([-0.79, -1.0, -1.17])
BLOOD = np.array([0.25, -1.0, -0.75])
UNDERTONE = np.array([0.30, 0.35, -1.0])
# Standard deviations along them.
MELANIN_DEVIATION, BLOOD_DEVIATION, UNDERTONE_DEVIATION = 0.36, 0.032, 0.05
# Uneven pigment at the scale of the mesh (log luminance): skin without it looks like plastic.
MOTTLING = 0.016
# How much of the creases' missing sky light to paint in: light also bounces around inside them.
OCCLUSION_STRENGTH = 1.1
DARKEST_OCCLUSION = 0.30
# The average of many faces is softer than any of them: brows, lips and lids differ in place and shape, and a photo
# blurs what is small. How much of the painted contrast with the skin its luminance keeps (its colour, which people
# share more, keeps the square root), and by how much its log luminance changes besides (lids and lips shade eyes and
# teeth). The inside of the mouth stays dark: nothing else tells an open mouth from a mask.
AVERAGE_CONTRAST = {
    "brows": (0.4, 0.0),
    "lips": (0.5, 0.0),
    "lids": (0.65, 0.0),
    "nostrils": (0.22, 0.0),
    "teeth": (1.0, -0.1),
    "sclera": (1.0, -0.1),
    "iris": (0.75, 0.0),
    "pupil": (0.7, 0.0),
}


@dataclass(frozen=True)
class AlbedoModel:
    """Log albedo = log_mean + log_basis c with coefficients c of unit variance.

    Attributes:
        log_painted: (V, 3) float64, one face as a sharp photo shows it. log_mean: (V, 3), the average of many.
        log_basis: (A, V, 3). names: (A,) of the coefficients.
    """

    log_painted: np.ndarray
    log_mean: np.ndarray
    log_basis: np.ndarray
    names: tuple[str, ...]


def build_albedo(
    vertices: np.ndarray,
    triangles: np.ndarray,
    part: np.ndarray,
    mirror: np.ndarray,
    regions: FaceRegions,
    sky: np.ndarray,
) -> AlbedoModel:
    """Paint the average face and its variations.

    Args:
        vertices: (V, 3) dm, the average face. triangles: (F, 3) int64. part: (F,) str as in `regions.build_regions`.
        mirror: (V,) int64.
        regions: of the same face.
        sky: (V,) 0..1, `ambient_occlusion.sky_visibility`.

    The first coefficients are melanin, blood and undertone.
    """
    painted = _paint_face(regions, sky)
    painted = (painted + painted[mirror]) / 2
    mean = _average(painted, regions)
    mean = (mean + mean[mirror]) / 2
    fields = {**_tone_fields(regions), **_feature_fields(regions)}
    fields.update(_smooth_fields(vertices, triangles[part == "body"], mirror, regions))
    return AlbedoModel(painted, mean, np.stack(list(fields.values())), tuple(fields))


def _over(log_colour: np.ndarray, weight: np.ndarray, colour: tuple[float, float, float]) -> np.ndarray:
    """Blend an sRGB colour over log colours (V, 3) with opacity `weight` (V,), in log space."""
    return log_colour * (1 - weight[:, None]) + weight[:, None] * np.log(colour)


def _paint_face(regions: FaceRegions, sky: np.ndarray) -> np.ndarray:
    """(V, 3) log sRGB of a face of average colours."""
    w = regions.weights
    height = regions.points[:, 1] - regions.mouth[1]
    # Offsets in log sRGB that add up, like thin layers of pigment.
    layers = [
        (w["forehead"], (0.02, 0.02, 0.01)),
        (w["cheeks"], (0.01, -0.045, -0.04)),
        (w["nose_tip"], (0.00, -0.06, -0.05)),
        (w["chin"], (0.00, -0.03, -0.03)),
        (w["ears"], (0.02, -0.05, -0.04)),
        (w["neck"], (0.01, -0.01, -0.02)),
        (w["under_eye"], (-0.05, -0.07, -0.055)),
        (w["nasolabial"], (-0.05, -0.07, -0.07)),
        (w["stubble"], (-0.09, -0.085, -0.065)),
        (w["moustache"], (-0.07, -0.08, -0.06)),
        (w["lids_upper"], (-0.06, -0.10, -0.09)),
        (w["lids_lower"], (-0.04, -0.08, -0.07)),
        (w["hairline"], (-0.18, -0.20, -0.22)),
        (w["lips"], (-0.12, -0.38, -0.28)),
    ]
    log_colour = np.broadcast_to(np.log(SKIN), regions.points.shape).copy()
    for weight, offset in layers:
        log_colour += weight[:, None] * np.array(offset)
    log_colour += MOTTLING * np.random.default_rng(1).standard_normal((len(height), 1))
    lower_lip = smoothstep(height, 0.0, -0.06)
    log_colour += (w["lips"] * (0.10 * lower_lip - 0.06))[:, None]
    log_colour = _over(log_colour, BROW_OPACITY * w["brows"] * _hair_texture(len(height)), BROW)
    log_colour = _over(log_colour, 0.75 * w["lash_line"], LASH)
    log_colour = _over(log_colour, 0.35 * w["lower_lash_line"], LASH)
    log_colour = _over(log_colour, w["nostrils"], NOSTRIL)
    occlusion = (1 - 0.45 * w["ears"]) * OCCLUSION_STRENGTH * np.log(np.maximum(sky, DARKEST_OCCLUSION))
    # Light that comes out of a crease went through skin: it is redder.
    log_colour += occlusion[:, None] * np.array([0.85, 1.05, 1.1])
    return _paint_cavities(_paint_eyes(log_colour, regions, sky), regions)


def _hair_texture(count: int) -> np.ndarray:
    """(V,) around 1: uneven density, since hairs are finer than the mesh."""
    return np.clip(1 + 0.10 * np.random.default_rng(0).standard_normal(count), 0.7, 1.2)


def _paint_eyes(log_colour: np.ndarray, regions: FaceRegions, sky: np.ndarray) -> np.ndarray:
    angle = regions.gaze_angle
    ball = np.isfinite(angle)
    outward_signed, up = regions.beside_eye.T
    outward = np.abs(outward_signed)
    painted = np.broadcast_to(np.log(SCLERA), log_colour.shape).copy()
    corner = smoothstep(outward, 0.07, 0.15)
    painted += corner[:, None] * np.array([-0.12, -0.26, -0.26])
    # Shadow of the upper lid and its lashes.
    painted += (smoothstep(up, 0.02, 0.09))[:, None] * np.array([-0.28, -0.30, -0.30])
    iris = smoothstep(angle, 25.5, 21.5)
    painted = _over(painted, iris, LIMBUS)
    painted = _over(painted, smoothstep(angle, 21.5, 16.5), IRIS)
    painted += (smoothstep(angle, 22, 16) * smoothstep(up, 0.02, -0.06))[:, None] * np.array([0.22, 0.20, 0.18])
    painted = _over(painted, smoothstep(angle, 10.5, 7.0), PUPIL)
    painted += 0.6 * np.log(np.maximum(sky, 0.45))[:, None]
    # Nearly every photo has a catchlight near the top of the pupil; without one an eye looks dead.
    catchlight = blob(np.stack([outward_signed, up], 1), (0.004, 0.021), (0.009, 0.009))
    painted = _over(painted, 0.9 * catchlight * (regions.gaze_angle < 30), CATCHLIGHT)
    return np.where(ball[:, None], painted, log_colour)


def _paint_cavities(log_colour: np.ndarray, regions: FaceRegions) -> np.ndarray:
    """Mouth, teeth and tongue darken with their depth behind the lips, as when the mouth is open."""
    # Colour, where the fading starts (behind the lips; for the teeth behind the foremost of them) and its length, dm.
    teeth = regions.has("teeth")
    incisors = regions.lips_depth[teeth].min()
    table = {
        "mouth_interior": (MOUTH, 0.10, 0.16),
        "teeth": (TEETH, incisors + 0.04, 0.20),
        "tongue": (TONGUE, 0.10, 0.40),
    }
    for name, (colour, start, fade) in table.items():
        part = regions.has(name)
        dark = np.clip((regions.lips_depth[part] - start) / fade, 0, 2.2)
        log_colour[part] = np.log(colour) - dark[:, None] * np.array([0.9, 1.1, 1.1])
    # Gums, and the lips' shadow on them: away from the line where the upper and the lower teeth meet.
    height = regions.points[teeth, 1]
    away = np.abs(height - np.median(height)) / np.ptp(height) * 2
    log_colour[teeth] += smoothstep(away, 0.45, 0.95)[:, None] * np.array([-0.30, -0.55, -0.50])
    return log_colour


def _average(painted: np.ndarray, regions: FaceRegions) -> np.ndarray:
    """(V, 3) log sRGB of the average of many faces; painted (V, 3) with the features of one."""
    w = regions.weights
    soft = {"brows": smoothstep(w["brows"], 0.1, 0.7), "lips": w["lips"], "lids": w["lids_upper"] + w["lids_lower"]}
    skin = painted[regions.has("skin")].mean(0)
    change = np.zeros_like(painted)
    for name, (contrast, offset) in AVERAGE_CONTRAST.items():
        weight = soft[name] if name in soft else regions.has(name)
        luminance = (painted - skin).mean(1, keepdims=True)
        colour = painted - skin - luminance
        change += weight[:, None] * ((contrast - 1) * luminance + (contrast**0.5 - 1) * colour + offset)
    return painted + change


def _tone_fields(regions: FaceRegions) -> dict[str, np.ndarray]:
    """Skin tone (A, V, 3) by name: the pigments act on skin, less on lips, hardly on hair, eyes and teeth."""
    w = regions.weights
    skin = np.ones(len(regions.labels))
    skin[regions.has("sclera", "iris", "pupil", "teeth")] = 0.0
    skin[regions.has("tongue")] = 0.15
    skin[regions.has("mouth_interior")] = 0.25
    painted_over = np.maximum.reduce([0.5 * w["brows"], 0.7 * w["lash_line"], 0.8 * w["nostrils"], 0.15 * w["lips"]])
    skin = skin * (1 - painted_over)
    sclera = np.where(regions.has("sclera"), 0.22, 0.0) + np.where(regions.has("iris"), 0.6, 0.0)
    melanin = (skin + sclera)[:, None] * MELANIN * MELANIN_DEVIATION
    return {
        "melanin": melanin,
        "blood": skin[:, None] * BLOOD * BLOOD_DEVIATION,
        "undertone": skin[:, None] * UNDERTONE * UNDERTONE_DEVIATION,
    }


def _feature_fields(regions: FaceRegions) -> dict[str, np.ndarray]:
    """One field per thing that differs between people besides the tone of their skin."""
    w = regions.weights
    grey = np.array([1.0, 1.0, 1.0])
    iris = np.where(regions.has("iris"), smoothstep(regions.gaze_angle, 25, 20), 0.0)
    sclera = regions.has("sclera").astype(float)
    teeth = regions.has("teeth").astype(float)
    side = np.abs(regions.points[:, 0])
    along_brow = regions.beside_eye[:, 0]
    beard = np.maximum(w["stubble"], w["moustache"])
    upper_lip = smoothstep(regions.points[:, 1] - regions.mouth[1], -0.02, 0.04)
    # name: (weight, log-colour offset of one standard deviation)
    table = {
        "lip_redness": (w["lips"], (0.03, -0.10, -0.07)),
        "lip_darkness": (w["lips"], (-0.14, -0.13, -0.12)),
        "upper_lip_darkness": (w["lips"] * (upper_lip - 0.5), (-0.10, -0.10, -0.09)),
        "brow_density": (w["brows"], (-0.24, -0.25, -0.25)),
        "brow_warmth": (w["brows"], (0.07, 0.0, -0.07)),
        "brow_tail": (w["brows"] * np.clip((along_brow - 0.04) / 0.15, -1.3, 1.3), -0.16 * grey),
        "iris_brightness": (iris, (0.28, 0.31, 0.33)),
        "iris_blue": (iris, (-0.14, 0.05, 0.24)),
        "sclera_brightness": (sclera, (0.12, 0.12, 0.13)),
        "sclera_redness": (sclera, (0.02, -0.035, -0.04)),
        "lashes": (w["lash_line"] + 0.5 * w["lower_lash_line"], -0.10 * grey),
        "lid_crease": (blob(regions.beside_eye, (0.0, 0.125), (0.14, 0.022)), -0.10 * grey),
        "lids": (np.maximum(w["lids_upper"], 0.6 * w["lids_lower"]) * (1 - w["lash_line"]), (-0.11, -0.13, -0.12)),
        "under_eye": (w["under_eye"], (-0.09, -0.10, -0.085)),
        "teeth": (teeth, (0.12, 0.14, 0.18)),
        "mouth_darkness": (regions.has("mouth_interior", "tongue").astype(float), (0.25, 0.27, 0.27)),
        "stubble": (beard, (-0.14, -0.125, -0.10)),
        "moustache": (w["moustache"] * smoothstep(side, 0.34, 0.24), (-0.11, -0.11, -0.10)),
        "blush": (w["cheeks"], (0.02, -0.045, -0.037)),
        "nose_redness": (w["nose_tip"], (0.02, -0.05, -0.04)),
        "nasolabial": (w["nasolabial"], (-0.07, -0.08, -0.08)),
        "forehead": (w["forehead"], (0.04, 0.05, 0.05)),
        "hairline": (w["hairline"], (-0.20, -0.21, -0.21)),
        "neck": (w["neck"], (-0.12, -0.13, -0.13)),
        "ears": (w["ears"], (0.03, -0.09, -0.08)),
        "nostrils": (w["nostrils"], 0.10 * grey),
    }
    fields = {name: weight[:, None] * np.array(offset) for name, (weight, offset) in table.items()}
    return fields | _brow_shape_fields(regions)


def _brow_shape_fields(regions: FaceRegions) -> dict[str, np.ndarray]:
    """Brows that sit higher, are tilted or thicker: differences of painted brows, so linear around the average."""
    contrast = BROW_OPACITY * (np.log(BROW) - np.log(SKIN))
    place = regions.beside_eye
    up = np.array([0, BROW_HEIGHT_DEVIATION])
    tilt = np.clip(place[:, :1] / 0.15, -1.5, 1.5) * [0, BROW_TILT_DEVIATION]
    differences = {
        "brow_height": brow_weight(place - up) - brow_weight(place + up),
        "brow_tilt": brow_weight(place - tilt) - brow_weight(place + tilt),
        "brow_thickness": brow_weight(place, 1 + BROW_THICKNESS_DEVIATION)
        - brow_weight(place, 1 - BROW_THICKNESS_DEVIATION),
    }
    # Only where there is some hair: next to it, the wrong sign of a difference would shine.
    hair = np.sqrt(regions.weights["brows"])
    return {name: (hair * value / 2)[:, None] * contrast for name, value in differences.items()}


def _smooth_fields(
    vertices: np.ndarray, skin_triangles: np.ndarray, mirror: np.ndarray, regions: FaceRegions
) -> dict[str, np.ndarray]:
    """Slow changes over the skin: a Gaussian process on the surface, mostly mirror-symmetric."""
    skin = (1 - 0.7 * regions.weights["brows"]) * (1 - 0.5 * regions.weights["lash_line"])
    skin[regions.has("mouth_interior", "nostrils", "sclera", "iris", "pupil", "teeth", "tongue")] = 0.0
    fields: dict[str, np.ndarray] = {}
    # name: (log-colour direction, modes, standard deviation of the sum, length scale in dm), even and odd.
    table = {
        "brightness": ((1.0, 1.06, 1.10), (24, 0.085, 0.45), (8, 0.035, 0.6)),
        "redness": ((0.35, -1.0, -0.6), (10, 0.020, 0.55), (3, 0.010, 0.7)),
        "yellowness": ((0.15, 0.25, -1.0), (6, 0.020, 0.7), (0, 0.0, 1.0)),
    }
    for odd in (False, True):
        most = max(spec[2 if odd else 1][0] for spec in table.values()) + 1
        functions, eigenvalues = symmetric_harmonics(vertices, skin_triangles, mirror, most, antisymmetric=odd)
        # The constant is the skin tone's business.
        functions, eigenvalues = (functions, eigenvalues) if odd else (functions[1:], eigenvalues[1:])
        for name, (direction, even_spec, odd_spec) in table.items():
            modes, deviation, length = odd_spec if odd else even_spec
            power = (1 + eigenvalues[:modes] * length**2 / 4) ** -2.0
            scale = deviation * np.sqrt(power / max(power.sum(), 1e-12))
            for mode in range(modes):
                values = np.clip(functions[mode], -3, 3) * scale[mode] * skin
                fields[f"{name}_{'odd' if odd else 'even'}_{mode}"] = values[:, None] * np.array(direction)
    return fields
