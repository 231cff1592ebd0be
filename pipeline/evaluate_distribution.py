"""`cfr evaluate distribution`: how far one set of pictures is from another (FID and KID)."""

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from cfr.model.checkpoints import CheckpointError
from cfr.model.distribution import HALVES, Distance, distance_metrics, load_feature_network, nearest, set_distances
from cfr.pipeline import console
from cfr.pipeline.errors import UserError
from cfr.pipeline.picture_sets import PictureSet, open_set

_BATCH = 16
_LISTED_FAILURES = 100


@dataclass(frozen=True)
class MeasuredSet:
    """A set with the features of its pictures.

    Attributes:
        pictures: the set without those that cannot be decoded.
        names: of the pictures.
        sizes: how many pictures have which (width, height), as they are stored.
        failed: {name: reason}.
        features: (N,F) float32.
    """

    pictures: PictureSet
    names: list[str]
    sizes: Counter[tuple[int, int]]
    failed: dict[str, str]
    features: Tensor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.epilog = """\
A set is a folder of pictures, shards, or an output of `cfr pairs`, `cfr frontalize`, `cfr occlude` or `cfr ingest`;
SOURCE:COLUMN names the column of pictures (default: frontal, target or image).

The file of features is yours to download, nothing is fetched: pt_inception-2015-12-05-6726825d.pth of pytorch-fid
gives FID and KID as papers report them; ResNet-50, VGG-19 and IR-SE-50 (see `cfr models`) give distances that can be
compared with each other only.

examples:
  cfr evaluate distribution photos/ frontal --feature-weights pt_inception-2015-12-05-6726825d.pth --report report
  cfr evaluate distribution frontal:source frontal:frontal --feature-weights resnet50-0676ba61.pth --json"""
    add = parser.add_argument
    add("reference", metavar="REFERENCE", help="the real pictures")
    add("other", metavar="OTHER", help="the pictures to compare with them, usually made ones")
    add("--feature-weights", required=True, metavar="FILE", help="checkpoint of the network for the features")
    add("--size", type=int, metavar="PX", help="cut all pictures to squares of one size first")
    add("--limit", type=int, metavar="N", help="use N pictures of each set, evenly chosen")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where the network runs (default: cpu)")
    add("--report", metavar="DIR", help="write report.html and report.md there")


def run(args: argparse.Namespace) -> int:
    """Measure and print; see `cfr.pipeline.evaluate.run`."""
    for flag in ("size", "limit"):
        value = getattr(args, flag)
        if value is not None and value < (8 if flag == "size" else 2):
            raise UserError(f"--{flag} {value} is too small")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no CUDA device here")
    sets = [_chosen(open_set(text), args.limit) for text in (args.reference, args.other)]
    try:
        distance_metrics(nn.Identity(), 1)
        network = load_feature_network(args.feature_weights, args.device)
    except ModuleNotFoundError as error:
        raise UserError(str(error)) from error
    except (CheckpointError, OSError) as error:
        raise UserError(f"--feature-weights {args.feature_weights}: {error}") from error
    reference, other = (_measured(pictures, network.extract, args.size, args.device) for pictures in sets)
    _check_sizes(reference, other, args.size)
    with _bar(HALVES + 2, "halvings") as bar:
        found = set_distances(reference.features, other.features, progress=bar.update)
    distance, index = nearest(other.features, reference.features)
    report = {
        "reference": _described(reference),
        "other": _described(other),
        "features": {
            "network": network.kind,
            "sha256": hashlib.sha256(Path(args.feature_weights).read_bytes()).hexdigest(),
            "count": reference.features.shape[1],
            "comparable_with_published": network.published,
        },
        "size": args.size,
        "fid": _figures(found.frechet),
        "fid_of_reference_halves": None if found.frechet_floor is None else _rounded(found.frechet_floor),
        "kid": _figures(found.kernel),
    }
    if args.report:
        from cfr.pipeline.distribution_report import write_report

        try:
            write_report(Path(args.report), report, reference, other, distance.numpy(), index.numpy())
        except OSError as error:
            raise UserError(f"--report {args.report}: cannot write there: {error.strerror or error}") from error
        console.note(f"report: {Path(args.report) / 'report.html'}")
    print(json.dumps(report, indent=2, ensure_ascii=False) if args.json else table(report))
    return 0


