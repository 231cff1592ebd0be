"""The report of `cfr evaluate distribution`: figures, samples, and the pictures that stand out."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cfr.pipeline import report_page
from cfr.pipeline.picture_sets import PictureSet

if TYPE_CHECKING:
    from cfr.pipeline.evaluate_distribution import MeasuredSet

_SAMPLES, _PAIRS = 16, 8
_FIGURES = ("", "value", "standard error", "95 %")


def write_report(
    folder: Path,
    report: dict,
    reference: "MeasuredSet",
    other: "MeasuredSet",
    distance: np.ndarray,
    nearest: np.ndarray,
) -> None:
    """Write report.html and report.md.

    Args:
        folder: made if it is not there.
        report: what `cfr evaluate distribution --json` prints.
        reference, other: the sets.
        distance, nearest: (M,) of each picture of `other`, the distance to its nearest one of `reference` and which
            that is.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    features = report["features"]
    about = [(name, _set_line(report[name])) for name in ("reference", "other")]
    about.append(("features", f"{features['network']}, {features['count']}, sha256 {features['sha256'][:12]}"))
    if not features["comparable_with_published"]:
        about.append(("", "not comparable with published values"))
    figures = [[name.upper(), *_cells(report[name])] for name in ("fid", "kid")]
    figures.append(["FID of two halves of the reference", report["fid_of_reference_halves"] or "-", "-", "-"])
    explanation = (
        "FID and KID are 0 for the same distribution. FID grows as pictures get fewer: compare values of equally large "
        "sets only, and see what two halves of the reference show. The interval says how much other pictures of the "
        "same kind would change the value."
    )
    counts, edges = np.histogram(distance, 30)
    sections = [
        report_page.table(about),
        report_page.heading("Distances", explanation),
        report_page.table(figures, _FIGURES),
        report_page.heading(f"Some of {report['reference']['source']}"),
        report_page.pictures(_sampled(reference)),
        report_page.heading(f"Some of {report['other']['source']}"),
        report_page.pictures(_sampled(other)),
        report_page.heading(
            "Nearest pictures",
            "Each picture of the second set and the one of the first whose features are nearest to its own: pictures "
            "far from all others may be broken, very near ones may be copies.",
        ),
        report_page.charts([report_page.histogram("distance to the nearest", counts.tolist(), edges.tolist())]),
    ]
    order = np.argsort(distance, kind="stable")
    for title, chosen in (("Farthest", order[::-1][:_PAIRS]), ("Nearest", order[:_PAIRS])):
        shown = _read(other.pictures, chosen), _read(reference.pictures, nearest[chosen])
        sections.append(report_page.heading(title))
        sections.append(
            report_page.pictures([(shown[0][i], f"{distance[i]:.3g} {Path(other.names[i]).name}") for i in chosen])
        )
        sections.append(
            report_page.pictures([(shown[1][nearest[i]], Path(reference.names[nearest[i]]).name) for i in chosen])
        )
    failed = [*report["reference"]["failures"].items(), *report["other"]["failures"].items()]
    if failed:
        sections += [report_page.heading("Not decoded"), report_page.table(failed, ("picture", "reason"))]
    title = f"{report['other']['source']} from {report['reference']['source']}"
    (folder / "report.html").write_text(report_page.page(title, sections), encoding="utf-8", errors="backslashreplace")
    lines = [f"# {title}", "", *(f"* {name}: {text}" if name else f"* {text}" for name, text in about), ""]
    lines += ["| " + " | ".join(_FIGURES) + " |", "|---" * len(_FIGURES) + "|"]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in figures]
    (folder / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8", errors="backslashreplace")


def _set_line(entry: dict) -> str:
    failed = f", {entry['failed']} not decoded" if entry["failed"] else ""
    return f"{entry['source']}, {entry['pictures']:,} pictures{failed}"


def _cells(entry: dict) -> list[str]:
    interval = "-" if entry["interval"] is None else "{:.4g} to {:.4g}".format(*entry["interval"])
    error = "-" if entry["standard_error"] is None else f"{entry['standard_error']:.3g}"
    return [f"{entry['value']:.4g}", error, interval]


def _sampled(measured: "MeasuredSet") -> list[tuple[np.ndarray, str]]:
    count = len(measured.names)
    chosen = np.unique(np.linspace(0, count - 1, min(_SAMPLES, count)).round().astype(int))
    shown = _read(measured.pictures, chosen)
    return [(shown[index], Path(measured.names[index]).name) for index in chosen]


def _read(pictures: PictureSet, chosen: np.ndarray) -> dict[int, np.ndarray]:
    """Pictures by their index."""
    return {index: picture for index, _, picture in pictures.read(sorted({int(index) for index in chosen}))}
