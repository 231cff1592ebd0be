"""Sample random heads from the MPFB modifiers and reduce them to a mirror-symmetric PCA.

The statistics are ours: nobody was scanned. The ranges below were chosen so that the landmarks of the sampled heads
spread about as much as those of real faces (see `LANDMARK_SPREAD` in build.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from base_mesh import AnnyData
from geometry import FaceMesh

ETHNICITIES = ("african", "asian", "caucasian")
# Standard deviation of a modifier's position in [-1, 1] per folder of targets; a name listed in FINE overrides it.
SPREAD = {
    "forehead": 0.3,
    "eyes": 0.28,
    "eyebrows": 0.3,
    "nose": 0.28,
    "mouth": 0.28,
    "chin": 0.3,
    "cheek": 0.3,
    "ears": 0.3,
    "neck": 0.2,
}
FINE = {
    "head/head-age": 0.15,
    "head/head-fat": 0.3,
    "head/head-angle": 0.15,
    "head/head-scale-depth": 0.2,
    "head/head-scale-horiz": 0.25,
    "head/head-scale-vert": 0.25,
    "head/head-back-scale-depth": 0.1,
    "nose/nose-trans": 0.15,
    "mouth/mouth-trans": 0.15,
    "nose/nose-compression": 0.15,
    "nose/nose-greek": 0.2,
    "chin/chin-cleft": 0.2,
    "eyes/eye-push": 0.2,
    "eyes/eye-bag": 0.2,
    "ears/ear-shape": 0.15,
    "ears/ear-flap": 0.2,
    "neck/neck-trans": 0.1,
    "neck/neck-double": 0.25,
}
# Sliders that do not vary around 0: without these, the average of MakeHuman's people has a flatter nose, closer eyes
# and a wider, shorter face than published averages (ANSUR; the 3D landmarks of labelled photos).
CENTRE = {
    "nose/nose-scale-depth-incr": 0.45,
    "head/head-scale-depth-incr": 0.2,
    "head/head-scale-vert-incr": 0.2,
    "head/head-fat-incr": -0.2,
    "chin/chin-bones-incr": -0.1,
    "cheek/cheek-volume-incr": -0.1,
    "eyes/eye-trans-out": 0.15,
}
# Whole-face outlines are mixed in with weights from 0 up, not around 0.
OUTLINES = ("diamond", "invertedtriangular", "oval", "rectangular", "round", "square", "triangular")
OUTLINE_SPREAD = 0.25
# Both sides of a sided modifier share this share of its variance; the rest is asymmetry.
SHARED_SIDES = 0.93
ASYMMETRY_SPREAD = 0.12
OPPOSITES = (
    ("decr", "incr"),
    ("down", "up"),
    ("in", "out"),
    ("backward", "forward"),
    ("concave", "convex"),
    ("compress", "uncompress"),
)
EXCLUDED = (
    "head-trans",
    "shape-pointed",
    "shape-triangle",
    "jaw-drop",
    "measure-",
    "neck-trans-in",
    "neck-trans-out",
    "trans-in-out",
)


@dataclass(frozen=True)
class Modifier:
    """One slider: the targets at +1 and at -1 (None: one-sided) for each side of the face (one or two), its mean value
    and its spread."""

    sides: tuple[tuple[str, str | None], ...]
    centre: float
    spread: float


@dataclass(frozen=True)
class IdentitySpace:
    """mean (V, 3) dm; basis (I, V, 3) dm per standard deviation; mirror_sign (I,) +1 symmetric, -1 antisymmetric;
    kept: share of the sample's variance that the basis holds; residual: rms distance in mm of what it leaves out."""

    mean: np.ndarray
    basis: np.ndarray
    mirror_sign: np.ndarray
    kept: float
    residual: float


