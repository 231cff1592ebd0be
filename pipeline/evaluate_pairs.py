"""`cfr evaluate pairs`: a data card of a pair set: counts, poses, occlusion, skin tone, light, duplicates, failures."""

import argparse
import importlib.metadata
import io
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from tqdm import tqdm

from cfr.model.appearance import TONE_GROUPS, light_on_face, skin_colour, tone_group, typology_angle
from cfr.model.coefficients import Coefficients
from cfr.model.face_model import MorphableModel
from cfr.model.perceptual_hash import groups_alike, perceptual_hash
from cfr.pipeline import console, report_page
from cfr.pipeline.errors import UserError
from cfr.pipeline.pair_rows import RowReference, ShardSet, find_shards, read_failures, read_rows

NUMBERS = (
    *("yaw", "pitch", "roll", "view_yaw", "view_pitch", "view_roll"),
    *("occluded_fraction", "visible_fraction", "sharpness", "fit_error", "detection_score", "quality"),
)
_FROM_COEFFICIENTS = ("skin_tone", "light_brightness", "light_azimuth", "light_elevation")
_COLOUR = ("red", "green", "blue")  # of the skin's albedo, on the way to skin_tone
_RANGES = {
    **dict.fromkeys(("yaw", "view_yaw", "light_azimuth", "light_elevation"), (-90, 90)),
    **dict.fromkeys(("pitch", "roll", "view_pitch", "view_roll"), (-60, 60)),
    **dict.fromkeys(("occluded_fraction", "visible_fraction", "sharpness", "quality", "detection_score"), (0, 1)),
    "skin_tone": (-60, 90),
    "light_brightness": (0, 2),
}
_BINS = 30
_SHOWN_GROUPS, _SHOWN_ROWS, _LISTED_GROUPS = 8, 8, 1000
_BATCH_ROWS = 256


@dataclass
class _Collected:
    """Columns of all rows."""

    references: list[RowReference] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    faces: list[int] = field(default_factory=list)
    numbers: dict[str, list[np.ndarray]] = field(default_factory=dict)
    hashes: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    first_rows: dict[tuple[str, int], RowReference] = field(default_factory=dict)
    without_tone: int = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.epilog = """\
examples:
  cfr evaluate pairs pairs --html card.html
  cfr evaluate pairs pairs --json --no-duplicates"""
    parser.add_argument("source", metavar="OUT", help="output folder of `cfr pairs`, or shards")
    parser.add_argument("--html", metavar="FILE", help="write the card as a page with charts and pictures")
    parser.add_argument("--no-duplicates", action="store_true", help="do not decode the photos to find alike ones")


def run(args: argparse.Namespace) -> int:
    """Print the card; see `cfr.pipeline.evaluate.run`."""
    shards = find_shards(args.source)
    collected = _collect(shards, not args.no_duplicates)
    card, groups = _card(args.source, shards, collected, not args.no_duplicates)
    if args.html:
        path = Path(args.html)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_html(card, collected, groups), encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise UserError(f"--html {args.html}: cannot write there: {error.strerror or error}") from error
        console.note(f"page: {path}")
    print(json.dumps(card, indent=2, ensure_ascii=False) if args.json else _table(card))
    return 0


def _collect(shards: ShardSet, duplicates: bool) -> _Collected:
    model = MorphableModel.load_default()
    collected = _Collected()
    files = [pq.ParquetFile(path) for path in shards.rows]
    rows = sum(file.metadata.num_rows for file in files)
    with (
        ThreadPoolExecutor(4) as executor,
        tqdm(total=rows, unit=" rows", disable=console.is_quiet() or None) as bar,
    ):
        for path, file in zip(shards.rows, files, strict=True):
            names = file.schema_arrow.names
            if "view_index" not in names:
                raise UserError(f"{path} holds no pairs: give the --output folder of `cfr pairs`")
            wanted = [*NUMBERS, "image_id", "face_index", "coefficients", *(["target"] if duplicates else [])]
            digest = _face_model_digest(file)
            row = 0
            for batch in file.iter_batches(_BATCH_ROWS, columns=[name for name in wanted if name in names]):
                values = batch.to_pydict()
                faces = list(zip(values["image_id"], values["face_index"], strict=True))
                collected.ids += values["image_id"]
                collected.faces += values["face_index"]
                references = [RowReference(path, row + index) for index in range(len(faces))]
                collected.references += references
                for name in NUMBERS:
                    column = np.array(values.get(name, [None] * len(faces)), dtype=float)
                    collected.numbers.setdefault(name, []).append(column)
                matching = digest in (None, model.digest)
                for name, column in _appearance(model, values.get("coefficients") if matching else None, len(faces)):
                    collected.numbers.setdefault(name, []).append(column)
                fresh = {}
                for face, reference, index in zip(faces, references, range(len(faces)), strict=True):
                    if face not in collected.first_rows:
                        collected.first_rows[face] = reference
                        fresh[face] = index
                if duplicates and "target" in values:
                    encoded = [values["target"][index] for index in fresh.values()]
                    collected.hashes.update(zip(fresh, executor.map(_hash, encoded), strict=True))
                row += len(faces)
                bar.update(len(faces))
            file.close()
    return collected


