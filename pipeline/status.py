"""`cfr status`: how far a job is, from its output folder alone: while it runs, on whatever runner, or after it."""

import argparse
import time

from cfr.pipeline import manifests, progress, storage
from cfr.pipeline.errors import UserError, reject_unknown_arguments
from cfr.pipeline.job_hash import read_job
from cfr.pipeline.manifests import Layout, Manifest
from cfr.pipeline.progress import Heartbeat
from cfr.pipeline.stats import total

_EXAMPLES = """\
examples:
  cfr status pairs
  cfr status s3://bucket/pairs --slowest 20
"""
_LATE_SECONDS = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `cfr status`."""
    parser.epilog = _EXAMPLES
    parser.add_argument("output", metavar="OUT", help="output folder of cfr pairs or cfr frontalize")
    parser.add_argument(
        "--slowest", type=int, default=5, metavar="N", help="how many of the slowest units (default: 5)"
    )


def run(args: argparse.Namespace, beam_arguments: list[str]) -> int:
    """Run the command; returns the exit code, raises UserError."""
    reject_unknown_arguments(beam_arguments)
    storage.check_scheme(args.output, "OUT")
    output = storage.absolute(args.output)
    identity = read_job(output)
    if identity is None:
        raise UserError(f"{args.output}: no job has written there; give the folder that was its --output")
    layout = Layout(output, "frontal" if identity.parameters.get("job") == "frontalize" else "pairs")
    done = manifests.read_done(layout).manifests
    for line in describe(layout, list(done.values()), progress.read_heartbeats(layout), args.slowest):
        print(line)
    return 0


def describe(layout: Layout, done: list[Manifest], heartbeats: list[Heartbeat], slowest: int) -> list[str]:
    """Lines of the report."""
    totals = total(done)
    planned = progress.read_plan(layout)
    of_all = f" of {planned.units}" if planned else ""
    lines = [
        f"{totals['units']}{of_all} units done: {totals['rows']} images, {totals['rows_with_output']} with output "
        f"({totals['outputs']} rows, {totals['shard_bytes'] / 1e9:.3g} GB), {totals['rows_failed']} failed"
    ]
    if totals["failures"]:
        reasons = sorted(totals["failures"].items(), key=lambda item: (-item[1], item[0]))
        lines.append("failures: " + ", ".join(f"{count} {reason}" for reason, count in reasons))
    if storage.exists(layout.success):
        lines.append("the job is done")
    elif planned:
        lines += _under_way(planned, totals["rows"], heartbeats)
    spent = sum(totals["seconds"].values())
    if spent:
        shares = (f"{name} {100 * value / spent:.0f}%" for name, value in totals["seconds"].items())
        lines.append("stages: " + ", ".join(shares))
    ranked = sorted(done, key=lambda manifest: -sum(manifest.seconds.values()))[: max(slowest, 0)]
    lines += [
        f"slow: {each.unit_id}, {sum(each.seconds.values()):.1f} s for {each.rows} images of {each.path}"
        for each in ranked
    ]
    lines += [f"failed unit {failed.unit_id}: {failed.message}" for failed in progress.read_failed_units(layout)]
    return lines


def _under_way(planned: progress.Planned, rows_done: int, heartbeats: list[Heartbeat]) -> list[str]:
    now = time.time()
    alive = [beat for beat in heartbeats if now - beat.time < _LATE_SECONDS]
    rows = sum(beat.rows_done + beat.rows_under_way for beat in heartbeats)
    seconds = max((beat.time for beat in heartbeats), default=planned.time) - planned.time
    left = planned.rows - rows_done - sum(beat.rows_under_way for beat in heartbeats)
    if not alive:
        return [f"no worker has reported for {_LATE_SECONDS:.0f} s: the job is not running; launch it again to resume"]
    if rows <= 0 or seconds <= 0:
        return [f"{len(alive)} workers, the first photos are under way"]
    rate = rows / seconds
    return [
        f"{len(alive)} workers, {rate:.2f} images/s since the launch; about {left / rate / 3600:.2f} hours left",
        *(
            f"worker {beat.host}/{beat.pid}: {' '.join(beat.unit_ids) or 'between units'} ({beat.stage})"
            for beat in alive
        ),
    ]
