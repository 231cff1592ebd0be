"""What travels between the stages: one unit's rows as one frozen struct of arrays, and the coder of all of them.

Arrays have the items on the first axis (n faces, or m pairs) and are never changed in place. Pictures are uint8 RGB
(height, width, 3), masks uint8 0/255, points in pixels with centres at +0.5, angles in degrees.
"""

import dataclasses
import pickle
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from apache_beam import coders


@dataclass(frozen=True)
class WorkUnit:
    """Some consecutive rows of one input file: the unit of parallelism, retry and resume; becomes one shard.

    Attributes:
        unit_id: name of the shard without its suffix.
        path: the input file.
        first_row, rows: the row range in that file.
        input_identity: size and footer digest of the file, "<bytes>-<sha256>".
    """

    unit_id: str
    path: str
    first_row: int
    rows: int
    input_identity: str


@dataclass(frozen=True)
class FailureRecord:
    """Why a row, one of its faces or one of its pairs has no output.

    Attributes:
        image_id: of the row; "<file name>:<row>" where the row has none.
        face_index: -1 = the whole row.
        stage: label of the stage, e.g. "align_faces".
        reason: stable identifier to count and to filter by.
        message: what happened and what to do about it.
    """

    image_id: str
    face_index: int
    stage: str
    reason: str
    message: str


