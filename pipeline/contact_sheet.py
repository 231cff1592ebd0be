"""Drawing of contact sheets: one line of pictures per pair, with its numbers."""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# (picture, heading, column of the shard that holds it or what it was made from)
COLUMNS = (
    ("photo", "Photo", "target"),
    ("mesh", "Fitted mesh", "from coefficients"),
    ("clean_guidance", "Guidance", "from coefficients"),
    ("occluder_mask", "Occluder", "occluder_mask"),
    ("rotated_once", "Rotated once", "from coefficients"),
    ("rotated", "Rotated twice", "rotated"),
    ("guidance", "Swapped guidance", "guidance"),
    ("occlusion_mask", "Occlusion mask", "occlusion_mask"),
)

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
        pictures: (224,224,3) uint8 RGB by the names of `COLUMNS`; a missing one leaves a hollow tile.
    """

    values: Mapping[str, object]
    pictures: Mapping[str, np.ndarray]


def draw_sheet(rows: Sequence[SheetRow], title: str, note: str = "", extra_columns: Sequence[str] = ()) -> Image.Image:
    """Draw a page.

    Args:
        rows: its lines, top to bottom.
        title: first line, for example the output's path.
        note: second line, for example which rows were chosen.
        extra_columns: columns whose values are wanted in the panel beyond the usual ones.

    Returns:
        RGB picture, about 1,900 px wide and 214 px high per row.
    """
    width = 2 * MARGIN + PANEL + len(COLUMNS) * (TILE + GAP) - GAP
    page = Image.new("RGB", (width, HEADER + len(rows) * ROW_STEP + MARGIN // 2), _PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, 22), _fitting(title, 24, width - 2 * MARGIN), fill=_INK, font=_font(24), anchor="lt")
    draw.text((MARGIN, 54), _fitting(note, 15, width - 2 * MARGIN), fill=_FAINT, font=_font(15), anchor="lt")
    for column, (_, heading, source) in enumerate(COLUMNS):
        left = MARGIN + PANEL + column * (TILE + GAP)
        draw.text((left, HEADER - 34), heading, fill=_INK, font=_font(16), anchor="ls")
        draw.text((left, HEADER - 15), source, fill=_FAINT, font=_font(13), anchor="ls")
    for line, row in enumerate(rows):
        top = HEADER + line * ROW_STEP
        draw.line((MARGIN, top - 6, width - MARGIN, top - 6), fill=_RULE)
        _draw_panel(draw, row.values, (MARGIN, top + 5), extra_columns)
        for column, (name, _, _) in enumerate(COLUMNS):
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
    draw: ImageDraw.ImageDraw, values: Mapping[str, object], corner: tuple[int, int], extra_columns: Sequence[str]
) -> None:
    left, top = corner
    room = PANEL - 18
    draw.text((left, top), _fitting(str(values["image_id"]), 16, room, keep_end=True), fill=_INK, font=_font(16))
    which = f"face {values['face_index']}, view {values['view_index']}"
    draw.text((left, top + 21), which, fill=_FAINT, font=_font(13))
    lines = [(name, text) for name, text in panel_numbers(values, extra_columns) if text]
    step = min(19, (TILE - 46) // max(1, len(lines)))
    for number, (name, text) in enumerate(lines):
        y = top + 46 + number * step
        draw.text((left, y), name, fill=_FAINT, font=_font(13))
        draw.text((left + 92, y), _fitting(text, 13, room - 92), fill=_INK, font=_font(13))


def panel_numbers(values: Mapping[str, object], extra_columns: Sequence[str] = ()) -> list[tuple[str, str]]:
    """The numbers that are printed beside a row, as (name, text); the text is empty where the row has none."""
    pose = [_degrees(values.get(name)) for name in ("yaw", "pitch", "roll")]
    view = [_degrees(values.get(f"view_{name}")) for name in ("yaw", "pitch", "roll")]
    numbers = [
        ("yaw pitch roll", "  ".join(pose) if all(pose) else ""),
        ("random view", "  ".join(view) if all(view) else ""),
        ("fit error", _percent(values.get("fit_error"), 1)),
        ("occluded", _percent(values.get("occluded_fraction"))),
        ("visible", _percent(values.get("visible_fraction"))),
        ("sharpness", _plain(values.get("sharpness"))),
        ("quality", _plain(values.get("quality"))),
    ]
    shown = {"fit_error", "occluded_fraction", "visible_fraction", "sharpness", "quality", "image_id", "face_index"}
    shown |= {"view_index", "yaw", "pitch", "roll", "view_yaw", "view_pitch", "view_roll"}
    numbers += [(name, _plain(values.get(name))) for name in extra_columns if name not in shown]
    return numbers


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
