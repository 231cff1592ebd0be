"""Renderings that the regressor is trained on: where the coefficients say the face is, there it is."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from cfr.model.alignment import STANDARD_SOLVER, crop_affine
from cfr.model.coefficients import Coefficients
from cfr.model.rendered_faces import FaceRenderings, RenderedFaces
from cfr.model.rendering import posed


@pytest.fixture(scope="module")
def faces(face_model) -> RenderedFaces:
    return FaceRenderings(face_model).draw(16, 7)


def test_the_mesh_of_the_coefficients_lies_where_the_face_is(faces, face_model):
    """But for the depth, which varies more in the renderings: by a tenth of the distance to the ears."""
    coefficients = Coefficients.split(torch.from_numpy(faces.coefficients), face_model.sizes)
    covered = posed(face_model, coefficients).rasterized(face_model.triangles).covered.numpy()
    union, common = (covered | faces.face_mask).sum((1, 2)), (covered & faces.face_mask).sum((1, 2))
    # Hair and shoulders hide a part of the mesh.
    assert np.median(common / union) > 0.75
    assert (common / faces.face_mask.sum((1, 2)) > 0.85).all()


def test_poses_reach_the_profile_on_both_sides(faces, face_model):
    pose = Coefficients.split(
        torch.from_numpy(FaceRenderings(face_model).draw(32, 1).coefficients), face_model.sizes
    ).pose
    assert pose[:, 0].min() < -70 and pose[:, 0].max() > 70


def test_faces_lie_in_the_crop_as_the_alignment_puts_them(faces):
    """By five of the 68 points: half of them within a tenth of the crop and of its scale, as detectors err."""
    points = faces.landmarks68
    five = np.stack(
        [points[:, 36:42].mean(1), points[:, 42:48].mean(1), points[:, 30], points[:, 48], points[:, 54]], 1
    )
    affine = np.array([crop_affine(each) for each in five])
    assert np.median(np.abs(np.log(affine[:, 0]))) < 0.1
    middle = np.stack([(STANDARD_SOLVER @ each)[3] for each in five])
    assert np.median(np.abs(middle - 112)) < 22


def test_the_pictures_differ_by_the_occluder_only(faces):
    """Within its mask they do, beyond it and its shadow the camera's noise and compression are all there is."""
    difference = np.abs(faces.original.astype(int) - faces.occluded).max(-1)
    near = np.stack([ndimage.binary_dilation(mask, iterations=40) for mask in faces.occluder_mask])
    assert all(mask.any() for mask in faces.occluder_mask)
    shown = faces.original.max(-1) > 8  # not cut off
    inside, outside = difference[faces.occluder_mask & shown], difference[~near & shown]
    assert np.median(outside) <= 4
    assert np.median(inside) > 3 * np.median(outside) + 4


def test_a_seed_tells_the_pictures(faces, face_model):
    again = FaceRenderings(face_model).draw(8, 7)
    for name in ("original", "occluded", "occluder_mask", "face_mask", "landmarks68", "coefficients"):
        np.testing.assert_array_equal(getattr(again, name), getattr(faces, name)[:8])
    assert not np.array_equal(FaceRenderings(face_model).draw(8, 8).original, again.original)
