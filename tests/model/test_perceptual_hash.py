"""Perceptual hash: one photo at other scales and compressions is alike, other photos are not."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cfr.model.perceptual_hash import MOST_DIFFERENT, different_bits, groups_alike, perceptual_hash


def jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def test_scale_and_compression_change_few_bits(photos_dir):
    photos = [Image.open(path).convert("RGB") for path in sorted(photos_dir.glob("*.[jp]*g"))]
    hashes = [perceptual_hash(np.asarray(photo)) for photo in photos]
    for photo, code in zip(photos, hashes, strict=True):
        small = np.asarray(photo.resize((180, 180 * photo.height // photo.width), Image.Resampling.BICUBIC))
        assert different_bits(code, perceptual_hash(small)) <= 4
        assert different_bits(code, perceptual_hash(jpeg(np.asarray(photo), 40))) <= 8
    assert different_bits(*hashes) > 80
    assert groups_alike(np.stack([*hashes, perceptual_hash(jpeg(np.asarray(photos[1]), 60))])) == [[1, 2]]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), flips=st.integers(0, 2 * MOST_DIFFERENT))
def test_groups_are_those_of_all_comparisons(seed, flips):
    generator = np.random.default_rng(seed)
    bits = generator.integers(0, 2, (6, 256)).astype(np.uint8)
    near = bits[generator.integers(0, 6, 6)].copy()
    for row in near:
        row[generator.choice(256, flips, replace=False)] ^= 1
    hashes = np.packbits(np.concatenate([bits, near]), axis=1).view(np.uint64)
    linked = different_bits(hashes[:, None], hashes[None]) <= MOST_DIFFERENT
    for _ in range(4):
        linked = (linked.astype(int) @ linked.astype(int)) > 0
    expected = {tuple(np.flatnonzero(row)) for row in linked if row.sum() > 1}
    assert {tuple(group) for group in groups_alike(hashes)} == expected


def test_more_bits_than_can_be_found_are_refused():
    with pytest.raises(ValueError, match="most_different"):
        groups_alike(np.zeros((2, 4), np.uint64), MOST_DIFFERENT + 1)
