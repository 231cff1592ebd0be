"""Five-point alignment: where the 224-px crop of a face lies in the photo (scale and shift, no rotation).

Pixel coordinates have their origin at the top-left corner of the picture: the first pixel's centre is at 0.5.
An affine is (6,) float64 [a, b, c, d, e, f]: x' = a x + b y + c, y' = d x + e y + f, photo px -> crop px.
"""

import numpy as np
from PIL import Image

CROP_SIZE = 224
CONTEXT_MARGIN = 48
CONTEXT_SIZE = CROP_SIZE + 2 * CONTEXT_MARGIN
# Rows, and columns, of the context crop that are the crop.
CROP_IN_CONTEXT = slice(CONTEXT_MARGIN, CONTEXT_MARGIN + CROP_SIZE)

# The scale at which the five points of the standard face lie in the crop: px per decimetre (CFR-GAN, Deep3DFaceRecon).
TARGET_SCALE = 102.0
# The five points of CFR-GAN's alignment, taken from 68 points of the mean shape of its face model (means of 37 and 40,
# 43 and 46; 31, 49, 55), as stored in `lm3D_5` of its preprocessing; x right, y up, z to the viewer, decimetres.
_STANDARD_POINTS = np.array(
    [
        [-0.311486572, 0.2903607786, 0.1337795258],
        [0.3097988665, 0.2897203565, 0.1317952573],
        [0.0032534988, -0.0461793244, 0.5524424314],
        [-0.2521692812, -0.3813391626, 0.2240573168],
        [0.2484661937, -0.3812823594, 0.2223576903],
    ]
)
# Each row of the projection is a free affine function of the 3D point: least squares with a constant matrix.
STANDARD_SOLVER = np.linalg.pinv(np.column_stack([_STANDARD_POINTS, np.ones(5)]))
SMALLEST_SCALE = 1e-3


def crop_affine(landmarks5: np.ndarray) -> np.ndarray:
    """Affine from the photo to the aligned crop, by the rule of CFR-GAN (scaled orthography, 102 px per decimetre).

    Args:
        landmarks5: (5,2) photo px: image-left eye, image-right eye, nose tip, mouth corner left and right.

    Returns:
        (6,) float64; b = d = 0 and a = e > 0: it scales and shifts only.

    Raises:
        ValueError: the points are not finite or coincide.
    """
    centre, scale = fit_standard_face(landmarks5)
    zoom = TARGET_SCALE / scale
    shift = CROP_SIZE / 2 - zoom * centre
    return np.array([zoom, 0.0, shift[0], 0.0, zoom, shift[1]])


def fit_standard_face(landmarks5: np.ndarray) -> tuple[np.ndarray, float]:
    """Where the standard face's origin lies (2,) and how many px a decimetre has, by least squares."""
    points = np.asarray(landmarks5, dtype=np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise ValueError(f"five finite (x, y) landmarks are needed, got shape {points.shape}: {points.tolist()}")
    solution = STANDARD_SOLVER @ points
    scale = float(np.linalg.norm(solution[:3], axis=0).mean())
    if scale < SMALLEST_SCALE:
        raise ValueError("the five landmarks coincide: no scale can be told from them")
    return solution[3], scale


def apply_affine(points: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Transform points (...,2) by an affine (6,); float64 (...,2)."""
    matrix = np.asarray(affine, dtype=np.float64).reshape(2, 3)
    return np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]


def invert_affine(affine: np.ndarray) -> np.ndarray:
    """The inverse (6,) float64 of an affine; crop px -> photo px for a crop's. Raises ValueError if there is none."""
    matrix = np.asarray(affine, dtype=np.float64).reshape(2, 3)
    try:
        inverse = np.linalg.inv(matrix[:, :2])
    except np.linalg.LinAlgError:
        raise ValueError(f"the affine {matrix.ravel().tolist()} has no inverse") from None
    return np.column_stack([inverse, -inverse @ matrix[:, 2]]).ravel()


def context_crop(image: np.ndarray, affine: np.ndarray, scale: int = 1) -> np.ndarray:
    """The aligned crop with 48 px more on each side: the crop itself is `context[48:272, 48:272]`.

    Resampled by Pillow with filters whose support grows with the reduction (no aliasing): bicubic where the photo is
    enlarged, Hamming (as sharp, half the time) where it is reduced. What lies outside the photo is black.

    Args:
        image: (H,W,3) uint8 RGB photo.
        affine: (6,) from `crop_affine` (a, e > 0 and b = d = 0).
        scale: how many pixels of the result a pixel of the crop has on each side.

    Returns:
        (320 scale, 320 scale, 3) uint8 RGB.

    Raises:
        ValueError: the affine rotates, mirrors or is not finite.
    """
    a, b, c, d, e, f = (float(value) for value in affine)
    if b or d or not (a > 0 and e > 0 and np.isfinite([a, c, e, f]).all()):
        raise ValueError(f"the affine of a crop scales and shifts only, got {np.asarray(affine).tolist()}")
    edges = np.array([-CONTEXT_MARGIN, CROP_SIZE + CONTEXT_MARGIN])
    left, right = (edges - c) / a
    top, bottom = (edges - f) / e
    # Only the part of the photo that the filter can reach is copied.
    reach = 2 * max(1.0, 1 / (a * scale), 1 / (e * scale)) + 1
    x0, y0 = int(np.floor(left - reach)), int(np.floor(top - reach))
    x1, y1 = int(np.ceil(right + reach)), int(np.ceil(bottom + reach))
    region = copy_region(image, x0, y0, x1, y1)
    box = (left - x0, top - y0, right - x0, bottom - y0)
    resampling = Image.Resampling.BICUBIC if scale * min(a, e) > 1 else Image.Resampling.HAMMING
    resized = Image.fromarray(region).resize((scale * CONTEXT_SIZE,) * 2, resampling, box=box, reducing_gap=1.5)
    return np.asarray(resized)


def inside_photo(photo_size: np.ndarray, crop: np.ndarray) -> np.ndarray:
    """(n,320,320) bool: pixels of the context crops whose centres lie in the photos.

    Args:
        photo_size: (n,2) width and height.
        crop: (n,6) affines, photo px -> crop px; they scale and shift only.
    """
    place = np.arange(CONTEXT_SIZE) + 0.5 - CONTEXT_MARGIN
    low = crop[:, [2, 5]]
    high = photo_size * crop[:, [0, 4]] + low
    column, row = ((place > low[:, axis, None]) & (place < high[:, axis, None]) for axis in (0, 1))
    return row[:, :, None] & column[:, None, :]


def align_photo(photo: np.ndarray, landmarks5: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`context_crop` of a photo (H,W,3) uint8 RGB by its landmarks (5,2), and the affine (6,) of `crop_affine`.

    Raises:
        ValueError: the points are not finite or coincide.
    """
    affine = crop_affine(landmarks5)
    return context_crop(photo, affine), affine


def copy_region(image: np.ndarray, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """Contiguous part [y0:y1, x0:x1] of a photo, black outside it."""
    height, width = image.shape[:2]
    inner = image[max(y0, 0) : max(min(y1, height), 0), max(x0, 0) : max(min(x1, width), 0)]
    if inner.shape[:2] == (y1 - y0, x1 - x0):
        return np.ascontiguousarray(inner)
    region = np.zeros((y1 - y0, x1 - x0, 3), np.uint8)
    top, left = max(-y0, 0), max(-x0, 0)
    region[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return region
