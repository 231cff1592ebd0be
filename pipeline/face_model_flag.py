"""`--face-model`: another face model in place of the package's own, for the commands that fit faces."""

import argparse
import os
from typing import TYPE_CHECKING

from cfr.pipeline.errors import UserError

if TYPE_CHECKING:  # `cfr --help` does not wait for torch
    from cfr.model.face_model import MorphableModel

HELP = "folder of ICT-FaceKit, or BFM_model_80.mat, in place of the package's face model"


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the flag."""
    parser.add_argument("--face-model", metavar="PATH", help=HELP)


def face_model_path(args: argparse.Namespace) -> str:
    """Absolute path, as workers are started elsewhere; "" for the package's own model.

    Raises:
        UserError: there is no such file or folder.
    """
    if not args.face_model:
        return ""
    if not os.path.exists(args.face_model):
        raise UserError(f"--face-model {args.face_model}: no such file or folder")
    return os.path.abspath(args.face_model)


def face_model(args: argparse.Namespace) -> "MorphableModel":
    """The model that the flag asks for, on the CPU.

    Raises:
        UserError: it is not there, is something else, or is damaged.
    """
    from cfr.model.face_model_files import load_face_model

    try:
        return load_face_model(face_model_path(args))
    except (ValueError, OSError, ImportError) as error:
        raise UserError(str(error)) from None
