"""`cfr frontalize`: frontal faces from image shards. The graph reads top to bottom as a photo goes through it."""

import argparse
import contextlib
import os

import apache_beam as beam

from cfr.model.frontalization.dlib_weights import DLIB
from cfr.pipeline import face_model_flag, job, storage
from cfr.pipeline.errors import UserError
from cfr.pipeline.graph import FaceTransform
from cfr.pipeline.job_arguments import (
    Job,
    add_input_arguments,
    add_job_arguments,
    check_pictures,
    detector_weights,
    names,
    positive,
    run_job,
)
from cfr.pipeline.schemas import FRONTAL_MASKS, FRONTAL_PICTURES, frontal_columns
from cfr.pipeline.work_units import InputFile
from cfr.transforms.batches import FitBatch, FrontalBatch, SwapBatch
from cfr.transforms.fit_faces import FitFaces
from cfr.transforms.frontal_models import FrontalModels
from cfr.transforms.frontalize_faces import (
    DROP,
    FRONTAL_STAGES,
    KEEP_SOURCE,
    LARGEST_TEXTURE_SCALE,
    MARK,
    FrontalizeFaces,
    FrontalSettings,
)
from cfr.transforms.transfer_occlusion import TransferOcclusion
from cfr.transforms.write_frontals import IMAGE_SCRATCH, WriteFrontals

PRODUCT = "frontal"
# One worker, one face and one pose per photo, PNG, on a 2020s CPU core.
ESTIMATE = job.Estimate(seconds=0.42, bytes=190_000)
_FRONTAL = (0.0, 0.0, 0.0)
# How far a face may be turned away: beyond, the model has no surface to show.
_LIMITS = (("yaw", 90.0), ("pitch", 60.0), ("roll", 180.0))
_SMALLEST_SIZE = 32

_EXAMPLES = """\
examples:
  cfr frontalize --input 'shards/*.parquet' --output frontal --workers 2
  cfr frontalize --input 'shards/*.parquet' --output views --pose frontal --pose -30,0,0 --pose 30,0,0
  cfr frontalize --input 'shards/*.parquet' --output arcface --template arcface112 --when-rejected keep-source
  cfr frontalize --input 'shards/*.parquet' --output tree --write-images faces --folder-column label
run the same command again to resume. Flags that are not listed go to Beam.
"""


