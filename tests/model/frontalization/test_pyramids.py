"""Filling of holes, band-wise blending and distances."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cfr.model.frontalization.pyramids import blend_bands, distance, push_pull, smooth_ratio

sizes = st.tuples(st.integers(1, 37), st.integers(1, 37))


@settings(max_examples=30, deadline=None)
@given(size=sizes, seed=st.integers(0, 1000), share=st.floats(0.05, 1))
def test_push_pull_keeps_what_is_known_and_invents_no_new_range(size, seed, share):
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(2, 3, *size, generator=generator)
    weight = (torch.rand(2, 1, *size, generator=generator) < share).float()
    weight[:, :, 0, 0] = 1
    filled = push_pull(values * weight + 99 * (1 - weight), weight)
    known = weight.expand_as(values) > 0
    assert torch.equal(filled[known], values[known])
    for one, of, mask in zip(filled, values, known, strict=True):
        assert of[mask].min() - 1e-4 <= one.min() and one.max() <= of[mask].max() + 1e-4


def test_push_pull_of_nothing_is_nothing():
    assert not push_pull(torch.ones(1, 3, 9, 7), torch.zeros(1, 1, 9, 7)).any()


@settings(max_examples=30, deadline=None)
@given(size=sizes, seed=st.integers(0, 1000), levels=st.integers(1, 6))
def test_blend_is_exact_for_equal_layers_and_whole_masks(size, seed, levels):
    generator = torch.Generator().manual_seed(seed)
    below, above = torch.rand(2, 1, 3, *size, generator=generator)
    mask = (torch.rand(1, 1, *size, generator=generator) < 0.5).float()
    # Rounding of sums over the bands, float32.
    torch.testing.assert_close(blend_bands(below, below, mask, levels), below, rtol=0, atol=1e-5)
    torch.testing.assert_close(blend_bands(below, above, torch.zeros_like(mask), levels), below, rtol=0, atol=1e-5)
    torch.testing.assert_close(blend_bands(below, above, torch.ones_like(mask), levels), above, rtol=0, atol=1e-5)


def test_blend_has_no_step_at_the_seam():
    below, above = torch.zeros(1, 1, 64, 64), torch.ones(1, 1, 64, 64)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 32:] = 1
    row = blend_bands(below, above, mask)[0, 0, 32]
    assert row[0] < 0.05 and row[-1] > 0.95
    assert (row[1:] - row[:-1]).abs().max() < 0.3


@pytest.mark.parametrize("size", [(64, 64), (57, 43)])
def test_distance_is_near_the_exact_one(size):
    mask = torch.zeros(1, *size, dtype=torch.bool)
    mask[0, 5:12, 20:26] = True
    mask[0, -4:, -3:] = True
    places = torch.stack(torch.meshgrid(*(torch.arange(side).float() for side in size), indexing="ij"), -1)
    exact = (places[:, :, None] - places[mask[0]]).norm(dim=-1).amin(-1)
    # It is exact on a grid of 4 pixels, whose squares may reach 3 pixels further than the mask in each direction.
    assert (distance(mask)[0] - exact).abs().max() < 6
    assert distance(torch.zeros(1, 16, 16, dtype=torch.bool)).min() > 16


def test_smooth_ratio_goes_on_beyond_what_is_known_and_fades_without_evidence():
    values = torch.full((1, 3, 112, 112), 0.4)
    weight = torch.zeros(1, 1, 112, 112)
    weight[..., :56] = 1
    torch.testing.assert_close(smooth_ratio(values, weight, 14), values, rtol=0, atol=1e-4)
    weight[..., 1:] = 0
    assert smooth_ratio(values, weight, 14).abs().max() < 0.2
