"""How far predicted face landmarks lie from the true ones, by the protocol of AFLW2000-3D.

The normalised mean error (NME) is the mean distance between predicted and true points over sqrt(width * height) of the
box around the true points. Photos are grouped by the true absolute yaw into 0-30, 30-60 and 60-90 degrees (a boundary
belongs to the lower group), and the figure that papers print is the mean of the three groups' means
(Zhu et al. 2016, "Face Alignment Across Large Poses"; same formulas as the evaluation scripts of 3DDFA).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

YAW_BINS = ("0-30", "30-60", "60-90")
_YAW_EDGES = (30.0, 60.0)
BOOTSTRAP_SAMPLES = 2000
CONFIDENCE = 0.95
# A fit whose NME exceeds this fraction has failed: the mesh lies beside the face.
FAILED_NME = 0.10


def points_box(points: np.ndarray) -> np.ndarray:
    """Box (x1, y1, x2, y2) around the points (...,N,2 or more): (...,4)."""
    xy = np.asarray(points)[..., :2]
    return np.concatenate([xy.min(-2), xy.max(-2)], axis=-1)


def normalised_mean_error(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """NME of each face, a fraction.

    Args:
        predicted, truth: (...,N,2) or wider, px of the same picture; only x and y are compared.

    Raises:
        ValueError: the shapes don't match, or the true points lie on a line.
    """
    predicted, truth = np.asarray(predicted, np.float64)[..., :2], np.asarray(truth, np.float64)[..., :2]
    if predicted.shape != truth.shape:
        raise ValueError(f"predicted points have shape {predicted.shape}, true ones {truth.shape}")
    box = points_box(truth)
    area = (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])
    if not (area > 0).all():
        raise ValueError("the true points of a face lie on a line: their box has no area")
    return np.linalg.norm(predicted - truth, axis=-1).mean(-1) / np.sqrt(area)


def yaw_bin(yaw: float) -> str:
    """Name of the group that a true yaw (degrees, either sign) belongs to."""
    return YAW_BINS[int(np.searchsorted(_YAW_EDGES, abs(yaw), side="left"))]


@dataclass(frozen=True)
class Summary:
    """Mean of n values with the bootstrap interval of that mean; None where there are too few values."""

    mean: float | None
    n: int
    interval: tuple[float, float] | None


def summarise(values: Sequence[float], seed: int = 0) -> Summary:
    """Mean and its percentile bootstrap interval (95 %, `BOOTSTRAP_SAMPLES` resamples, repeatable)."""
    array = np.asarray(values, np.float64)
    if not len(array):
        return Summary(None, 0, None)
    if len(array) == 1:
        return Summary(float(array[0]), 1, None)
    generator = np.random.default_rng(seed)
    means = [array[generator.integers(0, len(array), len(array))].mean() for _ in range(BOOTSTRAP_SAMPLES)]
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Summary(float(array.mean()), len(array), (float(low), float(high)))


def summarise_by_yaw(errors: Sequence[float], yaws: Sequence[float]) -> dict[str, Summary]:
    """Summary of the errors in each of the `YAW_BINS`; yaws are true ones in degrees, either sign."""
    groups: dict[str, list[float]] = {name: [] for name in YAW_BINS}
    for error, yaw in zip(errors, yaws, strict=True):
        groups[yaw_bin(yaw)].append(float(error))
    return {name: summarise(group) for name, group in groups.items()}


def mean_of_bins(by_yaw: dict[str, Summary]) -> float | None:
    """The protocol's figure: the mean of the groups' means, each counting the same; None if a group is empty."""
    means = [summary.mean for summary in by_yaw.values()]
    return None if None in means else float(np.mean(means))


def area_under_roc(scores: Sequence[float], positive: Sequence[bool]) -> float | None:
    """Probability that a positive scores higher than a negative (ties count half); None without both.

    The Mann-Whitney form of the area under the receiver operating characteristic.
    """
    scores, positive = np.asarray(scores, np.float64), np.asarray(positive, bool)
    if positive.all() or not positive.any():
        return None
    above, below = scores[positive][:, None], scores[~positive][None]
    return float((above > below).mean() + 0.5 * (above == below).mean())


def load_point_stack(array: np.ndarray, points: int = 68) -> np.ndarray:
    """Points of many faces as (N,points,2), from any of the layouts of published prediction files.

    Args:
        array: (N,points,2 or 3) or (N,2 or 3,points).

    Raises:
        ValueError: neither layout.
    """
    array = np.asarray(array)
    if array.ndim == 3 and array.shape[2] == points and array.shape[1] in (2, 3):
        array = array.transpose(0, 2, 1)
    if array.ndim != 3 or array.shape[1] != points or array.shape[2] not in (2, 3):
        raise ValueError(
            f"expected (N,{points},2), (N,{points},3), (N,2,{points}) or (N,3,{points}), got {array.shape}"
        )
    return array[..., :2].astype(np.float64)
