"""`cfr plan`: what a job of so many photos takes, from what was measured on such machines. Nothing is run or read."""

import argparse
import math
from dataclasses import dataclass

from cfr.pipeline import calibration
from cfr.pipeline.calibration import Calibration, WorkerType
from cfr.pipeline.errors import UserError, reject_unknown_arguments

_EXAMPLES = """\
examples:
  cfr plan --images 1e8 --worker-type 1-core
  cfr plan --images 1e8 --worker-type 1-core --machines 500 --price 0.08 --unit-rows 256
  cfr plan --images 1e8 --worker-type my-gpu --calibration calibration.json

`python benchmarks/scale.py --worker-type NAME --calibration calibration.json` measures a machine of yours.
"""

_CROP_BYTES = 320 * 320 * 3 + 600
_FILES_PER_UNIT = 2
_REQUESTS_PER_UNIT = 20
_VIEW_SHARE = 0.3


@dataclass(frozen=True)
class Need:
    """What a job takes.

    Attributes:
        machines, hours: side by side, start included.
        machine_hours: of all machines.
        units, files: of work; files written.
        shuffle_bytes, output_bytes: of the whole job.
        launcher_seconds, launcher_bytes: planning.
        resume_seconds: to read all manifests when the job is launched again.
        requests: to an object store.
        machine_bytes: memory of one machine.
    """

    machines: int
    hours: float
    machine_hours: float
    units: int
    files: int
    shuffle_bytes: float
    output_bytes: float
    launcher_seconds: float
    launcher_bytes: float
    resume_seconds: float
    requests: int
    machine_bytes: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `cfr plan`."""
    parser.epilog = _EXAMPLES
    add = parser.add_argument
    add("--images", type=_count, required=True, metavar="N", help="photos, e.g. 1e8")
    add("--worker-type", required=True, metavar="NAME", help="a machine of the calibration")
    add("--calibration", metavar="FILE", help="written by benchmarks/scale.py (default: the one that comes with cfr)")
    several = parser.add_mutually_exclusive_group()
    several.add_argument(
        "--hours", type=_positive, default=24.0, metavar="H", help="how long it may take (default: 24)"
    )
    several.add_argument("--machines", type=_count, metavar="N", help="how many there are")
    add("--faces-per-image", type=_positive, metavar="F", help="used faces per photo (default: as measured)")
    add("--views-per-face", type=_count, default=1, metavar="N", help="as in cfr pairs")
    add("--unit-rows", type=_count, default=64, metavar="N", help="as in cfr pairs")
    add("--split-stages", action="store_true", help="as in cfr pairs: the crops are shuffled too")
    add("--price", type=_positive, metavar="P", help="of a machine for an hour, in your currency")


def run(args: argparse.Namespace, beam_arguments: list[str]) -> int:
    """Run the command; returns the exit code, raises UserError."""
    reject_unknown_arguments(beam_arguments)
    measured = calibration.read(args.calibration)
    if args.worker_type not in measured.worker_types:
        raise UserError(
            f"--worker-type {args.worker_type}: the calibration has {', '.join(measured.worker_types)}; measure yours "
            "with benchmarks/scale.py --worker-type NAME --calibration FILE"
        )
    worker = measured.worker_types[args.worker_type]
    needed = need(measured, worker, args)
    for line in _describe(args, worker, needed):
        print(line)
    return 0


def need(measured: Calibration, worker: WorkerType, args: argparse.Namespace) -> Need:
    """What a job takes on such machines, without failures and retries."""
    faces = args.faces_per_image or worker.outputs_per_image
    outputs = args.images * faces * args.views_per_face
    relative = faces / worker.outputs_per_image
    # Detection is done once per photo and views share the fit; a view's share of a photo's time is the rotation's.
    seconds = worker.seconds_per_image * relative * (1 + _VIEW_SHARE * (args.views_per_face - 1))
    work = args.images * seconds / worker.workers
    if args.machines:
        machines = args.machines
    else:
        limit = args.hours * 3600 - worker.start_seconds
        if limit <= 0:
            raise UserError(
                f"--hours {args.hours:g}: shorter than the start of a worker ({worker.start_seconds:.0f} s)"
            )
        machines = max(1, math.ceil(work / limit))
    hours = (work / machines + worker.start_seconds) / 3600
    units = math.ceil(args.images / args.unit_rows)
    planning = measured.planning
    return Need(
        machines=machines,
        hours=hours,
        machine_hours=hours * machines,
        units=units,
        files=_FILES_PER_UNIT * units,
        shuffle_bytes=units * planning.reference_bytes
        + (args.images * faces * _CROP_BYTES if args.split_stages else 0),
        output_bytes=outputs * worker.bytes_per_output,
        launcher_seconds=units * planning.seconds_per_unit,
        launcher_bytes=units * planning.memory_bytes_per_unit,
        resume_seconds=units * planning.seconds_per_manifest,
        requests=_REQUESTS_PER_UNIT * units,
        machine_bytes=worker.workers * worker.memory_bytes,
    )


def _describe(args: argparse.Namespace, worker: WorkerType, needed: Need) -> list[str]:
    per_machine = needed.units / needed.machines
    kind = f"{worker.workers} processes" if worker.device == "cpu" else "one process and its GPU"
    cost = f", {needed.machine_hours * args.price:,.0f} for all of them" if args.price else ""
    return [
        f"{args.images:,} images on {args.worker_type} ({worker.description}; {kind}, "
        f"{worker.workers / worker.seconds_per_image:.2f} images/s):",
        f"  workers         {needed.machines:,} machines",
        f"  time            {needed.hours:.1f} hours, {needed.machine_hours:,.0f} machine hours{cost}",
        f"  memory          {_bytes(needed.machine_bytes)} per machine",
        f"  units           {needed.units:,} of {args.unit_rows} rows; {per_machine:,.0f} per machine",
        f"  shuffle         {_bytes(needed.shuffle_bytes)}",
        f"  output          {_bytes(needed.output_bytes)} in {needed.files:,} files",
        f"  object store    about {needed.requests:,} requests",
        f"  launcher        {_time(needed.launcher_seconds)} and {_bytes(needed.launcher_bytes)} to plan; "
        f"{_time(needed.resume_seconds)} more to resume",
        "without failures, retries and machines that come late",
    ]


def _bytes(size: float) -> str:
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _count(text: str) -> int:
    value = _positive(text)
    if value < 1 or value != int(value):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(value)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value
