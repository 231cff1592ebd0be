"""How well a generator completes held-out pairs, beside the composite that needs no training.

    python benchmarks/completion.py RUN --pairs PAIRS

The held-out rows are those of the run in the folder RUN, all of them, as they are. Three pictures are scored against
the photo, at the run's size, inside the pair's mask and outside it (the rest of the face), with --lpips FILE also by
LPIPS as a whole, the photo around the face:

    generator   RUN/generator.safetensors
    composite   that of `cfr frontalize`, in the photo's own pose: `rotated` where the mask is not, its mirror image
                where that shows the place, the pair's guidance elsewhere, matched in colour and blended
    paste       the guidance inside the mask, `rotated` outside, nothing matched

Differences of PSNR come with 95% intervals from 2,000 bootstrap samples of the split column's values.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from cfr.model.alignment import CONTEXT_MARGIN
from cfr.model.checkpoints import load_generator
from cfr.model.coefficients import Coefficients
from cfr.model.face_model import MorphableModel
from cfr.model.frontalization.composite import CompositePainter
from cfr.model.frontalization.scene import Scene, crown, eyes
from cfr.model.frontalization.views import mirrored, photo_view
from cfr.model.images import decode_image
from cfr.model.lpips import load_lpips
from cfr.model.training.augmentation import FACE_LEVEL
from cfr.model.training.pair_metrics import region_scores
from cfr.model.training.shard_index import RowGroupReader, Shard, ShardIndex, build_index
from cfr.pipeline.pair_rows import find_shards, read_schema
from cfr.pipeline.where import comparable_columns, parse_where

PICTURES = ("target", "rotated", "guidance", "occlusion_mask")


def main() -> None:
    """Score the held-out rows and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lpips", help="torchvision's file of AlexNet or VGG-16")
    parser.add_argument("--sheet", type=Path, help="PNG to draw the pictures of a few rows to")
    args = parser.parse_args()
    model, painter = MorphableModel.load_default(), CompositePainter()
    if face_model_digest(args.pairs) not in ("", model.digest):
        sys.exit(f"{args.pairs}: made with another face model, whose coefficients mean something else; make them again")
    config = tomllib.loads((args.run / "config.toml").read_text())
    index = held_out(args.pairs, config)
    if not len(index.validation):
        sys.exit(f"{args.run}: no rows are held out of {args.pairs}; train with a larger --validation-fraction")
    generator = load_generator(args.run / "generator.safetensors")
    lpips = load_lpips(args.lpips) if args.lpips else None
    scores: dict[str, list[np.ndarray]] = {}
    owners: list[str] = []
    shown: list[np.ndarray] = []
    for rows in batches(index, args.batch):
        owners += [str(row[index.split_column]) for row in rows]
        pictures = {name: stacked(rows, name) for name in PICTURES}
        coefficients = torch.tensor([row["coefficients"] for row in rows], dtype=torch.float32)
        composite = compose(model, painter, pictures, coefficients)
        pictures["composite"] = composite
        small = {name: resized(picture, config["size"]) for name, picture in pictures.items()}
        hole = small["occlusion_mask"] > 0.5
        with torch.inference_mode():
            generated = generator(small["rotated"] * 2 - 1, small["guidance"] * 2 - 1)[0] / 2 + 0.5
        candidates = {
            "generator": generated,
            "composite": small["composite"],
            "paste": torch.where(hole, small["guidance"], small["rotated"]),
        }
        face = (small["guidance"].mean(1, keepdim=True) > FACE_LEVEL) | hole
        for name, picture in candidates.items():
            for where, region in {"inside": hole, "outside": face & ~hole}.items():
                for measure, value in region_scores(picture, small["target"], region).items():
                    scores.setdefault(f"{name} {measure} {where}", []).append(value.numpy())
            if lpips:
                completed = torch.where(face, picture, small["target"])
                distance = lpips(completed * 2 - 1, small["target"] * 2 - 1)
                scores.setdefault(f"{name} lpips", []).append(distance.numpy())
        tiles = [small["rotated"], small["guidance"], *candidates.values(), small["target"]]
        shown.append(torch.cat(tiles, 3)[0].permute(1, 2, 0).numpy())
    report({name: np.concatenate(values) for name, values in scores.items()}, np.array(owners))
    if args.sheet:
        sheet = (np.concatenate(shown).clip(0, 1) * 255).round().astype(np.uint8)
        Image.fromarray(sheet).save(args.sheet)


def face_model_digest(pairs: str) -> str:
    """What the pairs were made with; "" if they do not say."""
    metadata = read_schema(find_shards(pairs).rows[0]).metadata or {}
    models = json.loads(metadata.get(b"models", b"[]"))
    return next((model["digest"] for model in models if model["part"] == "face_model"), "")


