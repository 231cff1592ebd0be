"""`--recipe` and the files that go with it: which models a job runs with, checked before any work starts."""

import argparse
import os

from cfr.pipeline.errors import UserError
from cfr.pipeline.face_model_flag import face_model_path
from cfr.pipeline.fitter_arguments import add_fitter_arguments, regressor_weights
from cfr.pipeline.job_arguments import detector_weights
from cfr.transforms.models import FITTERS, DefaultModels

# Files that the paper's recipe needs: flag -> what it is.
_PAPER_FILES = {
    "regressor": "checkpoint of the ResNet-50 that predicts 257 coefficients",
    "face_model": "BFM_model_80.mat",
    "parsing": "checkpoint of the BiSeNet that tells 19 classes apart",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags that choose the recipe and its models."""
    add = parser.add_argument
    add(
        "--recipe",
        choices=("visible", "paper"),
        default="visible",
        help="visible: this software's own (default); paper: as the authors' code, with their files",
    )
    add_fitter_arguments(parser, "; paper: the authors' ResNet-50 checkpoint")
    add("--face-model", metavar="PATH", help="folder of ICT-FaceKit, or BFM_model_80.mat, which paper needs")
    add("--parsing", metavar="FILE", help="paper: the authors' BiSeNet checkpoint")
    add("--true-lab", action="store_true", help="paper: compare colours in real Lab, which the authors' code does not")


def models_of(args: argparse.Namespace) -> DefaultModels:
    """The models that the flags ask for, checked.

    Raises:
        UserError: a file is missing, is something else, or belongs to the other recipe.
    """
    models = _paper_models(args) if args.recipe == "paper" else _visible_models(args)
    try:
        models.check()
    except (ValueError, OSError, ImportError) as error:
        raise UserError(str(error)) from None
    return models


def _visible_models(args: argparse.Namespace) -> DefaultModels:
    regressor = regressor_weights(args)
    if args.parsing:
        raise UserError("--parsing goes with --recipe paper; the visible recipe has no use for it")
    if args.true_lab:
        raise UserError("--true-lab goes with --recipe paper; the visible recipe compares colours in another way")
    return DefaultModels(
        args.device,
        face_model=face_model_path(args),
        detector_weights=detector_weights(args),
        fitter_kind=args.fitter,
        regressor_weights=regressor,
    )


def _paper_models(args: argparse.Namespace) -> DefaultModels:
    if args.fitter != FITTERS[0]:
        raise UserError(f"--fitter {args.fitter} goes with --recipe visible; the paper's recipe has its own regressor")
    from cfr.transforms.paper_models import PaperModels

    files = {}
    for name, what in _PAPER_FILES.items():
        path = getattr(args, name)
        if not path:
            raise UserError(f"--recipe paper needs {_flag(name)} FILE: {what}; see docs/paper.md for where to get it")
        if os.path.isdir(path) and name == "face_model":
            raise UserError(
                f"--face-model {path}: a folder, as of ICT-FaceKit, goes with --recipe visible; the paper's "
                "regressor predicts coefficients of BFM_model_80.mat only"
            )
        if not os.path.isfile(path):
            kind = "is a folder" if os.path.isdir(path) else "no such file"
            raise UserError(f"{_flag(name)} {path}: {kind}; it has to be the {what}")
        files[name] = os.path.abspath(path)
    return PaperModels(args.device, **files, detector_weights=detector_weights(args), true_lab=args.true_lab)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
