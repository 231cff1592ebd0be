"""Drawing of contact sheets: one line of pictures per pair, with its numbers."""

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont


@dataclass(frozen=True)
class RowKind:
    """What is shown of the rows of one job's shards.

    Attributes:
        columns: (picture, heading, column of the shard that holds it or what it was made from).
        masks: pictures that are kept without loss in a gallery.
        index: what the rows of one face differ by: the column `<index>_index`.
        numbers: values of a row -> (name, text) of what is printed beside it.
        covered: columns that `numbers` speaks of.
        lists: columns of texts that are joined to one.
    """

    columns: tuple[tuple[str, str, str], ...]
    masks: tuple[str, ...]
    index: str
    numbers: Callable[[Mapping[str, object]], list[tuple[str, str]]]
    covered: frozenset[str]
    lists: tuple[str, ...] = ()

    def panel(self, values: Mapping[str, object], extra_columns: Sequence[str] = ()) -> list[tuple[str, str]]:
        """The numbers beside a row, as (name, text); the text is empty where the row has none."""
        shown = self.covered | {"image_id", "face_index", f"{self.index}_index"}
        return self.numbers(values) + [(name, _plain(values.get(name))) for name in extra_columns if name not in shown]


TILE = 192
GAP = 8
MARGIN = 28
PANEL = 236  # width of the numbers
HEADER = 132
ROW_STEP = TILE + 22

_PAPER = (255, 255, 255)
_INK = (24, 27, 33)
_FAINT = (118, 125, 138)
_RULE = (225, 228, 233)
_HOLLOW = (240, 242, 245)


@dataclass(frozen=True)
class SheetRow:
    """A line of the sheet.

    Attributes:
        values: columns of the row by name; those that are missing are left out of the panel.
        pictures: (H,W,3) uint8 RGB by the names of the kind's columns; a missing one leaves a hollow tile.
    """

    values: Mapping[str, object]
    pictures: Mapping[str, np.ndarray]


