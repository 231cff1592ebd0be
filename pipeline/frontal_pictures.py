"""Pictures of a frontal row for the eye: what the shard holds, decoded."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from cfr.pipeline.pair_rows import PairRow

NEEDED_COLUMNS = ("source", "frontal", "mask")


class FrontalPainter:
    """Makes the pictures of a contact sheet."""

    def paint(self, rows: Sequence[PairRow]) -> list[dict[str, np.ndarray]]:
        """Pictures of each row, (H,W,3) uint8 RGB, by the names of `contact_sheet.FRONTAL_ROWS`; those it has."""
        return [{name: _decode(data) for name in NEEDED_COLUMNS if (data := row.encoded_picture(name))} for row in rows]


def _decode(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