def held_out(pairs: str, config: dict) -> ShardIndex:
    """The index of a run."""
    paths = find_shards(pairs).rows
    schema = read_schema(paths[0])
    column = config["split_column"] or ("identity" if "identity" in schema.names else "image_id")
    where = parse_where(config["where"], schema) if config["where"] else None
    columns = comparable_columns(schema) if where is not None else []
    return build_index([Shard(path, "") for path in paths], column, config["validation_fraction"], where, columns)


def batches(index: ShardIndex, size: int) -> Iterator[list[dict]]:
    """The held-out rows."""
    groups = index.validation
    columns = list(dict.fromkeys([*PICTURES, "coefficients", index.split_column]))
    reader = RowGroupReader(index.shards, columns, 1)
    waiting: list[dict] = []
    for position, (shard, group) in enumerate(zip(groups.shard.tolist(), groups.group.tolist(), strict=True)):
        rows = groups.rows[groups.starts[position] : groups.starts[position + 1]]
        waiting += reader.read(shard, group).take(rows).to_pylist()
        while len(waiting) >= size:
            yield waiting[:size]
            waiting = waiting[size:]
    if waiting:
        yield waiting


def stacked(rows: list[dict], name: str) -> Tensor:
    """A picture column as (B,3,H,W), a mask as (B,1,H,W), 0..1."""
    pictures = np.stack([decode_image(row[name]["bytes"]) for row in rows])
    tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    return tensor[:, :1] if name == "occlusion_mask" else tensor


def resized(picture: Tensor, size: int) -> Tensor:
    """Reduced as in training."""
    if picture.shape[-1] == size:
        return picture
    arrays = (picture * 255).round().byte().permute(0, 2, 3, 1).numpy()
    small = [Image.fromarray(array.squeeze()).resize((size, size), Image.Resampling.BOX) for array in arrays]
    return torch.from_numpy(np.stack(small)).view(len(small), size, size, -1).permute(0, 3, 1, 2).float() / 255


@torch.inference_mode()
def compose(
    model: MorphableModel, painter: CompositePainter, pictures: dict[str, Tensor], coefficients: Tensor
) -> Tensor:
    """The composite of the wanted view = the photo's view, from `rotated` where it is not masked; (B,3,H,W)."""
    fitted = Coefficients.split(coefficients, model.sizes)
    vertices = model.shape(fitted.identity, fitted.expression)
    view = photo_view(model, vertices, model.vertex_normals(vertices), fitted)
    margin = (CONTEXT_MARGIN,) * 4
    usable = pad((pictures["occlusion_mask"] < 0.5).float(), margin) * view.gbuffer.covered[:, None]
    scene = Scene(
        photo=pad(pictures["rotated"], margin),
        inside=torch.ones_like(usable),
        usable=usable,
        pose=fitted.pose,
        source=view,
        flipped=mirrored(view, model.mirror),
        target=view,
        guidance=pad(pictures["guidance"], margin),
        crown=crown(model),
        eyes=eyes(model),
        triangles=model.triangles,
    )
    colour = painter.paint(scene).colour
    return colour[..., CONTEXT_MARGIN:-CONTEXT_MARGIN, CONTEXT_MARGIN:-CONTEXT_MARGIN]


def report(scores: dict[str, np.ndarray], owners: np.ndarray) -> None:
    """Print means, and the generator's advantage with its interval."""
    names = [name for name in scores if name.startswith("generator")]
    print(f"{len(owners)} held-out pairs of {len(set(owners.tolist()))} values of the split column")
    print(f"{'':16}{'generator':>10}{'composite':>10}{'paste':>10}")
    for name in names:
        measure = name.removeprefix("generator ")
        means = [np.nanmean(scores[f"{who} {measure}"]) for who in ("generator", "composite", "paste")]
        print(f"{measure:16}" + "".join(f"{mean:10.4f}" for mean in means))
    generator = np.random.default_rng(0)
    groups = [np.flatnonzero(owners == owner) for owner in np.unique(owners)]
    for rival in ("composite", "paste"):
        difference = scores["generator psnr inside"] - scores[f"{rival} psnr inside"]
        samples = [
            np.nanmean(difference[np.concatenate([groups[n] for n in generator.integers(0, len(groups), len(groups))])])
            for _ in range(2000)
        ]
        low, high = np.quantile(samples, [0.025, 0.975])
        print(f"PSNR inside, generator - {rival}: {np.nanmean(difference):+.2f} dB ({low:+.2f} to {high:+.2f})")


if __name__ == "__main__":
    main()
