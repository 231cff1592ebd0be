"""In which order a face parsing network has its labels.

Two orders are in use for the same architecture, and neither the names nor the shapes of a checkpoint tell them apart:
the paper's, and that of the widespread `79999_iter.pth` of the repository face-parsing.PyTorch. A portrait does.
"""

from importlib import resources
from os import PathLike

import torch

from cfr.model.checkpoints import load_checkpoint
from cfr.model.images import decode_image
from cfr.model.networks.face_parsing import LABELS, FaceParsing

PAPER_ORDER = "the paper's order"
WIDESPREAD_ORDER = "the order of face-parsing.PyTorch"

_WIDESPREAD_LABELS = (
    *("background", "skin", "right brow", "left brow", "right eye", "left eye", "glasses", "right ear", "left ear"),
    *("earring", "nose", "inner mouth", "upper lip", "lower lip", "neck", "necklace", "cloth", "hair", "hat"),
)
# The bundled portrait, cut as the networks' training pictures were, and squares on the tip of the nose and a cheek.
_PORTRAIT = "astronaut.png"
_FACE = (slice(20, 220), slice(123, 323))
_NOSE, _CHEEK = (slice(102, 110), slice(98, 106)), (slice(105, 113), slice(76, 84))


@torch.no_grad()
def label_order(network: FaceParsing) -> str:
    """The order of a network's labels: one of the constants above, or "" if it does not see the portrait's nose."""
    data = resources.files("cfr.model").joinpath("data", "photos", _PORTRAIT).read_bytes()
    portrait = torch.from_numpy(decode_image(data)[_FACE].copy()).permute(2, 0, 1)[None].float() / 255
    labels = network.labels(portrait.to(network.mean.device))[0]
    nose, cheek = (int(labels[square].flatten().mode().values) for square in (_NOSE, _CHEEK))
    for order, names in ((PAPER_ORDER, LABELS), (WIDESPREAD_ORDER, _WIDESPREAD_LABELS)):
        if names[nose] == "nose" and names[cheek] == "skin":
            return order
    return ""


def load_face_parsing(path: str | PathLike) -> FaceParsing:
    """BiSeNet with the weights of a file, its labels in the paper's order, whichever of the two the file has.

    Returns:
        The network for inference.

    Raises:
        As `load_checkpoint`.
    """
    network = load_checkpoint(path, FaceParsing()).eval().requires_grad_(False)
    if label_order(network) == WIDESPREAD_ORDER:
        classifier = network.conv_out.conv_out.weight
        classifier.copy_(classifier[[_WIDESPREAD_LABELS.index(label) for label in LABELS]])
    return network