def sample_heads(
    data: AnnyData, mesh: FaceMesh, count: int, seed: int, age: dict[str, float] | None = None
) -> np.ndarray:
    """(count, V, 3) float32: random heads on the face mesh, in base-mesh coordinates, not aligned.

    age: shares of "baby", "child", "young" and "old", which sum to 1; default: an age drawn for each head, no babies.
    """
    generator = np.random.default_rng(seed)
    modifiers = _modifiers(data)
    macros = [name for name in data.target_names("macrodetails") if age or "-baby" not in name]
    sliders = [name for modifier in modifiers for side in modifier.sides for name in side if name]
    column = {name: i for i, name in enumerate(dict.fromkeys(macros + sliders))}
    weights = np.zeros((count, len(column)), np.float32)
    for row in weights:
        for name, weight in _macro_weights(generator, age).items():
            row[column[name]] = weight
        for modifier in modifiers:
            for name, weight in _slider_weights(modifier, generator):
                row[column[name]] = weight
    shapes = np.stack([(mesh.weights @ data.target(name)).astype(np.float32).ravel() for name in column])
    neutral = (mesh.weights @ data.base.vertices).astype(np.float32)
    return (weights @ shapes).reshape(count, *neutral.shape) + neutral


def principal_components(heads: np.ndarray, mesh: FaceMesh, core: np.ndarray, count: int) -> IdentitySpace:
    """PCA of aligned heads and their mirror images.

    heads: (n, V, 3), overwritten by the aligned heads. core: (V,) float weights of the similarity alignment.
    With its mirror images the sample splits exactly into a symmetric and an antisymmetric part, whose principal
    components are computed apart: every component is one or the other.
    """
    flip = np.array([-1, 1, 1], np.float32)
    mean = heads.mean(axis=0)
    for _ in range(3):
        mean = 0.5 * (mean + mean[mesh.mirror] * flip)
        for head in heads:
            head[:] = align_similarity(head, mean, core)
        mean = heads.mean(axis=0)
    mean = 0.5 * (mean + mean[mesh.mirror] * flip)
    size = heads.shape[0]
    heads -= mean
    mirrored = heads[:, mesh.mirror] * flip
    parts = []
    for sign in (1, -1):
        half = (0.5 * (heads + sign * mirrored)).reshape(size, -1)
        gram = (half @ half.T).astype(np.float64) / size
        variance, vectors = np.linalg.eigh(gram)
        variance, vectors = variance[::-1][:count], vectors[:, ::-1][:, :count]
        # Column k of vectors gives a direction of length sqrt(size * variance); this is the basis per unit SD.
        basis = (vectors.T.astype(np.float32) @ half) / np.float32(np.sqrt(size))
        parts.append((variance, basis.reshape(len(basis), -1, 3), sign, np.trace(gram)))
    del mirrored
    total = sum(part[3] for part in parts)
    variance = np.concatenate([part[0] for part in parts])
    basis = np.concatenate([part[1] for part in parts])
    sign = np.concatenate([np.full(len(part[0]), part[2]) for part in parts])
    order = np.argsort(-variance, kind="stable")[:count]
    kept = variance[order].sum() / total
    residual = 100 * np.sqrt((total - variance[order].sum()) / mean.shape[0])
    return IdentitySpace(mean, _fix_signs(basis[order]), sign[order], float(kept), float(residual))


def align_similarity(shape: np.ndarray, target: np.ndarray, core: np.ndarray) -> np.ndarray:
    """shape (V, 3) moved, rotated and scaled onto target (V, 3), least squares over vertices weighted by core (V,)."""
    weight = (core / core.sum())[:, None].astype(shape.dtype)
    shape_centre, target_centre = (shape * weight).sum(axis=0), (target * weight).sum(axis=0)
    from_shape, from_target = shape - shape_centre, target - target_centre
    left, singular, right = np.linalg.svd((from_target * weight).T @ from_shape)
    signs = np.array([1, 1, np.sign(np.linalg.det(left @ right))])
    scale = (singular * signs).sum() / (from_shape**2 * weight).sum()
    rotation = (left * signs) @ right
    return scale * from_shape @ rotation.T.astype(shape.dtype) + target_centre


def _fix_signs(basis: np.ndarray) -> np.ndarray:
    """Make the largest displacement of each component positive, so that a rebuild gives the same signs."""
    flat = basis.reshape(len(basis), -1)
    largest = np.take_along_axis(flat, np.abs(flat).argmax(axis=1)[:, None], axis=1)[:, 0]
    return basis * np.sign(largest)[:, None, None]


