"""Dilation, erosion, counts and means against torch's pooling, which they replace: it is slow for large windows."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cfr.model.morphology import count_around, dilate, erode, window_mean


@settings(max_examples=30, deadline=None)
@given(
    size=st.sampled_from([1, 3, 5, 7, 9, 25]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_windows_are_those_of_pooling(size: int, height: int, width: int, seed: int) -> None:
    mask = torch.rand(2, height, width, generator=torch.Generator().manual_seed(seed)) > 0.7

    def pooled(values: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(values[:, None].float(), size, stride=1, padding=size // 2)[:, 0]

    assert torch.equal(dilate(mask, size).float(), pooled(mask))
    assert torch.equal(dilate(mask.float(), size), pooled(mask))
    assert torch.equal(erode(mask, size).float(), 1 - pooled(~mask))
    mean = F.avg_pool2d(mask[:, None].float(), size, stride=1, padding=size // 2)[:, 0]
    # The pooled mean is rounded once; the count is a whole number.
    torch.testing.assert_close(count_around(mask, size), mean * size**2, rtol=1e-5, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(
    size=st.sampled_from([1, 3, 15, 25]), height=st.integers(1, 330), width=st.integers(1, 40), seed=st.integers(0, 99)
)
def test_means_are_those_of_pooling(size: int, height: int, width: int, seed: int) -> None:
    values = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))
    # Pooling's mean of what lies in the frame, where windows larger than the frame are no error.
    inside = torch.ones(1, 1, height, width)
    sums, counts = (
        F.avg_pool2d(F.pad(each, (size // 2,) * 4), size, stride=1, divisor_override=1) for each in (values, inside)
    )
    # Differences of running sums of up to 330 values in 0..1: rounding of 330 * 2^-24 per step.
    torch.testing.assert_close(window_mean(values, size), sums / counts, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [3, 9])
def test_opening_removes_what_is_finer_than_the_window_and_keeps_the_rest(size: int) -> None:
    mask = torch.zeros(1, 40, 40, dtype=torch.bool)
    mask[0, 5:20, 5:20] = True
    block = mask.clone()
    mask[0, 30, :] = True
    assert torch.equal(dilate(erode(mask, size), size), block)
