"""`cfr occlude`: faces with known occluders, to train on. The graph reads top to bottom as a photo goes through it."""

import argparse
from pathlib import Path

import apache_beam as beam

from cfr.pipeline import job
from cfr.pipeline.console import note
from cfr.pipeline.errors import UserError
from cfr.pipeline.graph import FaceTransform
from cfr.pipeline.job_arguments import (
    Job,
    add_input_arguments,
    add_job_arguments,
    check_pictures,
    names,
    positive,
    run_job,
    share,
)
from cfr.pipeline.schemas import OCCLUSION_MASKS, OCCLUSION_PICTURES, occlusion_columns
from cfr.pipeline.work_units import InputFile
from cfr.transforms.batches import FitBatch, OcclusionBatch
from cfr.transforms.fit_faces import FitFaces
from cfr.transforms.occlude_faces import OCCLUDE_STAGES, OccludeFaces, OccludeSettings
from cfr.transforms.occlude_models import OccludeModels
from cfr.transforms.write_occlusions import WriteOcclusions

PRODUCT = "occluded"
# One worker, one face and one copy per photo, PNG, on a 2020s CPU core.
ESTIMATE = job.Estimate(seconds=0.35, bytes=160_000)

_EXAMPLES = """\
examples:
  cfr occlude --input 'shards/*.parquet' --output occluded --workers 2
  cfr occlude --input 'shards/*.parquet' --output occluded --occluders cutouts --shapes 0.3 --copies 4
run the same command again to resume. Flags that are not listed go to Beam.
"""


class OccludePhotos(FaceTransform):
    """What follows `graph.FindFaces`."""

    def expand(self, faces):
        """See the class."""
        return (
            faces
            | "FitFaces" >> beam.ParDo(FitFaces(self.context)).with_output_types(FitBatch)
            | "OccludeFaces" >> beam.ParDo(OccludeFaces(self.context)).with_output_types(OcclusionBatch)
            | "WriteShard" >> beam.ParDo(WriteOcclusions(self.context)).with_output_types(dict)
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `cfr occlude`."""
    parser.epilog = _EXAMPLES
    add_input_arguments(parser, "occluded/, failures/")
    add = parser.add_argument
    add("--occluders", default="", metavar="DIR", help="cut-outs: PNG with alpha; hand_*, mask_*, glasses_* by name")
    add("--shapes", type=share, metavar="R", help="share of random shapes (default: 0.5; 1 without --occluders)")
    add("--copies", type=positive, default=1, metavar="N", help="occluded copies per face")
    add("--colour-matched", type=share, default=0.5, metavar="R", help="of them in the skin's colour (default: 0.5)")
    add("--shadows", type=share, default=0.5, metavar="R", help="occluders that cast a shadow (default: 0.5)")
    add("--seed", type=int, default=0, metavar="S", help="of occluders and places")
    add("--encoding", choices=("png", "webp", "jpeg"), default="png", help="of the pictures; masks are PNG")
    add("--columns", type=names, metavar="A,B", help="pictures to write (default: all four); numbers always are")
    add_job_arguments(parser)


def run(args: argparse.Namespace, beam_arguments: list[str]) -> int:
    """Run the command; returns the exit code, raises UserError."""
    if args.occluders:
        _check_occluders(args.occluders)
    return run_occlude(args, beam_arguments, OccludeModels(args.device, args.occluders))


def run_occlude(args: argparse.Namespace, beam_arguments: list[str], models: OccludeModels) -> int:
    """`run` with other models (tests use a stand-in)."""
    this = Job("occlude", PRODUCT, occlusion_columns(), OCCLUDE_STAGES, _settings, _estimate, OccludePhotos)
    return run_job(this, args, beam_arguments, models)


def _settings(common: dict, args: argparse.Namespace, files: list[InputFile]) -> OccludeSettings:
    if args.shapes is not None and args.shapes < 1 and not args.occluders:
        raise UserError(f"--shapes {args.shapes:g}: the others are cut-outs; give a folder of them with --occluders")
    return OccludeSettings(
        **common,
        faces=args.faces,
        encoding=args.encoding,
        pictures=check_pictures(args.columns, (*OCCLUSION_PICTURES, *OCCLUSION_MASKS)),
        copies=args.copies,
        shapes=(0.5 if args.occluders else 1.0) if args.shapes is None else args.shapes,
        colour_matched=args.colour_matched,
        shadows=args.shadows,
        seed=args.seed,
    )


def _check_occluders(folder: str) -> None:
    """Load the cut-outs once, so that a wrong folder is known before any work."""
    from cfr.model.composites import load_occluders

    if not Path(folder).is_dir():
        raise UserError(f"--occluders {folder}: no such folder")
    try:
        usable, skipped = load_occluders(Path(folder))
    except OSError as error:
        raise UserError(f"--occluders {folder}: {error}") from None
    for name, reason in skipped.items():
        note(f"{name} is not used: {reason}")
    if not usable:
        raise UserError(f"--occluders {folder}: no usable cut-out; they are *.png with an alpha channel")


def _estimate(settings: OccludeSettings) -> job.Estimate:
    faces = 2.0 if settings.faces == "all" else 1.0
    copies = faces * settings.copies
    lossy = 0.25 if settings.encoding != "png" else 1.0
    return job.Estimate(ESTIMATE.seconds * (faces + 0.1 * (copies - faces)), ESTIMATE.bytes * copies * lossy)
