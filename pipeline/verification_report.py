"""The report of a verification: page, Markdown and the receiver operating characteristic as a picture."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cfr.model.verification import Roc, cosine_similarity
from cfr.pipeline import report_page
from cfr.pipeline.pair_rows import RowReference, find_shards, read_rows
from cfr.pipeline.verification_pairs import VerificationPairs

LOWEST_RATE = 1e-4
_SHOWN = 6
_SIDE, _MARGIN = 640, 64


def write_report(folder: Path, report: dict, curves: Mapping[str, Roc], faces, pairs: VerificationPairs) -> None:
    """Write report.html, report.md and roc.png; `faces`: of `evaluate_verification`.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    roc_picture(curves).save(folder / "roc.png")
    lines = {name: (curve.false_accepts, curve.true_accepts) for name, curve in curves.items()}
    sections = [report_page.charts([report_page.curves("true accepts against false accepts", lines, LOWEST_RATE)])]
    markdown = ["# Verification", "", f"{report['photos']} photos.", "", "![ROC](roc.png)", ""]
    for group, entry in report["groups"].items():
        title = f"{group}: {entry['pairs']:,} pairs, {entry['same_person']:,} of one person"
        names = list(next(iter(entry["ways"].values()), {}))
        rows = [[way, *("-" if f[name] is None else f[name] for name in names)] for way, f in entry["ways"].items()]
        sections += [report_page.heading(title), report_page.table(rows, ["", *names])]
        markdown += [f"## {title}", "", "| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        markdown += ["| " + " | ".join(map(str, row)) + " |" for row in rows] + [""]
    if faces.output is not None:
        sections += _picture_sections(faces, pairs)
    (folder / "report.html").write_text(report_page.page("Verification", sections), encoding="utf-8")
    (folder / "report.md").write_text("\n".join(markdown), encoding="utf-8")


def roc_picture(curves: Mapping[str, Roc]) -> Image.Image:
    """True accepts against false accepts (logarithmic, from 1e-4), one line per way."""
    scale = 2
    image = Image.new("RGB", (_SIDE * scale, _SIDE * scale), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(15 * scale)
    low, high = _MARGIN * scale, (_SIDE - 24) * scale

    def place(across: float, up: float) -> tuple[float, float]:
        return low + across * (high - low), (_SIDE - _MARGIN) * scale - up * (_SIDE - _MARGIN - 24) * scale

    decades = round(-np.log10(LOWEST_RATE))
    for index in range(decades + 1):
        draw.line([place(index / decades, 0), place(index / decades, 1)], "#ddd", scale)
        x, y = place(index / decades, 0)
        draw.text((x, y + 6 * scale), f"1e-{decades - index}" if index < decades else "1", "#444", font, "mt")
    for index in range(6):
        draw.line([place(0, index / 5), place(1, index / 5)], "#ddd", scale)
        x, y = place(0, index / 5)
        draw.text((x - 8 * scale, y), f"{index / 5:.1f}", "#444", font, "rm")
    draw.text((_SIDE * scale / 2, (_SIDE - 12) * scale), "false accept rate", "#444", font, "mb")
    draw.text((low, 20 * scale), "true accept rate", "#444", font, "lb")
    for number, ((name, roc), colour) in enumerate(zip(curves.items(), report_page.COLOURS, strict=False)):
        across = 1 - np.log10(np.clip(roc.false_accepts, LOWEST_RATE, 1)) / np.log10(LOWEST_RATE)
        draw.line([place(a, b) for a, b in zip(across, roc.true_accepts, strict=True)], colour, 3 * scale, "curve")
        x, y = place(0.97, 0.04 + 0.05 * (len(curves) - 1 - number))
        draw.text((x, y), name, colour, font, "rm")
    return image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)


def _picture_sections(faces, pairs: VerificationPairs) -> list[str]:
    """The pairs whose similarity frontalisation changed most, for better and for worse."""
    raw, turned = (
        cosine_similarity(faces.ways[way][pairs.first], faces.ways[way][pairs.second]) for way in ("raw", "frontalised")
    )
    change = np.where(pairs.same, turned - raw, raw - turned)
    order = np.argsort(change)
    sections = []
    for title, chosen in (("Helped most", order[::-1][:_SHOWN]), ("Harmed most", order[:_SHOWN])):
        sections.append(report_page.heading(title, "Photo and result of both sides; similarity raw and frontalised."))
        for index in chosen:
            kind = "one person" if pairs.same[index] else "two persons"
            caption = f"{kind}, {raw[index]:.2f} to {turned[index]:.2f}"
            names = [faces.ids[side[index]] for side in (pairs.first, pairs.second)]
            shown = _stored(faces.output, names)
            if len(shown) == 4:
                sections.append(report_page.pictures([(picture, caption) for picture in shown]))
    return sections


def _stored(output: str, names: list[str]) -> list[np.ndarray]:
    """Source and result of each of some photos."""
    import pyarrow.parquet as pq

    found: dict[str, RowReference] = {}
    for path in find_shards(output).rows:
        for row, name in enumerate(pq.read_table(path, columns=["image_id"]).column(0).to_pylist()):
            if name in names:
                found.setdefault(name, RowReference(path, row))
    rows = read_rows([found[name] for name in names if name in found], ["source", "frontal"])
    data = [row.encoded_picture(column) for row in rows for column in ("source", "frontal")]
    return [np.asarray(Image.open(io.BytesIO(each)).convert("RGB")) for each in data if each]
