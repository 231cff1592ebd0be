"""FaceMesh against the original interpreter, and the upright crops around it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cfr.model.alignment import apply_affine, context_crop, crop_affine
from cfr.model.detector import MTCNN
from cfr.model.face_landmarks import FaceMesh, dense_landmarks

ORIGINAL_OUTPUTS = Path(__file__).resolve().parent.parent / "data" / "original_outputs.npz"
# As in scripts/store_original_outputs.py: rows and columns of the photo that make the network's 192-px input.
CROPS = {
    "astronaut.png": (slice(15, 207), slice(128, 320)),
    "grace_hopper.jpg": (slice(20, 404, 2), slice(70, 454, 2)),
}
CROP_CENTRE = 112.0
LEFT_EYE, RIGHT_EYE, NOSE_TIP, LEFT_MOUTH, RIGHT_MOUTH = (33, 133), (362, 263), (1, 4), (61,), (291,)


@pytest.fixture(scope="module")
def facemesh() -> FaceMesh:
    return FaceMesh.load_default()


@pytest.fixture(scope="module")
def faces(photos_dir) -> tuple[np.ndarray, np.ndarray]:
    """Context crops (2,320,320,3) uint8 of the bundled photos and their five points (2,5,2), crop px."""
    detector = MTCNN.load_default()
    contexts, points = [], []
    for name in CROPS:
        image = read(photos_dir / name)
        landmarks5 = detector.detect(image).landmarks5[0]
        affine = crop_affine(landmarks5)
        contexts.append(context_crop(image, affine))
        points.append(apply_affine(landmarks5, affine))
    return np.stack(contexts), np.stack(points)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def pixels(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255


def run(facemesh: FaceMesh, contexts: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = dense_landmarks(facemesh, pixels(contexts), torch.from_numpy(points).float())
    return found.landmarks.numpy(), found.score.numpy()


@pytest.mark.parametrize("name", CROPS)
def test_agrees_with_the_original_on_bundled_photos(facemesh, photos_dir, name):
    expected = np.load(ORIGINAL_OUTPUTS)
    landmarks, score = facemesh(pixels(read(photos_dir / name)[CROPS[name]][None]))
    assert np.abs(landmarks[0].numpy() - expected[f"facemesh_{name}"]).max() < 1e-3
    assert score.item() == pytest.approx(expected[f"score_{name}"].item(), abs=1e-3)


def test_agrees_with_the_original_on_the_fixture(facemesh, shared_dir):
    fixture = np.load(shared_dir / "fixtures" / "facemesh.npz")
    landmarks, score = facemesh(pixels(fixture["input_rgb_uint8"]))
    assert np.abs(landmarks.numpy() - fixture["landmarks"]).max() < 1e-3
    assert np.abs(score.numpy() - fixture["score_logit"][:, 0]).max() < 1e-3


def test_landmarks_lie_on_the_features(facemesh, faces):
    contexts, points = faces
    landmarks, score = run(facemesh, contexts, points)
    assert (score > 0.95).all()
    for index, group in enumerate((LEFT_EYE, RIGHT_EYE, NOSE_TIP, LEFT_MOUTH, RIGHT_MOUTH)):
        seen = landmarks[:, group, :2].mean(1)
        assert np.linalg.norm(seen - points[:, index], axis=1).max() < 8


def test_depth_is_smallest_at_the_nose_and_in_the_unit_of_x_and_y(facemesh, faces):
    landmarks, _ = run(facemesh, *faces)
    assert (np.abs(landmarks[..., 2].argmin(1)[:, None] - [1, 4]).min(1) <= 4).all()
    depth = landmarks[..., 2].max(1) - landmarks[..., 2].min(1)
    width = landmarks[:, 454, 0] - landmarks[:, 234, 0]
    assert ((depth / width > 0.4) & (depth / width < 1.0)).all()


@pytest.mark.parametrize("roll", [-170, -90, -40, 25, 60])
def test_landmarks_turn_with_the_picture(facemesh, faces, roll):
    """Turned about the context's centre, counter-clockwise on screen."""
    contexts, points = faces
    upright, _ = run(facemesh, contexts, points)
    turned_pictures = np.stack(
        [np.asarray(Image.fromarray(picture).rotate(roll, Image.Resampling.BICUBIC)) for picture in contexts]
    )
    angle = np.deg2rad(roll)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])

    def turned(values: np.ndarray) -> np.ndarray:
        return (values - CROP_CENTRE) @ rotation.T + CROP_CENTRE

    landmarks, score = run(facemesh, turned_pictures, turned(points))
    error = np.linalg.norm(landmarks[..., :2] - turned(upright[..., :2]), axis=2)
    assert error.mean() < 1.0
    assert (score > 0.9).all()


def test_mirrored_face_gives_mirrored_landmarks(facemesh, faces):
    contexts, points = faces
    landmarks, _ = run(facemesh, contexts, points)
    mirrored_points = points[:, [1, 0, 2, 4, 3]] * [-1, 1] + [224, 0]
    mirrored, _ = run(facemesh, contexts[:, :, ::-1], mirrored_points)
    for group, other in ((LEFT_EYE, RIGHT_EYE[::-1]), (LEFT_MOUTH, RIGHT_MOUTH), (NOSE_TIP, NOSE_TIP)):
        back = mirrored[:, other, :2] * [-1, 1] + [224, 0]
        assert np.abs(back - landmarks[:, group, :2]).max() < 4


def test_inexact_points_hardly_matter(facemesh, faces):
    contexts, points = faces
    landmarks, _ = run(facemesh, contexts, points)
    moved, _ = run(facemesh, contexts, points + np.random.default_rng(0).normal(0, 4, points.shape))
    assert np.linalg.norm((moved - landmarks)[..., :2], axis=2).mean() < 2.5


def test_a_row_does_not_depend_on_the_others_in_its_batch(facemesh, faces):
    contexts, points = faces
    rows = [0, 1, 0, 1]
    first, first_score = run(facemesh, contexts[rows], points[rows])
    rows = [1, 1, 0, 0]
    other_contexts = contexts[rows].copy()
    other_contexts[0] = 255 - other_contexts[0]
    second, second_score = run(facemesh, other_contexts, points[rows])
    for slot in (1, 2):
        assert np.array_equal(first[slot], second[slot])
        assert first_score[slot] == second_score[slot]


def test_something_else_gets_a_low_score(facemesh, faces):
    contexts, points = faces
    noise = np.random.default_rng(0).integers(0, 256, contexts.shape, dtype=np.uint8)
    for pictures in (noise, np.zeros_like(contexts)):
        landmarks, score = run(facemesh, pictures, points)
        assert np.isfinite(landmarks).all()
        assert (score < 0.5).all()