def draw_sheet(
    kind: RowKind, rows: Sequence[SheetRow], title: str, note: str = "", extra_columns: Sequence[str] = ()
) -> Image.Image:
    """Draw a page.

    Args:
        kind: of the rows.
        rows: its lines, top to bottom.
        title: first line, for example the output's path.
        note: second line, for example which rows were chosen.
        extra_columns: columns whose values are wanted in the panel beyond the usual ones.

    Returns:
        RGB picture, 200 px wide per picture and 214 px high per row.
    """
    width = 2 * MARGIN + PANEL + len(kind.columns) * (TILE + GAP) - GAP
    page = Image.new("RGB", (width, HEADER + len(rows) * ROW_STEP + MARGIN // 2), _PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, 22), _fitting(title, 24, width - 2 * MARGIN), fill=_INK, font=_font(24), anchor="lt")
    draw.text((MARGIN, 54), _fitting(note, 15, width - 2 * MARGIN), fill=_FAINT, font=_font(15), anchor="lt")
    for column, (_, heading, source) in enumerate(kind.columns):
        left = MARGIN + PANEL + column * (TILE + GAP)
        draw.text((left, HEADER - 34), heading, fill=_INK, font=_font(16), anchor="ls")
        draw.text((left, HEADER - 15), source, fill=_FAINT, font=_font(13), anchor="ls")
    for line, row in enumerate(rows):
        top = HEADER + line * ROW_STEP
        draw.line((MARGIN, top - 6, width - MARGIN, top - 6), fill=_RULE)
        _draw_panel(draw, kind, row.values, (MARGIN, top + 5), extra_columns)
        for column, (name, _, _) in enumerate(kind.columns):
            corner = (MARGIN + PANEL + column * (TILE + GAP), top + 5)
            picture = row.pictures.get(name)
            if picture is None:
                draw.rectangle((*corner, corner[0] + TILE - 1, corner[1] + TILE - 1), fill=_HOLLOW)
                centre = (corner[0] + TILE // 2, corner[1] + TILE // 2)
                draw.text(centre, "not available", fill=_FAINT, font=_font(13), anchor="mm")
            else:
                tile = Image.fromarray(picture).resize((TILE, TILE), Image.Resampling.LANCZOS)
                page.paste(tile, corner)
    return page


def _draw_panel(
    draw: ImageDraw.ImageDraw,
    kind: RowKind,
    values: Mapping[str, object],
    corner: tuple[int, int],
    extra_columns: Sequence[str],
) -> None:
    left, top = corner
    room = PANEL - 18
    draw.text((left, top), _fitting(str(values["image_id"]), 16, room, keep_end=True), fill=_INK, font=_font(16))
    which = f"face {values['face_index']}, {kind.index} {values[f'{kind.index}_index']}"
    draw.text((left, top + 21), which, fill=_FAINT, font=_font(13))
    lines = [(name, text) for name, text in kind.panel(values, extra_columns) if text]
    step = min(19, (TILE - 46) // max(1, len(lines)))
    for number, (name, text) in enumerate(lines):
        y = top + 46 + number * step
        draw.text((left, y), name, fill=_FAINT, font=_font(13))
        draw.text((left + 92, y), _fitting(text, 13, room - 92), fill=_INK, font=_font(13))


def _angles(values: Mapping[str, object], prefix: str = "") -> str:
    """Yaw, pitch and roll; empty where one is missing."""
    angles = [_degrees(values.get(f"{prefix}{name}")) for name in ("yaw", "pitch", "roll")]
    return "  ".join(angles) if all(angles) else ""


def _pair_numbers(values: Mapping[str, object]) -> list[tuple[str, str]]:
    return [
        ("yaw pitch roll", _angles(values)),
        ("random view", _angles(values, "view_")),
        ("fit error", _percent(values.get("fit_error"), 1)),
        ("occluded", _percent(values.get("occluded_fraction"))),
        ("visible", _percent(values.get("visible_fraction"))),
        ("sharpness", _plain(values.get("sharpness"))),
        ("quality", _plain(values.get("quality"))),
    ]


def _frontal_numbers(values: Mapping[str, object]) -> list[tuple[str, str]]:
    apply = values.get("apply")
    kept = " (photo kept)" if values.get("kept_source") else ""
    return [
        ("apply", "" if apply is None else "yes" if apply else f"no{kept}"),
        ("because", str(values.get("reasons") or "")),
        ("yaw pitch roll", _angles(values)),
        ("wanted", _angles(values, "pose_")),
        ("quality", _plain(values.get("quality"))),
        ("similarity", _plain(values.get("identity_similarity"))),
        ("own, mirrored", f"{_percent(values.get('own_fraction'))}, {_percent(values.get('mirrored_fraction'))}"),
        ("fit error", _percent(values.get("fit_error"), 1)),
    ]


def _occlusion_numbers(values: Mapping[str, object]) -> list[tuple[str, str]]:
    traits = [name.replace("_", " ") for name in ("colour_matched", "shadow") if values.get(name)]
    return [
        ("occluder", str(values.get("occluder") or "")),
        ("kind", ", ".join([str(values.get("occluder_kind") or ""), *traits]).strip(", ")),
        ("occluded", _percent(values.get("occluded_fraction"))),
        ("yaw pitch roll", _angles(values)),
        ("fit error", _percent(values.get("fit_error"), 1)),
    ]


def _columns_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _degrees(value: object) -> str:
    # Adding zero turns -0 into 0.
    return f"{round(value, 0) + 0:.0f}°" if _is_number(value) else ""


def _percent(value: object, digits: int = 0) -> str:
    return f"{100 * value:.{digits}f} %" if _is_number(value) else ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _plain(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fitting(text: str, size: int, width: int, keep_end: bool = False) -> str:
    """The text in letters that Pillow's own font has, shortened with an ellipsis to `width` px."""
    text = text[-width:] if keep_end else text[:width]  # a letter takes more than a pixel
    plain = ""
    for letter in unicodedata.normalize("NFKD", text):
        if letter in "°·" or (letter.isascii() and letter.isprintable()):
            plain += letter
        elif not unicodedata.combining(letter):
            plain += letter.encode("ascii", "backslashreplace").decode()
    font = _font(size)
    if font.getlength(plain) <= width:
        return plain
    while plain and font.getlength("…" + plain) > width:
        plain = plain[1:] if keep_end else plain[:-1]
    return "…" + plain if keep_end else plain + "…"


PAIR_ROWS = RowKind(
    columns=(
        ("photo", "Photo", "target"),
        ("mesh", "Fitted mesh", "from coefficients"),
        ("clean_guidance", "Guidance", "from coefficients"),
        ("occluder_mask", "Occluder", "occluder_mask"),
        ("rotated_once", "Rotated once", "from coefficients"),
        ("rotated", "Rotated twice", "rotated"),
        ("guidance", "Swapped guidance", "guidance"),
        ("occlusion_mask", "Occlusion mask", "occlusion_mask"),
    ),
    masks=("occluder_mask", "occlusion_mask"),
    index="view",
    numbers=_pair_numbers,
    covered=_columns_of(
        "fit_error occluded_fraction visible_fraction sharpness quality yaw pitch roll view_yaw view_pitch view_roll"
    ),
)
FRONTAL_ROWS = RowKind(
    columns=(
        ("source", "Photo", "source"),
        ("frontal", "Result", "frontal"),
        ("mask", "Synthesised", "mask"),
    ),
    masks=("mask",),
    index="pose",
    numbers=_frontal_numbers,
    covered=_columns_of(
        "apply kept_source reasons yaw pitch roll pose_yaw pose_pitch pose_roll quality identity_similarity "
        "own_fraction mirrored_fraction fit_error"
    ),
    lists=("reasons",),
)
OCCLUSION_ROWS = RowKind(
    columns=(
        ("occluded", "Occluded", "occluded"),
        ("original", "Original", "original"),
        ("occluder_mask", "Occluder on mesh", "occluder_mask, face_mask"),
        ("landmarks", "Landmarks", "landmarks68"),
    ),
    masks=("occluder_mask",),
    index="copy",
    numbers=_occlusion_numbers,
    covered=_columns_of("occluder occluder_kind colour_matched shadow occluded_fraction yaw pitch roll fit_error"),
)
