"""`cfr ingest`: packs photographs into image shards, the input of `cfr pairs`.

Files are stored as they are: never re-encoded, never dropped because they do not decode. What is no image is skipped,
counted and listed.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TextIO

from tqdm import tqdm

from cfr.pipeline import console, storage
from cfr.pipeline.errors import UserError, reject_unknown_arguments
from cfr.pipeline.image_shards import shard_name, write_image_shard
from cfr.pipeline.sources import Photo, Skipped, list_photos, read_photos

SKIPPED_FILE = "_skipped.jsonl"
"""In the output, if anything was skipped: one JSON object with `path` and `reason` per line."""

_LISTED = 20
_EXAMPLES = """\
examples:
  cfr ingest photos/ --output shards
  cfr ingest 'scans/**/*.tif' more.zip faces.tar.gz --output shards --rows-per-shard 500
  cfr ingest photos/ --output shards --dry-run --json

A photo's image_id is its path below the folder (or the fixed part of the glob, or inside the archive) that was named.
With several of them, the id starts with the folder's or archive's own name.

exit codes: 0 done; 1 some photos could not be read; 2 bad arguments or input
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `cfr ingest`."""
    parser.epilog = _EXAMPLES
    parser.add_argument("sources", nargs="+", metavar="SRC", help="folder, file, glob (in quotes), tar or zip archive")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the shards")
    parser.add_argument(
        "--rows-per-shard", type=_positive, default=1000, metavar="N", help="photos per file (default: %(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the image shards that are in the output")
    parser.add_argument("--dry-run", action="store_true", help="find and count the photos, write nothing")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on stdout, the rest on stderr")


def run(args: argparse.Namespace, beam_arguments: Sequence[str]) -> int:
    """Run the command; see the module's docstring. Returns the exit code."""
    reject_unknown_arguments(beam_arguments)
    say = sys.stderr if args.json else sys.stdout
    sources = ", ".join(args.sources)
    console.note(f"ingest: sources {sources}; output {args.output}; rows per shard {args.rows_per_shard}")
    existing = _existing(args.output, args.overwrite)
    photos, skipped = list_photos(args.sources)
    if not photos:
        raise UserError(f"no photo found in {sources}{_skipped_summary(skipped)}")
    shards = -(-len(photos) // args.rows_per_shard)
    size = sum(photo.size for photo in photos)
    print(f"plan: {len(photos):,} photos, {size / 1e6:,.1f} MB, {shards:,} shards{_skipped_summary(skipped)}", file=say)
    _print_some(skipped, say)
    _check_disk(args.output, size)
    started = time.monotonic()
    unreadable: list[Skipped] = []
    if not args.dry_run:
        try:
            storage.delete(existing)
            _write(photos, args.output, args.rows_per_shard, shards, unreadable)
            _write_skipped(args.output, skipped + unreadable)
        except OSError as error:
            raise UserError(f"cannot write to {args.output!r}: {error.strerror or error}") from error
    _print_some(unreadable, say)
    rows = len(photos) - len(unreadable)
    if args.dry_run:
        print("dry run: nothing written", file=say)
    else:
        seconds = time.monotonic() - started
        failed = f", {len(unreadable):,} unreadable" if unreadable else ""
        print(
            f"{rows:,} photos in {shards:,} shards of {args.output}{failed}; {rows / seconds:,.0f} photos/s", file=say
        )
    if args.json:
        summary = {
            "output": args.output,
            "photos": rows,
            "shards": shards,
            "bytes": size,
            "skipped": [asdict(skip) for skip in skipped],
            "unreadable": [asdict(skip) for skip in unreadable],
        }
        print(json.dumps(summary, ensure_ascii=False, indent=1))
    return 1 if unreadable else 0


def _write(photos: list[Photo], output: str, rows_per_shard: int, shards: int, unreadable: list[Skipped]) -> None:
    """Write all shards, in order; photos that cannot be read are left out and added to `unreadable`."""
    scratch = storage.join(output, "_tmp")
    with tqdm(total=len(photos), unit="photo", disable=console.is_quiet() or None) as progress:
        rows = read_photos(photos)
        for index in range(shards):
            planned = min(rows_per_shard, len(photos) - index * rows_per_shard)
            path = storage.join(output, shard_name(index, shards))
            write_image_shard(path, _rows(rows, planned, unreadable, progress), scratch)
    if storage.is_local(scratch):
        shutil.rmtree(scratch, ignore_errors=True)


def _rows(
    photos: Iterator[tuple[Photo, bytes | OSError]], planned: int, unreadable: list[Skipped], progress: tqdm
) -> Iterator[tuple[str, bytes]]:
    for _ in range(planned):
        photo, data = next(photos)
        if isinstance(data, OSError):
            unreadable.append(Skipped(photo.image_id, f"unreadable: {data.strerror or data}"))
        else:
            yield photo.image_id, data
        progress.update()


def _existing(output: str, overwrite: bool) -> list[str]:
    """Files of an earlier run that are to be replaced.

    Raises:
        UserError: the output has files and --overwrite is not given, or it is a file.
    """
    if storage.is_local(output) and os.path.lexists(output) and not os.path.isdir(output):
        raise UserError(f"--output {output!r} is a file, not a folder")
    present = storage.list_folder(output)
    if present and not overwrite:
        raise UserError(f"--output {output!r} is not empty ({min(present)}, ...): choose another, or add --overwrite")
    ours = [name for name in present if name.startswith("images-") and name.endswith(".parquet")]
    return [storage.join(output, name) for name in [*ours, *({SKIPPED_FILE} & present.keys())]]


def _check_disk(output: str, size: int) -> None:
    if not storage.is_local(output):
        return
    folder = os.path.abspath(output)
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    if free < size * 1.01:
        raise UserError(
            f"the disk of --output {output!r} has {free / 1e6:,.0f} MB free; {size / 1e6:,.0f} MB are needed"
        )


def _write_skipped(output: str, skipped: list[Skipped]) -> None:
    if skipped:
        lines = [json.dumps(asdict(skip)) + "\n" for skip in skipped]
        storage.write_bytes(storage.join(output, SKIPPED_FILE), "".join(lines).encode())


def _print_some(skipped: list[Skipped], file: TextIO) -> None:
    for skip in skipped[:_LISTED]:
        print(f"  skipped {skip.path!r}: {skip.reason}", file=file)
    if len(skipped) > _LISTED:
        print(f"  ... and {len(skipped) - _LISTED:,} more: all are in the output's {SKIPPED_FILE}", file=file)


def _skipped_summary(skipped: list[Skipped]) -> str:
    if not skipped:
        return ""
    reasons = Counter(skip.reason.split(":")[0] for skip in skipped)
    listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    return f"; {len(skipped):,} files skipped ({listed})"


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value
