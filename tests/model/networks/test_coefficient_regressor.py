"""The 3DMM regressor: the recorded outputs of the authors' code, and what holds with any weights."""

import pytest
import torch

from cfr.model.networks.coefficient_regressor import LAYOUT, CoefficientRegressor

TOLERANCE = 1e-4  # float32 against float64: 3e-6
# With the stand-in weights, after the agreement with the authors' code was established.
SAMPLES = [-0.541018, -0.372642, -0.108874, -0.282762, 0.0148072]


@torch.inference_mode()
def test_agrees_with_the_authors_code(reference_state, recorded):
    network = CoefficientRegressor()
    network.load_state_dict(reference_state("ResNet50Regressor"))
    expected = recorded("regressor")
    rgb = expected["input_bgr_uint8"].flip(1) / 255
    torch.testing.assert_close(network.eval()(rgb), expected["coef"], rtol=0, atol=TOLERANCE)


@torch.inference_mode()
def test_output_is_known(stand_in, picture, sampled):
    coefficients = stand_in(CoefficientRegressor())(picture(1, 224) * 0.5 + 0.5)
    assert sampled(coefficients) == pytest.approx(SAMPLES, abs=TOLERANCE)


@torch.inference_mode()
def test_parts_come_from_their_own_heads(stand_in, picture):
    network = stand_in(CoefficientRegressor())
    heads = {
        "identity": ("fcid",),
        "expression": ("fcex",),
        "texture": ("fctex",),
        "angles": ("fcangles",),
        "gamma": ("fcgamma",),
        "translation": ("fcXY", "fcZ"),
    }
    before = network(picture(1, 224))
    for part, names in heads.items():
        for name in names:
            getattr(network, name).bias.add_(1)
        after = network(picture(1, 224))
        moved = torch.zeros(257)
        moved[LAYOUT[part]] = 1
        torch.testing.assert_close(after - before, moved[None], rtol=0, atol=1e-5)
        before = after


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match=r"\(B,3,224,224\)"):
        CoefficientRegressor()(torch.zeros(1, 3, 256, 256))