def _face_model_digest(file: pq.ParquetFile) -> str | None:
    models = json.loads((file.schema_arrow.metadata or {}).get(b"models", b"[]"))
    return next((model["digest"] for model in models if model["part"] == "face_model"), None)


@torch.inference_mode()
def _appearance(model: MorphableModel, rows: list | None, count: int) -> list[tuple[str, np.ndarray]]:
    """Columns of the light and of `_COLOUR`; NaN where the coefficients are of another face model."""
    names = (*_COLOUR, *_FROM_COEFFICIENTS[1:])
    if not rows or len(rows[0] or ()) != sum(model.sizes) + 33:
        return [(name, np.full(count, np.nan)) for name in names]
    fitted = Coefficients.split(torch.tensor(rows, dtype=torch.float32), model.sizes)
    values = (*skin_colour(model, fitted.albedo).unbind(1), *light_on_face(fitted.light))
    return [(name, value.double().numpy()) for name, value in zip(names, values, strict=True)]


def _skin_tone(numbers: dict[str, np.ndarray]) -> np.ndarray:
    """Typology angles of the albedos in the set's usual light.

    The fit settles how much of a face's colour is albedo and how much is light by a convention of its own. Under the
    set's median light, the skin of its usual photo has the colour that it is seen in.
    """
    colour = np.stack([numbers.pop(name) for name in _COLOUR], -1)
    usual = np.nanmedian(numbers["light_brightness"]) if np.isfinite(numbers["light_brightness"]).any() else np.nan
    return typology_angle(torch.from_numpy((colour * usual).clip(0, 1))).numpy()


def _hash(encoded: dict) -> np.ndarray:
    return perceptual_hash(_decode(encoded["bytes"]))


