"""Decodes the photos one by one, finds the faces and cuts the aligned crops; the photos go no further."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from cfr.model.alignment import CONTEXT_SIZE, context_crop
from cfr.model.images import ImageError
from cfr.transforms.batches import FaceBatch, FailureRecord, ImageBatch
from cfr.transforms.photo_decoder import DecoderUnavailable
from cfr.transforms.read_images import check_unchanged, read_photos
from cfr.transforms.stage import NOT_FINITE, Rejection, Stage

MAX_FACES = 200
"""Most faces of one photo that are used, by score: a pattern that looks like thousands must not fill the memory."""

_NO_FACE = Rejection("no_face", "no face was found; if there is one, try the photo larger, upright or with more margin")
_TOO_MANY = Rejection(
    "too_many_faces", f"more than {MAX_FACES} faces; these have the highest scores, cut the photo in parts"
)
_EMPTY = Rejection("empty_image", "the row has no image bytes; store the file's bytes in the image column")


class AlignFaces(Stage):
    """ImageBatch -> FaceBatch."""

    label = "align_faces"

    def load(self) -> None:
        """The detector, the alignment and the decoder's process."""
        self.detector = self.context.models.detector()
        self.align = self.context.models.alignment()
        self.decoder = self.context.models.decoder()

    def teardown(self) -> None:
        """End the decoder's process."""
        self.decoder.close()

    def run_unit(
        self,
        batch: ImageBatch,
        one_at_a_time: bool = False,
        given_up: Mapping[int, str] = MappingProxyType({}),
        announce: Callable[[int], None] = lambda item: None,
    ) -> FaceBatch:
        """See `Stage.run_unit`; items are the unit's rows. Photos are always taken one at a time."""
        record = batch.record
        usable = set(batch.row.tolist())
        found: list[dict[str, np.ndarray]] = []
        failures: list[FailureRecord] = []
        for row, data in enumerate(read_photos(record.unit, self.context.settings.image_column)):
            if row not in usable:
                continue
            image_id = record.image_ids[row]
            if row in given_up:
                failures.append(self.gave_up(image_id, -1, given_up[row]))
                continue
            announce(row)
            try:
                faces = self._faces(data)
            except (MemoryError, ImportError, DecoderUnavailable):
                raise
            except ImageError as error:
                failures.append(self.failure(image_id, -1, Rejection(error.reason, error.message)))
            except Exception as error:
                failures.append(self.failure(image_id, -1, error))
            else:
                if isinstance(faces, Rejection):
                    failures.append(self.failure(image_id, -1, faces))
                else:
                    used = {name: values[:MAX_FACES] for name, values in faces.items()}
                    found.append({"row": np.full(len(used["face_index"]), row), **used})
                    if len(faces["face_index"]) > MAX_FACES:
                        failures.append(self.failure(image_id, MAX_FACES, _TOO_MANY))
            self.report(record, row + 1, record.unit.rows)
        check_unchanged(record.unit)  # or ids of one version would get the photos of another
        empty = {
            "row": np.zeros(0, np.int64),
            "face_index": np.zeros(0, np.int64),
            "context": np.zeros((0, CONTEXT_SIZE, CONTEXT_SIZE, 3), np.uint8),
            "crop": np.zeros((0, 6)),
            "box": np.zeros((0, 4), np.float32),
            "landmarks5": np.zeros((0, 5, 2), np.float32),
            "detection_score": np.zeros(0, np.float32),
            "photo_size": np.zeros((0, 2), np.int64),
            "texture": np.zeros((0, *self._texture_shape()), np.uint8),
        }
        columns = {name: np.concatenate([none, *(part[name] for part in found)]) for name, none in empty.items()}
        return FaceBatch(dataclasses.replace(record, failures=(*record.failures, *failures)), **columns)

    def _faces(self, data: bytes | None) -> dict[str, np.ndarray] | Rejection:
        """The chosen faces of one photo, as columns of a FaceBatch; one more than MAX_FACES if there are more."""
        if not data:
            return _EMPTY
        image = self.decoder.decode(data)
        detections = self.detector.detect(image)
        if len(detections.scores) == 0:
            return _NO_FACE
        if not all(np.isfinite(values).all() for values in vars(detections).values()):
            return NOT_FINITE
        chosen = choose_faces(detections.boxes, self.context.settings.faces)[: MAX_FACES + 1]
        landmarks5 = np.asarray(detections.landmarks5, dtype=np.float32)[chosen]
        aligned = [self.align(image, points) for points in landmarks5]
        crops = np.stack([affine for _, affine in aligned])
        return {
            "face_index": chosen,
            "context": np.stack([context for context, _ in aligned]),
            "crop": crops,
            "box": np.asarray(detections.boxes, dtype=np.float32)[chosen],
            "landmarks5": landmarks5,
            "detection_score": np.asarray(detections.scores, dtype=np.float32)[chosen],
            "photo_size": np.tile(np.array(image.shape[1::-1], dtype=np.int64), (len(chosen), 1)),
            "texture": self._textures(image, crops),
        }

    def _texture_shape(self) -> tuple[int, int, int]:
        scale = self.context.settings.texture_scale
        side = 0 if scale == 1 else scale * CONTEXT_SIZE
        return side, side, 3

    def _textures(self, image: np.ndarray, crops: np.ndarray) -> np.ndarray:
        """What `FaceBatch.texture` holds."""
        if self.context.settings.texture_scale == 1:
            return np.zeros((len(crops), *self._texture_shape()), np.uint8)
        return np.stack([context_crop(image, crop, self.context.settings.texture_scale) for crop in crops])


def choose_faces(boxes: np.ndarray, faces: str) -> np.ndarray:
    """Indices of the faces to use, int64.

    Args:
        boxes: (n,4) x1, y1, x2, y2 of all detections, by descending score.
        faces: "best" = highest score, "largest" = largest box, "all".
    """
    if faces == "all":
        return np.arange(len(boxes), dtype=np.int64)
    if faces == "largest":
        sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
        return np.array([np.argmax(sides.prod(axis=1))], dtype=np.int64)
    return np.zeros(1, dtype=np.int64)
