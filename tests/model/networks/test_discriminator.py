"""The two-scale discriminator: the recorded outputs of the authors' code, and what holds with any weights."""

import pytest
import torch

from cfr.model.networks.discriminator import TwoScaleDiscriminator

TOLERANCE = 1e-5  # float32 against float64: 1e-7
# With the stand-in weights, after the agreement with the authors' code was established.
SAMPLES = (
    [0.0242702, 0.021125, 0.0217106, 0.0384483, 0.0312502],
    [-0.0842816, -0.0639474, -0.0898705, -0.0725894, -0.0884694],
)


@torch.inference_mode()
def test_agrees_with_the_authors_code(reference_state, recorded):
    network = TwoScaleDiscriminator()
    network.load_state_dict(reference_state("TwoScaleDiscriminator"))
    expected = recorded("discriminator")
    fine, coarse = network.eval()(expected["input"])
    torch.testing.assert_close(fine, expected["out1"], rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(coarse, expected["out2"], rtol=0, atol=TOLERANCE)


@torch.inference_mode()
def test_output_is_known(stand_in, picture, sampled):
    outputs = stand_in(TwoScaleDiscriminator())(picture(2, 64))
    for output, expected in zip(outputs, SAMPLES, strict=True):
        assert sampled(output) == pytest.approx(expected, abs=TOLERANCE)


@torch.inference_mode()
def test_one_score_per_patch():
    fine, coarse = TwoScaleDiscriminator().eval()(torch.zeros(2, 3, 224, 224))
    assert fine.shape == (2, 225) and coarse.shape == (2, 64)


@torch.inference_mode()
def test_scores_come_row_by_row(stand_in, picture):
    network = stand_in(TwoScaleDiscriminator())
    image = picture(1, 224)
    changed = image.clone()
    changed[..., -8:, :8] = 1
    difference = (network(image)[0] - network(changed)[0]).abs().view(15, 15)
    assert difference[-1, 0] > 0
    assert (difference[:8] == 0).all() and (difference[:, 8:] == 0).all()
