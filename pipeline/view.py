"""`cfr view`: draw a contact sheet or a gallery page of pairs, frontal or occluded faces."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from cfr.pipeline.compared_runs import SecondRun
from cfr.pipeline.contact_sheet import FRONTAL_ROWS, OCCLUSION_ROWS, PAIR_ROWS, RowKind, SheetRow, draw_sheet
from cfr.pipeline.errors import UserError, reject_unknown_arguments
from cfr.pipeline.gallery import GalleryWriter
from cfr.pipeline.pair_rows import (
    PairRow,
    RowReference,
    find_shards,
    read_failures,
    read_rows,
    read_schema,
    select_rows,
)
from cfr.pipeline.where import comparable_columns

PAGE_ROWS = 12
_RUN = "run"  # what a sheet of two runs calls the column with their names
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `cfr view`."""
    parser.add_argument("source", metavar="OUT", help="output folder of cfr pairs, frontalize or occlude, or shards")
    parser.add_argument("--output", metavar="FILE", help="contact sheet: .png, .jpg or .webp (default: sheet.png)")
    parser.add_argument("--html", metavar="PLACE", help="gallery page: a folder or a .html file; opens from disk")
    parser.add_argument("--compare", metavar="OUT", help="another output of the same command, shown beside the first")
    parser.add_argument("--rows", type=int, default=PAGE_ROWS, metavar="N", help="how many rows at most (default: 12)")
    parser.add_argument("--where", metavar="FILTER", help='only these rows, e.g. "abs(yaw) > 30 and quality >= 0.5"')
    parser.add_argument("--sort", metavar="COLUMN", help="smallest first; -COLUMN: largest first")
    parser.epilog = """\
A sheet of more than 12 rows continues in FILE-2, FILE-3, ... With --html alone no sheet is drawn. --compare shows the
same faces and views of two outputs, one below the other; the page sorts and filters by what changed.

examples:
  cfr view pairs --output sheet.png
  cfr view frontal --output rejected.png --where "apply = false"
  cfr view pairs --output worst.png --rows 24 --sort -fit_error
  cfr view occluded --output covered.png --where "occluded_fraction > 0.3"
  cfr view pairs --html gallery --rows 500 --where "occluded_fraction > 0.1 and not (view_yaw in (90, -90))"
  cfr view pairs --compare pairs-of-last-week --html gallery --rows 500
"""


def run(args: argparse.Namespace, beam_arguments: list[str]) -> int:
    """Draw what was asked for; 0 if there was something to draw.

    Raises:
        UserError: nothing to show, a wrong filter or column, or a place that cannot be written to.
    """
    reject_unknown_arguments(beam_arguments)
    if args.rows < 1:
        raise UserError(f"--rows must be at least 1, not {args.rows}")
    sheet = args.output or (None if args.html else "sheet.png")
    if sheet and Path(sheet).suffix.lower() not in _SUFFIXES:
        raise UserError(f"--output {sheet}: the sheet is a picture; end its name with one of {', '.join(_SUFFIXES)}")
    shards = find_shards(args.source)
    schema = read_schema(shards.rows[0])
    kinds = {"pose_index": FRONTAL_ROWS, "copy_index": OCCLUSION_ROWS}
    kind = next((kind for column, kind in kinds.items() if column in schema.names), PAIR_ROWS)
    second = SecondRun(args.compare, f"{kind.index}_index") if args.compare else None
    chosen = select_rows(shards.rows, args.rows, args.where, args.sort)
    note = _describe(args, len(chosen))
    if not chosen and not args.html:
        raise UserError(f"no row to draw: {note}" + ("; --html lists the failures" if shards.failures else ""))
    try:
        runs = [args.source, args.compare] if second else [args.source]
        gallery = GalleryWriter(kind, Path(args.html), runs) if args.html else None
        place = Path(sheet) if sheet and chosen else None
        sheets, partners = _draw(kind, chosen, schema, args, note, place, gallery, second)
        if second:
            note += f" · {partners} of them in {args.compare}, which has {len(second)}"
        if gallery:
            columns = comparable_columns(schema)
            page = gallery.finish(" and ".join(runs), note, columns, args.sort, read_failures(shards.failures))
    except OSError as error:
        raise UserError(f"cannot write {error.filename or sheet or args.html}: {error.strerror or error}") from error
    for path in sheets:
        print(f"contact sheet: {path}")
    if gallery:
        print(f"gallery: {page}")
    print(note)
    return 0


