"""Flags that every job which makes shards has, and the way from them to a launched job."""

import argparse
import importlib.metadata
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from cfr.pipeline import job, launch, work_units
from cfr.pipeline.console import note
from cfr.pipeline.errors import UserError
from cfr.pipeline.graph import FaceTransform, GraphOptions, build_graph
from cfr.pipeline.job_hash import JobIdentity
from cfr.pipeline.manifests import Layout
from cfr.pipeline.work_units import InputFile
from cfr.transforms.models import DefaultModels
from cfr.transforms.stage import JobSettings, StageContext


def add_input_arguments(parser: argparse.ArgumentParser, products: str) -> None:
    """What is read, where it goes and which faces; products: the output's folders, for the help."""
    add = parser.add_argument
    add("--input", required=True, nargs="+", metavar="GLOB", help="image shards (Parquet): globs, files or folders")
    add("--output", required=True, metavar="DIR", help=f"folder or URL for {products} and the manifests")
    add("--faces", choices=("best", "largest", "all"), default="best", help="which faces of a photo (default: best)")


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """Columns, units of work, resuming, failures, where it runs."""
    add = parser.add_argument
    add("--keep-columns", type=names, default=(), metavar="A,B", help="input columns to carry along")
    add("--id-column", metavar="NAME", help="default: image_id, or img2dataset's key")
    add("--image-column", metavar="NAME", help="default: image, or img2dataset's jpg")
    add("--unit-rows", type=positive, default=64, metavar="N", help="rows per unit of work and shard (default: 64)")
    add("--limit", type=positive, metavar="N", help="only the first N rows, rounded up to whole units")
    add("--detector", metavar="FILE", help="checkpoint of RetinaFace (ResNet-50) in place of MTCNN")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the models run")
    add("--workers", type=positive, default=1, metavar="N", help="local processes (default: 1)")
    add("--overwrite", action="store_true", help="start over: delete what this command made in --output before")
    add("--verify", action="store_true", help="compare the digests of all finished shards, not only their sizes")
    add(
        "--retry-failed",
        nargs="?",
        const=(),
        type=names,
        metavar="REASONS",
        help="redo the units with failures, or with failures for these reasons: --retry-failed=no_face,decode_error",
    )
    add("--abort-failure-rate", type=share, default=0.9, metavar="R", help="stop if the first units fail beyond this")
    add("--max-failure-rate", type=share, default=1.0, metavar="R", help="exit 1 if more rows fail (default: 1)")
    add("--check-ids", action="store_true", help="make sure first that no id comes twice in the whole input")
    add("--dry-run", action="store_true", help="print the plan with hours, bytes and disk space; change nothing")
    add("--split-stages", action="store_true", help="shuffle the crops between detection and fitting")
    add("--accelerator", default="", metavar="HINT", help="Beam resource hint: type:nvidia-l4;count:1")
    add("--min-ram", default="", metavar="SIZE", help="Beam resource hint, e.g. 8GB")


def detector_weights(args: argparse.Namespace) -> str:
    """Path of `--detector`, for workers that are started elsewhere; "" for the default one.

    Raises:
        UserError: there is no such file.
    """
    if not args.detector:
        return ""
    if not os.path.isfile(args.detector):
        raise UserError(f"--detector {args.detector}: no such file; it has to be a checkpoint of RetinaFace")
    return os.path.abspath(args.detector)


@dataclass(frozen=True)
class Job:
    """What distinguishes one job from another.

    Attributes:
        name: of the command.
        product: folder of the shards.
        output_columns: names of all columns that the shards may have, kept ones apart.
        stages: labels of the stages, in order.
        settings: parameters from {"id_column", "image_column", "keep_columns"}, the arguments and the inputs.
        estimate: of one input row.
        face_transform: what the job does with aligned faces.
    """

    name: str
    product: str
    output_columns: Sequence[str]
    stages: tuple[str, ...]
    settings: Callable[[dict, argparse.Namespace, list[InputFile]], JobSettings]
    estimate: Callable[[JobSettings], job.Estimate]
    face_transform: type[FaceTransform]


