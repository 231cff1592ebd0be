"""`--fitter` and `--regressor`: what pose and shape are taken from."""

import argparse
import os

from cfr.pipeline.errors import UserError
from cfr.pipeline.face_model_flag import face_model
from cfr.transforms.models import FITTERS


def add_fitter_arguments(parser: argparse.ArgumentParser, note: str = "") -> None:
    """The two flags; note: what else `--regressor` may be, for the help."""
    add = parser.add_argument
    add("--fitter", choices=FITTERS, default=FITTERS[0], help=f"what tells pose and shape (default: {FITTERS[0]})")
    add("--regressor", metavar="FILE", help=f"for --fitter, made by `cfr train-estimator` (default: embedded){note}")


def photo_fitter(args: argparse.Namespace):
    """Fitter of whole photos, as the flags want it, `--face-model` among them.

    Raises:
        UserError: the regressor's or the face model's file is missing or does not fit.
    """
    from cfr.model.checkpoints import CheckpointError
    from cfr.model.photo_fits import PhotoFitter

    weights = regressor_weights(args)
    try:
        return PhotoFitter(model=face_model(args), fitter=args.fitter, regressor=weights)
    except CheckpointError as error:
        raise UserError(str(error)) from None


def regressor_weights(args: argparse.Namespace) -> str:
    """Path of `--regressor` for `--fitter`; "" for the package's own, or where none is used.

    Raises:
        UserError: there is no such file, none is needed, or the package's own does not go with `--face-model`.
    """
    if args.fitter == FITTERS[0]:
        if args.regressor:
            raise UserError("--regressor goes with --recipe paper, or with --fitter regressor or regressor+landmarks")
        return ""
    if not args.regressor:
        if args.face_model:
            raise UserError(
                f"--fitter {args.fitter} with --face-model needs --regressor FILE, trained for that face model: "
                "cfr train-estimator --stage 0 --network facemesh --face-model ..."
            )
        return ""
    if not os.path.isfile(args.regressor):
        raise UserError(f"--regressor {args.regressor}: no such file; `cfr train-estimator` makes it")
    return os.path.abspath(args.regressor)
