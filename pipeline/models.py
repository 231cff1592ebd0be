"""`cfr models`: which models are in use, under which licence, their digests, and what can replace them.

`cfr models check FILE` tells what a file from elsewhere is.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from cfr.model.registry import PARTS
from cfr.pipeline import check_models
from cfr.pipeline.cli import add_command
from cfr.pipeline.errors import UserError, reject_unknown_arguments

_EXAMPLES = """\
examples:
  cfr models
  cfr models --json
  cfr models check CFRNet_G_ep55_vgg.pth BFM_model_80.mat
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `cfr models`."""
    parser.epilog = _EXAMPLES
    parser.add_argument("--json", action="store_true", help="print JSON")
    subparsers = parser.add_subparsers(dest="action", metavar="ACTION", title="actions")
    check_models.add_arguments(add_command(subparsers, "check", "say what files are, and whether they fit"))


def run(args: argparse.Namespace, beam_arguments: Sequence[str]) -> int:
    """Run the command; see the module's docstring. Returns the exit code."""
    reject_unknown_arguments(beam_arguments)
    if args.action == "check":
        return check_models.run(args)
    return _list(args.json)


def _list(as_json: bool) -> int:
    try:
        rows = [
            {
                "part": part.part,
                "active": part.name,
                "licence": part.licence,
                "source": part.source,
                "asked_for": part.asked_for,
                "bring_your_own": [asdict(own) for own in part.bring_your_own],
                "sha256": part.digest(),
            }
            for part in PARTS
        ]
    except FileNotFoundError as error:
        raise UserError(f"a model's file is missing: {error}; install cfr again") from error
    if as_json:
        print(json.dumps(rows, indent=1))
        return 0
    widths = [max(len(row[column]) for row in rows) for column in ("part", "active", "licence")]
    for row in rows:
        cells = (row["part"], row["active"], row["licence"])
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        print(f"{line}  {row['sha256'] or '(no weights)'}")
        if row["source"]:
            print(f"    from: {row['source']}")
        if row["asked_for"]:
            print(f"    used by: {row['asked_for']}")
        for own in row["bring_your_own"]:
            print(f"    bring your own: {own['kind']}: {own['usage']}")
            print(f"        from: {own['source']}")
            print(f"        licence: {own['licence']}")
    print("\nEverything in use is in this package or its dependencies; nothing is downloaded.")
    print("`cfr models check FILE` tells what a file from elsewhere is, and whether it fits.")
    return 0
