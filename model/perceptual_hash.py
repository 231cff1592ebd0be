"""Perceptual hash of pictures (DCT, as pHash of Zauner 2010, with 256 bits), and groups of pictures that are alike."""

import numpy as np
from PIL import Image

BITS = 256
SIDE = 16
_REDUCED = 64
_BANDS = 16
MOST_DIFFERENT = _BANDS - 1
"""Two hashes with at most so many different bits are called alike: then one of 16 bands is equal (pigeonhole), so that
alike pictures are found without comparing every two."""
_CHUNK = 512


def perceptual_hash(picture: np.ndarray) -> np.ndarray:
    """Signs of the 16 x 16 lowest frequencies against their median.

    Args:
        picture: (H,W,3) or (H,W) uint8.

    Returns:
        (4,) uint64; pictures that differ by scale or compression only differ in few bits.
    """
    grey = Image.fromarray(picture).convert("L").resize((_REDUCED, _REDUCED), Image.Resampling.LANCZOS)
    frequencies = _DCT[1 : SIDE + 1] @ (np.asarray(grey, np.float64)) @ _DCT[1 : SIDE + 1].T
    bits = (frequencies > np.median(frequencies)).reshape(-1)
    return np.packbits(bits[_INTERLEAVED]).view(np.uint64)


def different_bits(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Number of bits (...) in which hashes (...,4) differ; broadcasts."""
    return np.bitwise_count(first ^ second).sum(-1, dtype=np.int64)


def groups_alike(hashes: np.ndarray, most_different: int = MOST_DIFFERENT) -> list[list[int]]:
    """Groups of two or more pictures that are linked by hashes which are alike.

    Args:
        hashes: (N,4) uint64.
        most_different: bits, at most `MOST_DIFFERENT`.

    Returns:
        Indices, ascending within a group; the largest group first.

    Raises:
        ValueError: most_different is beyond what is found without comparing every two.
    """
    if not 0 <= most_different <= MOST_DIFFERENT:
        raise ValueError(f"most_different must be 0 to {MOST_DIFFERENT}, not {most_different}")
    # Equal hashes are settled first: a set full of one picture must not take quadratic time.
    unique, inverse = np.unique(hashes, axis=0, return_inverse=True)
    parent = np.arange(len(unique))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    bands = np.ascontiguousarray(unique).view(np.uint16).reshape(len(unique), _BANDS)
    for band in range(_BANDS):
        order = np.argsort(bands[:, band], kind="stable")
        edges = np.flatnonzero(np.diff(bands[order, band])) + 1
        for bucket in np.split(order, edges):
            for first in range(0, len(bucket) if len(bucket) > 1 else 0, _CHUNK):
                rows = bucket[first : first + _CHUNK]
                near = different_bits(unique[rows][:, None], unique[bucket][None]) <= most_different
                for a, b in zip(*np.nonzero(near), strict=True):
                    one, other = root(rows[a]), root(bucket[b])
                    parent[max(one, other)] = min(one, other)
    members: dict[int, list[int]] = {}
    for index, code in enumerate(inverse.reshape(-1)):
        members.setdefault(root(code), []).append(index)
    return sorted((group for group in members.values() if len(group) > 1), key=lambda group: (-len(group), group[0]))


def _dct_matrix(size: int) -> np.ndarray:
    """Orthonormal DCT-II, rows are frequencies."""
    frequency, place = np.mgrid[:size, :size]
    return np.sqrt(2 / size) * np.cos(np.pi * frequency * (place + 0.5) / size)


_DCT = _dct_matrix(_REDUCED)
# Each band takes bits from all over the spectrum: pieces of one row are too alike among faces.
_INTERLEAVED = np.random.default_rng(0).permutation(BITS)
