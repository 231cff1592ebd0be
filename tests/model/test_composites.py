"""Pasted occluders: known place, known mask, repeatable."""

import numpy as np
import pytest
from PIL import Image

from cfr.model.composites import (
    KINDS,
    LARGEST_COVER,
    SMALLEST_COVER,
    FacePlace,
    Occluder,
    composites_of,
    load_occluders,
    match_colour,
    occluder_kind,
    paste_occluder,
    skin_colour,
)

FACE = FacePlace(
    np.array([100.0, 60.0, 220.0, 220.0]),
    np.array([[132.0, 120.0], [188.0, 120.0], [160.0, 150.0], [138.0, 180.0], [182.0, 180.0]]),
)


@pytest.fixture
def photo() -> np.ndarray:
    """Skin-coloured noise with a smooth shading."""
    generator = np.random.default_rng(0)
    ramp = np.linspace(0.8, 1.1, 320)[None, :, None]
    noise = generator.normal(0, 4, (300, 320, 3))
    return (np.array([190.0, 140.0, 120.0]) * ramp + noise).clip(0, 255).astype(np.uint8)


def _plate(kind: str, colour=(20, 60, 200), size=(120, 80)) -> Occluder:
    """Opaque rectangle within a transparent margin whose hidden colour is bright green."""
    rgba = np.zeros((size[1] + 20, size[0] + 20, 4), np.uint8)
    rgba[..., 1] = 255
    rgba[10:-10, 10:-10] = (*colour, 255)
    return Occluder(f"{kind}_plate", kind, rgba)


@pytest.mark.parametrize("kind", KINDS)
def test_mask_is_where_the_picture_changed(photo, kind):
    composite = paste_occluder(photo, FACE, _plate(kind), [1])
    changed = np.abs(composite.image.astype(int) - photo).max(-1)
    assert composite.image.shape == photo.shape and composite.image.dtype == np.uint8
    assert (changed[composite.mask] > 20).mean() > 0.99
    # Beside the mask only the soft edge differs.
    distant = ~np.asarray(Image.fromarray(composite.mask).convert("L").resize((320, 300)), bool)
    far = distant & ~_grown(composite.mask, 4)
    assert changed[far].max() == 0


def _grown(mask: np.ndarray, radius: int) -> np.ndarray:
    grown = mask.copy()
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            grown |= np.roll(mask, (dy, dx), (0, 1))
    return grown


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_cover_is_sane(photo, kind, seed):
    composite = paste_occluder(photo, FACE, _plate(kind), [seed])
    cover = composite.mask[FACE.ellipse(composite.mask.shape)].mean()
    assert SMALLEST_COVER <= cover <= LARGEST_COVER


@pytest.mark.parametrize("seed", range(5))
def test_masks_cover_the_mouth_and_glasses_the_eyes(photo, seed):
    def covered(kind: str, point: np.ndarray) -> bool:
        x, y = point.astype(int)
        return bool(paste_occluder(photo, FACE, _plate(kind), [seed]).mask[y, x])

    assert all(covered("mask", point) for point in FACE.landmarks5[3:])
    assert not any(covered("mask", point) for point in FACE.landmarks5[:2])
    assert all(covered("glasses", point) for point in FACE.landmarks5[:2])
    assert not any(covered("glasses", point) for point in FACE.landmarks5[3:])


def test_cut_outs_follow_a_tilted_head():
    angle = np.deg2rad(30)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.array([160.0, 140.0])
    tilted = FacePlace(FACE.box, (FACE.landmarks5 - centre) @ turn.T + centre)
    photo = np.full((300, 320, 3), 128, np.uint8)
    mask = paste_occluder(photo, tilted, _plate("glasses", size=(200, 50)), [0]).mask
    y, x = np.nonzero(mask)
    axis = np.linalg.eigh(np.cov(np.stack([x, y])))[1][:, 1]
    assert np.rad2deg(np.arctan2(axis[1], axis[0])) % 180 == pytest.approx(30, abs=8)


def test_hidden_colours_of_transparent_pixels_do_not_bleed_in(photo):
    composite = paste_occluder(photo, FACE, _plate("object", colour=(200, 0, 0)), [3])
    edge = _grown(composite.mask, 3)
    green = composite.image[edge][:, 1].astype(int)
    assert green.max() <= photo[..., 1].max()


def test_colour_matched_cut_outs_have_the_colour_of_skin(photo):
    mean, deviation = skin_colour(photo, FACE)
    assert mean == pytest.approx([180, 133, 114], abs=8)
    occluder = _plate("hand")
    occluder.rgba[10:40, 10:-10, :3] = (40, 90, 250)
    matched = match_colour(occluder.rgba, mean, deviation)
    opaque = matched[matched[..., 3] > 127][:, :3]
    assert opaque.mean(0) == pytest.approx(mean, abs=2)
    assert opaque.std() < 60 and len(np.unique(opaque, axis=0)) > 1
    np.testing.assert_array_equal(matched[..., 3], occluder.rgba[..., 3])


def test_a_series_repeats_and_uses_every_kind_equally(photo):
    occluders = [_plate(kind) for kind in ("mask", "glasses", "hand")]

    def series(seed: int):
        return [
            composite
            for index in range(3)
            for composite in composites_of(
                photo, FACE, occluders, name=f"{index}.jpg", index=index, copies=2, matched_share=1.0, seed=seed
            )
        ]

    first, again, other = series(0), series(0), series(1)
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.image, two.image)
    assert any((one.mask != two.mask).any() for one, two in zip(first, other, strict=True))
    assert sorted(composite.kind for composite in first) == sorted(2 * ["mask", "glasses", "hand"])
    assert {composite.kind for composite in first if composite.colour_matched} == {"hand"}


def test_cut_outs_are_read_by_name_and_unusable_ones_are_named(tmp_path):
    plate = _plate("hand").rgba
    for name in ("hand_1", "sunglasses_2", "mask_cloth", "mask_cloth_left", "uvmask_1", "obj_mug", "moustache"):
        Image.fromarray(plate).save(tmp_path / f"{name}.png")
    ghost = plate.copy()
    ghost[..., 3] = ghost[..., 3] // 3
    Image.fromarray(ghost).save(tmp_path / "obj_smoke.png")
    Image.fromarray(plate[..., :3]).save(tmp_path / "obj_flat.png")
    occluders, skipped = load_occluders(tmp_path)
    assert {occluder.name: occluder.kind for occluder in occluders} == {
        "hand_1": "hand",
        "mask_cloth": "mask",
        "moustache": "moustache",
        "obj_mug": "object",
        "sunglasses_2": "glasses",
    }
    assert set(skipped) == {"mask_cloth_left.png", "uvmask_1.png", "obj_smoke.png", "obj_flat.png"}
    assert occluder_kind("glasses_flat.png") == "glasses"
