"""Render training samples for the landmarks of turned faces: pictures and the truth about them.

python scripts/turned_landmarks/render_samples.py samples/ --shards 40

A shard is one seed: 512 pictures, the same bytes on the same machine whenever it is made. Shards that exist are kept,
so the command can be stopped and started again.
"""

import argparse
import io
import os
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cfr.model.face_landmarks import INPUT_SIZE
from cfr.model.face_model import MorphableModel
from cfr.model.synthetic_faces import SyntheticFaceRenderer
from cfr.model.synthetic_photos import photographed

SHARD = 512
MINI_BATCH = 8
JPEG_QUALITY = 94


@torch.inference_mode()
def render_shard(renderer: SyntheticFaceRenderer, seed: int, size: int) -> dict[str, np.ndarray]:
    """Arrays of one shard: landmarks (N,468,3) float32 px of the network's input, visible (N,468) bool, pose (N,3)
    degrees, and the pictures as JPEG files in a row with their sizes (N,) in bytes."""
    generator = torch.Generator().manual_seed(seed)
    parts = {"landmarks": [], "visible": [], "pose": []}
    pictures = []
    for _ in range(size // MINI_BATCH):
        faces = renderer.draw(MINI_BATCH, generator)
        picture = photographed(faces, generator)
        parts["landmarks"].append(faces.landmarks)
        parts["visible"].append(faces.visible)
        parts["pose"].append(faces.coefficients.pose)
        for pixels in (picture * 255).round().byte().permute(0, 2, 3, 1).numpy():
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, "JPEG", quality=JPEG_QUALITY)
            pictures.append(data.getvalue())
    arrays = {name: torch.cat(values).numpy() for name, values in parts.items()}
    arrays["jpeg"] = np.frombuffer(b"".join(pictures), np.uint8)
    arrays["jpeg_size"] = np.array([len(data) for data in pictures])
    return arrays


def main(words: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for the shards")
    parser.add_argument("--shards", type=int, default=40)
    parser.add_argument("--size", type=int, default=SHARD, help=f"pictures per shard (default: {SHARD})")
    parser.add_argument("--first", type=int, default=0, help="seed of the first shard")
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    arguments.output.mkdir(parents=True, exist_ok=True)
    renderer = SyntheticFaceRenderer(MorphableModel.load_default(), INPUT_SIZE)
    for seed in range(arguments.first, arguments.first + arguments.shards):
        path = arguments.output / f"samples-{seed:05d}.npz"
        if path.exists():
            continue
        began = time.monotonic()
        unfinished = path.with_suffix(".tmp")
        with open(unfinished, "wb") as file:
            np.savez(file, **render_shard(renderer, seed, arguments.size))
        os.replace(unfinished, path)
        print(f"{path.name}: {1000 * (time.monotonic() - began) / arguments.size:.0f} ms per sample", flush=True)


if __name__ == "__main__":
    main()
