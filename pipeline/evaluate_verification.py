"""`cfr evaluate verification`: does frontalisation help a face recogniser? Photos raw, frontalised and gated."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfr.model.verification import (
    Roc,
    cosine_similarity,
    equal_error_rate,
    fold_accuracies,
    roc_curve,
    true_accept_rate,
)
from cfr.pipeline import console
from cfr.pipeline.errors import UserError
from cfr.pipeline.verification_pairs import VerificationPairs, folder_pairs, listed_pairs

FALSE_ACCEPT_RATES = (1e-2, 1e-3)
FRONTAL_YAW, PROFILE_YAW = 30.0, 45.0


@dataclass(frozen=True)
class Faces:
    """Photos with an embedding for each way to show them.

    Attributes:
        ids: image ids.
        yaw: (N,) estimated degrees, NaN where unknown.
        ways: {name: (N,D) embeddings}: raw, frontalised, gated, or what the user named.
        output: the frontal shards that they are of, or None.
    """

    ids: list[str]
    yaw: np.ndarray
    ways: dict[str, np.ndarray]
    output: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.epilog = """\
Embeddings are compared by cosine. "gated" is the result where the gate's `apply` is true, else the photo. A list has
lines `first second 0|1 [fold]`, or is LFW's pairs.txt.

examples:
  cfr evaluate verification frontal --identity ir_se50.pth --folders --report report
  cfr evaluate verification frontal --identity ir_se50.pth --pairs-list pairs.txt --json
  cfr evaluate verification --embeddings raw=raw.npy frontalised=turned.npy --ids ids.txt --folders"""
    add = parser.add_argument
    add("output", nargs="?", metavar="OUT", help="output folder of `cfr frontalize`, one pose per face")
    add("--identity", metavar="FILE|dlib", help="what embeds OUT's pictures: IR-SE-50 checkpoint, or extra [identity]")
    add("--embeddings", nargs="+", metavar="NAME=FILE", help="instead: embeddings by any recogniser, .npy (N,D)")
    add("--ids", metavar="FILE", help="image ids of the embeddings' rows, one a line")
    add("--apply", metavar="FILE", help="the gate's decision for each row, .npy (N,): adds gated to raw, frontalised")
    add("--yaw", metavar="FILE", help="yaw in degrees of each row, .npy (N,): adds figures by pose")
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--pairs-list", metavar="FILE", help="which photos to compare")
    chosen.add_argument("--folders", action="store_true", help="compare all photos; a folder holds one person's")
    add("--report", metavar="DIR", help="write report.html, report.md and roc.png there")


def run(args: argparse.Namespace) -> int:
    """Measure and print; see `cfr.pipeline.evaluate.run`."""
    faces = _faces(args)
    pairs = listed_pairs(args.pairs_list, faces.ids) if args.pairs_list else folder_pairs(faces.ids)
    report, curves = measure(faces, pairs)
    if args.report:
        from cfr.pipeline.verification_report import write_report

        try:
            write_report(Path(args.report), report, curves, faces, pairs)
        except OSError as error:
            raise UserError(f"--report {args.report}: cannot write there: {error.strerror or error}") from error
        console.note(f"report: {Path(args.report) / 'report.html'}")
    print(json.dumps(report, indent=2) if args.json else table(report))
    return 0


def measure(faces: Faces, pairs: VerificationPairs) -> tuple[dict, dict[str, Roc]]:
    """All figures by group of pairs and way, as a dictionary for JSON, and the curves of all pairs by way.

    Raises:
        UserError: the pairs are all of one kind, or an embedding is not finite.
    """
    similarity = {
        name: cosine_similarity(embeddings[pairs.first], embeddings[pairs.second])
        for name, embeddings in faces.ways.items()
    }
    bad = [name for name, values in similarity.items() if not np.isfinite(values).all()]
    if bad:
        raise UserError(f"the embeddings of {bad[0]!r} are not all finite")
    groups = {}
    for group, chosen in _groups(faces.yaw, pairs).items():
        kinds = pairs.same[chosen]
        if group == "all" and (kinds.all() or not kinds.any()):
            raise UserError("pairs of one person and of two persons are needed: see --pairs-list and --folders")
        entry = {"pairs": len(kinds), "same_person": int(kinds.sum()), "ways": {}}
        if len(kinds) and not kinds.all() and kinds.any():
            for name, values in similarity.items():
                entry["ways"][name] = _figures(values[chosen], kinds, pairs.folds[chosen])
        groups[group] = entry
    report = {"photos": len(faces.ids), "pairs_left_out": pairs.absent, "groups": groups}
    return report, {name: roc_curve(values, pairs.same) for name, values in similarity.items()}


def _figures(similarity: np.ndarray, same: np.ndarray, folds: np.ndarray) -> dict:
    roc = roc_curve(similarity, same)
    accuracies = fold_accuracies(similarity, same, folds)
    accuracies = accuracies[np.isfinite(accuracies)]
    figures = {
        "accuracy": round(float(accuracies.mean()), 4) if len(accuracies) else None,
        "accuracy_deviation": round(float(accuracies.std()), 4) if len(accuracies) else None,
        "folds": len(accuracies),
        "equal_error_rate": round(equal_error_rate(roc), 4),
    }
    for rate in FALSE_ACCEPT_RATES:
        # With fewer pairs of two people than 1 / rate, no false accept at all is allowed: say so instead of a figure.
        measurable = (~same).sum() >= 1 / rate
        figures[f"tar_at_far_{rate:g}"] = round(true_accept_rate(roc, rate), 4) if measurable else None
    return figures


def _groups(yaw: np.ndarray, pairs: VerificationPairs) -> dict[str, np.ndarray]:
    """Which pairs (N,) bool belong to each group; by pose only where the yaw is known."""
    groups = {"all": np.ones(len(pairs.same), bool)}
    if np.isfinite(yaw).any():
        turned = np.abs(yaw)
        low, high = np.sort([turned[pairs.first], turned[pairs.second]], axis=0)
        groups["frontal-frontal"] = high <= FRONTAL_YAW
        groups["frontal-profile"] = (low <= FRONTAL_YAW) & (high >= PROFILE_YAW)
        groups["profile-profile"] = low >= PROFILE_YAW
    return groups


def table(report: dict) -> str:
    """The figures for reading."""
    lines = [f"{report['photos']} photos; pairs left out because a photo is missing: {report['pairs_left_out']}"]
    for group, entry in report["groups"].items():
        lines.append(f"{group}: {entry['pairs']} pairs, {entry['same_person']} of one person")
        if entry["ways"]:
            rates = "".join(f"{f'TAR@{rate:g}':>11}" for rate in FALSE_ACCEPT_RATES)
            lines.append(f"  {'':<14}{'accuracy':>18}{'EER':>9}{rates}")
        for name, figures in entry["ways"].items():
            accuracy = "-" if figures["accuracy"] is None else f"{figures['accuracy']:.2%}"
            spread = "" if figures["accuracy"] is None else f" +- {100 * figures['accuracy_deviation']:.2f}"
            tars = (figures[f"tar_at_far_{rate:g}"] for rate in FALSE_ACCEPT_RATES)
            cells = "".join(f"{'-' if tar is None else f'{tar:.2%}':>11}" for tar in tars)
            lines.append(f"  {name:<14}{accuracy + spread:>18}{figures['equal_error_rate']:>9.2%}{cells}")
    return "\n".join(lines)


def _faces(args: argparse.Namespace) -> Faces:
    if args.embeddings:
        for flag in ("output", "identity"):
            if getattr(args, flag):
                raise UserError(
                    f"--embeddings stands for the pictures: leave {'OUT' if flag == 'output' else '--identity'} out"
                )
        return _given_faces(args)
    if not args.output or not args.identity:
        raise UserError("give OUT and --identity FILE, or --embeddings NAME=FILE and --ids FILE")
    for flag in ("ids", "apply", "yaw"):
        if getattr(args, flag):
            raise UserError(f"--{flag} goes with --embeddings: OUT has it in its rows")
    from cfr.pipeline.frontal_embeddings import embed_frontal_rows

    ids, yaw, ways = embed_frontal_rows(args.output, args.identity)
    return Faces(ids, yaw, ways, args.output)


def _given_faces(args: argparse.Namespace) -> Faces:
    if not args.ids:
        raise UserError("--ids FILE is needed with --embeddings: the image id of each row, one a line")
    try:
        ids = Path(args.ids).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--ids {args.ids}: cannot be read: {error}") from error
    ids = [line.strip() for line in ids if line.strip()]
    if len(set(ids)) != len(ids):
        raise UserError(f"--ids {args.ids}: an id comes twice")
    ways = {}
    for text in args.embeddings:
        name, equals, path = text.partition("=")
        if not equals:
            raise UserError(f"--embeddings {text}: write NAME=FILE, for example raw={text}")
        ways[name] = _read_array("--embeddings", path, len(ids), 2)
    if args.apply:
        if not {"raw", "frontalised"} <= ways.keys():
            raise UserError("--apply chooses between --embeddings raw=FILE and frontalised=FILE: give both")
        apply = _read_array("--apply", args.apply, len(ids), 1) > 0.5
        ways["gated"] = np.where(apply[:, None], ways["frontalised"], ways["raw"])
    yaw = _read_array("--yaw", args.yaw, len(ids), 1) if args.yaw else np.full(len(ids), np.nan)
    return Faces(ids, yaw, ways)


def _read_array(flag: str, path: str, rows: int, dimensions: int) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{flag} {path}: not a .npy file: {error}") from error
    if not isinstance(array, np.ndarray) or array.ndim != dimensions or len(array) != rows:
        shape = getattr(array, "shape", "several arrays")
        wanted = f"({rows}, D)" if dimensions == 2 else f"({rows},)"
        raise UserError(f"{flag} {path}: shape {shape}, but --ids names {rows} rows: {wanted} is needed")
    return array.astype(np.float64)
