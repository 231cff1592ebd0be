"""The aligned crop as CFR-GAN cuts it: a whole-pixel shift, a bilinear reduction of the whole picture, a cut.

The face lands where `cfr.model.alignment` puts it, but for the rounding of shift, size and corner; pixels differ.
"""

import math

import numpy as np
from PIL import Image

from cfr.model.alignment import CONTEXT_MARGIN, CONTEXT_SIZE, CROP_SIZE, TARGET_SCALE, copy_region, fit_standard_face


def align_photo(photo: np.ndarray, landmarks5: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The paper's crop with 48 px more on each side: the crop itself is `context[48:272, 48:272]`.

    Only the part of the picture that the crop shows is resampled, so that a small face in a large photo needs no more
    memory; single pixels may differ by a grey level from the crop of the whole reduced picture.

    Args:
        photo: (H,W,3) uint8 RGB.
        landmarks5: (5,2) px: image-left eye, image-right eye, nose tip, mouth corner left and right; as the detector
            gives them.

    Returns:
        (320,320,3) uint8 RGB, black outside the photo; and the affine (6,) float64 that takes photo px to crop px
        (b = d = 0, and a differs from e by rounding).

    Raises:
        ValueError: the points are not finite or coincide.
    """
    height, width = photo.shape[:2]
    (centre_x, centre_y), scale = fit_standard_face(landmarks5)
    # The face's centre comes to the picture's. In the paper's coordinates y points up and the last row is 0.
    shift_x = math.floor(centre_x - width / 2 + 0.5)
    shift_y = math.floor(centre_y + 1 - height / 2 + 0.5)
    new_width, new_height = math.trunc(TARGET_SCALE * width / scale), math.trunc(TARGET_SCALE * height / scale)
    left = math.trunc(new_width / 2 - CROP_SIZE / 2)
    top = math.trunc(new_height / 2 - CROP_SIZE / 2)
    context = np.zeros((CONTEXT_SIZE, CONTEXT_SIZE, 3), np.uint8)
    columns = _Axis(width, new_width, left - CONTEXT_MARGIN)
    rows = _Axis(height, new_height, top - CONTEXT_MARGIN)
    if columns.shown > 0 and rows.shown > 0:
        x, y = columns.start + shift_x, rows.start + shift_y
        region = copy_region(photo, x, y, columns.end + shift_x, rows.end + shift_y)
        part = Image.fromarray(region).resize(
            (columns.shown, rows.shown),
            Image.Resampling.BILINEAR,
            box=(columns.low, rows.low, columns.high, rows.high),
        )
        context[rows.place, columns.place] = np.asarray(part)
    zoom_x, zoom_y = new_width / width, new_height / height
    return context, np.array([zoom_x, 0, -shift_x * zoom_x - left, 0, zoom_y, -shift_y * zoom_y - top])


class _Axis:
    """One dimension of the cut: which part of the reduced picture the context shows, and where that is in the original.

    Attributes:
        shown: how many px of the context lie inside the picture; place: the slice of the context that they are.
        start, end: whole px of the original that resampling them may look at.
        low, high: their edges in px of the original, counted from `start`.
    """

    def __init__(self, size: int, new_size: int, first: int):
        begin, stop = max(first, 0), min(first + CONTEXT_SIZE, new_size)
        self.shown = stop - begin
        self.place = slice(begin - first, stop - first)
        if self.shown <= 0:
            return
        step = size / new_size
        low, high = begin * step, min(stop * step, size)
        reach = max(step, 1.0) + 1
        self.start = max(math.floor(low - reach), 0)
        self.end = min(math.ceil(high + reach), size)
        self.low, self.high = low - self.start, high - self.start
