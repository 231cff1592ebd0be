"""`cfr delete`: remove the rows of some photos from finished outputs, as when a person withdraws their consent."""

import argparse
import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cfr.pipeline import manifests, stats, storage
from cfr.pipeline.commit import commit_unit
from cfr.pipeline.deletions import note_deleted
from cfr.pipeline.errors import UserError, reject_unknown_arguments
from cfr.pipeline.manifests import Layout, Manifest
from cfr.pipeline.pair_rows import PRODUCTS
from cfr.pipeline.schemas import IMAGE, serialize
from cfr.transforms.write_frontals import safe_name

_EXAMPLES = """\
FILE holds one image_id per line. Shards, failures and manifests are rewritten one unit at a time; what was interrupted
can be run again. The photos stay out of these outputs when their job is run again, also with --overwrite. The input
shards are not touched.

examples:
  cfr delete --ids withdrawn.txt pairs frontal
  cfr delete --ids withdrawn.txt frontal --images faces
  cfr delete --ids withdrawn.txt pairs --dry-run
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `cfr delete`."""
    parser.epilog = _EXAMPLES
    add = parser.add_argument
    add("outputs", nargs="+", metavar="OUT", help="output folders of `cfr pairs`, `frontalize` or `occlude`")
    add("--ids", required=True, metavar="FILE", help="text file with one image_id per line")
    add("--images", metavar="DIR", help="folder that `cfr frontalize --write-images` wrote: delete there, too")
    add("--dry-run", action="store_true", help="say what would be deleted; change nothing")


@dataclass(frozen=True)
class Deleted:
    """What was removed from one output, or from one unit of it.

    Attributes:
        units, outputs, failures: how many units were rewritten, rows of shards and of failures removed.
        found: ids of the photos that had any.
    """

    units: int = 0
    outputs: int = 0
    failures: int = 0
    found: frozenset[str] = frozenset()

    def __add__(self, other: "Deleted") -> "Deleted":
        return Deleted(
            self.units + other.units,
            self.outputs + other.outputs,
            self.failures + other.failures,
            self.found | other.found,
        )


def run(args: argparse.Namespace, beam_arguments: list[str]) -> int:
    """Run the command; 0, also if no row of these ids was found.

    Raises:
        UserError: no ids, a folder that is no output, or one that cannot be written.
    """
    reject_unknown_arguments(beam_arguments)
    ids = _read_ids(args.ids)
    layouts = [_layout(output) for output in args.outputs]
    word = "would delete" if args.dry_run else "deleted"
    total = Deleted()
    try:
        for layout in layouts:
            deleted = delete_rows(layout, ids, args.dry_run)
            total += deleted
            rows = f"{deleted.outputs} rows and {deleted.failures} failures of {len(deleted.found)} photos"
            print(f"{layout.output}: {word} {rows} in {deleted.units} units")
        if args.images:
            files = find_image_files(storage.absolute(args.images), ids)
            if not args.dry_run:
                storage.delete(files)
            print(f"{args.images}: {word} {len(files)} image files")
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"stopped half-way ({error}); when that is mended, the same command goes on") from error
    missing = len(ids - total.found)
    if missing:
        print(f"{missing} of {len(ids)} ids have no row there")
    return 0


def delete_rows(layout: Layout, ids: frozenset[str], dry_run: bool = False) -> Deleted:
    """Remove all rows of some photos from an output, and see to it that they stay out.

    The ids are noted first, so that a job that redoes a unit leaves them out. Then each unit is rewritten by the
    commit of the jobs: its manifest goes first and comes last, every file is replaced as a whole.
    """
    if not dry_run:
        note_deleted(layout, ids)
    names = {**storage.list_folder(layout.shards, "*.parquet"), **storage.list_folder(layout.failures, "*.parquet")}
    total = Deleted()
    for name in sorted(names):
        total += _delete_in_unit(layout, name.removesuffix(".parquet"), ids, dry_run)
    if total.units and not dry_run:
        _refresh_stats(layout)
    return total


