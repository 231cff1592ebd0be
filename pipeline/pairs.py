"""`cfr pairs`: training pairs from image shards. The graph reads top to bottom as a photo goes through it."""

import argparse
import dataclasses
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass

import apache_beam as beam

from cfr.pipeline import job, launch, work_units
from cfr.pipeline.errors import UserError
from cfr.pipeline.job_hash import JobIdentity
from cfr.pipeline.launch import Launch
from cfr.pipeline.manifests import Layout
from cfr.pipeline.schemas import MASKS, PICTURES, pair_columns
from cfr.pipeline.work_units import UnitRuns
from cfr.transforms.align_faces import AlignFaces
from cfr.transforms.batches import FaceBatch, FitBatch, ImageBatch, PairBatch, SwapBatch, WorkUnit
from cfr.transforms.double_rotate import DoubleRotate
from cfr.transforms.fit_faces import FitFaces
from cfr.transforms.models import DefaultModels
from cfr.transforms.read_images import ReadImages
from cfr.transforms.stage import PairSettings, StageContext
from cfr.transforms.transfer_occlusion import TransferOcclusion
from cfr.transforms.write_shard import WriteShard

# One worker, one face and one view per photo, PNG, on a 2020s CPU core.
ESTIMATE = job.Estimate(seconds=0.42, bytes=145_000)

_EXAMPLES = """\
examples:
  cfr pairs --input 'shards/*.parquet' --output pairs --workers 2
  cfr pairs --input 'shards/*.parquet' --output pairs --faces all --views-per-face 3 --keep-columns label
  cfr pairs --input 'gs://bucket/shards/*.parquet' --output gs://bucket/pairs --runner=DataflowRunner
run the same command again to resume. Flags that are not listed go to Beam.
"""


@dataclass(frozen=True)
class GraphOptions:
    """How the graph is laid out; nothing here changes the output.

    Attributes:
        split_stages: shuffle the small crops once, so that detection and fitting can run on different machines.
        accelerator: Beam's resource hint, e.g. "type:nvidia-l4;count:1;install-nvidia-driver", or "".
        min_ram: Beam's resource hint, e.g. "8GB", or "".
    """

    split_stages: bool = False
    accelerator: str = ""
    min_ram: str = ""

    def resource_hints(self) -> dict[str, str]:
        """Those that are given; with split stages they are for fitting and rendering, not for detection."""
        return {name: value for name, value in vars(self).items() if name != "split_stages" and value}


class WorkUnits(beam.PTransform):
    """The plan as a collection of WorkUnit: references only, pixels are never shuffled."""

    def __init__(self, packed: Sequence[UnitRuns]):
        super().__init__()
        self._packed = list(packed)

    def expand(self, begin):
        """See the class."""
        return (
            begin
            | "Files" >> beam.Create(self._packed, reshuffle=False)
            | "Units" >> beam.FlatMap(UnitRuns.units).with_output_types(WorkUnit)
        )


class FindFaces(beam.PTransform):
    """Units to aligned faces."""

    def __init__(self, context: StageContext):
        super().__init__()
        self._context = context

    def expand(self, units):
        """See the class."""
        return (
            units
            | "ReadImages" >> beam.ParDo(ReadImages(self._context)).with_output_types(ImageBatch)
            | "AlignFaces" >> beam.ParDo(AlignFaces(self._context)).with_output_types(FaceBatch)
        )


class PairFaces(beam.PTransform):
    """Aligned faces to committed shards; what leaves is one small manifest row per unit."""

    def __init__(self, context: StageContext):
        super().__init__()
        self._context = context

    def expand(self, faces):
        """See the class."""
        return (
            faces
            | "FitFaces" >> beam.ParDo(FitFaces(self._context)).with_output_types(FitBatch)
            | "TransferOcclusion" >> beam.ParDo(TransferOcclusion(self._context)).with_output_types(SwapBatch)
            | "DoubleRotate" >> beam.ParDo(DoubleRotate(self._context)).with_output_types(PairBatch)
            | "WriteShard" >> beam.ParDo(WriteShard(self._context)).with_output_types(dict)
        )


