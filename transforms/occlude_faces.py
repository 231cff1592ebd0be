"""Pastes random occluders over aligned faces; where they are is known, and where the face is, from before."""

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cfr.model.alignment import CROP_IN_CONTEXT, apply_affine
from cfr.transforms.batches import FitBatch, OcclusionBatch
from cfr.transforms.stage import JobSettings, MiniBatchStage, Rejection

OCCLUDE_STAGES = ("align_faces", "fit_faces", "occlude_faces", "write_shard")


@dataclass(frozen=True)
class OccludeSettings(JobSettings):
    """Parameters of the occlude job; see `cfr occlude --help`.

    Attributes:
        copies: occluded copies per face.
        shapes: share of the occluders that are random shapes; the others are cut-outs.
        colour_matched: share of hands and objects that are given the skin's colour.
        shadows: share of the occluders that cast a shadow.
        seed: of everything random.
    """

    pictures: tuple[str, ...] = ("occluded", "original", "occluder_mask", "face_mask")
    copies: int = 1
    shapes: float = 0.5
    colour_matched: float = 0.5
    shadows: float = 0.5
    seed: int = 0


class OccludeFaces(MiniBatchStage):
    """FitBatch -> OcclusionBatch; items are (face, copy), the copies of a face side by side."""

    label = "occlude_faces"
    outputs: ClassVar = {
        "occluded": ((224, 224, 3), np.uint8),
        "occluder_mask": ((224, 224), np.uint8),
        "landmarks68": ((68, 2), np.float32),
        "occluded_fraction": ((), np.float32),
        "occluder": ((), np.str_),
        "kind": ((), np.str_),
        "colour_matched": ((), np.bool_),
        "shadow": ((), np.bool_),
    }

    def load(self) -> None:
        """The cut-outs, and what reads landmarks off the mesh."""
        self.cutouts = self.context.models.cutouts()
        self.landmarks = self.context.models.mesh_landmarks()

    def count(self, batch: FitBatch) -> int:
        """Faces times copies."""
        return len(batch) * self.context.settings.copies

    def identify(self, batch: FitBatch, item: int) -> tuple[str, int]:
        """See `MiniBatchStage.identify`."""
        face = item // self.context.settings.copies
        return batch.faces.image_id(face), int(batch.faces.face_index[face])

    def compute(self, batch: FitBatch, items: np.ndarray) -> tuple[dict[str, np.ndarray], dict[int, Rejection]]:
        """See `MiniBatchStage.compute`."""
        import torch

        from cfr.model.composites import MATCHABLE_KINDS, FacePlace, paste_occluder

        settings, faces = self.context.settings, batch.faces
        face, copy = np.divmod(items, settings.copies)
        composites, shadows, fractions = [], [], []
        for each, number in zip(face.tolist(), copy.tolist(), strict=True):
            key = f"{settings.seed}\0{faces.image_id(each)}\0{faces.face_index[each]}\0{number}".encode()
            words = np.frombuffer(hashlib.sha256(key).digest(), "<u4").tolist()
            generator = np.random.Generator(np.random.Philox(words[0] + (words[1] << 32)))
            occluder = self._draw(generator)
            matched = occluder.kind in MATCHABLE_KINDS and bool(generator.random() < settings.colour_matched)
            shadows.append(bool(generator.random() < settings.shadows))
            place = FacePlace(
                apply_affine(faces.box[each].reshape(2, 2), faces.crop[each]).ravel(),
                apply_affine(faces.landmarks5[each], faces.crop[each]),
            )
            crop = faces.context[each][CROP_IN_CONTEXT, CROP_IN_CONTEXT]
            composites.append(paste_occluder(crop, place, occluder, words, matched, shadows[-1]))
            mesh = batch.face_mask[each] > 0
            fractions.append((composites[-1].mask & mesh).sum() / max(mesh.sum(), 1))
        points = self.landmarks.of(torch.from_numpy(batch.coefficients[face]))
        columns = {
            "occluded": np.stack([composite.image for composite in composites]),
            "occluder_mask": np.stack([composite.mask for composite in composites]).astype(np.uint8) * 255,
            "landmarks68": points.cpu().numpy(),
            "occluded_fraction": np.array(fractions, np.float32),
            "occluder": np.array([composite.occluder for composite in composites]),
            "kind": np.array([composite.kind for composite in composites]),
            "colour_matched": np.array([composite.colour_matched for composite in composites]),
            "shadow": np.array(shadows),
        }
        return columns, {}

    def assemble(self, batch: FitBatch, items: np.ndarray, columns: dict[str, np.ndarray]) -> OcclusionBatch:
        """See `MiniBatchStage.assemble`."""
        face, copy = np.divmod(items, self.context.settings.copies)
        return OcclusionBatch(batch, face, copy, **columns)

    def _draw(self, generator: np.random.Generator):
        """An occluder: a random shape, or a cut-out, of which every kind comes equally often."""
        from cfr.model.random_occluders import random_occluder

        if not self.cutouts or generator.random() < self.context.settings.shapes:
            return random_occluder(generator)
        kinds = sorted({cutout.kind for cutout in self.cutouts})
        kind = kinds[generator.integers(len(kinds))]
        candidates = [cutout for cutout in self.cutouts if cutout.kind == kind]
        return candidates[generator.integers(len(candidates))]
