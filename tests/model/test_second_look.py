"""Faces that something covers are fitted a second time, in a photo whose occluder is painted over."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from cfr.model import fitting
from cfr.model.alignment import CONTEXT_MARGIN, apply_affine, context_crop, crop_affine
from cfr.model.detector import MTCNN
from cfr.model.fitting import FaceFitter
from cfr.model.images import decode_image
from cfr.model.rendering import posed

# FaceMesh's points around a medical mask: ear, along the jaw, ear, over the nose.
MASK = (234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 6)
COLOURS = ((60, 120, 190), (240, 240, 235), (25, 25, 28), (150, 60, 60))


@pytest.fixture(scope="module")
def covered_faces(photos_dir):
    """The bundled photos (N,320,320,3), the same under masks (4N,320,320,3), and their five points (N,5,2) crop px."""
    detector, fitter = MTCNN.load_default(), FaceFitter()
    contexts, points5 = [], []
    for path in sorted(photos_dir.glob("*.*g")):
        image = decode_image(path.read_bytes())
        found = detector.detect(image)
        affine = crop_affine(found.landmarks5[0])
        contexts.append(context_crop(image, affine))
        points5.append(apply_affine(found.landmarks5[0], affine))
    clean, five = torch.from_numpy(np.stack(contexts)), torch.from_numpy(np.stack(points5)).float()
    outlines = fitter.fit(clean, five).landmarks[:, list(MASK), :2] + CONTEXT_MARGIN
    covered = []
    for context, outline in zip(contexts, outlines.tolist(), strict=True):
        for colour in COLOURS:
            picture = Image.fromarray(context)
            ImageDraw.Draw(picture).polygon([tuple(point) for point in outline], fill=colour)
            covered.append(np.asarray(picture))
    return clean, torch.from_numpy(np.stack(covered)), five


def _points68(fitter: FaceFitter, fit) -> torch.Tensor:
    mesh, model = posed(fitter.model, fit.coefficients), fitter.model
    return model.surface_points(mesh.pixels, model.ibug68_triangles, model.ibug68_barycentric)


def test_covered_faces_are_fitted_more_like_the_uncovered_ones(covered_faces, monkeypatch):
    clean, covered, five = covered_faces
    fitter = FaceFitter()
    wanted = _points68(fitter, fitter.fit(clean, five)).repeat_interleave(len(COLOURS), 0)
    five = five.repeat_interleave(len(COLOURS), 0)
    twice = (_points68(fitter, fitter.fit(covered, five)) - wanted).norm(dim=-1).mean()
    monkeypatch.setattr(fitting, "LEAST_COVERED", 2.0)
    once = (_points68(fitter, fitter.fit(covered, five)) - wanted).norm(dim=-1).mean()
    assert twice < 0.95 * once


@pytest.mark.parametrize("face", ["clean", "covered"])
def test_a_face_does_not_depend_on_its_neighbours(covered_faces, face):
    clean, covered, five = covered_faces
    fitter = FaceFitter()
    own, uncovered = (clean if face == "clean" else covered)[:1], clean[:1]
    # The same size of mini-batch, as the jobs have it: beside none, some and more covered faces than one group holds.
    beside = [uncovered.expand(5, -1, -1, -1), torch.cat([covered[1:3], uncovered.expand(3, -1, -1, -1)]), covered[1:6]]
    fits = [fitter.fit(torch.cat([others, own]), five[[0] * 6]).coefficients for others in beside]
    for fit in fits[1:]:
        for name, part in vars(fits[0]).items():
            assert torch.equal(part[-1], getattr(fit, name)[-1]), name
