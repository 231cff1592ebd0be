"""Model stages that do next to nothing, for tests of everything around them; also a command line with them.

What a photo does is coded in its red channel (one colour per photo); green and blue make photos differ. Results depend
on the slot in the mini-batch, as real float results may: a test notices when an item changes its slot.

`python stand_in_models.py --input ... --output ...` is `cfr pairs` with these stages.
"""

import argparse
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from cfr.model.alignment import align_photo
from cfr.model.coefficients import Coefficients, coefficient_layout
from cfr.model.detector import Detections
from cfr.model.fitting import FaceFit
from cfr.model.frontalization.frontalizer import Frontalized
from cfr.model.images import decode_image, encode_image
from cfr.model.swap import RotatedFaces
from cfr.pipeline import isolation, progress
from cfr.pipeline.errors import UserError
from cfr.transforms.photo_decoder import PhotoDecoder

if "STAND_IN_HUNG_SECONDS" in os.environ:
    progress.HUNG_SECONDS = isolation.ITEM_SECONDS = float(os.environ["STAND_IN_HUNG_SECONDS"])

GOOD, NO_FACE, DETECTOR_RAISES, FIT_RAISES, FIT_IS_NAN, TWO_FACES, ROTATION_RAISES = 200, 10, 20, 30, 40, 50, 60
SECOND_FIT_RAISES, FIT_KILLS, DETECTOR_KILLS = 70, 80, 90
DETECTOR_IS_NAN, SWAP_IS_NAN, ROTATION_IS_NAN, FIT_TAKES_ALL_MEMORY, FIT_HANGS, DECODER_HANGS = (
    100,
    110,
    120,
    130,
    140,
    150,
)
NOT_AN_IMAGE, EMPTY, NULL = -1, -2, -3

REASON = {
    NO_FACE: "no_face",
    DETECTOR_RAISES: "align_faces_error",
    FIT_RAISES: "fit_faces_error",
    FIT_IS_NAN: "fit_failed",
    ROTATION_RAISES: "double_rotate_error",
    DETECTOR_IS_NAN: "not_finite",
    SWAP_IS_NAN: "not_finite",
    ROTATION_IS_NAN: "not_finite",
    NOT_AN_IMAGE: "decode_error",
    EMPTY: "empty_image",
    NULL: "empty_image",
}
_SIZES = (2, 2, 2)


