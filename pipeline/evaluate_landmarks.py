"""`cfr evaluate landmarks`: normalised mean error of 68 landmarks by yaw."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfr.model.composites import FacePlace, composites_of, load_occluders
from cfr.model.landmark_metrics import (
    FAILED_NME,
    YAW_BINS,
    Summary,
    area_under_roc,
    load_point_stack,
    mean_of_bins,
    normalised_mean_error,
    points_box,
    summarise,
    summarise_by_yaw,
    yaw_bin,
)
from cfr.model.photo_fits import Photo, PhotoFailure
from cfr.pipeline import face_model_flag
from cfr.pipeline.errors import UserError
from cfr.pipeline.fitter_arguments import add_fitter_arguments, photo_fitter
from cfr.pipeline.labelled_photos import find_photos, read_photos, read_points

_WORST = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.epilog = """\
The folder holds photos with <stem>.npy (68x2 or 68x3 iBUG points, px of the photo, pixel centres at whole numbers) and
may hold <stem>.json with "Pose_Para" = [pitch, yaw, roll, ...] in radians, which tells the yaw group.

examples:
  cfr evaluate landmarks labelled/ --json
  cfr evaluate landmarks labelled/ --occluders cutouts/
  cfr evaluate landmarks --predictions ours.npy --truth theirs.npy --yaw yaw.npy"""
    parser.add_argument("folder", nargs="?", metavar="DIR", help="photos with 68-point ground truth")
    parser.add_argument("--predictions", metavar="NPY", help="instead of DIR: predicted points, (N,68,2) or (N,2,68)")
    parser.add_argument("--truth", metavar="NPY", help="true points of the same faces, same layouts")
    parser.add_argument("--yaw", metavar="NPY", help="true yaw of the same faces, (N,) degrees")
    parser.add_argument("--yaw-key", metavar="KEY", help="read the yaw (degrees) from this key of <stem>.json instead")
    parser.add_argument("--occluders", metavar="DIR", help="RGBA cut-outs: fit copies with pasted occluders as well")
    parser.add_argument("--copies", type=int, default=2, metavar="N", help="occluded copies of a photo (default: 2)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the pasted occluders (default: 0)")
    add_fitter_arguments(parser)
    face_model_flag.add_argument(parser)


@dataclass(frozen=True)
class _Labelled:
    """A photo's truth: points (68,2) with pixel centres at +0.5, yaw in degrees or None, occluder pasted on or None."""

    name: str
    points: np.ndarray
    yaw: float | None
    occluder: str | None = None


@dataclass(frozen=True)
class _Measured:
    """Outcome of a fit; error is a fraction."""

    label: _Labelled
    error: float
    quality: float


def run(args: argparse.Namespace) -> int:
    """Measure and print; see `cfr.pipeline.evaluate.run`."""
    files = (args.predictions, args.truth, args.yaw)
    if any(files):
        if args.folder or not all(files):
            raise UserError("either a folder, or --predictions, --truth and --yaw together")
        report = _report_of_files(*map(Path, files))
    elif args.folder:
        report = _report_of_folder(args)
    else:
        raise UserError("a folder of labelled photos is needed (or --predictions, --truth and --yaw)")
    print(json.dumps(report, indent=2) if args.json else _table(report))
    return 0


