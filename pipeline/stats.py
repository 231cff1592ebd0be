"""Totals of a job: from the manifests, for `_stats.json` and the summary."""

from collections import Counter
from collections.abc import Iterable

from cfr.pipeline.manifests import Manifest


def total(manifests: Iterable[Manifest]) -> dict:
    """Sums over units: a JSON value.

    Raises:
        RuntimeError: a unit's rows do not add up: a bug.
    """
    failures: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    names = ("rows", "rows_with_output", "rows_failed", "rows_filtered", "outputs", "faces_failed", "shard_bytes")
    sums = dict.fromkeys(names, 0)
    units = 0
    for manifest in manifests:
        if manifest.rows != manifest.rows_with_output + manifest.rows_failed + manifest.rows_filtered:
            raise RuntimeError(f"unit {manifest.unit_id}: its rows do not add up; please report this")
        units += 1
        for name in names:
            sums[name] += getattr(manifest, name)
        failures.update(manifest.failures)
        seconds.update(manifest.seconds)
    return {
        "units": units,
        **sums,
        "failures": dict(sorted(failures.items())),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }


def describe(totals: dict, seconds: float, rows_now: int) -> list[str]:
    """Lines of the summary.

    Args:
        totals: from `total`.
        seconds: wall time of this run.
        rows_now: rows that this run did.
    """
    lines = [
        f"{totals['rows']} images in {totals['units']} units: {totals['rows_with_output']} with output "
        f"({totals['outputs']} rows), {totals['rows_failed']} failed, {totals['rows_filtered']} filtered; "
        f"{totals['faces_failed']} single faces failed"
    ]
    if totals["failures"]:
        reasons = sorted(totals["failures"].items(), key=lambda item: (-item[1], item[0]))
        lines.append("failures: " + ", ".join(f"{count} {reason}" for reason, count in reasons))
    if rows_now and seconds:
        lines.append(f"{rows_now} images in {seconds:.1f} s: {rows_now / seconds:.2f} images/s, start included")
    spent = sum(totals["seconds"].values())
    if spent:
        shares = (f"{name} {100 * value / spent:.0f}%" for name, value in totals["seconds"].items())
        lines.append("stages: " + ", ".join(shares))
    return lines
