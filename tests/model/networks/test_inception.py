"""Inception-v3 of FID: known outputs, and the resizing of TensorFlow 1."""

import pytest
import torch

from cfr.model.networks.inception import FEATURES, InceptionV3, resized_like_tensorflow

# With the stand-in weights, after torch-fidelity 0.4.0's network had given the same features of 8-bit pictures of 64,
# 224, 299 and 400 px to within 6e-8.
SAMPLES = [0.0, 0.0101078, 0.0184529, 0.0101018, 0.0184512]


@torch.inference_mode()
def test_output_is_known(stand_in, picture, sampled):
    pictures = ((picture(2, 64) * 0.5 + 0.5) * 255).round() / 255
    features = stand_in(InceptionV3())(pictures)
    assert features.shape == (2, FEATURES)
    assert sampled(features) == pytest.approx(SAMPLES, abs=1e-6)


def test_resizing_has_no_half_pixel_shift():
    """Place i of the result is place i * old / new, and beyond the last pixel its value goes on."""
    column = torch.arange(4.0).view(1, 1, 4, 1) * torch.ones(1, 1, 1, 2)
    assert resized_like_tensorflow(column, 8)[0, 0, :, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]
    assert resized_like_tensorflow(column, 2)[0, 0, :, 0].tolist() == [0, 2]