def table(report: dict) -> str:
    """The figures for reading."""
    lines = [_line(report["reference"]), _line(report["other"])]
    published = "" if report["features"]["comparable_with_published"] else "; not comparable with published values"
    lines.append(f"features: {report['features']['network']}, {report['features']['count']}{published}")
    for name in ("fid", "kid"):
        entry = report[name]
        interval = "" if entry["interval"] is None else "   95 % {:.4g} to {:.4g}".format(*entry["interval"])
        lines.append(f"{name.upper()} {entry['value']:>10.4g}{interval}")
    if report["fid_of_reference_halves"] is not None:
        lines.append(f"FID of two halves of the reference: {report['fid_of_reference_halves']:.4g}")
    return "\n".join(lines)


def _line(entry: dict) -> str:
    failed = f", {entry['failed']} cannot be decoded" if entry["failed"] else ""
    sizes = ", ".join(f"{width} x {height}" for width, height in entry["sizes"][:3])
    more = " and others" if len(entry["sizes"]) > 3 else ""
    return f"{entry['source']}: {entry['pictures']} pictures, {sizes}{more}{failed}"


def _chosen(pictures: PictureSet, limit: int | None) -> PictureSet:
    if limit is None or limit >= len(pictures):
        return pictures
    places = [pictures.places[i] for i in np.linspace(0, len(pictures) - 1, limit).round().astype(int)]
    return replace(pictures, places=places)


def _measured(pictures: PictureSet, extract: nn.Module, size: int | None, device: str) -> MeasuredSet:
    names, kept, features, failed = [], [], [], {}
    sizes: Counter[tuple[int, int]] = Counter()

    def decoded() -> Iterator[np.ndarray]:
        for index, name, picture in pictures.read():
            bar.update()
            if isinstance(picture, str):
                failed[name] = picture
                continue
            kept.append(index)
            names.append(name)
            sizes[picture.shape[1], picture.shape[0]] += 1
            yield picture if size is None else _square(picture, size)

    with _bar(len(pictures), "pictures") as bar, torch.inference_mode():
        for batch in _batches(decoded()):
            tensor = torch.from_numpy(np.stack(batch)).to(device).permute(0, 3, 1, 2).float() / 255
            features.append(extract(tensor).cpu())
    if len(kept) < 2:
        reasons = "".join(f"; {name}: {reason}" for name, reason in list(failed.items())[:1])
        raise UserError(f"{pictures.title()}: {len(kept)} usable pictures, at least 2 are needed{reasons}")
    whole = replace(pictures, places=[pictures.places[index] for index in kept])
    return MeasuredSet(whole, names, sizes, failed, torch.cat(features))


def _batches(pictures: Iterator[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """In the order they come, as many at once as have the same size."""
    batch: list[np.ndarray] = []
    for picture in pictures:
        if batch and (len(batch) == _BATCH or picture.shape != batch[0].shape):
            yield batch
            batch = []
        batch.append(picture)
    if batch:
        yield batch


def _square(picture: np.ndarray, size: int) -> np.ndarray:
    """The largest square in the middle, resized with a filter that does not alias."""
    height, width = picture.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS, box))


def _check_sizes(reference: MeasuredSet, other: MeasuredSet, size: int | None) -> None:
    sizes = set(reference.sizes) | set(other.sizes)
    if size is None and len(sizes) > 1:
        console.note(
            f"the pictures are of {len(sizes)} sizes, and resizing alone changes a distance: "
            f"--size {min(min(each) for each in sizes)} cuts them all to squares of one size"
        )


def _described(measured: MeasuredSet) -> dict:
    return {
        "source": measured.pictures.title(),
        "pictures": len(measured.names),
        "sizes": [list(size) for size, _ in measured.sizes.most_common(10)],
        "failed": len(measured.failed),
        "failures": dict(list(measured.failed.items())[:_LISTED_FAILURES]),
    }


def _figures(distance: Distance) -> dict:
    interval = None if distance.interval is None else [_rounded(end) for end in distance.interval]
    error = None if distance.error is None else _rounded(distance.error)
    return {"value": _rounded(distance.value), "standard_error": error, "interval": interval}


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _bar(total: int, unit: str) -> tqdm:
    return tqdm(total=total, unit=f" {unit}", disable=console.is_quiet() or None)
