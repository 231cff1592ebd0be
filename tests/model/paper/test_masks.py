"""Difference map, masks and swap of the paper on faces of our own, in every run."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cfr.model.paper import filters
from cfr.model.paper.masks import ParsedFaces, full_mask, object_mask
from cfr.model.paper.renderer import rasterize_screen_linear, render
from cfr.model.paper.structure_colour_difference import misread_lab, rgb_to_lab, structure_colour_difference
from cfr.model.paper.swap import swap

SKIN, GLASSES, LEFT_EYE, LEFT_BROW, HAIR = 1, 3, 4, 6, 13


@pytest.mark.parametrize("size", [2, 3, 5, 7])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_filters_are_windows_over_zeros(size, seed):
    """Against NumPy's windows: size - 1 zeros in all, the smaller half before."""
    values = torch.rand(1, 1, 12, 9, generator=torch.Generator().manual_seed(seed))
    pad = ((size - 1) // 2, size // 2)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values[0, 0].numpy(), (pad, pad)), (size, size))
    for ours, expected in (
        (filters.dilate(values, size), windows.max((2, 3))),
        (filters.erode(values, size), windows.min((2, 3))),
        (filters.box_blur(values, size), windows.mean((2, 3))),
    ):
        torch.testing.assert_close(ours[0, 0], torch.from_numpy(expected.copy()), atol=1e-6, rtol=0)
    if size % 2:
        mirrored = np.pad(values[0, 0].numpy(), size // 2, mode="reflect")
        expected = np.median(np.lib.stride_tricks.sliding_window_view(mirrored, (size, size)), axis=(2, 3))
        torch.testing.assert_close(filters.median(values, size)[0, 0], torch.from_numpy(expected), atol=0, rtol=0)


def test_lab_of_known_colours():
    """CIE Lab of sRGB primaries and grey (Lindbloom), to the rounding of the matrix."""
    colours = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5]])
    lab = rgb_to_lab(colours.t()[None, :, :, None])[0, :, :, 0].t()
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86]]
    torch.testing.assert_close(lab, torch.tensor([*expected, [53.39, 0, 0]]), atol=0.05, rtol=0)


def test_misread_lab_takes_three_neighbours_for_a_colour():
    picture = torch.rand(2, 3, 6, 9, generator=torch.Generator().manual_seed(0))
    misread = misread_lab(picture)
    triple = picture[1, 2, 4, 3:6]
    expected = rgb_to_lab(triple[None, :, None, None])[0, :, 0, 0]
    torch.testing.assert_close(misread[1, 2, 4, 3:6], expected)


@pytest.mark.parametrize("true_lab", [False, True])
def test_difference_map_shows_where_pictures_differ(own_model, own_faces, true_lab):
    first = render(own_faces.shape, own_faces.colour, own_model.triangles)
    second = first.clone()
    second[0, :, 100:130, 90:120] = torch.tensor([0.1, 0.6, 0.2])[:, None, None]
    second[1, 0, 100:130, 120:150] = 1.0
    difference = structure_colour_difference(first, second, true_lab=true_lab)[:, 0]
    assert difference[0, 104:126, 94:116].min() > 0.9 and difference[1, 104:126, 124:146].mean() > 0.5
    difference[0, 94:136, 84:126] = 0
    difference[1, 94:136, 114:156] = 0
    assert difference.max() < 0.05
    assert not structure_colour_difference(first, first).any()


@pytest.fixture(scope="module")
def covered(own_model, own_faces):
    """A photo of the first face with a green patch over the cheek, the model's picture of it, and its parsing."""
    shape, triangles = own_faces.shape[:1], own_model.triangles
    gbuffer = rasterize_screen_linear(shape, triangles)
    guidance = render(shape, own_faces.colour[:1], triangles, gbuffer)
    generator = torch.Generator().manual_seed(0)
    photo = torch.where(gbuffer.covered[:, None], guidance, torch.rand(1, 3, 224, 224, generator=generator))
    patch = torch.zeros(1, 1, 224, 224, dtype=torch.bool)
    patch[:, :, 95:150, 70:110] = True
    patch &= gbuffer.covered[:, None]
    photo = torch.where(patch, torch.tensor([0.1, 0.5, 0.2]).view(1, 3, 1, 1), photo)
    labels = torch.where(patch[:, 0], 0, gbuffer.covered.long())
    return photo, guidance, labels, patch, gbuffer.covered[:, None]


