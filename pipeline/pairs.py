"""`cfr pairs`: training pairs from image shards. The graph reads top to bottom as a photo goes through it."""

import argparse

import apache_beam as beam

from cfr.pipeline import job, recipes
from cfr.pipeline.graph import FaceTransform
from cfr.pipeline.job_arguments import (
    Job,
    add_input_arguments,
    add_job_arguments,
    check_pictures,
    names,
    positive,
    run_job,
)
from cfr.pipeline.schemas import MASKS, PICTURES, pair_columns
from cfr.pipeline.work_units import InputFile
from cfr.transforms.batches import FitBatch, PairBatch, SwapBatch
from cfr.transforms.double_rotate import DoubleRotate
from cfr.transforms.fit_faces import FitFaces
from cfr.transforms.models import DefaultModels
from cfr.transforms.stage import PAIR_STAGES, PairSettings
from cfr.transforms.transfer_occlusion import TransferOcclusion
from cfr.transforms.write_pairs import WritePairs

# One worker, one face and one view per photo, PNG, on a 2020s CPU core.
ESTIMATE = job.Estimate(seconds=0.42, bytes=145_000)

_EXAMPLES = """\
examples:
  cfr pairs --input 'shards/*.parquet' --output pairs --workers 2
  cfr pairs --input 'shards/*.parquet' --output pairs --faces all --views-per-face 3 --keep-columns label
  cfr pairs --input 'gs://bucket/shards/*.parquet' --output gs://bucket/pairs --runner=DataflowRunner
run the same command again to resume. Flags that are not listed go to Beam.
"""


class PairFaces(FaceTransform):
    """What follows `graph.FindFaces`."""

    def expand(self, faces):
        """See the class."""
        return (
            faces
            | "FitFaces" >> beam.ParDo(FitFaces(self.context)).with_output_types(FitBatch)
            | "TransferOcclusion" >> beam.ParDo(TransferOcclusion(self.context)).with_output_types(SwapBatch)
            | "DoubleRotate" >> beam.ParDo(DoubleRotate(self.context)).with_output_types(PairBatch)
            | "WriteShard" >> beam.ParDo(WritePairs(self.context)).with_output_types(dict)
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `cfr pairs`."""
    parser.epilog = _EXAMPLES
    add_input_arguments(parser, "pairs/, failures/")
    add = parser.add_argument
    add("--views-per-face", type=positive, default=1, metavar="N", help="random views, and so pairs, per face")
    recipes.add_arguments(parser)
    add("--seed", type=int, default=0, metavar="S", help="of the random views")
    add("--encoding", choices=("png", "webp", "jpeg"), default="png", help="of the pictures; masks are PNG")
    add("--columns", type=names, metavar="A,B", help="pictures to write (default: all six); numbers always are")
    add_job_arguments(parser)


def run(args: argparse.Namespace, beam_arguments: list[str]) -> int:
    """Run the command; returns the exit code, raises UserError."""
    return run_pairs(args, beam_arguments, recipes.models_of(args))


def run_pairs(args: argparse.Namespace, beam_arguments: list[str], models: DefaultModels) -> int:
    """`run` with other models (tests use a stand-in)."""
    this = Job("pairs", "pairs", pair_columns(), PAIR_STAGES, _settings, _estimate, PairFaces)
    return run_job(this, args, beam_arguments, models)


def _settings(common: dict, args: argparse.Namespace, files: list[InputFile]) -> PairSettings:
    return PairSettings(
        **common,
        faces=args.faces,
        views_per_face=args.views_per_face,
        seed=args.seed,
        encoding=args.encoding,
        pictures=check_pictures(args.columns, (*PICTURES, *MASKS)),
    )


def _estimate(settings: PairSettings) -> job.Estimate:
    faces = 2.0 if settings.faces == "all" else 1.0
    pairs = faces * settings.views_per_face
    lossy = 0.25 if settings.encoding != "png" else 1.0
    return job.Estimate(ESTIMATE.seconds * (faces + 0.3 * (pairs - faces)), ESTIMATE.bytes * pairs * lossy)
