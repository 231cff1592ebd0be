"""Small pair shards without photographs: coloured ovals, so that training runs in seconds."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def pair_pictures(size: int, seed: int) -> dict[str, np.ndarray]:
    """Target, rotated, guidance (S,S,3) uint8 and occlusion mask (S,S): an oval face with one side lost."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    face = x**2 / 0.1 + y**2 / 0.16 < 1
    colour = generator.uniform(80, 220, 3)
    shade = 1 + 0.3 * x[..., None] + 0.15 * np.sin(12 * y[..., None] + generator.uniform(0, 6))
    target = (colour * shade).clip(0, 255) * face[..., None]
    hole = face & (x > generator.uniform(-0.1, 0.15))
    guidance = np.broadcast_to(colour * 0.8, target.shape) * face[..., None]
    rotated = np.where(hole[..., None], 0, target)
    pictures = {"target": target, "rotated": rotated, "guidance": guidance}
    return {name: each.astype(np.uint8) for name, each in pictures.items()} | {
        "occlusion_mask": np.where(hole, 255, 0).astype(np.uint8)
    }


def png(picture: np.ndarray) -> dict:
    """A picture as it is stored in a shard."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
    return {"bytes": buffer.getvalue(), "path": None}


def pair_table(rows: int, size: int = 32, first: int = 0, **columns: list) -> pa.Table:
    """Pairs number `first` and following; further columns by name."""
    pictures = [pair_pictures(size, first + row) for row in range(rows)]
    names = [f"photo-{first + row}.png" for row in range(rows)]
    data = {
        "pair_id": pa.array([f"{name}#0.0" for name in names]),
        "image_id": pa.array(names),
        "quality": pa.array(np.linspace(0, 1, rows), pa.float32()),
    }
    for column in ("target", "rotated", "guidance", "occlusion_mask"):
        data[column] = pa.array([png(each[column]) for each in pictures], IMAGE)
    return pa.table(data | {name: pa.array(values) for name, values in columns.items()})


def write_shard(path: Path, table: pa.Table, row_group_rows: int = 4) -> Path:
    """Write a shard, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_rows, compression="none", use_dictionary=False)
    return path


def write_pairs(folder: Path, shards: int = 2, rows: int = 8, size: int = 32) -> Path:
    """An output folder of `cfr pairs`, its pictures being those of `pair_pictures`."""
    for shard in range(shards):
        write_shard(folder / "pairs" / f"{shard}.parquet", pair_table(rows, size, shard * rows))
    return folder
