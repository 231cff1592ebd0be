"""Parts of the reports: a page that opens from a disk, bar charts and curves as inline SVG, tables, small pictures."""

import base64
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageOps

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
:root {{ --ink: #181b21; --faint: #6b7280; --rule: #e1e4e9; --paper: #fff; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e8eaed; --faint: #9aa1ac; --rule: #33373f; --paper: #16181d; }} }}
body {{ margin: 0 auto; padding: 8px 24px 48px; max-width: 1080px; background: var(--paper); color: var(--ink);
  font: 14px/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 22px; overflow-wrap: anywhere; }} h2 {{ font-size: 17px; margin: 32px 0 8px; }}
p {{ color: var(--faint); max-width: 75ch; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: 3px 18px 3px 0; border-bottom: 1px solid var(--rule); overflow-wrap: anywhere; }}
.charts {{ display: flex; flex-wrap: wrap; gap: 20px; }} figure {{ margin: 0; }}
figcaption {{ font-size: 12px; color: var(--faint); }}
svg text {{ font: 11px system-ui, sans-serif; fill: var(--faint); }}
.pictures {{ display: flex; flex-wrap: wrap; gap: 8px; margin: 8px 0; }}
.pictures img {{ display: block; width: 112px; height: 112px; }}
.pictures figcaption {{ width: 112px; overflow-wrap: anywhere; }}
</style></head><body><h1>{title}</h1>
{body}
</body></html>
"""
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 320, 160, 44, 20, 10
COLOURS = ("#4c78a8", "#e4572e", "#54a24b", "#b279a2", "#9d755d")


def page(title: str, sections: Sequence[str]) -> str:
    """A whole page of sections that are HTML already."""
    return _PAGE.format(title=html.escape(title), body="\n".join(sections))


def heading(text: str, explanation: str = "") -> str:
    """A section's heading, and a paragraph below it."""
    return f"<h2>{html.escape(text)}</h2>" + (f"<p>{html.escape(explanation)}</p>" if explanation else "")


def table(rows: Sequence[Sequence[object]], columns: Sequence[str] = ()) -> str:
    """Rows of cells, with or without a heading."""
    head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in columns)
    lines = ["".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in ([head] if head else []) + lines) + "</table>"


def charts(each: Sequence[str]) -> str:
    """Charts side by side."""
    return f'<div class="charts">{"".join(each)}</div>'


def histogram(title: str, counts: Sequence[int], edges: Sequence[float]) -> str:
    """Bars of numbers (N) between edges (N+1)."""
    labels = [f"{edge:.3g}" for edge in (edges[0], edges[len(edges) // 2], edges[-1])]
    ticks = [(0.0, labels[0]), ((len(edges) // 2) / (len(edges) - 1), labels[1]), (1.0, labels[2])]
    tips = [f"{low:.3g} to {high:.3g}: {n}" for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)]
    return _chart(title, _bars(counts, tips), ticks, _count_ticks(max(counts, default=0)))


def bars(title: str, counts: Mapping[str, int]) -> str:
    """Bars of named numbers."""
    ticks = [((index + 0.5) / len(counts), name) for index, name in enumerate(counts)]
    drawn = _bars(list(counts.values()), [f"{name}: {n}" for name, n in counts.items()], gap=0.2)
    return _chart(title, drawn, ticks, _count_ticks(max(counts.values(), default=0)))


def curves(title: str, lines: Mapping[str, tuple[np.ndarray, np.ndarray]], lowest: float) -> str:
    """Receiver operating characteristics {name: (false accepts, true accepts)}; logarithmic from `lowest` on."""
    drawn = []
    for (name, (x, y)), colour in zip(lines.items(), COLOURS, strict=False):
        across = 1 - np.log10(np.clip(x, lowest, 1)) / np.log10(lowest)
        points = " ".join(f"{_x(a):.1f},{_y(b):.1f}" for a, b in zip(across, y, strict=True))
        drawn.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        place = _y(0.06 + 0.09 * (len(lines) - len(drawn) // 2 - 1))
        drawn.append(f'<text x="{_WIDTH - 6}" y="{place:.0f}" text-anchor="end" style="fill:{colour}">{name}</text>')
    decades = round(-np.log10(lowest))
    ticks = [(index / decades, f"1e-{decades - index}" if index < decades else "1") for index in range(decades + 1)]
    return _chart(title, "".join(drawn), ticks, [(0.0, "0"), (0.5, "0.5"), (1.0, "1")])


def pictures(each: Sequence[tuple[np.ndarray, str]]) -> str:
    """Small pictures (H,W,3) uint8 within the page, cut to squares, with a caption each."""
    figures = []
    for picture, caption in each:
        buffer = io.BytesIO()
        ImageOps.fit(Image.fromarray(picture), (112, 112), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=85)
        source = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
        text = html.escape(caption)
        figures.append(f'<figure><img src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>')
    return f'<div class="pictures">{"".join(figures)}</div>'


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - 8)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)


def _bars(counts: Sequence[int], tips: Sequence[str], gap: float = 0.04) -> str:
    highest = max(max(counts, default=0), 1)
    drawn = []
    for index, (count, tip) in enumerate(zip(counts, tips, strict=True)):
        left, right = _x((index + gap / 2) / len(counts)), _x((index + 1 - gap / 2) / len(counts))
        top = _y(count / highest)
        drawn.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{_y(0) - top:.1f}" '
            f'fill="{COLOURS[0]}"><title>{html.escape(tip)}</title></rect>'
        )
    return "".join(drawn)


def _count_ticks(highest: int) -> list[tuple[float, str]]:
    return [(0.0, "0"), (1.0, f"{max(highest, 1):,}")]


def _chart(title: str, drawn: str, x_ticks: list[tuple[float, str]], y_ticks: list[tuple[float, str]]) -> str:
    parts = [f'<line x1="{_LEFT}" y1="{_y(0)}" x2="{_WIDTH - 8}" y2="{_y(0)}" stroke="#8886"/>']
    for share, label in x_ticks:
        anchor = "end" if share == 1 else "middle"
        place = f'x="{_x(share):.0f}" y="{_y(0) + 14:.0f}" text-anchor="{anchor}"'
        small = ' style="font-size:9px"' if len(x_ticks) > 5 else ""
        parts.append(f"<text {place}{small}>{html.escape(label)}</text>")
    for share, label in y_ticks:
        parts.append(f'<text x="{_LEFT - 5}" y="{_y(share) + 4:.0f}" text-anchor="end">{html.escape(label)}</text>')
    name = html.escape(title)
    view = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{name}"'
    return f"<figure><svg {view}>{drawn}{''.join(parts)}</svg><figcaption>{name}</figcaption></figure>"
