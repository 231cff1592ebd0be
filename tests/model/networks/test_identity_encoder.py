"""IR-SE-50: the recorded outputs of the authors' code, and the crop it is given."""

import pytest
import torch

from cfr.model.networks.identity_encoder import IdentityEncoder, identity_crop

TOLERANCE = 1e-3  # float32 against float64: 1.8e-5
# With the stand-in weights, after the agreement with the authors' code was established.
SAMPLES = [-0.484568, 2.49421, 0.138352, -0.561288, -1.85149]


@torch.inference_mode()
def test_agrees_with_the_authors_code(reference_state, recorded):
    network = IdentityEncoder()
    network.load_state_dict(reference_state("IR_SE_50_112"))
    expected = recorded("arcface")
    first, second = network.eval()(torch.cat([expected["input_rgb"], expected["input2_rgb"]])).split(1)
    torch.testing.assert_close(first, expected["embedding"], rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(second, expected["embedding2"], rtol=0, atol=TOLERANCE)
    cosine = torch.nn.functional.cosine_similarity(first, second)
    torch.testing.assert_close(cosine, expected["cosine"], rtol=0, atol=1e-4)


@torch.inference_mode()
def test_output_is_known(stand_in, picture, sampled):
    embedding = stand_in(IdentityEncoder())(picture(1, 112))
    assert embedding.shape == (1, 512)
    assert sampled(embedding) == pytest.approx(SAMPLES, abs=TOLERANCE)


def test_crop_spans_from_its_first_to_its_last_pixel():
    rows, columns = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
    crop = identity_crop(torch.stack([rows, columns, rows + columns])[None])
    assert crop.shape == (1, 3, 112, 112)
    assert crop[0, 0, 0, 0] == 15 and crop[0, 0, -1, 0] == 224 - 40 - 1
    assert crop[0, 1, 0, 0] == 15 and crop[0, 1, 0, -1] == 224 - 15 - 1
