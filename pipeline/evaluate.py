"""`cfr evaluate`: measure the fit, the occluder mask and the guidance on labelled photos."""

import argparse
from types import ModuleType

import torch

from cfr.pipeline import (
    evaluate_distribution,
    evaluate_landmarks,
    evaluate_occlusion,
    evaluate_pairs,
    evaluate_pose,
    evaluate_verification,
)
from cfr.pipeline.cli import add_command
from cfr.pipeline.errors import UserError, reject_unknown_arguments

# name -> (module, one line for `cfr evaluate --help`)
_MEASUREMENTS: dict[str, tuple[ModuleType, str]] = {
    "distribution": (evaluate_distribution, "how far one set of pictures is from another: FID and KID"),
    "landmarks": (evaluate_landmarks, "error of the fitted mesh's 68 landmarks by yaw (NME)"),
    "occlusion": (evaluate_occlusion, "occluder mask and guidance on photos with known occluders"),
    "pairs": (evaluate_pairs, "data card of a pair set: counts, poses, occlusion, skin tone, light, duplicates"),
    "pose": (evaluate_pose, "yaw of photos known to be frontal or in profile"),
    "verification": (evaluate_verification, "face verification: photos raw, frontalised and gated"),
}

_EXAMPLES = """\
examples:
  cfr evaluate distribution photos/ frontal --feature-weights pt_inception-2015-12-05-6726825d.pth
  cfr evaluate landmarks labelled/ --json
  cfr evaluate landmarks --predictions ours.npy --truth theirs.npy --yaw yaw.npy
  cfr evaluate occlusion --photos faces/ --occluders cutouts/
  cfr evaluate pose people/
  cfr evaluate pairs pairs --html card.html
  cfr evaluate verification frontal --identity ir_se50.pth --folders
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the measurements and their flags."""
    parser.epilog = _EXAMPLES
    subparsers = parser.add_subparsers(dest="measurement", metavar="MEASUREMENT", title="measurements")
    for name, (module, summary) in _MEASUREMENTS.items():
        subparser = add_command(subparsers, name, summary)
        module.add_arguments(subparser)
        subparser.add_argument("--json", action="store_true", help="print JSON instead of a table")
        subparser.add_argument("--threads", type=int, default=1, metavar="N", help="torch threads (default: 1)")


def run(args: argparse.Namespace, beam_arguments: list[str]) -> int:
    """Print the chosen measurement.

    Returns:
        The exit code 0: failed fits are a result of the measurement, not an error of the command.

    Raises:
        UserError: no measurement chosen, or its input is missing or unusable.
    """
    reject_unknown_arguments(beam_arguments)
    if args.measurement is None:
        raise UserError(f"which measurement? One of {', '.join(_MEASUREMENTS)} (see cfr evaluate --help)")
    torch.set_num_threads(args.threads)
    return _MEASUREMENTS[args.measurement][0].run(args)