class MakePairs(beam.PTransform):
    """Everything after the shuffle of the units."""

    def __init__(self, context: StageContext, options: GraphOptions):
        super().__init__()
        self._context, self._options = context, options

    def expand(self, units):
        """See the class."""
        pairs = PairFaces(self._context)
        if not self._options.split_stages:
            return units | "FindFaces" >> FindFaces(self._context) | "PairFaces" >> pairs
        hints = self._options.resource_hints()
        pairs = pairs.with_resource_hints(**hints) if hints else pairs
        return (
            units
            | "FindFaces" >> FindFaces(self._context)
            | "ReshuffleFaces" >> beam.Reshuffle()
            | "PairFaces" >> pairs
        )


def build_graph(pipeline: beam.Pipeline, packed: Sequence[UnitRuns], context: StageContext, options: GraphOptions):
    """The whole job.

    Resource hints are set on all stages between two shuffles at once: on some of them they would break the fusion.
    """
    make_pairs = MakePairs(context, options)
    hints = options.resource_hints()
    if hints and not options.split_stages:
        make_pairs = make_pairs.with_resource_hints(**hints)
    return pipeline | "WorkUnits" >> WorkUnits(packed) | "Reshuffle" >> beam.Reshuffle() | "MakePairs" >> make_pairs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `cfr pairs`."""
    parser.epilog = _EXAMPLES
    add = parser.add_argument
    add("--input", required=True, nargs="+", metavar="GLOB", help="image shards (Parquet): globs, files or folders")
    add("--output", required=True, metavar="DIR", help="folder or URL for pairs/, failures/ and the manifests")
    add("--faces", choices=("best", "largest", "all"), default="best", help="which faces of a photo (default: best)")
    add("--views-per-face", type=_positive, default=1, metavar="N", help="random views, and so pairs, per face")
    add("--seed", type=int, default=0, metavar="S", help="of the random views")
    add("--encoding", choices=("png", "webp", "jpeg"), default="png", help="of the pictures; masks are PNG")
    add("--columns", type=_names, metavar="A,B", help="pictures to write (default: all six); numbers always are")
    add("--keep-columns", type=_names, default=(), metavar="A,B", help="input columns to carry along")
    add("--id-column", metavar="NAME", help="default: image_id, or img2dataset's key")
    add("--image-column", metavar="NAME", help="default: image, or img2dataset's jpg")
    add("--unit-rows", type=_positive, default=64, metavar="N", help="rows per unit of work and shard (default: 64)")
    add("--limit", type=_positive, metavar="N", help="only the first N rows, rounded up to whole units")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the models run")
    add("--workers", type=_positive, default=1, metavar="N", help="local processes (default: 1)")
    add("--overwrite", action="store_true", help="start over: delete what this command made in --output before")
    add("--verify", action="store_true", help="compare the digests of all finished shards, not only their sizes")
    add(
        "--retry-failed",
        nargs="?",
        const=(),
        type=_names,
        metavar="REASONS",
        help="redo the units with failures, or with failures for these reasons: --retry-failed=no_face,decode_error",
    )
    add("--abort-failure-rate", type=_share, default=0.9, metavar="R", help="stop if the first units fail beyond this")
    add("--max-failure-rate", type=_share, default=1.0, metavar="R", help="exit 1 if more rows fail (default: 1)")
    add("--check-ids", action="store_true", help="make sure first that no id comes twice in the whole input")
    add("--dry-run", action="store_true", help="print the plan with hours, bytes and disk space; change nothing")
    add("--split-stages", action="store_true", help="shuffle the crops between detection and fitting")
    add("--accelerator", default="", metavar="HINT", help="Beam resource hint: type:nvidia-l4;count:1")
    add("--min-ram", default="", metavar="SIZE", help="Beam resource hint, e.g. 8GB")


def run(args: argparse.Namespace, beam_arguments: list[str]) -> int:
    """Run the command; returns the exit code, raises UserError."""
    return run_pairs(args, beam_arguments, DefaultModels(args.device))


def run_pairs(args: argparse.Namespace, beam_arguments: list[str], models: DefaultModels) -> int:
    """`run` with other models (tests use a stand-in)."""
    launched = launch.plan_launch(beam_arguments, args.workers, args.output)
    if launched.local and args.device == "cuda":
        _check_cuda(models)
    layout = Layout(work_units.storage.absolute(args.output))
    files, unreadable = job.read_inputs(args.input)
    settings, kept = _settings(args, files)
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
    identity = _identity(settings, kept, args.unit_rows, models)
    if args.check_ids:
        work_units.check_unique_ids(files, settings.id_column)
    plan = job.make_plan(layout, identity, files, unreadable, options)
    _print_configuration(args, settings, identity, launched)
    context = StageContext(
        layout, identity.hash, _with_metadata(settings, identity, models), models, replay=launched.replay
    )
    graph = GraphOptions(args.split_stages, args.accelerator, args.min_ram)
    return job.run(
        "pairs",
        layout,
        identity,
        plan,
        options,
        launched,
        _estimate(settings),
        lambda pipeline, packed: build_graph(pipeline, packed, context, graph),
    )


def _settings(args: argparse.Namespace, files: list[work_units.InputFile]) -> tuple[PairSettings, dict[str, str]]:
    """Checked parameters, and {kept column: type}."""
    pictures = (*PICTURES, *MASKS)
    unknown = sorted(set(args.columns or ()) - set(pictures))
    if unknown:
        raise UserError(f"--columns {unknown[0]}: no such picture; there are {', '.join(pictures)}")
    columns = work_units.find_columns(files, args.id_column, args.image_column)
    kept = work_units.check_kept_columns(files, args.keep_columns, pair_columns())
    settings = PairSettings(
        faces=args.faces,
        views_per_face=args.views_per_face,
        seed=args.seed,
        encoding=args.encoding,
        id_column=columns.image_id,
        image_column=columns.image,
        keep_columns=tuple(args.keep_columns),
        pictures=tuple(name for name in pictures if args.columns is None or name in args.columns),
    )
    return settings, {field.name: str(field.type) for field in kept}


def _identity(settings: PairSettings, kept: dict[str, str], unit_rows: int, models: DefaultModels) -> JobIdentity:
    parameters = {name: value for name, value in vars(settings).items() if name not in ("metadata", "keep_columns")}
    digests = {model["part"]: model["digest"] for model in models.active()}
    return JobIdentity.of("pairs", {**parameters, "keep_columns": kept, "unit_rows": unit_rows}, digests)


def _with_metadata(settings: PairSettings, identity: JobIdentity, models: DefaultModels) -> PairSettings:
    metadata = {
        "job_hash": identity.hash,
        "software": f"cfr {importlib.metadata.version('cfr')}",
        "models": json.dumps(models.active()),
        "coefficients": json.dumps(models.coefficient_layout()),
    }
    return dataclasses.replace(settings, metadata=tuple(metadata.items()))


def _estimate(settings: PairSettings) -> job.Estimate:
    faces = 2.0 if settings.faces == "all" else 1.0
    pairs = faces * settings.views_per_face
    lossy = 0.25 if settings.encoding != "png" else 1.0
    return job.Estimate(ESTIMATE.seconds * (faces + 0.3 * (pairs - faces)), ESTIMATE.bytes * pairs * lossy)


def _print_configuration(
    args: argparse.Namespace, settings: PairSettings, identity: JobIdentity, launched: Launch
) -> None:
    values = {**vars(args), "id_column": settings.id_column, "image_column": settings.image_column}
    for name, value in values.items():
        if name != "command" and value not in (None, "", (), False):
            print(f"{name}: {' '.join(value) if isinstance(value, list | tuple) else value}")
    print(f"job hash: {identity.hash}")


def _check_cuda(models: DefaultModels) -> None:
    try:
        models.torch_device()
    except RuntimeError as error:
        raise UserError(str(error)) from None


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