class FrontalizePhotos(FaceTransform):
    """What follows `graph.FindFaces`."""

    def expand(self, faces):
        """See the class."""
        return (
            faces
            | "FitFaces" >> beam.ParDo(FitFaces(self.context)).with_output_types(FitBatch)
            | "TransferOcclusion" >> beam.ParDo(TransferOcclusion(self.context)).with_output_types(SwapBatch)
            | "FrontalizeFaces" >> beam.ParDo(FrontalizeFaces(self.context)).with_output_types(FrontalBatch)
            | "WriteShard" >> beam.ParDo(WriteFrontals(self.context)).with_output_types(dict)
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `cfr frontalize`."""
    parser.epilog = _EXAMPLES
    add_input_arguments(parser, "frontal/, failures/")
    add = parser.add_argument
    add(
        "--pose",
        action="append",
        type=pose,
        metavar="YAW,PITCH,ROLL",
        help="wanted pose in degrees, or `frontal` (default); repeat it for several views of each face",
    )
    add("--keep-yaw", action="store_true", help="keep the photo's yaw: only tilt and roll are changed")
    add("--keep-pitch", action="store_true", help="keep the photo's pitch")
    add("--keep-roll", action="store_true", help="keep the photo's roll")
    add("--generator", default="composite", metavar="FILE", help="`composite` (default), or a CFRNet checkpoint")
    add("--template", choices=("crop224", "arcface112"), default="crop224", help="framing (default: crop224)")
    add("--size", type=positive, metavar="PX", help="side of the pictures (default: the template's, 224 or 112)")
    add(
        "--when-rejected",
        choices=(MARK, KEEP_SOURCE, DROP),
        default=MARK,
        help="what the gate rejects: `apply` is false (default), has the photo in place of the result, is left out",
    )
    add(
        "--identity",
        default="",
        metavar="FILE|dlib",
        help="adds identity_similarity: by an IR-SE-50 checkpoint, which the gate uses too, or by dlib's recogniser, "
        "which only measures (pip install 'cfr[identity]')",
    )
    face_model_flag.add_argument(parser)
    add("--encoding", choices=("png", "webp", "jpeg"), default="png", help="of the pictures; masks are PNG")
    add("--columns", type=names, metavar="A,B", help="of frontal, mask, source (default: all); numbers always are")
    add("--write-images", default="", metavar="DIR", help="write the results as plain image files, too")
    add("--folder-column", default="", metavar="NAME", help="sub-folder of each file: this column of the input")
    add_job_arguments(parser)


def run(args: argparse.Namespace, beam_arguments: list[str]) -> int:
    """Run the command; returns the exit code, raises UserError."""
    models = FrontalModels(
        args.device,
        generator=args.generator,
        identity=args.identity,
        face_model=face_model_flag.face_model_path(args),
        detector_weights=detector_weights(args),
    )
    _check_checkpoints(args, models)
    return run_frontalize(args, beam_arguments, models)


def run_frontalize(args: argparse.Namespace, beam_arguments: list[str], models: FrontalModels) -> int:
    """`run` with other models (tests use a stand-in)."""
    args.pose = args.pose or [_FRONTAL]
    if args.folder_column and not args.write_images:
        raise UserError("--folder-column is for the files of --write-images: give both, or neither")
    if args.folder_column and args.folder_column not in args.keep_columns:
        args.keep_columns = (*args.keep_columns, args.folder_column)
    this = Job("frontalize", PRODUCT, frontal_columns(), FRONTAL_STAGES, _settings, _estimate, FrontalizePhotos)
    code = run_job(this, args, beam_arguments, models)
    if args.write_images:
        _remove_scratch(storage.join(storage.absolute(args.write_images), IMAGE_SCRATCH))
    return code


def _remove_scratch(folder: str) -> None:
    """What killed workers left of image files, and the folder itself where there are folders."""
    storage.delete([storage.join(folder, name) for name in storage.list_folder(folder)])
    if storage.is_local(folder):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _settings(common: dict, args: argparse.Namespace, files: list[InputFile]) -> FrontalSettings:
    from cfr.model.frontalization.templates import TEMPLATES

    if args.keep_roll and args.template != "crop224":
        raise UserError(f"--keep-roll: --template {args.template} turns every face upright; use --template crop224")
    poses = tuple(dict.fromkeys(args.pose))
    kept = [args.keep_yaw, args.keep_pitch, args.keep_roll]
    told_apart = {tuple(0.0 if keep else angle for keep, angle in zip(kept, each, strict=True)) for each in poses}
    if len(told_apart) < len(poses):
        raise UserError("two of the --pose differ only in an angle that is kept from the photo: leave one out")
    settings = FrontalSettings(
        **common,
        faces=args.faces,
        encoding=args.encoding,
        pictures=check_pictures(args.columns, (*FRONTAL_PICTURES, *FRONTAL_MASKS)),
        poses=poses,
        keep_yaw=args.keep_yaw,
        keep_pitch=args.keep_pitch,
        keep_roll=args.keep_roll,
        template=args.template,
        size=args.size or TEMPLATES[args.template].size,
        when_rejected=args.when_rejected,
        identity=bool(args.identity),
        images=storage.absolute(args.write_images) if args.write_images else "",
        folder_column=args.folder_column,
    )
    if settings.size < _SMALLEST_SIZE or settings.texture_scale > LARGEST_TEXTURE_SCALE:
        largest = int(LARGEST_TEXTURE_SCALE * TEMPLATES[args.template].size / TEMPLATES[args.template].zoom)
        raise UserError(f"--size {settings.size}: {_SMALLEST_SIZE} to {largest} pixels with {args.template}")
    if args.generator != "composite" and settings.texture_scale > 1:
        raise UserError(f"--size {settings.size}: the generator paints 224 pixels; ask for less, or use `composite`")
    return settings


def _check_checkpoints(args: argparse.Namespace, models: FrontalModels) -> None:
    """Load what the user brings once, so that a wrong file is known before any work."""
    from cfr.model.checkpoints import load_checkpoint, load_generator
    from cfr.model.networks.identity_encoder import IdentityEncoder

    identity = "" if args.identity == DLIB else args.identity
    for flag, path in (("--generator", args.generator), ("--identity", identity)):
        if path not in ("", "composite") and not os.path.isfile(path):
            raise UserError(f"{flag} {path}: no such file")
    try:
        models.check()
        if args.generator != "composite":
            load_generator(args.generator)
        if identity:
            load_checkpoint(identity, IdentityEncoder())
    except ImportError as error:
        flag = "--identity dlib: " if args.identity == DLIB else ""
        raise UserError(f"{flag}{error}") from None
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from None


def _estimate(settings: FrontalSettings) -> job.Estimate:
    faces = 2.0 if settings.faces == "all" else 1.0
    results = faces * len(settings.poses)
    area = (settings.size / 224) ** 2
    lossy = 0.25 if settings.encoding != "png" else 1.0
    seconds = ESTIMATE.seconds * (faces + 0.3 * area * (results - faces))
    return job.Estimate(seconds, ESTIMATE.bytes * results * lossy * area)


def pose(text: str) -> tuple[float, float, float]:
    """Argument type: `frontal`, or yaw, pitch and roll in degrees between commas."""
    if text == "frontal":
        return _FRONTAL
    try:
        yaw, pitch, roll = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither `frontal` nor YAW,PITCH,ROLL in degrees") from None
    for (name, limit), angle in zip(_LIMITS, (yaw, pitch, roll), strict=True):
        if not abs(angle) <= limit:
            raise argparse.ArgumentTypeError(f"{text!r}: {name} must be within {-limit:g} and {limit:g} degrees")
    return yaw, pitch, roll
