"""A resumable job: plan minus done, run, account for every row. Used by every command that makes shards."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import apache_beam as beam

from cfr.pipeline import console, launch, manifests, progress, stats, storage, work_units
from cfr.pipeline.errors import UserError
from cfr.pipeline.job_hash import JobIdentity, check_same_job, read_job, write_job
from cfr.pipeline.launch import Launch, Outcome, Watch
from cfr.pipeline.lease import Lease
from cfr.pipeline.manifests import DoneUnits, Layout, Manifest
from cfr.pipeline.work_units import InputFile, UnitRuns, UnreadableFile
from cfr.transforms.batches import WorkUnit

_BREAKER_UNITS = 3


@dataclass(frozen=True)
class JobOptions:
    """Flags that every such job has; see `cfr pairs --help`."""

    unit_rows: int = 64
    limit: int | None = None
    overwrite: bool = False
    verify: bool = False
    retry_failed: tuple[str, ...] | None = None
    dry_run: bool = False
    abort_failure_rate: float = 0.9
    max_failure_rate: float = 1.0


@dataclass(frozen=True)
class Estimate:
    """What a row costs, for the plan, as long as this output has no manifests to tell.

    Attributes:
        seconds: of one worker.
        bytes: of output.
    """

    seconds: float
    bytes: float


@dataclass(frozen=True)
class Plan:
    """What there is to do.

    Attributes:
        files: readable inputs.
        unreadable: the others.
        units: all units of this run.
        done: {unit id: manifest} of those that are done.
        todo: the rest.
        redone, stale: ids of units to forget first: shards that do not match, failures to retry; and of units to
            remove: their input changed.
    """

    files: list[InputFile]
    unreadable: list[UnreadableFile]
    units: list[WorkUnit]
    done: dict[str, Manifest]
    todo: list[WorkUnit]
    redone: list[str]
    stale: list[str]


def read_inputs(patterns: Sequence[str]) -> tuple[list[InputFile], list[UnreadableFile]]:
    """Footers of all input files.

    Raises:
        UserError: a pattern matches nothing.
    """
    found = work_units.find_inputs(patterns)
    footers = storage.in_parallel(lambda item: work_units.read_footer(*item), found)
    readable = [footer for footer in footers if isinstance(footer, InputFile)]
    return readable, [footer for footer in footers if isinstance(footer, UnreadableFile)]


def make_plan(
    layout: Layout,
    identity: JobIdentity,
    files: list[InputFile],
    unreadable: list[UnreadableFile],
    options: JobOptions,
) -> Plan:
    """Plan minus done.

    Raises:
        UserError: the output was made by a job with other parameters.
    """
    units = work_units.plan_units(files, options.unit_rows, options.limit)
    if options.overwrite:
        return Plan(files, unreadable, units, {}, units, [], [])
    check_same_job(layout.output, identity)
    found = manifests.read_done(layout, options.verify)
    by_id = {unit.unit_id: unit for unit in units}
    done = {
        unit_id: manifest
        for unit_id, manifest in found.manifests.items()
        if unit_id in by_id
        and manifest.belongs_to(by_id[unit_id], identity.hash)
        and not _to_retry(manifest, options.retry_failed)
    }
    todo = [unit for unit in units if unit.unit_id not in done]
    redone = [unit.unit_id for unit in todo if unit.unit_id in found.manifests or unit.unit_id in found.broken]
    return Plan(files, unreadable, units, done, todo, redone, _stale(found, files, by_id))


def run(
    job: str,
    layout: Layout,
    identity: JobIdentity,
    plan: Plan,
    options: JobOptions,
    launched: Launch,
    estimate: Estimate,
    build: Callable[[beam.Pipeline, list[UnitRuns]], None],
) -> int:
    """Do what is left of a plan and account for it.

    Args:
        job: name, for messages.
        layout, identity, plan, options, launched: of the job.
        estimate: for the plan.
        build: adds the graph for these units to a pipeline.

    Returns:
        Exit code: 0 done, 1 some units failed or too many rows, 130 interrupted.

    Raises:
        UserError: the output cannot be written, its disk is too small, or another launch works on it.
    """
    if options.dry_run or not console.is_quiet():
        for line in _describe(plan):
            print(line)
    needed = _needed(plan, estimate, launched.workers)
    free = launch.free_bytes(layout.output)
    too_small = free is not None and needed.bytes > free
    if options.dry_run:
        disk = "" if free is None else f", {_gigabytes(free)} free: {'TOO SMALL' if too_small else 'enough'}"
        print(f"about {needed.seconds / 3600:.2f} hours, {_gigabytes(needed.bytes)} of output{disk}")
        return 0
    if too_small:
        raise UserError(
            f"--output {layout.output}: about {_gigabytes(needed.bytes)} needed, {_gigabytes(free)} free; "
            "choose another disk, or do a part with --limit"
        )
    outcome = Outcome()
    with Lease(layout):
        try:
            _prepare(layout, identity, plan, options)
            progress.note_plan(layout, len(plan.units), sum(unit.rows for unit in plan.units))
            progress.clear_marks_of_done(layout, plan.done)
        except OSError as error:
            raise UserError(
                f"--output {layout.output}: cannot write there ({error}); check space and permissions"
            ) from error
        if plan.todo:
            packed = work_units.pack_units(plan.files, options.unit_rows, plan.todo)
            watch = Watch(
                layout,
                rows=sum(unit.rows for unit in plan.todo),
                breaker_rows=_BREAKER_UNITS * options.unit_rows,
                abort_failure_rate=options.abort_failure_rate,
            )
            outcome = launch.run_job(launched, lambda pipeline: build(pipeline, packed), watch)
        code = _finish(job, layout, identity, plan, options, outcome)
    if outcome.stuck:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _to_retry(manifest: Manifest, reasons: tuple[str, ...] | None) -> bool:
    """`reasons`: None = retry nothing, () = any failure."""
    if reasons is None:
        return False
    return bool(manifest.failures) if not reasons else any(reason in manifest.failures for reason in reasons)


def _stale(found: DoneUnits, files: list[InputFile], by_id: dict[str, WorkUnit]) -> list[str]:
    """Units of earlier versions of the present files that the present versions do not have."""
    identities = {file.key: file.input_identity for file in files}
    return [
        unit_id
        for unit_id, manifest in found.manifests.items()
        if unit_id not in by_id
        and identities.get(unit_id.rsplit("-", 2)[0], manifest.input_identity) != manifest.input_identity
    ]


def _describe(plan: Plan) -> list[str]:
    lines = [f"{len(plan.units)} units, {len(plan.done)} done, {len(plan.todo)} to do"]
    lines += [f"failed unit: {file.path}: {file.message}" for file in plan.unreadable]
    lines += [f"{len(plan.redone)} of them again"] if plan.redone else []
    lines += [f"{len(plan.stale)} units of inputs that have changed are removed"] if plan.stale else []
    large = [file for file in plan.files if file.largest_row_group > 1 << 29]
    if large:
        lines.append(f"note: {large[0].path} has row groups over 0.5 GB, slow to read in parts; cfr ingest avoids them")
    return lines


def _needed(plan: Plan, estimate: Estimate, workers: int) -> Estimate:
    """What the rest costs: from this output's manifests if there are any."""
    rows = sum(unit.rows for unit in plan.todo)
    if plan.done:
        totals = stats.total(plan.done.values())
        estimate = Estimate(sum(totals["seconds"].values()) / totals["rows"], totals["shard_bytes"] / totals["rows"])
    return Estimate(rows * estimate.seconds / workers, rows * estimate.bytes)


