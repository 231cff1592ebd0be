"""Summary of the occluder masks and guidances of many photos, as dictionaries for JSON and as a table."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cfr.model.composites import KINDS
from cfr.model.known_occlusion import GuidanceScores, OcclusionScores
from cfr.model.landmark_metrics import summarise

_WORST = 5


@dataclass(frozen=True)
class ScoredPhoto:
    """A photo's name, the kind of what covers it, whether that was given the skin's colour, and the scores."""

    name: str
    kind: str
    colour_matched: bool
    scores: OcclusionScores


def occlusion_report(composites: list[ScoredPhoto], real: list[ScoredPhoto], untouched: list[float]) -> dict:
    """All figures as nested dictionaries (docs/evaluate.md names them).

    Args:
        composites: photos with a pasted cut-out.
        real: photos that came with their occluder.
        untouched: share of the face flagged in each photo before anything was pasted on.
    """
    flagged = summarise(untouched)
    report = {"composites": _summary(composites), "real": _summary(real)}
    report["composites"]["by_kind"] = _grouped(composites, lambda item: item.kind)
    report["composites"]["by_colour"] = _grouped(
        composites, lambda item: "colour-matched" if item.colour_matched else "as photographed"
    )
    report["real"]["by_kind"] = _grouped(real, lambda item: item.kind)
    report["untouched_photos"] = {"n": flagged.n, "flagged": _rounded(flagged.mean)}
    ordered = sorted(composites + real, key=lambda item: item.scores.mask.iou or 0.0)
    report["worst"] = [{"photo": item.name, "iou": _rounded(item.scores.mask.iou)} for item in ordered[:_WORST]]
    return report


def _grouped(items: list[ScoredPhoto], key: Callable[[ScoredPhoto], str]) -> dict[str, dict]:
    present = {key(item) for item in items}
    order = [name for name in KINDS if name in present] + sorted(present - set(KINDS))
    return {name: _summary([item for item in items if key(item) == name]) for name in order}


def _summary(items: list[ScoredPhoto]) -> dict:
    summary: dict = {"n": len(items)}
    for name in ("iou", "recall", "precision", "false_positive", "cover"):
        values = summarise(
            [getattr(item.scores.mask, name) for item in items if getattr(item.scores.mask, name) is not None]
        )
        summary[name] = _rounded(values.mean)
        if name == "iou":
            summary["iou_interval"] = values.interval and [_rounded(bound) for bound in values.interval]
    summary["guidance"] = {
        part: _guidance([getattr(item.scores, part) for item in items]) for part in ("covered", "visible")
    }
    return summary


def _guidance(scores: list[GuidanceScores | None]) -> dict:
    scores = [score for score in scores if score is not None]
    methods = list(scores[0].psnr) if scores else []
    return {
        "n": len(scores),
        "psnr": {name: _rounded(np.mean([score.psnr[name] for score in scores])) for name in methods},
        "ssim": {name: _rounded(np.mean([score.ssim[name] for score in scores])) for name in methods},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)


def occlusion_table(report: dict) -> str:
    """A report (with `failed` and `skipped_occluders` added) for reading."""
    lines = [
        f"{'occluder':<18}{'n':>5}{'IoU':>7}{'95% interval':>16}{'recall':>8}{'precision':>11}"
        f"{'clean flagged':>15}{'cover':>7}"
    ]
    for part in ("composites", "real"):
        if report[part]["n"]:
            groups = [*report[part]["by_kind"].items(), *report[part].get("by_colour", {}).items()]
            lines += [_row(name, entry) for name, entry in [*groups, (f"all {part}", report[part])]]
    untouched = report["untouched_photos"]
    if untouched["n"]:
        lines.append(f"untouched photos: {untouched['flagged']:.1%} of the face flagged (n={untouched['n']})")
    for part in ("composites", "real"):
        for region, entry in report[part]["guidance"].items():
            if entry["n"]:
                numbers = ", ".join(
                    f"{name.replace('_', ' ')} {entry['psnr'][name]:.2f} dB / {entry['ssim'][name]:.3f}"
                    for name in entry["psnr"]
                )
                lines.append(f"{region} part of the {part}, PSNR / SSIM: {numbers} (n={entry['n']})")
    lines.append("lowest IoU: " + ", ".join(f"{entry['photo']} {entry['iou'] or 0:.2f}" for entry in report["worst"]))
    lines.append(f"failed: {len(report['failed'])}")
    lines += [f"  {entry['photo']}: {entry['reason']}" for entry in report["failed"]]
    lines += [f"cut-out not used: {name}: {reason}" for name, reason in report["skipped_occluders"].items()]
    return "\n".join(lines)


def _row(name: str, entry: dict) -> str:
    interval = "-" if not entry["iou_interval"] else "{:.2f} - {:.2f}".format(*entry["iou_interval"])
    numbers = {
        key: "-" if entry[key] is None else f"{entry[key]:.3f}"
        for key in ("iou", "recall", "precision", "false_positive", "cover")
    }
    return (
        f"{name:<18}{entry['n']:>5}{numbers['iou']:>7}{interval:>16}{numbers['recall']:>8}{numbers['precision']:>11}"
        f"{numbers['false_positive']:>15}{numbers['cover']:>7}"
    )
