"""Both orders of labels are told apart on the portrait, and brought to the paper's."""

import pytest
import torch

from cfr.model.checkpoints import CheckpointError
from cfr.model.networks.face_parsing import LABELS, FaceParsing
from cfr.model.parsing_labels import PAPER_ORDER, WIDESPREAD_ORDER, label_order, load_face_parsing

# Published positions in the widespread order: nose 10, hair 17, glasses 6.
WIDESPREAD = {"skin": 1, "nose": 10, "hair": 17, "glasses": 6, "neck": 14, "hat": 18}


class SeesTheFace(FaceParsing):
    """Answers as a trained network would about the nose, and skin everywhere else; classes at the given places."""

    def __init__(self, skin: int, nose: int):
        super().__init__()
        self.skin, self.nose = skin, nose

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        side = image.shape[-1]
        logits = torch.zeros(len(image), len(LABELS), side, side)
        logits[:, self.skin] = 1
        rows = slice(int(0.45 * side), int(0.56 * side))
        columns = slice(int(0.46 * side), int(0.56 * side))
        logits[:, self.nose, rows, columns] = 2
        return logits


@pytest.mark.parametrize(
    ("skin", "nose", "order"),
    [(1, 2, PAPER_ORDER), (1, 10, WIDESPREAD_ORDER), (1, 5, ""), (3, 2, ""), (1, 1, "")],
)
def test_the_portrait_tells_the_order(skin, nose, order):
    assert label_order(SeesTheFace(skin, nose)) == order


@pytest.mark.parametrize("order", [PAPER_ORDER, WIDESPREAD_ORDER, ""])
@torch.inference_mode()
def test_labels_are_brought_to_the_papers_order(stand_in, tmp_path, picture, monkeypatch, order):
    network = stand_in(FaceParsing())
    torch.save(network.state_dict(), tmp_path / "parsing.pth")
    # No trained weights are at hand, so what the portrait would tell is given.
    monkeypatch.setattr("cfr.model.parsing_labels.label_order", lambda network: order)
    found = load_face_parsing(tmp_path / "parsing.pth")(picture(1, 64))
    expected = network(picture(1, 64))
    places = WIDESPREAD if order == WIDESPREAD_ORDER else {label: LABELS.index(label) for label in WIDESPREAD}
    for label, place in places.items():
        torch.testing.assert_close(found[:, LABELS.index(label)], expected[:, place], rtol=0, atol=1e-5)


def test_another_network_is_refused(tmp_path):
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="does not fit FaceParsing"):
        load_face_parsing(tmp_path / "other.pth")
