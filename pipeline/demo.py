"""`cfr demo`: pairs from the photographs that come with the package, and the contact sheet of them.

Runs the other commands, and shows them, as a user would type them.
"""

import argparse
import shlex
import time
from importlib import resources
from pathlib import Path

from cfr.pipeline.errors import reject_unknown_arguments

VIEWS_PER_FACE = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `cfr demo`."""
    parser.add_argument("--output", metavar="DIR", default="cfr-demo", help="folder to write to (default: cfr-demo)")
    parser.add_argument("--overwrite", action="store_true", help="start over if DIR was made with other settings")
    parser.epilog = """\
Running it again redoes only what is missing.

examples:
  cfr demo
  cfr demo --output /tmp/first-look
"""


def run(args: argparse.Namespace, beam_arguments: list[str]) -> int:
    """Ingest, pairs, view; stops at the first that fails and returns its exit code."""
    reject_unknown_arguments(beam_arguments)
    output = Path(args.output)
    shards, pairs, sheet, gallery = (output / name for name in ("shards", "pairs", "sheet.png", "gallery"))
    overwrite = ["--overwrite"] if args.overwrite else []
    started = time.monotonic()
    with resources.as_file(resources.files("cfr.model") / "data" / "photos") as photos:
        steps = [
            _pairs_command(str(shards / "*.parquet"), str(pairs), overwrite),
            ["view", str(pairs), "--output", str(sheet), "--html", str(gallery)],
        ]
        if args.overwrite or not list(shards.glob("*.parquet")):
            steps.insert(0, ["ingest", str(photos), "--output", str(shards), *overwrite])
        for step in steps:
            code = _run_command(step)
            if code:
                return code
    print(f"\nDone in {time.monotonic() - started:.0f} s. Look at")
    print(f"  {sheet}  (contact sheet)")
    print(f"  {gallery / 'index.html'}  (the same as a page)")
    for shard in sorted((pairs / "pairs").glob("*.parquet")):
        print(f"  {shard}  (the pairs)")
    return 0


def _pairs_command(shards: str, output: str, overwrite: list[str]) -> list[str]:
    return ["pairs", "--input", shards, "--output", output, "--views-per-face", str(VIEWS_PER_FACE), *overwrite]


def _run_command(arguments: list[str]) -> int:
    from cfr.pipeline.cli import main

    print(f"\n$ cfr {shlex.join(arguments)}", flush=True)
    return main(arguments)