@dataclass(frozen=True)
class UnitRecord:
    """What is known of a unit; travels inside every batch.

    Attributes:
        unit: which rows.
        image_ids: one per input row.
        kept: the columns to carry along, one row per input row, or None.
        failures: so far.
        seconds: wall time per stage so far.
        isolated: the unit killed its workers before: every stage runs it item by item in a child process.
        deleted: how many of its rows are left out for good; see `cfr.pipeline.deletions`.
    """

    unit: WorkUnit
    image_ids: tuple[str, ...]
    kept: pa.Table | None = None
    failures: tuple[FailureRecord, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    isolated: bool = False
    deleted: int = 0


@dataclass(frozen=True)
class ImageBatch:
    """Rows to read: references only, the photos stay in the file until they are decoded.

    Attributes:
        record: the unit.
        row: (n,) int64, positions within the unit whose id is usable.
    """

    record: UnitRecord
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class FaceBatch:
    """Aligned faces.

    Attributes:
        record: the unit.
        row: (n,) int64, position of the photo within the unit.
        face_index: (n,) int64, by descending detection score among all detections of the photo.
        context: (n,320,320,3) uint8, the aligned crop with 48 px more on each side; the crop is [48:272, 48:272].
        crop: (n,6) float64 [a,b,c,d,e,f]: x' = a x + b y + c, y' = d x + e y + f, photo px -> crop px.
        box: (n,4) float32 x1, y1, x2, y2 in photo px.
        landmarks5: (n,5,2) float32 photo px.
        detection_score: (n,) float32 0..1.
        photo_size: (n,2) int64, width and height of the photo.
        texture: (n,320k,320k,3) uint8, the context k times as fine where a job asks for that; else (n,0,0,3).
    """

    record: UnitRecord
    row: np.ndarray
    face_index: np.ndarray
    context: np.ndarray
    crop: np.ndarray
    box: np.ndarray
    landmarks5: np.ndarray
    detection_score: np.ndarray
    photo_size: np.ndarray
    texture: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def image_id(self, item: int) -> str:
        """Id of the photo that a face was found in."""
        return self.record.image_ids[self.row[item]]


@dataclass(frozen=True)
class FitBatch:
    """Fitted faces.

    Attributes:
        faces: the aligned faces, same items.
        coefficients: (n,C) float32, the layout is in the shards' schema metadata.
        pose: (n,3) float32 yaw, pitch, roll.
        guidance: (n,224,224,3) uint8, the fitted model's picture of the face, black outside the mesh.
        face_mask: (n,224,224) uint8, the mesh.
        fit_error: (n,) float32, normalised mean landmark error.
        landmark_score: (n,) float32 0..1.
    """

    faces: FaceBatch
    coefficients: np.ndarray
    pose: np.ndarray
    guidance: np.ndarray
    face_mask: np.ndarray
    fit_error: np.ndarray
    landmark_score: np.ndarray

    @property
    def record(self) -> UnitRecord:
        """The unit."""
        return self.faces.record

    def __len__(self) -> int:
        return len(self.faces)


@dataclass(frozen=True)
class SwapBatch:
    """Faces with the occlusion moved from the photo to the guidance.

    Attributes:
        fits: the fitted faces, same items.
        occluder_mask: (n,224,224) uint8, what covers the face in the photo.
        deoccluded: (n,224,224,3) uint8, the photo with the guidance in the masked place.
        guidance: (n,224,224,3) uint8, the guidance with the occluder painted on.
        occluded_fraction, sharpness: (n,) float32 0..1.
    """

    fits: FitBatch
    occluder_mask: np.ndarray
    deoccluded: np.ndarray
    guidance: np.ndarray
    occluded_fraction: np.ndarray
    sharpness: np.ndarray

    @property
    def record(self) -> UnitRecord:
        """The unit."""
        return self.fits.record

    @property
    def faces(self) -> FaceBatch:
        """The aligned faces that it was made of."""
        return self.fits.faces

    def __len__(self) -> int:
        return len(self.fits)


@dataclass(frozen=True)
class PairBatch:
    """Training pairs.

    Attributes:
        swaps: the faces that the pairs were made of.
        face: (m,) int64, index into `swaps`.
        view_index: (m,) int64.
        view: (m,3) float32 yaw, pitch, roll of the random view, absolute.
        rotated: (m,224,224,3) uint8, rotated to the random view and back, black outside the mesh and in the holes.
        occlusion_mask: (m,224,224) uint8, what cannot be taken from `rotated`.
        visible_fraction, quality: (m,) float32 0..1.
    """

    swaps: SwapBatch
    face: np.ndarray
    view_index: np.ndarray
    view: np.ndarray
    rotated: np.ndarray
    occlusion_mask: np.ndarray
    visible_fraction: np.ndarray
    quality: np.ndarray

    @property
    def record(self) -> UnitRecord:
        """The unit."""
        return self.swaps.record

    @property
    def faces(self) -> FaceBatch:
        """The aligned faces that it was made of."""
        return self.swaps.fits.faces

    def __len__(self) -> int:
        return len(self.face)


@dataclass(frozen=True)
class FrontalBatch:
    """Faces at the wanted poses.

    Attributes:
        swaps: the faces that they were made of.
        face: (m,) int64, index into `swaps`.
        pose_index: (m,) int64, which of the job's poses.
        pose: (m,3) float32 yaw, pitch, roll of the result, degrees.
        frontal, source: (m,S,S,3) uint8, the result, and the photo in the same frame.
        mask: (m,S,S) uint8, 255 = synthesised.
        frontal_landmarks5: (m,5,2) float32 px of the result.
        own_fraction, mirrored_fraction, quality: (m,) float32 0..1.
        identity_similarity: (m,) float32 -1..1, 0 where nothing measures it.
        rejections: (m,R) bool, which reasons of `cfr.model.frontalization.gate` speak against the result.
    """

    swaps: SwapBatch
    face: np.ndarray
    pose_index: np.ndarray
    pose: np.ndarray
    frontal: np.ndarray
    source: np.ndarray
    mask: np.ndarray
    frontal_landmarks5: np.ndarray
    own_fraction: np.ndarray
    mirrored_fraction: np.ndarray
    quality: np.ndarray
    identity_similarity: np.ndarray
    rejections: np.ndarray

    @property
    def record(self) -> UnitRecord:
        """The unit."""
        return self.swaps.record

    @property
    def faces(self) -> FaceBatch:
        """The aligned faces that they were made of."""
        return self.swaps.faces

    def __len__(self) -> int:
        return len(self.face)


@dataclass(frozen=True)
class OcclusionBatch:
    """Faces with something pasted over them.

    Attributes:
        fits: the fitted faces.
        face: (m,) int64, index into `fits`.
        copy_index: (m,) int64, which of a face's occluded copies.
        occluded: (m,224,224,3) uint8, the aligned crop with the occluder.
        occluder_mask: (m,224,224) uint8, the occluder, on the face or beside it.
        landmarks68: (m,68,2) float32 crop px, the 68 points of iBUG 300-W on the mesh that was fitted without occluder.
        occluded_fraction: (m,) float32 0..1, the occluder's share of the mesh.
        occluder, kind: (m,) str.
        colour_matched, shadow: (m,) bool.
    """

    fits: FitBatch
    face: np.ndarray
    copy_index: np.ndarray
    occluded: np.ndarray
    occluder_mask: np.ndarray
    landmarks68: np.ndarray
    occluded_fraction: np.ndarray
    occluder: np.ndarray
    kind: np.ndarray
    colour_matched: np.ndarray
    shadow: np.ndarray

    @property
    def record(self) -> UnitRecord:
        """The unit."""
        return self.fits.record

    @property
    def faces(self) -> FaceBatch:
        """The aligned faces that it was made of."""
        return self.fits.faces

    def __len__(self) -> int:
        return len(self.face)


Batch = ImageBatch | FaceBatch | FitBatch | SwapBatch | PairBatch | FrontalBatch | OcclusionBatch


def select(batch: Any, items: np.ndarray) -> Any:
    """The batch with only these items; every array that has the items on its first axis is indexed."""
    changes = {}
    # Their own items index into the batch that they were made of.
    made_of = isinstance(batch, PairBatch | FrontalBatch | OcclusionBatch)
    for attribute in dataclasses.fields(batch):
        value = getattr(batch, attribute.name)
        if isinstance(value, np.ndarray):
            changes[attribute.name] = value[items]
        elif dataclasses.is_dataclass(value) and not isinstance(value, UnitRecord) and not made_of:
            changes[attribute.name] = select(value, items)
    return dataclasses.replace(batch, **changes)


def with_record(batch: Any, **changes: Any) -> Any:
    """The batch with some attributes of its UnitRecord replaced."""
    if any(attribute.name == "record" for attribute in dataclasses.fields(batch)):
        return dataclasses.replace(batch, record=dataclasses.replace(batch.record, **changes))
    inner = dataclasses.fields(batch)[0].name
    return dataclasses.replace(batch, **{inner: with_record(getattr(batch, inner), **changes)})


class BatchCoder(coders.Coder):
    """Pickles a batch; its size estimate adds up array sizes instead of pickling pixels to count them."""

    def encode(self, value: Any) -> bytes:
        """Bytes of a batch."""
        return pickle.dumps(value, protocol=5)

    def decode(self, encoded: bytes) -> Any:
        """The batch again; only ever reads what a worker of the same job wrote."""
        return pickle.loads(encoded)

    def estimate_size(self, value: Any) -> int:
        """Encoded bytes, nearly; takes the same time whatever the pictures' sizes."""
        total = 200
        for attribute in dataclasses.fields(value):
            part = getattr(value, attribute.name)
            if isinstance(part, np.ndarray):
                total += part.nbytes
            elif isinstance(part, UnitRecord):
                total += 100 * len(part.image_ids) + (part.kept.nbytes if part.kept is not None else 0)
            elif dataclasses.is_dataclass(part):
                total += self.estimate_size(part)
        return total

    def is_deterministic(self) -> bool:
        """Batches are values, never keys."""
        return False

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


for _batch_type in (WorkUnit, ImageBatch, FaceBatch, FitBatch, SwapBatch, PairBatch, FrontalBatch, OcclusionBatch):
    coders.registry.register_coder(_batch_type, BatchCoder)