def photo(kind: int, number: int = 0) -> bytes | None:
    """Encoded photo of a kind."""
    if kind == NULL:
        return None
    if kind == EMPTY:
        return b""
    if kind == NOT_AN_IMAGE:
        return b"no image at all %d" % number
    return encode_image(np.full((64, 48, 3), (kind, number % 250, number // 250), dtype=np.uint8))


def write_photos(path: Path, kinds: list[int], row_group_size: int = 16, **columns: list) -> list[str]:
    """An image shard; returns the ids."""
    ids = [f"{path.stem}/{number:04d}.png" for number in range(len(kinds))]
    images = [{"bytes": photo(kind, number), "path": None} for number, kind in enumerate(kinds)]
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image_id": pa.array(ids, pa.string()), "image": pa.array(images, image_type), **columns})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_size)
    return ids


class _DecoderHere:
    def decode(self, data: bytes) -> np.ndarray:
        return decode_image(data)

    def close(self) -> None:
        pass


class _Detector:
    def detect(self, image: np.ndarray) -> Detections:
        kind = int(image[0, 0, 0])
        if kind == DETECTOR_RAISES:
            raise ValueError("the detector cannot take it")
        if kind == DETECTOR_KILLS:
            os.kill(os.getpid(), signal.SIGKILL)
        count = {NO_FACE: 0, TWO_FACES: 2, SECOND_FIT_RAISES: 2}.get(kind, 1)
        points = np.array([[14, 20], [34, 20], [24, 32], [16, 42], [32, 42]], dtype=np.float32)
        boxes = np.array([[8, 8, 40, 56], [4, 4, 44, 60]], dtype=np.float32)[:count]
        if kind == DETECTOR_IS_NAN:
            points[2] = np.nan
        return Detections(boxes, np.stack([points] * 2)[:count], np.array([0.99, 0.9], dtype=np.float32)[:count])


class _Fitter:
    def __init__(self):
        self._calls = 0

    def fit(self, context: torch.Tensor, landmarks5: torch.Tensor) -> FaceFit:
        time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0")))
        while os.path.exists(os.environ.get("STAND_IN_GATE", "")):  # a test removes it when the job may go on
            time.sleep(0.02)
        kinds = context[:, 160, 160, 0].tolist()
        if FIT_KILLS in kinds:
            os.kill(os.getpid(), signal.SIGKILL)
        if FIT_TAKES_ALL_MEMORY in kinds:
            raise MemoryError
        if FIT_HANGS in kinds:
            time.sleep(1000)
        if FIT_RAISES in kinds:
            raise ValueError("the fit cannot take it")
        batch = len(context)
        picture = context[:, 48:272, 48:272].permute(0, 3, 1, 2).float() / 255
        slot = torch.arange(batch) / 1000
        pose = torch.stack([slot, slot, slot], 1)
        identity = torch.zeros(batch, 2)
        identity[torch.tensor(kinds) == FIT_IS_NAN] = float("nan")
        zeros = torch.zeros(batch, 2)
        coefficients = Coefficients(identity, zeros, zeros, torch.zeros(batch, 9, 3), pose, torch.zeros(batch, 3))
        mask = torch.zeros(batch, 224, 224, dtype=torch.bool)
        mask[:, 60:180, 70:160] = True
        landmarks = torch.zeros(batch, 468, 3)
        return FaceFit(coefficients, picture * mask[:, None], mask, landmarks, torch.ones(batch), slot)


class _OcclusionTransfer:
    device = "cpu"

    def transfer(self, photo, guidance, coefficients):
        photo = photo.clone()
        photo[(photo[:, 0, 112, 112] * 255).round() == SWAP_IS_NAN] = float("nan")
        return guidance[:, 0] > 2, photo, guidance


class _Rotator:
    device = "cpu"

    def rotate(self, faces, coefficients, view) -> RotatedFaces:
        texture = faces.deoccluded
        if ROTATION_RAISES in (texture[:, 0, 112, 112] * 255).round().int().tolist():
            raise ValueError("the rotation cannot take it")
        visible = torch.ones(texture.shape[0], 224, 224, dtype=torch.bool)
        visible[:, :, 112:] = False
        lost = faces.face_mask & ((faces.occluder_mask > 0.5) | ~visible)
        rotated = texture * visible[:, None]
        rotated[(texture[:, 0, 112, 112] * 255).round() == ROTATION_IS_NAN] = float("nan")
        return RotatedFaces(rotated, visible, lost)


class _Frontalizer:
    """Its results depend on the wanted yaw; `ROTATION_RAISES` fails here, too."""

    device = "cpu"

    def frontalize(self, faces, pose, template, size) -> Frontalized:
        kinds = (faces.photo[:, 0, 160, 160] * 255).round().int()
        if ROTATION_RAISES in kinds.tolist():
            raise ValueError("the frontalizer cannot take it")
        batch = len(kinds)
        picture = faces.photo[:, :, 160:161, 160:161].expand(-1, -1, size, size).clone()
        picture[:, 2] = pose[:, :1, None].abs() / 90
        mask = torch.zeros(batch, size, size, dtype=torch.bool)
        mask[:, :, size // 2 :] = True
        return Frontalized(picture, mask, torch.ones(batch, 5, 2), torch.full((batch,), 0.9), torch.zeros(batch))


@dataclass(frozen=True)
class _Stranger:
    """Takes every result for somebody else."""

    decides: bool

    def similarity(self, first, first_points, second, second_points) -> torch.Tensor:
        return torch.full((len(first),), -0.5)


class _MeshLandmarks:
    def of(self, coefficients: torch.Tensor) -> torch.Tensor:
        return coefficients[:, :1, None].expand(-1, 68, 2) + torch.arange(68.0)[:, None]


@dataclass(frozen=True)
class StandInModels:
    """Same methods as `cfr.transforms.models.DefaultModels`."""

    device: str = "cpu"
    digest: str = "0"
    identity_decides: bool | None = None  # None: no identity encoder

    def torch_device(self) -> str:
        return "cpu"

    def decoder(self):
        if "STAND_IN_DECODE_SECONDS" in os.environ:
            return PhotoDecoder(float(os.environ["STAND_IN_DECODE_SECONDS"]), module="stand_in_decoder")
        return _DecoderHere()  # starting a process takes longer than most of these jobs

    def detector(self):
        return _Detector()

    def alignment(self):
        return align_photo

    def fitter(self):
        return _Fitter()

    def occlusion_transfer(self):
        return _OcclusionTransfer()

    def rotator(self):
        return _Rotator()

    def frontalizer(self):
        return _Frontalizer()

    def identity_encoder(self):
        return None if self.identity_decides is None else _Stranger(self.identity_decides)

    def cutouts(self):
        return []

    def mesh_landmarks(self):
        return _MeshLandmarks()

    def check(self):
        pass

    def parameters(self):
        return {"recipe": "stand-in"}

    def active(self):
        return [{"part": "stand-in", "name": "stand-in", "licence": "none", "digest": self.digest}]

    def coefficient_layout(self):
        return coefficient_layout(_SIZES)


def run(*arguments: str, models: StandInModels | None = None) -> int:
    """`cfr pairs` with the stand-in; returns the exit code, lets UserError pass."""
    from cfr.pipeline.pairs import add_arguments, run_pairs

    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_arguments(parser)
    args, beam_arguments = parser.parse_known_args(list(map(str, arguments)))
    return run_pairs(args, beam_arguments, models or StandInModels())


def run_frontalize(*arguments: str, models: StandInModels | None = None) -> int:
    """`cfr frontalize` with the stand-in; as `run`."""
    from cfr.pipeline import frontalize

    parser = argparse.ArgumentParser(allow_abbrev=False)
    frontalize.add_arguments(parser)
    args, beam_arguments = parser.parse_known_args(list(map(str, arguments)))
    return frontalize.run_frontalize(args, beam_arguments, models or StandInModels())


def run_occlude(*arguments: str, models: StandInModels | None = None) -> int:
    """`cfr occlude` with the stand-in; as `run`."""
    from cfr.pipeline import occlude

    parser = argparse.ArgumentParser(allow_abbrev=False)
    occlude.add_arguments(parser)
    args, beam_arguments = parser.parse_known_args(list(map(str, arguments)))
    return occlude.run_occlude(args, beam_arguments, models or StandInModels())


if __name__ == "__main__":
    # Under its own name, so that worker processes can unpickle what is sent to them.
    import stand_in_models

    try:
        sys.exit(stand_in_models.run(*sys.argv[1:]))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