def _report_of_files(predictions: Path, truth: Path, yaw: Path) -> dict:
    stacks = []
    for path in (predictions, truth):
        try:
            stacks.append(load_point_stack(read_points(path)))
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error
    angles = read_points(yaw).ravel()
    if not len(stacks[0]) == len(stacks[1]) == len(angles):
        raise UserError(
            f"different numbers of faces: {len(stacks[0])} predictions, {len(stacks[1])} truths, {len(angles)} yaws"
        )
    usable = np.isfinite(stacks[0]).all((1, 2))
    errors = np.full(len(angles), np.nan)
    try:
        errors[usable] = normalised_mean_error(stacks[0][usable], stacks[1][usable])
    except ValueError as error:
        raise UserError(f"{truth}: {error}") from error
    by_yaw = summarise_by_yaw(errors[usable], angles[usable])
    order = np.argsort(-np.where(usable, errors, -1))[:_WORST]
    return {
        "nme_by_yaw": {name: _percent(summary) for name, summary in by_yaw.items()},
        "mean_of_bins": _in_percent(mean_of_bins(by_yaw)),
        "unbinned": _percent(summarise([])),
        "failed": [{"photo": int(i), "reason": "prediction is not finite"} for i in np.flatnonzero(~usable)],
        "worst": [{"photo": int(i), "nme": _in_percent(errors[i])} for i in order if usable[i]],
    }


def _report_of_folder(args: argparse.Namespace) -> dict:
    labels, skipped = _read_labels(Path(args.folder), args.yaw_key)
    occluders = load_occluders(Path(args.occluders))[0] if args.occluders else []
    if args.occluders and not occluders:
        raise UserError(f"--occluders {args.occluders}: no usable RGBA cut-out (*.png)")
    failures: list[dict] = []
    measured = list(_measure(labels, occluders, args, failures))
    clean = [result for result in measured if result.label.occluder is None]
    report = _report(clean)
    report["failed"] = [failure for failure in failures if "occluder" not in failure]
    report["skipped"] = skipped
    failed_fit = [result.error > FAILED_NME for result in measured]
    report["quality"] = {
        "auroc": area_under_roc([-result.quality for result in measured], failed_fit),
        "n": len(measured),
        "failed_fits": sum(failed_fit),
    }
    if occluders:
        report["occluded"] = _report([result for result in measured if result.label.occluder is not None])
        report["occluded"]["failed"] = [failure for failure in failures if "occluder" in failure]
    return report


def _read_labels(folder: Path, yaw_key: str | None) -> tuple[dict[Path, _Labelled], list[dict]]:
    """Photos with their truth, and those whose truth is no 68 points."""
    labels, skipped = {}, []
    for path in find_photos([str(folder)]):
        truth = path.with_suffix(".npy")
        if not truth.exists():
            continue
        points = read_points(truth)
        if points.ndim != 2 or points.shape[0] != 68 or points.shape[1] not in (2, 3):
            skipped.append({"photo": path.name, "reason": f"truth has shape {points.shape}, not 68 points"})
            continue
        # The files count pixel centres at whole numbers.
        labels[path] = _Labelled(path.name, points[:, :2].astype(np.float64) + 0.5, _read_yaw(path, yaw_key))
    if not labels:
        raise UserError(f"{folder}: no photo with 68 points in <stem>.npy")
    return labels, skipped


def _read_yaw(photo: Path, key: str | None) -> float | None:
    """True yaw in degrees (sign as stored), or None if the photo has none."""
    path = photo.with_suffix(".json")
    if not path.exists():
        return None
    try:
        notes = json.loads(path.read_text())
        value = notes.get(key) if key else notes.get("Pose_Para")
        if value is None:
            return None
        return float(value) if key else float(np.rad2deg(value[1]))
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"{path}: no usable yaw ({error})") from error


def _measure(
    labels: dict[Path, _Labelled], occluders: list, args: argparse.Namespace, failures: list[dict]
) -> Iterator[_Measured]:
    """Fit every photo and its occluded copies."""
    waiting: list[_Labelled] = []
    unreadable: dict[Path, str] = {}

    def photos() -> Iterator[Photo]:
        for index, (path, image) in enumerate(read_photos(labels, unreadable)):
            label = labels[path]
            box = points_box(label.points)
            waiting.append(label)
            yield Photo(label.name, image, box)
            if not occluders:
                continue
            series = composites_of(
                image,
                FacePlace(box, _five_points(label.points)),
                occluders,
                name=label.name,
                index=index,
                copies=args.copies,
                matched_share=1 / 3,
                seed=args.seed,
            )
            for composite in series:
                waiting.append(_Labelled(label.name, label.points, label.yaw, composite.occluder))
                yield Photo(label.name, composite.image, box)

    for result in photo_fitter(args).fit(photos()):
        label = waiting.pop(0)
        if isinstance(result, PhotoFailure):
            note = {"photo": label.name, "reason": result.reason}
            failures.append(note | ({"occluder": label.occluder} if label.occluder else {}))
            continue
        error = float(normalised_mean_error(result.landmarks68, label.points))
        yield _Measured(label, error, result.quality)
    failures += [{"photo": path.name, "reason": reason} for path, reason in unreadable.items()]


