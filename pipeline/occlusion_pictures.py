"""Pictures of a row of `cfr occlude` for the eye: what the shard holds, and the landmarks drawn on the photo."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from cfr.pipeline.pair_rows import PairRow

NEEDED_COLUMNS = ("occluded", "original", "occluder_mask", "face_mask", "landmarks68")

# Points are drawn on an enlarged photo: seen, and below the occluder.
_ENLARGED, _RADIUS = 2, 3.0
_MASK_GREY = 72  # the mesh below a mask
_SEEN, _COVERED = (32, 255, 64), (255, 32, 32)


class OcclusionPainter:
    """Makes the pictures of a contact sheet."""

    def paint(self, rows: Sequence[PairRow]) -> list[dict[str, np.ndarray]]:
        """Pictures of each row, (H,W,3) uint8 RGB, by the names of `contact_sheet.OCCLUSION_ROWS`; those it has."""
        return [_painted(row) for row in rows]


def mask_picture(mask: np.ndarray, face: np.ndarray | None) -> np.ndarray:
    """White where masked, grey where the mesh is, black elsewhere."""
    below = np.zeros_like(mask) if face is None else np.where(face > 127, _MASK_GREY, 0).astype(np.uint8)
    return np.repeat(np.maximum(mask, below)[:, :, None], 3, axis=2)


def _painted(row: PairRow) -> dict[str, np.ndarray]:
    pictures = {
        name: np.asarray(_opened(data).convert("RGB"))
        for name in ("occluded", "original")
        if (data := row.encoded_picture(name))
    }
    masks = {
        name: np.asarray(_opened(data).convert("L"))
        for name in ("occluder_mask", "face_mask")
        if (data := row.encoded_picture(name))
    }
    occluder, points = masks.get("occluder_mask"), row.values.get("landmarks68")
    if occluder is not None:
        pictures["occluder_mask"] = mask_picture(occluder, masks.get("face_mask"))
    ground = pictures.get("original", pictures.get("occluded"))
    if ground is not None and points:
        pictures["landmarks"] = _with_points(ground, np.asarray(points, float).reshape(-1, 2), occluder)
    return pictures


def _with_points(photo: np.ndarray, points: np.ndarray, occluder: np.ndarray | None) -> np.ndarray:
    """The photo, enlarged, with points (68,2) in its pixels; occluder: (H,W) uint8, 255 where one lies above it."""
    height, width = photo.shape[:2]
    canvas = Image.fromarray(photo).resize((_ENLARGED * width, _ENLARGED * height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(canvas)
    for x, y in points[np.isfinite(points).all(1)]:
        inside = 0 <= x < width and 0 <= y < height
        covered = occluder is not None and inside and occluder[int(y), int(x)] > 127
        # Pillow counts pixel centres at whole numbers.
        box = [_ENLARGED * v - 0.5 + r for r in (-_RADIUS, _RADIUS) for v in (x, y)]
        draw.ellipse(box, fill=_COVERED if covered else _SEEN)
    return np.asarray(canvas)


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))