def test_object_mask_is_what_covers_the_face(covered):
    photo, guidance, labels, patch, mesh = covered
    mask = object_mask(guidance, photo, ParsedFaces.of(guidance, labels, mesh[:, 0].long()))
    inner = filters.erode(patch.float(), 5) > 0
    assert mask[inner].min() == 1
    assert mask[~(filters.dilate(patch.float(), 7) > 0)].max() == 0
    # The parsing alone is enough, and the difference alone too where the parsing takes the patch for skin.
    wrong = object_mask(guidance, photo, ParsedFaces.of(guidance, mesh[:, 0].long(), mesh[:, 0].long()))
    assert wrong[inner].min() == 1
    # Where the patch were a brow, it counts for less.
    brow = torch.where(patch[:, 0], LEFT_BROW, labels)
    weak = object_mask(guidance, photo, ParsedFaces.of(guidance, brow, mesh[:, 0].long()))
    assert weak[inner].unique().tolist() == pytest.approx([0.6])


def test_a_face_without_an_occluder_has_a_weak_mask(covered):
    photo, guidance, labels, patch, mesh = covered
    small = torch.zeros_like(patch)
    small[:, :, 100:112, 80:92] = True
    clean = torch.where(patch & ~small, guidance, photo)
    mask = object_mask(
        guidance, clean, ParsedFaces.of(guidance, torch.where(small[:, 0], 0, mesh[:, 0].long()), labels)
    )
    assert mask.max() == pytest.approx(0.1)


def test_eyes_are_judged_by_the_photo(covered):
    """Closed eyes: where the model has eyes and the photo shows skin, nothing counts as covered."""
    photo, guidance, labels, patch, mesh = covered
    modelled = torch.where(patch[:, 0], LEFT_EYE, mesh[:, 0].long())
    closed = ParsedFaces.of(guidance, mesh[:, 0].long(), modelled)
    assert closed.eyes[patch].min() == 1 and not closed.covered.any()
    # An occluder there is no skin: the model's eyes do not count.
    occluded = ParsedFaces.of(guidance, torch.where(patch[:, 0], HAIR, labels), modelled)
    assert not occluded.eyes.any() and occluded.covered[patch].min() == 1
    assert object_mask(guidance, photo, closed)[patch].max() == 0


def test_full_mask_is_what_the_rotated_face_lacks(covered):
    _, guidance, labels, _, mesh = covered
    parsed = ParsedFaces.of(guidance, mesh[:, 0].long(), mesh[:, 0].long())
    damaged = guidance.clone()
    damaged[:, :, 120:150, 110:140] = 0
    mask = full_mask(damaged, guidance, guidance, parsed)
    assert set(mask.unique().tolist()) == {0, 1}
    assert mask[0, 0, 124:146, 114:136].min() == 1
    mask[0, 0, 112:158, 102:148] = 0
    assert not mask.any()
    # Glasses on the rim of the mesh are no background: they stay in the mask.
    assert ParsedFaces.of(guidance, torch.full_like(labels, GLASSES), labels).background.max() == 0


def test_swap_exchanges_what_lies_under_the_mask(covered):
    photo, guidance, _, patch, mesh = covered
    mask = patch.float()
    deoccluded, carrying = swap(photo, guidance, photo * mesh, mask)
    inner, far = filters.erode(mask, 9) > 0, ~(filters.dilate(mask, 7) > 0)
    inner, far = inner.expand_as(photo), far.expand_as(photo)
    torch.testing.assert_close(deoccluded[inner], guidance[inner], atol=1e-6, rtol=0)
    torch.testing.assert_close(carrying[inner], photo[inner], atol=1e-6, rtol=0)
    torch.testing.assert_close(deoccluded[far], photo[far], atol=1e-6, rtol=0)
    torch.testing.assert_close(carrying[far], guidance[far], atol=1e-6, rtol=0)
