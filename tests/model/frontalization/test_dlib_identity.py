"""The recogniser of the extra `identity`: who is who in the bundled portraits, and what happens without the extra."""

import importlib.util

import numpy as np
import pytest
import torch

from cfr.model.detector import MTCNN
from cfr.model.frontalization.dlib_weights import weights_path
from cfr.model.frontalization.identity import load_comparison
from cfr.model.images import decode_image

ONE_PERSON = 0.4  # 1 - the distance of 0.6 that dlib's users decide by


@pytest.fixture(scope="module")
def comparison():
    pytest.importorskip("dlib", reason="the extra `identity` is not installed")
    return load_comparison("dlib")


@pytest.fixture(scope="module")
def portraits(photos_dir) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Pictures (1,3,H,W) and five landmarks (1,5,2) px of two people."""
    found = []
    for path in sorted(photos_dir.glob("*.[jp]*g")):
        photo = decode_image(path.read_bytes())
        points = MTCNN.load_default().detect(photo).landmarks5[:1]
        found.append((torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255, torch.from_numpy(points)))
    return found


def test_one_person_is_told_from_another(comparison, portraits):
    (first, first_points), (second, second_points) = portraits[:2]
    flipped = first.flip(-1)
    width = first.shape[-1]
    points = (first_points * torch.tensor([-1.0, 1.0]) + torch.tensor([width, 0.0]))[:, [1, 0, 2, 4, 3]]
    assert comparison.similarity(first, first_points, first, first_points).item() == pytest.approx(1, abs=1e-5)
    assert comparison.similarity(first, first_points, flipped, points).item() > 0.6
    assert comparison.similarity(first, first_points, second, second_points).item() < ONE_PERSON


def test_faces_are_framed_as_dlib_frames_them(comparison, portraits):
    """The descriptor by our five landmarks is near the one by dlib's own 68."""
    import dlib

    predictor = dlib.shape_predictor(str(weights_path().with_name("shape_predictor_68_face_landmarks.dat")))
    for picture, points in portraits[:2]:
        pixels = np.ascontiguousarray(picture[0].permute(1, 2, 0).mul(255).round().byte().numpy())
        (box,) = dlib.get_frontal_face_detector()(pixels, 0)
        theirs = torch.tensor(np.array(comparison.encoder.compute_face_descriptor(pixels, predictor(pixels, box))))
        # Two detections of one face differ by about this much; two photos of one person by 0.3 to 0.6.
        assert (comparison.embed(picture, points)[0] - theirs).norm() < 0.25


def test_without_the_extra_its_name_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'cfr\[identity\]'"):
        load_comparison("dlib")
