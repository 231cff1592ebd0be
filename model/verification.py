"""Face verification: how well similarities tell pairs of one person from pairs of two.

The figures are those of LFW (Huang et al. 2007: ten-fold accuracy) and IJB-A (Klare et al. 2015: true accepts at a rate
of false accepts).
"""

from dataclasses import dataclass

import numpy as np

FOLDS = 10


@dataclass(frozen=True)
class Roc:
    """Receiver operating characteristic: one point per threshold, from accepting nothing to accepting everything.

    Attributes:
        thresholds: (T,) descending; a pair is accepted if its similarity is at least the threshold.
        false_accepts, true_accepts: (T,) shares of the pairs of two persons and of one person that are accepted.
    """

    thresholds: np.ndarray
    false_accepts: np.ndarray
    true_accepts: np.ndarray


def cosine_similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of embeddings (N,D) row by row, (N,) float64 -1..1; that of a zero vector is 0."""
    first, second = (np.asarray(each, np.float64) for each in (first, second))
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(1) / np.where(lengths > 0, lengths, 1)


def roc_curve(similarity: np.ndarray, same: np.ndarray) -> Roc:
    """Every threshold that makes a difference.

    Args:
        similarity: (N,) float.
        same: (N,) bool, whether the pair is of one person.

    Raises:
        ValueError: there are not pairs of both kinds, or a similarity is not finite.
    """
    similarity, same = np.asarray(similarity, np.float64), np.asarray(same, bool)
    if same.all() or not same.any():
        raise ValueError("pairs of one person and of two persons are needed")
    if not np.isfinite(similarity).all():
        raise ValueError("a similarity is not finite")
    order = np.argsort(-similarity, kind="stable")
    ordered, genuine = similarity[order], same[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # equal similarities are accepted together
    true, false = np.cumsum(genuine)[last], np.cumsum(~genuine)[last]
    return Roc(
        np.concatenate([[np.inf], ordered[last]]),
        np.concatenate([[0.0], false / (~same).sum()]),
        np.concatenate([[0.0], true / same.sum()]),
    )


def equal_error_rate(roc: Roc) -> float:
    """Where false accepts and false rejects are equally frequent, between two thresholds linearly."""
    difference = roc.false_accepts - (1 - roc.true_accepts)
    after = int(np.argmax(difference >= 0))
    low, high = difference[after - 1], difference[after]
    share = -low / (high - low)
    return float(roc.false_accepts[after - 1] * (1 - share) + roc.false_accepts[after] * share)


def true_accept_rate(roc: Roc, false_accept_rate: float) -> float:
    """Share of true accepts at the lowest threshold with at most this share of false accepts."""
    return float(roc.true_accepts[roc.false_accepts <= false_accept_rate].max())


def fold_accuracies(similarity: np.ndarray, same: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Accuracy in each fold at the threshold that is best in all others.

    Args:
        similarity, same: (N,) as for `roc_curve`.
        folds: (N,) whole numbers, which fold a pair belongs to.

    Returns:
        (F,) 0..1; NaN where the other folds lack pairs of one kind.
    """
    similarity, same = np.asarray(similarity, np.float64), np.asarray(same, bool)
    found = []
    for fold in np.unique(folds):
        inside = folds == fold
        kinds = same[~inside]
        if kinds.all() or not kinds.any():
            found.append(np.nan)
            continue
        roc = roc_curve(similarity[~inside], kinds)
        right = roc.true_accepts * kinds.sum() + (1 - roc.false_accepts) * (~kinds).sum()
        # In the middle of the gap below the best threshold: the nearest similarities on either side count the same.
        best = int(np.argmax(right))
        below = roc.thresholds[best + 1] if best + 1 < len(roc.thresholds) else -np.inf
        ends = np.array([roc.thresholds[best], below])
        threshold = ends.mean() if np.isfinite(ends).all() else ends[0]
        found.append(float(((similarity[inside] >= threshold) == same[inside]).mean()))
    return np.array(found)
