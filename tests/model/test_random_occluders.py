"""Random occluders: one connected shape, textured, the same for the same generator."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfr.model.random_occluders import SHAPES, random_occluder, spectral_noise


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_one_is_a_cut_out_with_a_clean_outline(seed):
    occluder = random_occluder(np.random.default_rng(seed))
    assert occluder.rgba.shape == (224, 224, 4)
    assert occluder.rgba.dtype == np.uint8
    alpha = occluder.rgba[..., 3]
    assert (alpha > 127).mean() > 0.03
    # The half-transparent rim is thin, and the shape does not touch the border, where it would look cut off.
    assert ((alpha > 12) & (alpha < 243)).sum() < 0.5 * (alpha > 127).sum()
    assert max(alpha[0].max(), alpha[-1].max(), alpha[:, 0].max(), alpha[:, -1].max()) == 0
    assert (random_occluder(np.random.default_rng(seed)).rgba == occluder.rgba).all()


def test_all_shapes_come_and_differ():
    found = [random_occluder(np.random.default_rng(seed)) for seed in range(60)]
    assert {occluder.name for occluder in found} == {f"random_{shape}" for shape in SHAPES}
    assert {occluder.kind for occluder in found if occluder.name == "random_hand"} == {"hand"}
    assert len({occluder.rgba.tobytes() for occluder in found}) == 60


@pytest.mark.parametrize(("slope", "smooth"), [(0.3, False), (2.0, True)])
def test_noise_is_normalised_and_the_slope_makes_it_smooth(slope, smooth):
    noise = spectral_noise(np.random.default_rng(0), 128, slope)
    assert abs(noise.mean()) < 1e-9
    assert noise.std() == pytest.approx(1)
    assert (np.abs(np.diff(noise, axis=0)).mean() < 0.3) == smooth