def _decode(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _card(source: str, shards: ShardSet, collected: _Collected, duplicates: bool) -> tuple[dict, list[list[tuple]]]:
    numbers = {name: np.concatenate(columns) if columns else np.zeros(0) for name, columns in collected.numbers.items()}
    if numbers:
        numbers = {name: numbers[name] for name in NUMBERS} | {"skin_tone": _skin_tone(numbers)} | numbers
    collected.numbers = {name: [column] for name, column in numbers.items()}
    failures = list(read_failures(shards.failures))
    faces = list(collected.hashes)
    alike = groups_alike(np.stack(list(collected.hashes.values()))) if faces else []
    groups = [[faces[index] for index in group] for group in alike]
    tones = Counter(tone_group(value) for value in numbers.get("skin_tone", []) if np.isfinite(value))
    card = {
        "source": source,
        "software": f"cfr {importlib.metadata.version('cfr')}",
        "shards": len(shards.rows),
        "pairs": len(collected.ids),
        "photos": len(set(collected.ids)),
        "faces": len(collected.first_rows),
        "failures": {
            "rows": len(failures),
            "reasons": dict(Counter(failure["reason"] for failure in failures).most_common()),
            "stages": dict(Counter(failure["stage"] for failure in failures).most_common()),
        },
        "numbers": {name: _distribution(name, column) for name, column in numbers.items()},
        "skin_tone_groups": {name: tones[name] for name in TONE_GROUPS},
        "duplicates": None
        if not duplicates
        else {
            "faces_compared": len(faces),
            "groups": len(groups),
            "faces_in_groups": sum(map(len, groups)),
            "listed": [[f"{image_id}#{face}" for image_id, face in group] for group in groups[:_LISTED_GROUPS]],
        },
    }
    return card, groups


def _distribution(name: str, column: np.ndarray) -> dict:
    finite = column[np.isfinite(column)]
    if not len(finite):
        return {"n": 0, "missing": len(column)}
    low, high = _RANGES.get(name, (0.0, float(max(finite.max(), 1e-6))))
    counts, edges = np.histogram(np.clip(finite, low, high), _BINS, (low, high))
    quantiles = np.quantile(finite, [0.05, 0.25, 0.5, 0.75, 0.95])
    return {
        "n": len(finite),
        "missing": int(len(column) - len(finite)),
        "mean": round(float(finite.mean()), 4),
        "quantiles": dict(zip(("5%", "25%", "50%", "75%", "95%"), np.round(quantiles, 4).tolist(), strict=True)),
        "histogram": {"counts": counts.tolist(), "edges": np.round(edges, 4).tolist()},
    }


def _table(card: dict) -> str:
    lines = [
        f"{card['pairs']} pairs of {card['faces']} faces in {card['photos']} photos, {card['shards']} shards",
        f"failures: {card['failures']['rows']}"
        + "".join(f", {count} {reason}" for reason, count in card["failures"]["reasons"].items()),
        f"{'':<20}{'n':>8}{'mean':>10}" + "".join(f"{q:>10}" for q in ("5%", "25%", "50%", "75%", "95%")),
    ]
    for name, entry in card["numbers"].items():
        if entry["n"]:
            values = [entry["mean"], *entry["quantiles"].values()]
            lines.append(f"{name:<20}{entry['n']:>8}" + "".join(f"{value:>10.3f}" for value in values))
        else:
            lines.append(f"{name:<20}{0:>8}{'-':>10}")
    lines.append("skin tone: " + ", ".join(f"{count} {name}" for name, count in card["skin_tone_groups"].items()))
    if card["duplicates"]:
        found = card["duplicates"]
        lines.append(f"duplicates: {found['faces_in_groups']} faces in {found['groups']} groups")
        lines += ["  " + " = ".join(group) for group in found["listed"][:10]]
    return "\n".join(lines)


def _html(card: dict, collected: _Collected, groups: list[list[tuple]]) -> str:
    drawn = {
        name: report_page.histogram(
            f"{name} (n = {entry['n']:,})", entry["histogram"]["counts"], entry["histogram"]["edges"]
        )
        for name, entry in card["numbers"].items()
        if entry["n"]
    }
    counts = [(name, f"{card[name]:,}") for name in ("pairs", "faces", "photos", "shards")]
    counts.append(("failures", f"{card['failures']['rows']:,}"))
    parts = {
        "Poses, degrees": NUMBERS[:6],
        "Occlusion, fit and quality": NUMBERS[6:],
        "Skin tone and light": _FROM_COEFFICIENTS,
    }
    notes = {
        "Skin tone and light": "From the fitted albedo and light, which one photo cannot tell apart for certain: they "
        "describe the set, not persons. Skin tone is the individual typology angle, in degrees, of the albedo in the "
        "set's median light; azimuth is positive for light from image right, elevation for light from above."
    }
    sections = [report_page.table(counts)]
    for title, names in parts.items():
        each = [drawn[name] for name in names if name in drawn]
        if title in notes and "skin_tone" in drawn:
            each.append(report_page.bars("faces by skin tone", card["skin_tone_groups"]))
        if each:
            sections += [report_page.heading(title, notes.get(title, "")), report_page.charts(each)]
    sections += _picture_sections(collected)
    if card["duplicates"]:
        text = (
            f"{card['duplicates']['faces_in_groups']} faces in {card['duplicates']['groups']} groups of photos alike."
        )
        sections.append(report_page.heading("Duplicates by perceptual hash", text))
        for group in groups[:_SHOWN_GROUPS]:
            chosen = [(collected.first_rows[face], f"{face[0]}#{face[1]}") for face in group[:_SHOWN_ROWS]]
            sections.append(_shown(chosen))
    if card["failures"]["rows"]:
        sections.append(report_page.heading("Failures"))
        sections.append(report_page.table(list(card["failures"]["reasons"].items()), ("reason", "count")))
    return report_page.page(f"Pairs: {card['source']}", sections)


def _picture_sections(collected: _Collected) -> list[str]:
    quality = collected.numbers["quality"][0] if collected.references else np.zeros(0)
    first_rows = set(collected.first_rows.values())
    order = [i for i in np.argsort(quality) if np.isfinite(quality[i]) and collected.references[i] in first_rows]
    sections = []
    for title, chosen in (("Highest quality", order[::-1][:_SHOWN_ROWS]), ("Lowest quality", order[:_SHOWN_ROWS])):
        shown = [(collected.references[i], f"{quality[i]:.2f} {collected.ids[i]}") for i in chosen]
        drawn = _shown(shown)
        if drawn:
            sections += [report_page.heading(title), drawn]
    return sections


def _shown(chosen: list[tuple[RowReference, str]]) -> str:
    rows = read_rows([reference for reference, _ in chosen], ["target"])
    found = [
        (_decode(data), caption)
        for row, (_, caption) in zip(rows, chosen, strict=True)
        if (data := row.encoded_picture("target"))
    ]
    return report_page.pictures(found) if found else ""
