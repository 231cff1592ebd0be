"""Whether a result still is the same person, by the recogniser of the optional extra `identity`: dlib's ResNet-29.

It measures and never decides: benchmarks/verification.py judges the gate by this recogniser, so that the gate may not
know what it says.
"""

import numpy as np
import torch
from torch import Tensor

from cfr.model.frontalization.dlib_weights import weights_path
from cfr.model.frontalization.framing import reframe
from cfr.model.frontalization.templates import Template

_CHIP = 150
# Eyes, nose tip and corners of the mouth in dlib's mean face, of which the chip shows a quarter more on each side.
_PADDING = 0.25
_MEAN_FACE = np.array(
    [[0.225492, 0.215990], [0.754761, 0.215990], [0.490127, 0.515625], [0.254149, 0.780233], [0.726104, 0.780233]]
)
_TEMPLATE = Template("dlib150", _CHIP, 0.8, (_MEAN_FACE + _PADDING) / (1 + 2 * _PADDING) * _CHIP)


class DlibComparison:
    """Similarity of dlib's descriptors: 1 - Euclidean distance, as its users measure; one person from about 0.4 on.

    Raises:
        ImportError: the extra `identity` is not installed.
    """

    decides = False
    """Whether the gate may use the similarity."""

    def __init__(self):
        path = weights_path()
        import dlib

        self.encoder = dlib.face_recognition_model_v1(str(path))

    def similarity(self, first: Tensor, first_points: Tensor, second: Tensor, second_points: Tensor) -> Tensor:
        """Of two mini-batches, (B,) up to 1; arguments as of `IdentityComparison.similarity`."""
        return 1 - (self.embed(first, first_points) - self.embed(second, second_points)).norm(dim=1)

    def embed(self, picture: Tensor, points: Tensor) -> Tensor:
        """Descriptors (B,128) of pictures (B,3,H,W) float32 RGB 0..1 with five landmarks (B,5,2) px."""
        chips = reframe(picture, points, _TEMPLATE, _CHIP).mul(255).round().clamp(0, 255).byte()
        arrays = [np.ascontiguousarray(chip) for chip in chips.permute(0, 2, 3, 1).cpu().numpy()]
        # dlib has no float16 and no second device of its own here: results go back to the picture's.
        return torch.tensor(np.array(self.encoder.compute_face_descriptor(arrays)), dtype=torch.float32).to(picture)
