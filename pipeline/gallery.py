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

    Pictures of an earlier gallery at the same place are removed.
    """

    def __init__(self, kind: RowKind, target: Path):
        self._kind = kind
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
        self._rows: list[dict] = []

    def add(self, values: Mapping[str, object], pictures: Mapping[str, np.ndarray]) -> None:
        """Append a row: its columns, and its pictures (H,W,3) uint8 RGB by the names of the kind's columns."""
        files = {}
        for name, picture in pictures.items():
            path = self._pictures / f"{len(self._rows):06d}-{name}.{'png' if name in self._kind.masks else 'jpg'}"
            Image.fromarray(picture).save(path, quality=90)
            files[name] = f"{_url(self._pictures.name)}/{path.name}"
        self._rows.append({"number": len(self._rows), "values": dict(values), "files": files})

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
            "rows": _finite(self._rows),
            "columns": list(columns),
            "pictures": [{"name": name, "heading": heading} for name, heading, _ in self._kind.columns],
            "index": self._kind.index,
            "sort": (sort or "").removeprefix("-"),
            "descending": (sort or "").startswith("-"),
            "failures": {"total": reasons.total(), "reasons": reasons.most_common(), "rows": listed},
        }
        # `<` would end the script element early if a file's name held `</script>`.
        text = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
        parts = {"@TITLE@": html.escape(title), "@NOTE@": html.escape(note), "@DATA@": text}
        page = re.sub("|".join(parts), lambda match: parts[match.group()], PAGE)
        self.page.write_text(page, encoding="utf-8", errors="backslashreplace")
        return self.page


def _finite(value: object) -> object:
    """JSON values: NaN and infinities become null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _url(name: str) -> str:
    return re.sub(r"[^\w.-]", lambda match: "".join(f"%{byte:02X}" for byte in match.group().encode()), name)
