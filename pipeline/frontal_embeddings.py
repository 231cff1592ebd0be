"""Embeddings of the faces of frontal shards: as photographed, frontalised, and as the gate decides."""

import io
from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from cfr.model.checkpoints import CheckpointError
from cfr.model.frontalization.identity import load_comparison
from cfr.model.frontalization.templates import TEMPLATES
from cfr.pipeline import console
from cfr.pipeline.errors import UserError
from cfr.pipeline.job_hash import read_job
from cfr.pipeline.pair_rows import find_shards

_COLUMNS = ("image_id", "pose_index", "yaw", "apply", "landmarks5", "frontal_landmarks5", "source", "frontal")
_BATCH_ROWS = 16


def embed_frontal_rows(output: str, identity: str) -> tuple[list[str], np.ndarray, dict[str, np.ndarray]]:
    """Embed the first face of every photo.

    Args:
        output: of `cfr frontalize`.
        identity: IR-SE-50 checkpoint, or "dlib".

    Returns:
        Image ids, yaw (N,) degrees, {"raw", "frontalised", "gated"}: (N,D) embeddings.

    Raises:
        UserError: a column is missing, a photo has several poses, the checkpoint does not fit, dlib is not installed.
    """
    try:
        encoder = load_comparison(identity)
    except (CheckpointError, FileNotFoundError, ImportError) as error:
        raise UserError(f"--identity {identity}: {error}") from error
    shards = find_shards(output, "OUT").rows
    job = read_job(output)
    template = TEMPLATES[job.parameters.get("template", "crop224") if job else "crop224"]
    seen: set[str] = set()
    ids, yaw, raw, frontalised, apply = [], [], [], [], []
    total = sum(pq.read_metadata(path).num_rows for path in shards)
    with tqdm(total=total, unit=" faces", disable=console.is_quiet() or None) as bar:
        for path in shards:
            for rows in _read(path):
                bar.update(len(rows))
                rows = [row for row in rows if row["image_id"] not in seen and not seen.add(row["image_id"])]
                if not rows:
                    continue
                ids += [row["image_id"] for row in rows]
                yaw += [row["yaw"] for row in rows]
                apply += [row["apply"] for row in rows]
                sources, results = (_pictures(rows, name) for name in ("source", "frontal"))
                in_photo, in_result = (_points(rows, name) for name in ("landmarks5", "frontal_landmarks5"))
                in_source = torch.from_numpy(template.moved(in_photo.numpy(), sources.shape[-1])).float()
                raw.append(encoder.embed(sources, in_source))
                frontalised.append(encoder.embed(results, in_result))
    if not ids:
        raise UserError(f"{output}: no row in it")
    ways = {"raw": torch.cat(raw).numpy(), "frontalised": torch.cat(frontalised).numpy()}
    ways["gated"] = np.where(np.array(apply)[:, None], ways["frontalised"], ways["raw"])
    return ids, np.array(yaw, float), ways


def _read(path: str) -> Iterator[list[dict]]:
    with pq.ParquetFile(path) as file:
        missing = [name for name in _COLUMNS if name not in file.schema_arrow.names]
        if missing:
            raise UserError(
                f"{path} has no column {missing[0]!r}: give an output of `cfr frontalize` with all pictures"
            )
        for batch in file.iter_batches(_BATCH_ROWS, columns=list(_COLUMNS)):
            rows = batch.to_pylist()
            if any(row["pose_index"] for row in rows):
                raise UserError(f"{path}: a face comes in several poses; frontalise with one --pose")
            yield rows


def _pictures(rows: list[dict], name: str) -> Tensor:
    decoded = [np.array(Image.open(io.BytesIO(row[name]["bytes"])).convert("RGB")) for row in rows]
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).float() / 255


def _points(rows: list[dict], name: str) -> Tensor:
    return torch.tensor([row[name] for row in rows], dtype=torch.float32).view(-1, 5, 2)
