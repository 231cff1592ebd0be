"""A static page of pairs that opens from a disk: pictures as files beside it, filters and sorting in the browser."""

import html
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cfr.pipeline.contact_sheet import RowKind
from cfr.pipeline.gallery_page import PAGE

LISTED_FAILURES = 1000
_OUR_FILE = re.compile(r"\d{6,}-[a-z_]+\.(jpg|png)")


class GalleryWriter:
    """Writes a gallery row by row; only the rows' numbers stay in memory.

    Args:
        kind: of the rows.
        target: a `.html` file, whose pictures go into a folder beside it, or a folder for `index.html` and pictures.
        runs: what the rows' output is called, and when two are compared the other one's.

    Pictures of an earlier gallery at the same place are removed.
    """

    def __init__(self, kind: RowKind, target: Path, runs: Sequence[str] = ("",)):
        self._kind = kind
        self._runs = list(runs)
        if target.suffix.lower() in (".html", ".htm"):
            self.page = target
            self._pictures = target.with_name(f"{target.stem}-pictures")
        else:
            self.page = target / "index.html"
            self._pictures = target / "pictures"
        self._pictures.mkdir(parents=True, exist_ok=True)
        for path in self._pictures.iterdir():
            if _OUR_FILE.fullmatch(path.name):
                path.unlink()
        self._count = 0
        # By run: the columns' values, and which pictures each row has, as bits in the order of the kind's columns.
        self._values: list[dict[str, list]] = [{} for _ in runs]
        self._shown: list[list[int]] = [[] for _ in runs]

    def add(
        self,
        values: Mapping[str, object],
        pictures: Mapping[str, np.ndarray],
        other: tuple[Mapping[str, object], Mapping[str, np.ndarray]] | None = None,
    ) -> None:
        """Append a row: its columns, and its pictures (H,W,3) uint8 RGB by the names of the kind's columns.

        Args:
            values, pictures: of the row.
            other: the same of its partner in the run that it is compared with, None where it has none.
        """
        sides = [(values, pictures), other or ({}, {})]
        for run, (columns, files) in enumerate(sides[: len(self._runs)]):
            for name, value in columns.items():
                self._values[run].setdefault(name, [None] * self._count).append(_plain(value))
            for column in self._values[run].values():
                column += [None] * (self._count + 1 - len(column))
            shown = 0
            for bit, (name, *_) in enumerate(self._kind.columns):
                if name in files:
                    Image.fromarray(files[name]).save(self._file(run, name), quality=90)
                    shown |= 1 << bit
            self._shown[run].append(shown)
        self._count += 1

    def finish(
        self, title: str, note: str, columns: Sequence[str], sort: str | None = None, failures: Iterable[dict] = ()
    ) -> Path:
        """Write the page.

        Args:
            title, note: heading and the line below it.
            columns: columns that can be seen, sorted and filtered by.
            sort: the order that the rows are in: a column, `-` before it when descending.
            failures: rows of failure shards; all are counted, the first 1,000 listed.

        Returns:
            Path of the page.
        """
        reasons: Counter[str] = Counter()
        listed = []
        for failure in failures:
            reasons[failure["reason"]] += 1
            if len(listed) < LISTED_FAILURES:
                face = failure["face_index"]
                whole = face is None or face < 0
                names = ("stage", "reason", "message")
                listed.append([failure["image_id"], "" if whole else face, *(failure[name] for name in names)])
        data = {
            "count": self._count,
            "runs": self._runs,
            "values": self._values,
            "shown": self._shown,
            "columns": list(columns),
            "pictures": [
                {"name": name, "heading": heading, "suffix": self._suffix(name)}
                for name, heading, _ in self._kind.columns
            ],
            "folder": _url(self._pictures.name),
            "index": self._kind.index,
            "sort": (sort or "").removeprefix("-"),
            "descending": (sort or "").startswith("-"),
            "failures": {"total": reasons.total(), "reasons": reasons.most_common(), "rows": listed},
        }
        # `<` would end the script element early if a file's name held `</script>`.
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
        parts = {"@TITLE@": html.escape(title), "@NOTE@": html.escape(note), "@DATA@": text}
        page = re.sub("|".join(parts), lambda match: parts[match.group()], PAGE)
        self.page.write_text(page, encoding="utf-8", errors="backslashreplace")
        return self.page

    def _suffix(self, name: str) -> str:
        return "png" if name in self._kind.masks else "jpg"

    def _file(self, run: int, name: str) -> Path:
        return self._pictures / f"{self._count:06d}-{'other_' if run else ''}{name}.{self._suffix(name)}"


def _plain(value: object) -> object:
    """A JSON value: NaN and infinities become null, and no number has more digits than float32 holds."""
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _url(name: str) -> str:
    return re.sub(r"[^\w.-]", lambda match: "".join(f"%{byte:02X}" for byte in match.group().encode()), name)
