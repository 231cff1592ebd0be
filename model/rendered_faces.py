"""Rows of rendered faces with exact coefficients, covered and uncovered: what the 3D estimator is first trained on.

A row has what a row of `cfr occlude` has, but nothing in it is estimated: the face model itself was the sitter. The
rotation is exact; the shape is up to the depth of the head, which varies more than the face model's does.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cfr.model.camera import CROP_SIZE, project, rotation_matrix, to_camera_space
from cfr.model.composites import MATCHABLE_KINDS, FacePlace, paste_occluder
from cfr.model.face_model import MorphableModel
from cfr.model.random_occluders import random_occluder
from cfr.model.synthetic_faces import FIVE_POINTS, SyntheticFaceRenderer, SyntheticFaces
from cfr.model.synthetic_photos import in_surroundings, taken

MINI_BATCH = 8
# Mean and deviation of the heads' stretch from front to back: how far a nose stands out must not tell the yaw.
DEPTH = (1.08, 0.1)
# Of the occluders that may have the skin's colour, and of all.
_COLOUR_MATCHED, _SHADOWS = 0.5, 0.3


@dataclass(frozen=True)
class RenderedFaces:
    """Faces in the aligned crop.

    Attributes:
        original, occluded: (N,224,224,3) uint8 RGB, the same face, light and camera without and with an occluder.
        occluder_mask, face_mask: (N,224,224) bool, the occluder; the face model's mesh, occluded or not.
        landmarks68: (N,68,2) float32 crop px.
        coefficients: (N,C) float32, see `Coefficients.concatenated`.
        occluder: N names.
    """

    original: np.ndarray
    occluded: np.ndarray
    occluder_mask: np.ndarray
    face_mask: np.ndarray
    landmarks68: np.ndarray
    coefficients: np.ndarray
    occluder: tuple[str, ...]


class FaceRenderings:
    """Makes them.

    Args:
        model: the face model.
    """

    def __init__(self, model: MorphableModel):
        self.model = model
        # Networks reduce the crop, which smooths its edges.
        self.renderer = SyntheticFaceRenderer(model, CROP_SIZE, DEPTH, aligned=True, oversampling=1.0)

    @torch.inference_mode()
    def draw(self, count: int, seed: int) -> RenderedFaces:
        """Random faces; the same seed gives the same faces on the same machine."""
        generator = torch.Generator().manual_seed(seed)
        parts = []
        for first in range(0, count, MINI_BATCH):
            # Batches of one size: what a face looks like does not depend on how many are drawn.
            faces = self.renderer.draw(MINI_BATCH, generator)
            batch = self._finished(faces, generator, np.random.default_rng((seed, first)))
            parts.append([each[: count - first] for each in batch])
        arrays = [np.concatenate(each) for each in zip(*parts, strict=True)]
        return RenderedFaces(*arrays[:-1], tuple(arrays[-1].tolist()))

    def _finished(self, faces: SyntheticFaces, generator: torch.Generator, occluders: np.random.Generator) -> list:
        scene = in_surroundings(faces, generator)
        covered = scene.clone()
        masks, names = np.zeros((len(scene), CROP_SIZE, CROP_SIZE), bool), []
        for index, pixels in enumerate(_to_pixels(scene)):
            occluder = random_occluder(occluders)
            matched = occluder.kind in MATCHABLE_KINDS and bool(occluders.random() < _COLOUR_MATCHED)
            words = occluders.integers(0, 2**32, 4).tolist()
            shadow = bool(occluders.random() < _SHADOWS)
            composite = paste_occluder(pixels, _place(faces, index), occluder, words, matched, shadow)
            covered[index] = torch.from_numpy(composite.image).permute(2, 0, 1).float() / 255
            masks[index] = composite.mask
            names.append(composite.occluder)
        # The same camera takes both.
        state = generator.get_state()
        original = taken(scene, generator)
        generator.set_state(state)
        occluded = taken(covered, generator)
        model, drawn = self.model, faces.coefficients
        vertices = model.shape(drawn.identity, drawn.expression)
        corners = model.surface_points(vertices, model.ibug68_triangles, model.ibug68_barycentric)
        landmarks, _ = project(to_camera_space(corners, rotation_matrix(drawn.pose), drawn.translation))
        face = (faces.face[:, 0] > 0.5).numpy()
        rows = drawn.concatenated().numpy()
        return [_to_pixels(original), _to_pixels(occluded), masks, face, landmarks.numpy(), rows, np.array(names)]


def _place(faces: SyntheticFaces, index: int) -> FacePlace:
    """Where a face is, from its landmarks."""
    points = faces.landmarks[index, :, :2]
    low, high = points.amin(0), points.amax(0)
    five = torch.stack([points[list(pair)].mean(0) for pair in FIVE_POINTS])
    return FacePlace(torch.cat([low, high]).double().numpy(), five.double().numpy())


def _to_pixels(pictures: Tensor) -> np.ndarray:
    """(B,3,S,S) 0..1 -> (B,S,S,3) uint8."""
    return (pictures.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