def _draw(
    kind: RowKind,
    chosen: Sequence[RowReference],
    schema: pa.Schema,
    args: argparse.Namespace,
    note: str,
    sheet: Path | None,
    gallery: GalleryWriter | None,
    second: SecondRun | None,
) -> tuple[list[Path], int]:
    """Draw page by page, so that the pictures of one page are in memory at a time.

    Returns:
        The sheets' paths, and how many rows have a partner in the second run.
    """
    paths, partners = [], 0
    extra = [name for name in [_RUN if second else "", (args.sort or "").removeprefix("-")] if name]
    pages = -(-len(chosen) // PAGE_ROWS)
    for number, rows in enumerate(_pages(kind, chosen, comparable_columns(schema), second), start=1):
        partners += sum(other is not None for _, other in rows)
        if gallery:
            for row, other in rows:
                gallery.add(row.values, row.pictures, other and (other.values, other.pictures))
        if sheet:
            path = sheet if number == 1 else sheet.with_name(f"{sheet.stem}-{number}{sheet.suffix}")
            of = f" · sheet {number} of {pages}" if pages > 1 else ""
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [_named(side, run) for row in rows for side, run in _sides(row, args)]
            draw_sheet(kind, lines, args.source, note + of, extra).save(path, quality=88)
            paths.append(path)
    return paths, partners


def _sides(row: tuple[SheetRow, SheetRow | None], args: argparse.Namespace) -> list[tuple[SheetRow, str]]:
    return [(side, run) for side, run in zip(row, (args.source, args.compare), strict=True) if side]


def _named(row: SheetRow, run: str) -> SheetRow:
    """With the run's name among the numbers."""
    return SheetRow({**row.values, _RUN: run}, row.pictures)


def _pages(
    kind: RowKind, chosen: Sequence[RowReference], columns: Sequence[str], second: SecondRun | None
) -> Iterator[list[tuple[SheetRow, SheetRow | None]]]:
    """Rows with their partners in the second run."""
    painter, needed = _painter(kind)
    wanted = [*columns, *needed, *kind.lists]

    def drawn(rows: list[PairRow]) -> list[SheetRow]:
        pictures = painter.paint(rows)
        return [SheetRow(_shown(kind, row, columns), each) for row, each in zip(rows, pictures, strict=True)]

    for first in range(0, len(chosen), PAGE_ROWS):
        rows = list(read_rows(chosen[first : first + PAGE_ROWS], wanted))
        places = second.partners(rows) if second else [None] * len(rows)
        others = iter(drawn(list(read_rows([place for place in places if place], wanted))))
        yield [(row, next(others) if place else None) for row, place in zip(drawn(rows), places, strict=True)]


def _shown(kind: RowKind, row: PairRow, columns: Sequence[str]) -> dict[str, object]:
    lists = {name: ", ".join(row.values[name] or ()) for name in kind.lists if name in row.values}
    return {name: row.values.get(name) for name in columns} | lists


def _painter(kind: RowKind):
    """What makes the pictures of this kind of rows, and the columns that it needs."""
    if kind is FRONTAL_ROWS:
        from cfr.pipeline import frontal_pictures

        return frontal_pictures.FrontalPainter(), frontal_pictures.NEEDED_COLUMNS
    if kind is OCCLUSION_ROWS:
        from cfr.pipeline import occlusion_pictures

        return occlusion_pictures.OcclusionPainter(), occlusion_pictures.NEEDED_COLUMNS
    # Loads torch and the face model: not before the arguments are known to be right.
    import torch

    from cfr.pipeline import pair_pictures

    # One picture at a time is too little work to share: on busy cores more threads make it slower.
    torch.set_num_threads(1)
    return pair_pictures.PairPainter(), pair_pictures.NEEDED_COLUMNS


def _describe(args: argparse.Namespace, count: int) -> str:
    parts = [f"{count} row" + ("" if count == 1 else "s")]
    if args.where:
        parts.append(f"where {args.where}")
    if args.sort:
        key = args.sort.removeprefix("-")
        parts.append(f"sorted by {key}, {'largest' if args.sort.startswith('-') else 'smallest'} first")
    return " · ".join(parts)
