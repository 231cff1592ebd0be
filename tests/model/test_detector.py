"""The detector against the original MTCNN, and on awkward photos."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cfr.model.detector import MTCNN, Detections

ORIGINAL_OUTPUTS = Path(__file__).resolve().parent.parent / "data" / "original_outputs.npz"
PHOTOS = ("astronaut.png", "grace_hopper.jpg")


@pytest.fixture(scope="module")
def detector() -> MTCNN:
    return MTCNN.load_default()


@pytest.fixture(scope="module")
def astronaut(photos_dir) -> np.ndarray:
    return read(photos_dir / "astronaut.png")


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def assert_same_faces(found: Detections, boxes: np.ndarray, scores: np.ndarray, points: np.ndarray) -> None:
    """Within 0.01 px of the original: boxes (n,4), points (n,10) five x then five y."""
    assert len(found) == len(boxes)
    assert np.abs(found.boxes - boxes).max() < 0.01
    assert np.abs(found.scores - scores).max() < 1e-4
    assert np.abs(found.landmarks5 - points.reshape(-1, 2, 5).transpose(0, 2, 1)).max() < 0.01


@pytest.mark.parametrize("name", PHOTOS)
def test_agrees_with_the_original_on_bundled_photos(detector, photos_dir, name):
    expected = np.load(ORIGINAL_OUTPUTS)[f"mtcnn_{name}"]
    found = detector.detect_at(read(photos_dir / name), smallest=20)
    assert_same_faces(found, expected[:, :4], expected[:, 4], expected[:, 5:])


def test_agrees_with_the_original_on_evaluation_photos(detector, shared_dir):
    fixture = np.load(shared_dir / "fixtures" / "mtcnn.npz")
    for key in fixture.files:
        expected = fixture[key]
        found = detector.detect_at(read(shared_dir / "data" / key.split("|")[0]), smallest=20)
        assert_same_faces(found, expected[:, 1:5], expected[:, 5], expected[:, 6:])


def test_imports_neither_tensorflow_nor_the_original(detector):
    assert not {"mtcnn", "tensorflow"} & set(sys.modules)


def test_landmarks_are_ordered_as_seen_in_the_picture(detector, astronaut):
    (points,) = detector.detect(astronaut).landmarks5
    left_eye, right_eye, nose, left_mouth, right_mouth = points
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_mirrored_photo_gives_mirrored_landmarks(detector, astronaut):
    (points,) = detector.detect(astronaut).landmarks5
    (mirrored,) = detector.detect(np.ascontiguousarray(astronaut[:, ::-1])).landmarks5
    back = mirrored[[1, 0, 2, 4, 3]] * [-1, 1] + [astronaut.shape[1], 0]
    assert np.abs(back - points).max() < 3


def test_several_faces_come_by_descending_score(detector, photos_dir):
    left, right = (resized(read(photos_dir / name), 400, 400) for name in PHOTOS)
    found = detector.detect(np.concatenate([left, right], axis=1))
    assert len(found) == 2
    assert found.scores[0] >= found.scores[1]
    assert sorted((found.boxes[:, 0] + found.boxes[:, 2]) / 2 > 400) == [False, True]


@pytest.mark.parametrize("factor", [0.5, 3, 6])
def test_coordinates_are_those_of_the_photo_whatever_its_size(detector, astronaut, factor):
    (points,) = detector.detect(astronaut).landmarks5
    side = int(512 * factor)
    found = detector.detect(resized(astronaut, side, side))
    assert len(found) == 1
    face = 100 * factor
    assert np.abs(found.landmarks5[0] - points * factor).max() < 0.04 * face


def test_finds_a_face_that_fills_the_picture(detector, astronaut):
    found = detector.detect(resized(astronaut[70:165, 178:268], 600, 640))
    assert len(found) >= 1
    box = found.boxes[0]
    assert box[2] - box[0] > 400


def test_finds_a_small_face_in_a_large_photo(detector, astronaut):
    photo = np.full((2000, 3000, 3), 90, np.uint8)
    photo[1700:1880, 2600:2780] = resized(astronaut, 180, 180)
    found = detector.detect(photo)
    assert len(found) == 1
    assert (found.boxes[0, :2] > [2600, 1700]).all()
    assert (found.boxes[0, 2:] < [2780, 1880]).all()


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (3000, 1), (40, 4000), (300, 400)])
def test_no_face_is_an_empty_result(detector, shape):
    for image in (np.zeros((*shape, 3), np.uint8), np.full((*shape, 3), 255, np.uint8)):
        found = detector.detect(image)
        assert len(found) == 0
        assert found.boxes.shape == (0, 4)
        assert found.landmarks5.shape == (0, 5, 2)


def test_noise_is_no_face(detector):
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    assert len(detector.detect(noise)) == 0


def test_read_only_and_strided_photos_are_taken_and_left_alone(detector, astronaut):
    frozen = astronaut.copy()
    frozen.flags.writeable = False
    expected = detector.detect(astronaut.copy())
    for image in (frozen, np.asfortranarray(astronaut)):
        assert np.array_equal(detector.detect(image).landmarks5, expected.landmarks5)
    assert np.array_equal(frozen, astronaut)


def test_result_does_not_depend_on_earlier_photos(detector, photos_dir, astronaut):
    first = detector.detect(astronaut)
    detector.detect(read(photos_dir / "grace_hopper.jpg"))
    again = detector.detect(astronaut)
    assert np.array_equal(first.boxes, again.boxes)
    assert np.array_equal(first.scores, again.scores)


@pytest.mark.parametrize(
    "image",
    [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8)],
    ids=["grey", "alpha", "float", "empty"],
)
def test_other_arrays_are_refused(detector, image):
    with pytest.raises(ValueError, match=r"\(H,W,3\) uint8 RGB"):
        detector.detect(image)


def test_sees_no_faces_in_photos_without_any(detector, shared_dir):
    paths = sorted((shared_dir / "data" / "hostile").glob("real_noface_*"))
    assert len(paths) >= 7
    assert [path.name for path in paths if len(detector.detect(read(path)))] == []


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "least"), [("photos", 0.97), ("occluded", 0.9)])
def test_finds_the_faces_of_the_evaluation_photos(detector, shared_dir, folder, least):
    paths = [
        path
        for path in (shared_dir / "data" / folder).iterdir()
        if path.suffix in {".jpg", ".png"} and not path.stem.endswith(("_clean", "_handmask"))
    ]
    found = [len(detector.detect(read(path))) > 0 for path in paths]
    assert np.mean(found) >= least
