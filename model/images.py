"""Photo bytes to pixels and back: every file that people call a photo, or an ImageError that says what is wrong.

The pixels are what an image viewer shows: upright (EXIF orientation), sRGB (embedded ICC profiles, CMYK and CIELAB are
converted), transparency over white, the first frame of an animation, 16-bit and float samples scaled to 8 bits.
"""

import io
import threading
import warnings
from typing import Literal

import numpy as np
from PIL import Image, ImageCms

MAX_PIXELS = 120_000_000
"""Largest photo that is decoded by default, in pixels: lets 108-megapixel phone photos pass; needs about 0.9 GB."""

MIN_SIDE = 16
"""Smallest side in pixels; the detector's smallest face is larger than this."""

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "JPEG2000", "GIF", "BMP", "DIB", "TIFF", "PPM", "ICO")
"""Pillow's names of what is decoded. Others are left out on purpose: EPS, for one, would start Ghostscript."""

_ORIENTATION_TAG = 0x0112
_STRIP_PIXELS = 1_000_000


class ImageError(ValueError):
    """A photo that cannot be used.

    Attributes:
        reason: stable identifier: `empty_image` (no bytes), `decode_error`, `too_large`, `too_small`.
        message: what is wrong and what to do about it.
    """

    def __init__(self, reason: str, message: str):
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode an encoded photo.

    Args:
        data: the file's bytes; the format is told by them, not by a name.
        max_pixels: larger photos (by their header, before anything is decompressed) are refused. Pillow itself
            refuses what is above 178 million.

    Returns:
        uint8 (H, W, 3), RGB, contiguous and writable.

    Raises:
        ImageError: see its `reason`.
    """
    if len(data) == 0:
        raise ImageError("empty_image", "the file has no bytes; copy or download it again")
    with _quiet_pillow:
        try:
            with _open(data) as image:
                _check_size(image.size, max_pixels)
                image.load()
                # After load(): Pillow turns some formats itself, and PNG may keep its EXIF behind the pixels.
                orientation = _orientation(image)
                return _oriented(_to_rgb_array(image), orientation)
        except ImageError:
            raise
        except (Image.DecompressionBombError, MemoryError) as error:
            # Pillow has its own limit and raises before the size can be checked here.
            raise ImageError("too_large", f"more than {max_pixels:,} pixels; scale it down first") from error
        except Exception as error:  # what a codec raises on damaged bytes has no common base class
            raise ImageError("decode_error", f"damaged file: {error}; copy or download it again") from error


def encode_image(array: np.ndarray, encoding: Literal["png", "webp", "jpeg"] = "png") -> bytes:
    """Encode a picture or a mask.

    Args:
        array: uint8, (H, W, 3) RGB or (H, W) greyscale.
        encoding: `png` (lossless, compress_level 1: 3.6x faster than the default for 13% more bytes), `webp` or `jpeg`
            (both lossy at quality 95).

    Raises:
        ValueError: for another dtype, shape or encoding.
    """
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise ValueError(f"expected uint8 (H, W, 3) or (H, W), got {array.dtype} {array.shape}")
    image = Image.fromarray(np.ascontiguousarray(array))
    buffer = io.BytesIO()
    if encoding == "png":
        image.save(buffer, "PNG", compress_level=1)
    elif encoding == "webp":
        image.save(buffer, "WEBP", quality=95, method=2)
    elif encoding == "jpeg":
        image.save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        raise ValueError(f"unknown encoding {encoding!r}: use png, webp or jpeg")
    return buffer.getvalue()


class _QuietPillow:
    """Silences Pillow's warnings (corrupt EXIF and the like) while any thread decodes.

    `warnings.catch_warnings` alone is not safe here: two threads that leave it in the order they came in would leave
    the filter installed for good. So the first one in installs it and the last one out removes it.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self):
        with self._lock:
            if self._inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1

    def __exit__(self, *exception):
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(None, None, None)


_quiet_pillow = _QuietPillow()


def _open(data: bytes) -> Image.Image:
    Image.init()
    try:
        return Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])
    except Image.UnidentifiedImageError as error:
        if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"hevc"):
            raise ImageError("decode_error", "HEIC photos are not supported; convert them to JPEG first") from error
        raise ImageError(
            "decode_error", f"not a photo: starts with {bytes(data[:12])!r}; known: {', '.join(FORMATS)}"
        ) from error


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageError(
            "too_large", f"{width}x{height} pixels, more than the limit of {max_pixels:,}; scale it down first"
        )
    if min(size) < MIN_SIDE:
        raise ImageError("too_small", f"{width}x{height} pixels; the shorter side must have {MIN_SIDE} or more")


def _to_rgb_array(image: Image.Image) -> np.ndarray:
    """Loaded image of any Pillow mode -> uint8 (H, W, 3) sRGB, not yet turned upright."""
    if image.mode == "F" or image.mode.startswith("I"):
        gray = _to_8_bit(np.array(image))
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode == "LAB":
        image = ImageCms.profileToProfile(
            image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    elif image.has_transparency_data:
        image = _to_srgb(image.convert("RGBA"))
        background = Image.new("RGBA", image.size, "white")
        background.alpha_composite(image)
        image = background
    else:
        image = _to_srgb(image)
    return _pixels(image if image.mode == "RGB" else image.convert("RGB"))


def _to_srgb(image: Image.Image) -> Image.Image:
    """Convert to sRGB if the file embeds another, usable ICC profile; a broken or unfitting profile is ignored."""
    icc = image.info.get("icc_profile")
    if not icc or image.mode not in ("L", "RGB", "RGBA", "CMYK"):
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if image.mode != "CMYK" and "srgb" in (profile.profile.profile_description or "").lower():
            return image
        output = "RGBA" if image.mode == "RGBA" else "RGB"
        return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode=output)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image


def _to_8_bit(samples: np.ndarray) -> np.ndarray:
    """Samples (H, W) of 16-bit, 32-bit or float images -> uint8 (H, W).

    Integers are taken as 16-bit. Floats count as 0..1 if none is larger, else as 0..255, else as 0..65535. What exceeds
    that is scaled by the largest sample. NaN and negative samples become black.
    """
    ranges = (1.0, 255.0, 65535.0) if samples.dtype.kind == "f" else (65535.0,)
    samples = samples.astype(np.float32)
    np.nan_to_num(samples, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    largest = float(samples.max())
    white = next((limit for limit in ranges if largest <= limit), largest)
    samples *= 255.0 / white
    return np.clip(np.rint(samples), 0, 255).astype(np.uint8)


def _pixels(image: Image.Image) -> np.ndarray:
    """RGB image -> uint8 (H, W, 3), by strips: `np.array(image)` would hold the whole picture three times over."""
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    step = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return pixels


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 if there is none or it is damaged or invalid."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF says nothing about the pixels
        return 1
    return orientation if orientation in range(1, 9) else 1


def _oriented(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the EXIF orientation: (H, W, 3) as stored -> (H, W, 3) or (W, H, 3) upright."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
