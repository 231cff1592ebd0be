"""RetinaFace: priors, decoding and suppression on hand-made heads, and the search on photos of known faces."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cfr.model.retinaface import (
    RetinaFace,
    decode_boxes,
    decode_landmarks,
    non_maximum_suppression,
    priors,
)

# Box, then the five points as shares of the box.
FACE = np.array([40.0, 60.0, 104.0, 140.0])
POINTS = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])


def points_of(box: np.ndarray) -> np.ndarray:
    return box[:2] + POINTS * (box[2:] - box[:2])


class HandMadeHeads(RetinaFace):
    """Answers as the trained network would for white faces on a dark photo: every prior near a white rectangle sees it.

    Attributes:
        sizes: of the pictures that it was shown.
    """

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        height, width = image.shape[2:]
        self.sizes.append((width, height))
        around = priors(height, width)
        scores = torch.zeros(1, len(around))
        boxes, landmarks = torch.zeros(1, len(around), 4), torch.zeros(1, len(around), 5, 2)
        white = (image[0].amin(0) > 142).numpy()
        if white.any():
            rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
            box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)
            centre, extent = torch.tensor(box[:2] + box[2:]) / 2, torch.tensor(box[2:] - box[:2])
            side = around[:, 2:]
            boxes[0, :, :2] = (centre - around[:, :2]) / (0.1 * side)
            boxes[0, :, 2:] = torch.log(extent / side) / 0.2
            landmarks[0] = (torch.tensor(points_of(box)) - around[:, None, :2]) / (0.1 * side[:, None])
            distance = (around[:, :2] - centre).norm(dim=1) / extent.max()
            mismatch = torch.log(around[:, 2] / extent.max()).abs()
            scores[0] = (0.99 - distance - mismatch).clamp(min=0)
        return scores, boxes, landmarks


def photo_of(box: np.ndarray, width: int, height: int) -> np.ndarray:
    photo = np.full((height, width, 3), 30, np.uint8)
    x1, y1, x2, y2 = box.astype(int)
    photo[y1:y2, x1:x2] = 255
    return photo


def test_priors_lie_in_the_middle_of_their_cells():
    found = priors(40, 70)
    cells = [5 * 9, 3 * 5, 2 * 3]
    assert found.shape == (2 * sum(cells), 3)
    assert found[:4].tolist() == [[4, 4, 16], [4, 4, 32], [12, 4, 16], [12, 4, 32]]
    second, third = 2 * cells[0], 2 * (cells[0] + cells[1])
    assert found[second].tolist() == [8, 8, 64] and found[second + 10].tolist() == [8, 24, 64]
    assert found[third:].tolist()[-1] == [80, 48, 512]


def test_decoding_by_hand():
    around = torch.tensor([[100.0, 50.0, 32.0]])
    box = decode_boxes(torch.tensor([[1.0, -2.0, 0.0, 5.0]]), around)
    # Centre 100 + 0.1 * 32 and 50 - 0.2 * 32; sides 32 and 32 e.
    torch.testing.assert_close(box, torch.tensor([[87.2, 43.6 - 16 * np.e, 119.2, 43.6 + 16 * np.e]]).float())
    offsets = torch.arange(10.0).view(1, 5, 2)
    points = decode_landmarks(offsets, around)
    torch.testing.assert_close(points[0, 0], torch.tensor([100.0, 53.2]))
    torch.testing.assert_close(points[0, 4], torch.tensor([125.6, 78.8]))


def test_suppression_keeps_the_better_of_two_and_what_only_a_suppressed_box_overlaps():
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10], [100, 0, 110, 10]])
    scores = torch.tensor([0.7, 0.8, 0.75, 0.9])
    # The second beats its neighbours; where the first is best, the third stays.
    assert non_maximum_suppression(boxes, scores, 0.3).tolist() == [3, 1]
    scores = torch.tensor([0.95, 0.8, 0.75, 0.9])
    assert non_maximum_suppression(boxes, scores, 0.3).tolist() == [0, 3, 2]
    assert non_maximum_suppression(boxes[:0], scores[:0]).tolist() == []


def one_by_one(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> list[int]:
    """Greedy suppression as it is taught."""
    kept = []
    for index in np.argsort(-scores, kind="stable"):
        low, high = np.maximum(boxes[kept, :2], boxes[index, :2]), np.minimum(boxes[kept, 2:], boxes[index, 2:])
        shared = np.clip(high - low, 0, None).prod(1)
        area = (boxes[kept, 2:] - boxes[kept, :2]).prod(1) + (boxes[index, 2:] - boxes[index, :2]).prod()
        if not (shared > overlap * (area - shared)).any():
            kept.append(index)
    return kept


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 60), overlap=st.sampled_from([0.1, 0.4, 0.8]))
def test_suppression_equals_the_greedy_one(seed, count, overlap):
    random = np.random.default_rng(seed)
    corner, extent = random.integers(0, 40, (count, 2)), random.integers(1, 40, (count, 2))
    boxes = np.concatenate([corner, corner + extent], axis=1).astype(np.float32)
    scores = random.integers(0, 8, count).astype(np.float32)  # with ties
    found = non_maximum_suppression(torch.from_numpy(boxes), torch.from_numpy(scores), overlap)
    assert found.tolist() == one_by_one(boxes, scores, overlap)


@pytest.mark.parametrize(("width", "height"), [(200, 180), (203, 181), (640, 480)])
def test_a_face_is_found_where_it_is(width, height):
    found = HandMadeHeads().detect(photo_of(FACE, width, height))
    assert len(found) == 1
    assert found.boxes.dtype == found.landmarks5.dtype == found.scores.dtype == np.float32
    np.testing.assert_allclose(found.boxes[0], FACE, atol=0.01)
    np.testing.assert_allclose(found.landmarks5[0], points_of(FACE), atol=0.01)


@pytest.mark.parametrize(("width", "height"), [(2600, 1700), (1500, 2311)])
def test_coordinates_are_those_of_a_large_photo(width, height):
    box = np.array([600.0, 800.0, 1100.0, 1400.0])
    detector = HandMadeHeads()
    found = detector.detect(photo_of(box, width, height))
    assert max(max(size) for size in detector.sizes) <= 1600
    assert len(found) == 1
    # The stand-in sees whole pixels of the reduced picture.
    pixel = max(width, height) / 640
    np.testing.assert_allclose(found.boxes[0], box, atol=0.6 * pixel)
    np.testing.assert_allclose(found.landmarks5[0], points_of(box), atol=0.6 * pixel)


def test_a_small_face_in_a_large_photo_is_found_by_the_second_look():
    box = np.array([2000.0, 1200.0, 2030.0, 1230.0])
    detector = HandMadeHeads()
    found = detector.detect(photo_of(box, 3000, 2000))
    assert len(detector.sizes) > 1
    np.testing.assert_allclose(found.boxes[0], box, atol=3)


def test_no_face_is_an_empty_result():
    found = HandMadeHeads().detect(np.zeros((50, 70, 3), np.uint8))
    assert len(found) == 0
    assert found.boxes.shape == (0, 4) and found.landmarks5.shape == (0, 5, 2)


@pytest.mark.parametrize("image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3))])
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match=r"\(H,W,3\) uint8 RGB"):
        HandMadeHeads().detect(image)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (61, 97)])
@torch.inference_mode()
def test_network_answers_for_every_prior(stand_in, height, width):
    network = stand_in(RetinaFace())
    scores, boxes, landmarks = network(torch.rand(2, 3, height, width) * 255)
    count = len(priors(height, width))
    assert scores.shape == (2, count) and boxes.shape == (2, count, 4) and landmarks.shape == (2, count, 5, 2)
    assert scores.min() >= 0 and scores.max() <= 1


@torch.inference_mode()
def test_output_is_known(stand_in, picture, sampled):
    # The same, to the last digit, as the implementation in facexlib 0.3.0 gives with these weights.
    scores, boxes, landmarks = stand_in(RetinaFace())(picture(1, 64) * 127.5 + 127.5)
    assert sampled(scores) == pytest.approx([0.0120525, 0.000248188, 1.66701e-05, 0.0129432, 0.736443], abs=1e-4)
    assert sampled(boxes) == pytest.approx([-0.285262, -5.81021, -11.7531, -3.53243, -0.983178], abs=1e-3)
    assert sampled(landmarks) == pytest.approx([-1.72294, -5.20473, -7.555, -1.11632, 1.85579], abs=1e-3)