def find_image_files(folder: str, ids: frozenset[str]) -> list[str]:
    """Paths of the image files that `cfr frontalize --write-images` made of some photos, in a folder and one below."""
    wanted = {safe_name(image_id) for image_id in ids}
    paths = [*storage.match(storage.join(folder, "*")), *storage.match(storage.join(folder, "*", "*"))]
    stems = ((path, re.sub(r"\.(png|webp|jpg)$", "", path.replace("\\", "/").rsplit("/", 1)[-1])) for path in paths)
    return [path for path, stem in stems if stem.split("+")[0] in wanted]


def _delete_in_unit(layout: Layout, unit_id: str, ids: frozenset[str], dry_run: bool) -> Deleted:
    shard, failures = (_read(path) for path in (layout.shard(unit_id), layout.failure_shard(unit_id)))
    (shard_left, outputs, in_shard), (failures_left, failed, in_failures) = (
        _without(table, ids) for table in (shard, failures)
    )
    if not in_shard and not in_failures:
        return Deleted()
    deleted = Deleted(1, outputs, failed, in_shard | in_failures)
    path = layout.manifest(unit_id)
    if dry_run:
        return deleted
    if not storage.exists(path) or shard_left is None:
        # An unfinished unit: whoever finishes it leaves the photos out. Until then its files must not hold them.
        manifests.remove(layout, [unit_id])
        return deleted
    manifest = Manifest.from_json(storage.read_bytes(path))
    pictures = tuple(field.name for field in shard_left.schema if field.type == IMAGE)
    failures_data = serialize(failures_left) if failures_left is not None and len(failures_left) else None
    shard_data = serialize(shard_left, pictures) if outputs else storage.read_bytes(layout.shard(unit_id))
    commit_unit(layout, _recounted(manifest, shard_left, failures_left), shard_data, failures_data)
    return deleted


def _recounted(manifest: Manifest, shard: pa.Table, failures: pa.Table | None) -> Manifest:
    """The manifest for what is left; rows of deleted photos count as filtered."""
    rows = failures.select(["image_id", "face_index", "reason"]).to_pylist() if failures is not None else []
    with_output = set(shard.column("image_id").to_pylist())
    by_face = [row for row in rows if row["face_index"] >= 0]
    failed = len(rows) - len(by_face) + len({row["image_id"] for row in by_face} - with_output)
    return replace(
        manifest,
        rows_with_output=len(with_output),
        rows_failed=failed,
        rows_filtered=manifest.rows - len(with_output) - failed,
        outputs=len(shard),
        faces_failed=len(by_face),
        failures=dict(sorted(Counter(row["reason"] for row in rows).items())),
    )


def _read(path: str) -> pa.Table | None:
    if not storage.exists(path):
        return None
    with storage.open_read(path) as stream:
        return pq.read_table(stream)


def _without(table: pa.Table | None, ids: frozenset[str]) -> tuple[pa.Table | None, int, frozenset[str]]:
    """The table without some photos' rows, how many those were, and the ids that were found."""
    if table is None:
        return None, 0, frozenset()
    gone = pc.is_in(table.column("image_id"), pa.array(sorted(ids), pa.string()))
    found = frozenset(table.column("image_id").filter(gone).to_pylist())
    left = table.filter(pc.invert(gone))
    return left, len(table) - len(left), found


def _refresh_stats(layout: Layout) -> None:
    """The job's totals, if it was finished."""
    if storage.exists(layout.stats):
        summary = json.loads(storage.read_bytes(layout.stats))
        summary.update(stats.total(manifests.read_done(layout).manifests.values()))
        text = json.dumps(summary, indent=1, sort_keys=True)
        storage.publish(layout.stats, text.encode() + b"\n", layout.scratch)


def _layout(output: str) -> Layout:
    folder = storage.absolute(output)
    for product in PRODUCTS:
        layout = Layout(folder, product)
        if storage.list_folder(layout.shards, "*.parquet"):
            return layout
    raise UserError(f"{output} is no output of a job: it has none of the folders {', '.join(PRODUCTS)}")


def _read_ids(path: str) -> frozenset[str]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--ids {path}: cannot be read ({error}); give a text file, one image_id per line") from None
    ids = frozenset(line.strip() for line in lines if line.strip())
    if not ids:
        raise UserError(f"--ids {path}: no id in it; write one image_id per line")
    return ids