def run_job(this: Job, args: argparse.Namespace, beam_arguments: list[str], models: DefaultModels) -> int:
    """Plan, launch and account for a job; returns the exit code.

    Raises:
        UserError: wrong arguments or input, or an output that another job made.
    """
    launched = launch.plan_launch(beam_arguments, args.workers, args.output)
    if launched.local and args.device == "cuda":
        _check_cuda(models)
    layout = Layout(work_units.storage.absolute(args.output), this.product)
    files, unreadable = job.read_inputs(args.input)
    columns = work_units.find_columns(files, args.id_column, args.image_column)
    kept = work_units.check_kept_columns(files, args.keep_columns, this.output_columns)
    common = {"id_column": columns.image_id, "image_column": columns.image, "keep_columns": tuple(args.keep_columns)}
    settings = this.settings(common, args, files)
    identity = _identity(this, settings, kept, args.unit_rows, models)
    options = job.JobOptions(
        unit_rows=args.unit_rows,
        limit=args.limit,
        overwrite=args.overwrite,
        verify=args.verify,
        retry_failed=args.retry_failed,
        dry_run=args.dry_run,
        abort_failure_rate=args.abort_failure_rate,
        max_failure_rate=args.max_failure_rate,
    )
    if args.check_ids:
        work_units.check_unique_ids(files, settings.id_column)
    plan = job.make_plan(layout, identity, files, unreadable, options)
    _print_configuration(args, settings, identity)
    settings = settings.with_metadata(_metadata(identity, models))
    context = StageContext(layout, identity.hash, settings, models, launched.replay, this.stages)
    graph = GraphOptions(args.split_stages, args.accelerator, args.min_ram)
    return job.run(
        this.name,
        layout,
        identity,
        plan,
        options,
        launched,
        this.estimate(settings),
        lambda pipeline, packed: build_graph(pipeline, packed, context, graph, this.face_transform),
    )


def _identity(this: Job, settings: JobSettings, kept: pa.Schema, unit_rows: int, models: DefaultModels) -> JobIdentity:
    parameters = {name: value for name, value in settings.affecting_output().items() if name != "keep_columns"}
    digests = {model["part"]: model["digest"] for model in models.active()}
    kept_types = {field.name: str(field.type) for field in kept}
    parameters |= models.parameters()
    return JobIdentity.of(this.name, {**parameters, "keep_columns": kept_types, "unit_rows": unit_rows}, digests)


def _metadata(identity: JobIdentity, models: DefaultModels) -> dict[str, str]:
    return {
        "job_hash": identity.hash,
        "software": f"cfr {importlib.metadata.version('cfr')}",
        "models": json.dumps(models.active()),
        **models.parameters(),
        "coefficients": json.dumps(models.coefficient_layout()),
    }


def _print_configuration(args: argparse.Namespace, settings: JobSettings, identity: JobIdentity) -> None:
    values = {**vars(args), "id_column": settings.id_column, "image_column": settings.image_column}
    for name, value in values.items():
        if name != "command" and value not in (None, "", (), False):
            note(f"{name}: {' '.join(map(str, value)) if isinstance(value, list | tuple) else value}")
    note(f"job hash: {identity.hash}")


def _check_cuda(models: DefaultModels) -> None:
    try:
        models.torch_device()
    except RuntimeError as error:
        raise UserError(str(error)) from None


def check_pictures(asked: Sequence[str] | None, pictures: Sequence[str]) -> tuple[str, ...]:
    """The picture columns to write, in order: those asked for, all if None.

    Raises:
        UserError: there is no such picture.
    """
    unknown = sorted(set(asked or ()) - set(pictures))
    if unknown:
        raise UserError(f"--columns {unknown[0]}: no such picture; there are {', '.join(pictures)}")
    return tuple(name for name in pictures if asked is None or name in asked)


def positive(text: str) -> int:
    """Argument type: a whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def share(text: str) -> float:
    """Argument type: 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def names(text: str) -> tuple[str, ...]:
    """Argument type: names between commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
