"""`cfr models`: which models are in use, under which licence, their digests, and what can replace them."""

import argparse
import json
from collections.abc import Sequence

from cfr.model.registry import PARTS
from cfr.pipeline.errors import UserError, reject_unknown_arguments

_EXAMPLES = """\
examples:
  cfr models
  cfr models --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `cfr models`."""
    parser.epilog = _EXAMPLES
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace, beam_arguments: Sequence[str]) -> int:
    """Run the command; see the module's docstring. Returns the exit code."""
    reject_unknown_arguments(beam_arguments)
    try:
        rows = [
            {
                "part": part.part,
                "active": part.name,
                "licence": part.licence,
                "source": part.source,
                "bring_your_own": part.bring_your_own,
                "sha256": part.digest(),
            }
            for part in PARTS
        ]
    except FileNotFoundError as error:
        raise UserError(f"a model's file is missing: {error}; install cfr again") from error
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    widths = [max(len(row[column]) for row in rows) for column in ("part", "active", "licence")]
    for row in rows:
        cells = (row["part"], row["active"], row["licence"])
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        print(f"{line}  {row['sha256'] or '(no weights)'}")
        if row["source"]:
            print(f"    from: {row['source']}")
        print(f"    bring your own: {row['bring_your_own'] or 'not possible yet'}")
    print("\nEverything above is in this package or its dependencies; nothing is downloaded.")
    return 0
