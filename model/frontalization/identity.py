"""Whether a result still is the same person, by a face recogniser."""

from os import PathLike

import torch
import torch.nn.functional as F
from torch import Tensor

from cfr.model.checkpoints import load_checkpoint
from cfr.model.frontalization.dlib_identity import DlibComparison
from cfr.model.frontalization.dlib_weights import DLIB
from cfr.model.frontalization.framing import reframe
from cfr.model.frontalization.templates import TEMPLATES
from cfr.model.networks.identity_encoder import INPUT_SIZE, IdentityEncoder


def load_comparison(choice: str | PathLike, device: str = "cpu") -> "IdentityComparison | DlibComparison":
    """The comparison of a name or checkpoint.

    Args:
        choice: "dlib", or path of an IR-SE-50 checkpoint.
        device: where the network runs; dlib's runs on the CPU.

    Raises:
        cfr.model.checkpoints.CheckpointError, FileNotFoundError: the checkpoint cannot be used.
        ImportError: dlib's recogniser is not installed.
    """
    return DlibComparison() if choice == DLIB else IdentityComparison(choice, device)


class IdentityComparison:
    """Cosine similarity of IR-SE-50's embeddings.

    Args:
        path: checkpoint.
        device: where it runs.

    Raises:
        cfr.model.checkpoints.CheckpointError, FileNotFoundError: the checkpoint cannot be used.
    """

    decides = True
    """Whether the gate may use the similarity."""

    def __init__(self, path: str | PathLike, device: str = "cpu"):
        self.encoder = load_checkpoint(path, IdentityEncoder()).eval().requires_grad_(False).to(device)

    @torch.inference_mode()
    def similarity(self, first: Tensor, first_points: Tensor, second: Tensor, second_points: Tensor) -> Tensor:
        """Of two mini-batches, (B,) -1..1.

        Args:
            first, second: (B,3,H,W) float32 RGB 0..1, of any size.
            first_points, second_points: (B,5,2) px, their five landmarks.
        """
        return F.cosine_similarity(self.embed(first, first_points), self.embed(second, second_points))

    @torch.inference_mode()
    def embed(self, picture: Tensor, points: Tensor) -> Tensor:
        """Embeddings (B,512) of pictures (B,3,H,W) float32 RGB 0..1 with five landmarks (B,5,2) px."""
        return self.encoder(2 * reframe(picture, points, TEMPLATES["arcface112"], INPUT_SIZE) - 1)
