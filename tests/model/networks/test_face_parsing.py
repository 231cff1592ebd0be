"""BiSeNet: the recorded outputs of the authors' code, and what holds with any weights."""

import pytest
import torch

from cfr.model.networks.face_parsing import LABELS, FaceParsing

TOLERANCE = 1e-3
# With the stand-in weights, after the agreement with the authors' code was established.
SAMPLES = [0.277539, -0.150332, -0.174066, -0.296841, 0.173061]


@torch.inference_mode()
def test_agrees_with_the_authors_code(reference_state, recorded):
    network = FaceParsing()
    network.load_state_dict(reference_state("BiSeNet19"))
    expected = recorded("bisenet")
    logits = network.eval()(expected["input_rgb_uint8"] / 255)
    rows, columns = expected["positions_yx"].T
    torch.testing.assert_close(logits[0, :, rows, columns].T, expected["logits"], rtol=0, atol=TOLERANCE)
    # Where the best two labels are nearer than 1e-3 to each other, either will do.
    clear = expected["top2_margin"] > 1e-3
    assert torch.equal(logits.argmax(1)[clear], expected["argmax"][clear].long())


@torch.inference_mode()
def test_output_is_known(stand_in, picture, sampled):
    logits = stand_in(FaceParsing())(picture(1, 96) * 0.5 + 0.5)
    assert logits.shape == (1, len(LABELS), 96, 96)
    assert sampled(logits) == pytest.approx(SAMPLES, abs=TOLERANCE)


@torch.inference_mode()
def test_labels_are_looked_at_in_512_and_given_in_the_size_of_the_picture(stand_in, picture):
    network = stand_in(FaceParsing())
    small = picture(2, 224) * 0.5 + 0.5
    labels = network.labels(small)
    assert labels.shape == (2, 224, 224)
    assert labels.dtype == torch.int64
    large = torch.nn.functional.interpolate(small, (512, 512), mode="bilinear", align_corners=True)
    # The corners of both grids are the same points.
    assert torch.equal(labels[:, ::223, ::223], network(large).argmax(1)[:, ::511, ::511])