def _five_points(points: np.ndarray) -> np.ndarray:
    """Eyes, nose tip and mouth corners (5,2) of 68 points."""
    return np.stack([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])


def _report(measured: list[_Measured]) -> dict:
    binned = [result for result in measured if result.label.yaw is not None]
    by_yaw = summarise_by_yaw([result.error for result in binned], [result.label.yaw for result in binned])
    worst = sorted(measured, key=lambda result: -result.error)[:_WORST]
    return {
        "nme_by_yaw": {name: _percent(summary) for name, summary in by_yaw.items()},
        "mean_of_bins": _in_percent(mean_of_bins(by_yaw)),
        "unbinned": _percent(summarise([result.error for result in measured if result.label.yaw is None])),
        "worst": [
            {
                "photo": result.label.name,
                "nme": _in_percent(result.error),
                "yaw_bin": None if result.label.yaw is None else yaw_bin(result.label.yaw),
                "quality": round(result.quality, 3),
            }
            | ({"occluder": result.label.occluder} if result.label.occluder else {})
            for result in worst
        ],
    }


def _in_percent(fraction: float | None) -> float | None:
    return None if fraction is None else round(100 * float(fraction), 3)


def _percent(summary: Summary) -> dict:
    interval = None if summary.interval is None else [_in_percent(bound) for bound in summary.interval]
    return {"nme": _in_percent(summary.mean), "n": summary.n, "interval": interval}


def _table(report: dict) -> str:
    lines = _rows(report)
    if "occluded" in report:
        lines += ["", "with pasted occluders", *_rows(report["occluded"])]
    if "quality" in report:
        quality = report["quality"]
        auroc = "undefined (needs good and failed fits)" if quality["auroc"] is None else f"{quality['auroc']:.3f}"
        lines += [
            "",
            f"quality against failed fits (NME > {FAILED_NME:.0%}): AUROC {auroc}, "
            f"{quality['failed_fits']} of {quality['n']} fits failed",
        ]
    lines += [f"skipped {entry['photo']}: {entry['reason']}" for entry in report.get("skipped", [])]
    return "\n".join(lines)


def _rows(report: dict) -> list[str]:
    lines = [f"{'yaw':<10}{'NME %':>8}{'95% interval':>16}{'n':>6}"]
    for name, entry in [*report["nme_by_yaw"].items(), ("unbinned", report["unbinned"])]:
        mean = "-" if entry["nme"] is None else f"{entry['nme']:.2f}"
        interval = "-" if entry["interval"] is None else "{:.2f} - {:.2f}".format(*entry["interval"])
        lines.append(f"{name:<10}{mean:>8}{interval:>16}{entry['n']:>6}")
    mean = report["mean_of_bins"]
    empty = [name for name in YAW_BINS if not report["nme_by_yaw"][name]["n"]]
    lines.append(
        f"mean of the bins: {f'{mean:.2f}' if mean is not None else 'undefined, no photo in ' + ', '.join(empty)}"
    )
    lines.append(f"failed: {len(report['failed'])}")
    lines += [f"  {entry['photo']}: {entry['reason']}" for entry in report["failed"]]
    lines.append("worst:")
    for entry in report["worst"]:
        occluder = f" under {entry['occluder']}" if "occluder" in entry else ""
        lines.append(f"  {entry['photo']}{occluder}: {entry['nme']:.2f} %")
    return lines