def _prepare(layout: Layout, identity: JobIdentity, plan: Plan, options: JobOptions) -> None:
    """Make the output folder ready: what will be redone is not done from here on."""
    if options.overwrite:
        manifests.remove_everything(layout)
    if plan.todo or plan.stale or plan.unreadable:
        storage.delete([layout.success, layout.stats])
    manifests.forget(layout, plan.redone)
    manifests.remove(layout, plan.stale)
    if options.overwrite or read_job(layout.output) is None:
        write_job(layout.output, identity, layout.scratch)
    storage.delete([storage.join(layout.scratch, name) for name in storage.list_folder(layout.scratch)])


def _finish(job: str, layout: Layout, identity: JobIdentity, plan: Plan, options: JobOptions, outcome: Outcome) -> int:
    """Read back what was done, write stats and _SUCCESS, print the summary."""
    found = manifests.read_done(layout)
    done = {
        unit.unit_id: found.manifests[unit.unit_id]
        for unit in plan.units
        if unit.unit_id in found.manifests and found.manifests[unit.unit_id].belongs_to(unit, identity.hash)
    }
    missing = [unit for unit in plan.units if unit.unit_id not in done]
    totals = stats.total(done.values())
    rows_now = sum(manifest.rows for unit_id, manifest in done.items() if unit_id not in plan.done)
    for line in stats.describe(totals, outcome.seconds, rows_now):
        print(line)
    for failed in progress.read_failed_units(layout) if plan.todo else []:
        print(f"failed unit {failed.unit_id} ({failed.rows} rows of {failed.path}): {failed.message}")
    for file in plan.unreadable:
        print(f"failed unit: {file.path}: {file.message}")
    if outcome.problem:
        left = f"{len(missing)} units left: run the same command to resume"
        print(f"cfr {job}: {outcome.problem}; {left}", file=sys.stderr)
        return 130 if outcome.interrupted else 1
    if missing or plan.unreadable:
        count = len(missing) + len(plan.unreadable)
        print(f"cfr {job}: {count} units failed; run the same command to try them again", file=sys.stderr)
        return 1
    rate = totals["rows_failed"] / totals["rows"] if totals["rows"] else 0.0
    summary = {"job": identity.hash, "parameters": identity.parameters, **totals}
    try:
        storage.publish(layout.stats, json.dumps(summary, indent=1, sort_keys=True).encode() + b"\n", layout.scratch)
        if rate > options.max_failure_rate:
            print(f"cfr {job}: {rate:.1%} of the rows failed, more than --max-failure-rate", file=sys.stderr)
            storage.delete([layout.success])
            return 1
        storage.write_bytes(layout.success, b"\n")  # an empty object is more than Beam's S3 client can create
    except OSError as error:
        print(
            f"cfr {job}: all units are done, but not {layout.success} ({error}); run the same command", file=sys.stderr
        )
        return 1
    return 0


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.3g} GB"
