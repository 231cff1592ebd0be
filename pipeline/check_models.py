"""`cfr models check`: what a file from elsewhere is, whether it fits, and which names differ."""

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from cfr.model.registry import usage_of
from cfr.pipeline.errors import UserError

if TYPE_CHECKING:
    from cfr.model.model_files import Finding

_MOST_LINES = 20

_EXAMPLES = """\
examples:
  cfr models check CFRNet_G_ep55_vgg.pth
  cfr models check BFM_model_80.mat ICT-FaceKit/FaceXModel --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `cfr models check`."""
    parser.epilog = _EXAMPLES
    parser.add_argument("files", nargs="+", metavar="FILE", help="checkpoint, face model, or folder of ICT-FaceKit")
    # `cfr models --json check FILE` sets it, too; a default here would undo that.
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON, with all names")


def run(args: argparse.Namespace) -> int:
    """Print what each file is.

    Returns:
        The exit code 0: every file holds something that fits.

    Raises:
        UserError: a file does not fit; after all of them were looked at.
    """
    # Here, so that `cfr models` alone does not wait for torch.
    from cfr.model.model_files import examine

    examined: dict[str, list[Finding]] = {}
    wrong = []
    for path in args.files:
        try:
            examined[path] = examine(path)
        except (OSError, ValueError, ImportError) as error:
            wrong.append(str(error))
            continue
        if not any(finding.fits for finding in examined[path]):
            wrong.append(_summary(path, examined[path]))
    if args.json:
        print(json.dumps({path: [asdict(finding) for finding in found] for path, found in examined.items()}, indent=1))
    else:
        for path, found in examined.items():
            for finding in found:
                _print(path, finding)
    if wrong:
        raise UserError("; ".join(wrong))
    return 0


def _summary(path: str, found: "list[Finding]") -> str:
    known = [finding for finding in found if finding.kind]
    if not known:
        return f"{path} is a checkpoint of no network that is known here"
    return f"{path} looks like {known[0].kind}, but does not fit: {known[0].differences[0]}"


def _print(path: str, finding: "Finding") -> None:
    where = f"{path}[{finding.place}]" if finding.place else path
    print(f"{where}: {finding.kind or 'unknown'}, {'fits' if finding.fits else 'does not fit'}")
    print(f"    {finding.about}")
    if finding.fits:
        print(f"    use: {usage_of(finding.kind) or 'no command takes it'}")
    for line in finding.differences[:_MOST_LINES]:
        print(f"    {line}")
    if len(finding.differences) > _MOST_LINES:
        print(f"    ... and {len(finding.differences) - _MOST_LINES} more (all of them: --json)")
