"""Landmarks of turned faces: rendered training pictures, the head trained on them, the scripts that train it."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cfr.model.alignment import apply_affine, context_crop, crop_affine
from cfr.model.camera import project
from cfr.model.detector import MTCNN
from cfr.model.face_landmarks import INPUT_SIZE, FaceMesh, dense_landmarks
from cfr.model.images import decode_image
from cfr.model.landmark_fit import LandmarkFitter
from cfr.model.rendering import posed
from cfr.model.synthetic_faces import SyntheticFaceRenderer
from cfr.model.synthetic_photos import photographed
from cfr.model.turned_landmarks import TurnedLandmarkHead, with_turned_landmarks

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "turned_landmarks"


@pytest.fixture(scope="module")
def renderer(face_model) -> SyntheticFaceRenderer:
    return SyntheticFaceRenderer(face_model, INPUT_SIZE)


@pytest.fixture(scope="module")
def facemesh() -> FaceMesh:
    return FaceMesh.load_default()


@pytest.fixture(scope="module")
def head() -> TurnedLandmarkHead:
    return TurnedLandmarkHead.load_default()


@pytest.fixture(scope="module")
def drawn(renderer):
    """Faces and pictures from a seed that no training shard has."""
    generator = torch.Generator().manual_seed(10_000_000)
    faces = renderer.draw(32, generator)
    return faces, photographed(faces, generator)


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def context_of(image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Context crop (1,3,320,320) and five points (1,5,2) of the photo's best face."""
    landmarks5 = MTCNN.load_default().detect(image).landmarks5[0]
    affine = crop_affine(landmarks5)
    context = torch.from_numpy(context_crop(image, affine).copy()).permute(2, 0, 1)[None].float() / 255
    return context, torch.from_numpy(apply_affine(landmarks5, affine)).float()[None]


def test_landmarks_of_a_rendered_face_are_those_of_its_coefficients(face_model, drawn):
    faces, _ = drawn
    mesh = posed(face_model, faces.coefficients)
    points = face_model.surface_points(mesh.vertices, face_model.facemesh_triangles, face_model.facemesh_barycentric)
    expected = faces.square.from_crop(project(points)[0], INPUT_SIZE)
    torch.testing.assert_close(faces.landmarks[..., :2], expected, rtol=0, atol=0.05)
    # A landmark that faces the camera lies on the head; the square may cut a few off.
    inside = faces.visible & ((faces.landmarks[..., :2] > 1) & (faces.landmarks[..., :2] < INPUT_SIZE - 1)).all(-1)
    column, row = faces.landmarks[..., 0].long().clamp(0, 191), faces.landmarks[..., 1].long().clamp(0, 191)
    shown = faces.covered[torch.arange(32)[:, None], 0, row, column]
    assert inside.float().mean() > 0.5
    assert (shown[inside] > 0.5).float().mean() > 0.97


def test_a_seed_tells_the_pictures(renderer):
    first, second = (torch.Generator().manual_seed(3) for _ in range(2))
    pictures = [photographed(renderer.draw(2, generator), generator) for generator in (first, second)]
    assert torch.equal(*pictures)
    assert not torch.equal(pictures[0], photographed(renderer.draw(2, first), first))
    assert pictures[0].min() >= 0 and pictures[0].max() <= 1


def test_head_sees_how_far_a_face_is_turned(facemesh, head, face_model, drawn):
    faces, picture = drawn
    turned = faces.coefficients.pose[:, 0].abs() > 55
    assert turned.sum() >= 8
    own, _, features = facemesh.landmarks_and_features(picture)
    ours, deviation = head(features)
    error = (ours - faces.landmarks)[..., :2].norm(dim=-1).mean(1)
    theirs = (own - faces.landmarks)[..., :2].norm(dim=-1).mean(1)
    # 4 px of 192 on average in the shard that training holds out.
    assert error.median() < 8
    assert error[turned].median() < 0.6 * theirs[turned].median()
    # It knows when it is wrong.
    assert np.corrcoef(deviation.mean(1).numpy(), error.numpy())[0, 1] > 0.3


def test_a_face_that_looks_at_the_camera_keeps_the_landmarks_of_facemesh(facemesh, head, photos_dir):
    context, points = context_of(decode_image((photos_dir / "astronaut.png").read_bytes()))
    found = dense_landmarks(facemesh, context, points)
    result = with_turned_landmarks(head, found)
    assert result.turned == 0
    assert torch.equal(result.landmarks, found.landmarks)


def test_profile_photos_are_fitted_further_turned_than_by_facemesh(facemesh, head, face_model, shared_dir):
    fitter, gains = LandmarkFitter(face_model), []
    for path in sorted((shared_dir / "data" / "pairs").glob("cfp_*/profile_01.jpg"))[:6]:
        context, points = context_of(decode_image(path.read_bytes()))
        found = dense_landmarks(facemesh, context, points)
        result = with_turned_landmarks(head, found)
        without = fitter.fit(found.landmarks, torch.zeros(1)).pose[0, 0].abs()
        gains.append(float(fitter.fit(result.landmarks, result.turned).pose[0, 0].abs() - without))
    assert len(gains) >= 4
    assert np.median(gains) > 3


def test_training_stopped_and_resumed_gives_the_same_weights(tmp_path):
    samples = tmp_path / "samples"
    script("render_samples").main([str(samples), "--shards", "2", "--size", "8"])
    train = script("train")
    straight, resumed = tmp_path / "straight.safetensors", tmp_path / "resumed.safetensors"
    common = [str(samples), "--steps", "3"]
    train.main([*common, "--checkpoint", str(tmp_path / "a.pt"), "--output", str(straight)])
    for stop in ("1", "3"):
        train.main([*common, "--checkpoint", str(tmp_path / "b.pt"), "--output", str(resumed), "--stop", stop])
    expected, found = load_file(straight), load_file(resumed)
    assert expected.keys() == found.keys() == TurnedLandmarkHead().state_dict().keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name
