"""Shards of rendered faces, in the layout of `cfr occlude`, for the first training of the 3D estimator."""

import io
import json
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from cfr.model.coefficients import Coefficients, coefficient_layout
from cfr.model.estimated_faces import load_face_estimator
from cfr.model.rendered_faces import FaceRenderings, RenderedFaces
from cfr.model.training.files import write_atomically
from cfr.model.training.shard_index import TrainingDataError

SHARD_ROWS = 64
_ROW_GROUP_ROWS = 32
_JPEG_QUALITY = 95
_DIGEST = b"face_model"
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_WAIT = 2.0


def make_shards(
    folder: Path, face_model: str, rows: int, seed: int, workers: int, rank: int, world_size: int, say: Callable
) -> None:
    """Render what is not there yet; returns when all shards are there.

    A shard is a function of the face model, the seed and its number, so that one that is there stays.

    Args:
        folder: where they go.
        face_model: see `load_face_estimator`.
        rows: how many, over all shards; rounded up to whole ones.
        seed: of the faces.
        workers: processes; 0: this one.
        rank, world_size: this process and how many share the work.
        say: prints a line.

    Raises:
        TrainingDataError: a shard that is there was made with another face model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digest = load_face_estimator(face_model, own_conventions=True).model.digest
    firsts = range(0, rows, SHARD_ROWS)
    paths = [folder / f"renders-{seed}-{first:08d}.parquet" for first in firsts]
    for path in paths:
        if path.exists() and pq.read_schema(path).metadata.get(_DIGEST) != digest.encode():
            raise TrainingDataError(f"{path} was made with another face model; remove it, or choose another --output")
    work = [
        (path, face_model, seed, first)
        for number, (path, first) in enumerate(zip(paths, firsts, strict=True))
        if number % world_size == rank and not path.exists()
    ]
    if work:
        say(f"rendering {SHARD_ROWS * len(work)} faces into {folder}")
    began = time.monotonic()
    if workers:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            for done, _ in enumerate(pool.imap_unordered(_make_shard, work), start=1):
                _report(say, done, len(work), began)
    else:
        for done, each in enumerate(work, start=1):
            _make_shard(each)
            _report(say, done, len(work), began)
    while not all(path.exists() for path in paths):  # another process renders them
        time.sleep(_WAIT)


def _report(say: Callable, done: int, total: int, began: float) -> None:
    if done % 8 == 0 or done == total:
        say(f"{done} of {total} shards, {time.monotonic() - began:.0f} s")


def _make_shard(work: tuple[Path, str, int, int]) -> None:
    path, face_model, seed, first = work
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = load_face_estimator(face_model, own_conventions=True).model
        # So that no two seeds of a training have a shard in common.
        faces = FaceRenderings(model).draw(SHARD_ROWS, seed * 10**9 + first)
        write_shard(path, faces, model.sizes, model.digest, f"render-{seed}-{first:08d}")
    finally:
        torch.set_num_threads(threads)


def write_shard(path: Path, faces: RenderedFaces, sizes: tuple[int, int, int], digest: str, name: str) -> None:
    """Write faces as a shard that `cfr train-estimator` and `cfr view` read.

    Args:
        path: of the file.
        faces: what is written.
        sizes: of the face model.
        digest: of the face model.
        name: what the rows are called, before their number.
    """
    count = len(faces.original)
    names = [f"{name}-{row:03d}" for row in range(count)]
    pose = Coefficients.split(torch.from_numpy(faces.coefficients), sizes).pose.numpy()
    occluded = (faces.occluder_mask & faces.face_mask).sum((1, 2)) / faces.face_mask.sum((1, 2)).clip(1)
    columns = {
        "occlusion_id": pa.array([f"{name}#0.0" for name in names]),
        "image_id": pa.array(names),
        "face_index": pa.array(np.zeros(count, np.int32)),
        "copy_index": pa.array(np.zeros(count, np.int32)),
        "occluded": _pictures(faces.occluded, "JPEG"),
        "original": _pictures(faces.original, "JPEG"),
        "occluder_mask": _pictures(faces.occluder_mask.astype(np.uint8) * 255, "PNG"),
        "face_mask": _pictures(faces.face_mask.astype(np.uint8) * 255, "PNG"),
        "landmarks68": pa.array(list(faces.landmarks68.reshape(count, -1)), pa.list_(pa.float32(), 136)),
        "occluder": pa.array(list(faces.occluder)),
        "occluded_fraction": pa.array(occluded.astype(np.float32)),
        "coefficients": pa.array(list(faces.coefficients), pa.list_(pa.float32())),
        **{angle: pa.array(pose[:, axis]) for axis, angle in enumerate(("yaw", "pitch", "roll"))},
    }
    metadata = {_DIGEST: digest.encode(), b"coefficients": json.dumps(coefficient_layout(sizes)).encode()}
    table = pa.table(columns).replace_schema_metadata(metadata)
    write_atomically(path, lambda place: pq.write_table(table, place, row_group_size=_ROW_GROUP_ROWS))


def _pictures(arrays: np.ndarray, kind: str) -> pa.Array:
    files = []
    for array in arrays:
        data = io.BytesIO()
        Image.fromarray(array).save(
            data, kind, **({"quality": _JPEG_QUALITY} if kind == "JPEG" else {"compress_level": 1})
        )
        files.append({"bytes": data.getvalue(), "path": None})
    return pa.array(files, _IMAGE)
