"""`cfr evaluate pose`: fitted yaw of photos known to be frontal or in profile."""

import argparse
import json
from pathlib import Path

import numpy as np

from cfr.model.photo_fits import Photo, PhotoFailure
from cfr.pipeline import face_model_flag
from cfr.pipeline.errors import UserError
from cfr.pipeline.fitter_arguments import add_fitter_arguments, photo_fitter
from cfr.pipeline.labelled_photos import find_photos, photo_name, read_photos

# Name prefix of the photos -> their true absolute yaw in degrees.
_VIEWS = {"frontal": 0.0, "profile": 90.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.epilog = """\
Photos named frontal_* and profile_* are looked for in the folders and those within (one folder per person).

example:
  cfr evaluate pose people/ --json"""
    parser.add_argument("folder", nargs="+", metavar="DIR", help="folders with frontal_* and profile_* photos")
    parser.add_argument("--limit", type=int, metavar="N", help="measure N photos of each view, evenly chosen")
    add_fitter_arguments(parser)
    face_model_flag.add_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print; see `cfr.pipeline.evaluate.run`."""
    photos = find_photos(args.folder, recursive=True)
    fitter, report = photo_fitter(args), {}
    for view, truth in _VIEWS.items():
        chosen = [path for path in photos if path.name.startswith(f"{view}_")]
        if args.limit is not None and len(chosen) > args.limit:
            chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, args.limit).round().astype(int)]
        unreadable: dict[Path, str] = {}
        stream = (Photo(photo_name(path), image) for path, image in read_photos(chosen, unreadable))
        errors: dict[str, float] = {}
        failures: list[dict] = []
        for result in fitter.fit(stream):
            if isinstance(result, PhotoFailure):
                failures.append({"photo": result.photo.name, "reason": result.reason})
            else:
                errors[result.photo.name] = abs(abs(result.yaw) - truth)
        failures += [{"photo": photo_name(path), "reason": reason} for path, reason in unreadable.items()]
        worst = sorted(errors, key=lambda name: -errors[name])[:5]
        report[view] = {
            "n": len(errors),
            "median_error": round(float(np.median(list(errors.values()))), 2) if errors else None,
            "mean_error": round(float(np.mean(list(errors.values()))), 2) if errors else None,
            "failed": failures,
            "worst": [{"photo": name, "error": round(errors[name], 2)} for name in worst],
        }
    if not any(entry["n"] or entry["failed"] for entry in report.values()):
        raise UserError(f"no photo named frontal_* or profile_* in {', '.join(args.folder)}")
    print(json.dumps(report, indent=2) if args.json else _table(report))
    return 0


def _table(report: dict) -> str:
    lines = [f"{'view':<10}{'true |yaw|':>12}{'median error':>14}{'mean':>8}{'n':>6}{'failed':>8}"]
    for view, entry in report.items():
        numbers = ["-" if entry[key] is None else f"{entry[key]:.1f}" for key in ("median_error", "mean_error")]
        lines.append(
            f"{view:<10}{_VIEWS[view]:>12.0f}{numbers[0]:>14}{numbers[1]:>8}{entry['n']:>6}{len(entry['failed']):>8}"
        )
    for view, entry in report.items():
        lines.append(
            f"worst {view}: " + ", ".join(f"{worst['photo']} {worst['error']:.0f}" for worst in entry["worst"])
        )
        lines += [f"failed {failure['photo']}: {failure['reason']}" for failure in entry["failed"]]
    return "\n".join(lines)