def _random_age(generator: np.random.Generator) -> dict[str, float]:
    draw = generator.uniform()
    if draw < 0.1:
        child = generator.uniform(0, 0.8)
        return {"child": child, "young": 1 - child, "old": 0.0}
    old = generator.beta(1.0, 1.6)
    return {"child": 0.0, "young": 1 - old, "old": old}


def _macro_weights(generator: np.random.Generator, age: dict[str, float] | None) -> dict[str, float]:
    """Weights of the MPFB macro targets for one random person (products of age, sex, ethnicity, muscle and weight)."""
    age = age or _random_age(generator)
    male = float(np.clip(generator.uniform() < 0.5, 0, 1)) * 0.8 + 0.2 * generator.uniform()
    sex = {"male": male, "female": 1 - male}
    ethnicity = dict(zip(ETHNICITIES, generator.dirichlet([0.6, 0.6, 0.6]), strict=True))
    levels = []
    for spread in (0.35, 0.45):  # muscle, weight
        level = float(np.clip(generator.normal(0, spread), -1, 1))
        levels.append({"min": max(-level, 0), "average": 1 - abs(level), "max": max(level, 0)})
    weights = {}
    for s, s_weight in sex.items():
        for a, a_weight in age.items():
            for e, e_weight in ethnicity.items():
                weights[f"macrodetails/{e}-{s}-{a}"] = s_weight * a_weight * e_weight
            for m, m_weight in levels[0].items():
                for w, w_weight in levels[1].items():
                    weights[f"macrodetails/universal-{s}-{a}-{m}muscle-{w}weight"] = (
                        s_weight * a_weight * m_weight * w_weight
                    )
    return weights


def _modifiers(data: AnnyData) -> list[Modifier]:
    """All sliders; those named after a side of the face hold both sides."""
    result = []
    for folder in ("head", *SPREAD):
        names = [name for name in data.target_names(folder) if not any(word in name for word in EXCLUDED)]
        for name in names:
            spread = _spread(name, names)
            if spread and "/l-" not in name:
                negative = _opposite(name, names)
                sides = [(name, negative)]
                if "/r-" in name:
                    sides.append((name.replace("/r-", "/l-"), negative and negative.replace("/r-", "/l-")))
                result.append(Modifier(tuple(sides), CENTRE.get(name.replace("/r-", "/"), 0.0), spread))
    for name in data.target_names("asym"):
        if "breast" not in name and "trunk" not in name:
            result.append(Modifier(((name, None),), 0.0, ASYMMETRY_SPREAD))
    return result


def _opposite(name: str, names: list[str]) -> str | None:
    """The target at the other end of the slider whose positive end is `name`."""
    stem, _, ending = name.rpartition("-")
    low = next((low for low, high in OPPOSITES if high == ending), None)
    return f"{stem}-{low}" if low and f"{stem}-{low}" in names else None


def _spread(name: str, names: list[str]) -> float:
    """Standard deviation of the slider whose positive end is this target; 0 for negative ends and unused targets."""
    folder, _, rest = name.partition("/")
    ending = rest.rpartition("-")[2]
    if folder == "head" and ending in OUTLINES:
        return OUTLINE_SPREAD
    one_sided = folder != "head" and not any(ending in pair for pair in OPPOSITES)
    if _opposite(name, names) is None and not one_sided:
        return 0.0
    key = name.replace("/l-", "/").replace("/r-", "/")
    return next((value for start, value in FINE.items() if key.startswith(start)), SPREAD.get(folder, 0.0))


def _slider_weights(modifier: Modifier, generator: np.random.Generator) -> list[tuple[str, float]]:
    common = generator.normal()
    result = []
    for positive, negative in modifier.sides:
        value = common
        if len(modifier.sides) == 2:
            value = np.sqrt(SHARED_SIDES) * common + np.sqrt(1 - SHARED_SIDES) * generator.normal()
        value = float(np.clip(modifier.centre + modifier.spread * value, -1, 1))
        if negative is None:
            result.append((positive, abs(value)))
        else:
            result.append((positive if value >= 0 else negative, abs(value)))
    return result
