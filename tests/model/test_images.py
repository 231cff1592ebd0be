"""Decoding of every kind of photo, on the bundled portrait and, where it is there, on the hostile set."""

import io
import struct
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageCms

from cfr.model.images import MIN_SIDE, ImageError, decode_image, encode_image


@pytest.fixture(scope="module")
def portrait(photos_dir) -> Image.Image:
    """The bundled portrait, 240 px: large enough to be a photo, small enough for thousands of decodes."""
    with Image.open(photos_dir / "astronaut.png") as image:
        return image.convert("RGB").resize((240, 200), Image.Resampling.LANCZOS)


def saved(image: Image.Image, file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference in 0..255."""
    assert first.shape == second.shape
    return float(np.abs(first.astype(int) - second.astype(int)).mean())


def gray(image: Image.Image) -> np.ndarray:
    return np.repeat(np.asarray(image.convert("L"))[..., None], 3, axis=2)


# Modes and formats


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "JPEG", "GIF", "JPEG2000", "AVIF", "ICO"])
def test_formats(portrait, file_format):
    extension = {"JPEG2000": ".jp2", "PPM": ".ppm", "JPEG": ".jpg", "TIFF": ".tif"}.get(
        file_format, f".{file_format.lower()}"
    )
    if extension not in Image.registered_extensions():
        pytest.skip(f"this Pillow cannot write {file_format}")
    options = {"sizes": [(240, 200)]} if file_format == "ICO" else {}
    pixels = decode_image(saved(portrait, file_format, **options))
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    lossless = file_format in ("PNG", "BMP", "TIFF", "PPM", "ICO", "JPEG2000")
    assert difference(pixels, np.asarray(portrait)) <= (0 if lossless else 8)


def test_gray_and_bilevel(portrait):
    assert difference(decode_image(saved(portrait.convert("L"), "PNG")), gray(portrait)) == 0
    bilevel = decode_image(saved(portrait.convert("1"), "PNG"))
    assert set(np.unique(bilevel)) == {0, 255}
    assert abs(bilevel.mean() - gray(portrait).mean()) < 4


def test_cmyk_and_lab_keep_their_colours(portrait):
    cmyk = decode_image(saved(portrait.convert("CMYK"), "JPEG", quality=95))
    assert difference(cmyk, np.asarray(portrait)) < 4
    lab = ImageCms.profileToProfile(
        portrait, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert difference(decode_image(saved(lab, "TIFF")), np.asarray(portrait)) < 8


def test_16_bit_is_scaled_not_clipped(portrait):
    expected = gray(portrait)
    samples = expected[..., 0].astype(np.uint16) * 257
    for file_format in ("PNG", "TIFF", "PPM"):
        pixels = decode_image(saved(Image.fromarray(samples), file_format))
        assert difference(pixels, expected) <= 0.01, file_format


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_float_tiff(portrait, white):
    expected = gray(portrait)
    samples = expected[..., 0].astype(np.float32) / 255 * white
    assert difference(decode_image(saved(Image.fromarray(samples), "TIFF")), expected) <= 0.01


def test_nan_and_infinity_become_black(portrait):
    samples = gray(portrait)[..., 0].astype(np.float32) / 255
    samples[::3] = np.nan
    samples[1::3] = -np.inf
    pixels = decode_image(saved(Image.fromarray(samples), "TIFF"))
    assert (pixels[::3] == 0).all()
    assert (pixels[1::3] == 0).all()
    assert difference(pixels[2::3], gray(portrait)[2::3]) <= 0.01


def test_transparency_is_shown_over_white(portrait):
    alpha = np.full((200, 240), 255, np.uint8)
    alpha[:100] = 0
    image = portrait.copy()
    image.putalpha(Image.fromarray(alpha))
    expected = np.asarray(portrait).copy()
    expected[:100] = 255
    assert difference(decode_image(saved(image, "PNG")), expected) == 0

    palette = decode_image(saved(image.quantize(), "PNG"))
    assert (palette[:100] == 255).all()
    assert difference(palette, expected) < 8

    gray_alpha = decode_image(saved(image.convert("LA"), "PNG"))
    assert (gray_alpha[:100] == 255).all()
    assert difference(gray_alpha[100:], gray(portrait)[100:]) == 0

    image.putalpha(0)
    assert (decode_image(saved(image, "PNG")) == 255).all()


def test_colour_key_transparency(portrait):
    image = portrait.copy()
    image.paste((1, 2, 3), (0, 0, 50, 50))
    pixels = decode_image(saved(image, "PNG", transparency=(1, 2, 3)))
    assert (pixels[:50, :50] == 255).all()


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_many(portrait, file_format):
    others = [Image.new("RGB", portrait.size, colour) for colour in ("red", "blue")]
    pixels = decode_image(saved(portrait, file_format, save_all=True, append_images=others))
    assert difference(pixels, np.asarray(portrait)) < 8


# EXIF and ICC


@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 9, 42])
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_exif_orientation_is_undone(portrait, orientation, file_format):
    """The tag says how to turn the stored pixels to stand upright; an invalid one says nothing."""
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    image = portrait.transpose(stored) if stored is not None else portrait
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if file_format == "WEBP" else {}
    pixels = decode_image(saved(image, file_format, exif=exif, **options))
    assert difference(pixels, np.asarray(portrait)) < 8


def test_damaged_exif_is_ignored(portrait):
    pixels = decode_image(saved(portrait, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12garbage"))
    assert difference(pixels, np.asarray(portrait)) < 8


def profile_with_red_and_blue_swapped() -> bytes:
    """The sRGB profile under another name, with the primaries of red and blue exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", profile, 128)
    for index in range(count):
        entry = 132 + 12 * index
        name = bytes(profile[entry : entry + 4])
        profile[entry : entry + 4] = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(name, name)
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "xxxx".encode("utf-16-be"))


def test_embedded_profiles_are_converted_to_srgb(portrait):
    red = Image.new("RGB", (64, 64), (255, 0, 0))
    pixels = decode_image(saved(red, "PNG", icc_profile=profile_with_red_and_blue_swapped()))
    assert pixels[..., 2].min() > 200
    assert pixels[..., 0].max() < 60
    with_srgb = saved(portrait, "PNG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    assert difference(decode_image(with_srgb), np.asarray(portrait)) == 0


def test_broken_and_unfitting_profiles_are_ignored(portrait):
    assert difference(decode_image(saved(portrait, "PNG", icc_profile=b"garbage")), np.asarray(portrait)) == 0
    rgb_profile = profile_with_red_and_blue_swapped()
    assert difference(decode_image(saved(portrait.convert("L"), "PNG", icc_profile=rgb_profile)), gray(portrait)) == 0


# What is refused


def reason_of(data: bytes, **options) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(data, **options)
    assert caught.value.message
    assert caught.value.reason in str(caught.value)
    return caught.value.reason


def test_refusals(portrait):
    assert reason_of(b"") == "empty_image"
    assert reason_of(b"<!doctype html><p>404") == "decode_error"
    assert reason_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n") == "decode_error"
    assert reason_of(saved(Image.new("RGB", (1, 3000)), "PNG")) == "too_small"
    assert reason_of(saved(Image.new("RGB", (MIN_SIDE - 1, 500)), "PNG")) == "too_small"
    assert reason_of(saved(portrait, "PNG"), max_pixels=240 * 200 - 1) == "too_large"
    assert decode_image(saved(portrait, "PNG"), max_pixels=240 * 200).shape == (200, 240, 3)


def test_heic_is_named():
    with pytest.raises(ImageError, match="HEIC"):
        decode_image(b"\0\0\0\x18ftypheic" + bytes(100))


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises far more than its few bytes hold."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(1 << 20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(12_000, 12_000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_bombs_are_refused_before_decoding(size):
    started = time.perf_counter()
    assert reason_of(bomb(*size)) == "too_large"
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
def test_truncated_is_an_error_not_half_a_photo(portrait, file_format):
    data = saved(portrait, file_format)
    for fraction in (0.1, 0.5, 0.9):
        assert reason_of(data[: int(len(data) * fraction)]) == "decode_error"


def test_trailing_bytes_do_not_matter(portrait):
    data = saved(portrait, "JPEG")
    assert (decode_image(data + bytes(5000)) == decode_image(data)).all()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    file_format=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF", "ICO"]),
    damage=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8),
    keep=st.floats(0.05, 1),
)
def test_damaged_bytes_never_raise_anything_else(portrait, file_format, damage, keep):
    small = portrait.resize((48, 40))
    data = bytearray(saved(small, file_format))
    for place, value in damage:
        data[int(place * len(data))] = value
    try:
        pixels = decode_image(bytes(data[: int(len(data) * keep)]))
    except ImageError as error:
        assert error.reason in ("decode_error", "too_large", "too_small", "empty_image")
    else:
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3


def test_threads_leave_the_warning_filters_alone(portrait):
    data = saved(portrait, "JPEG")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(decode_image, [data] * 64))
    assert warnings.filters == before


# Encoding


@settings(deadline=None, max_examples=30)
@given(
    st.one_of(
        arrays(np.uint8, st.tuples(st.integers(16, 40), st.integers(16, 40), st.just(3))),
        arrays(np.uint8, st.tuples(st.integers(16, 40), st.integers(16, 40))),
    )
)
def test_png_round_trip(picture):
    decoded = decode_image(encode_image(picture))
    assert (decoded == (picture if picture.ndim == 3 else picture[..., None])).all()


@pytest.mark.parametrize("encoding", ["webp", "jpeg"])
def test_lossy_encodings_are_close(portrait, encoding):
    pixels = np.asarray(portrait)
    data = encode_image(pixels[:, ::-1], encoding)
    assert len(data) < len(encode_image(pixels))
    assert difference(decode_image(data)[:, ::-1], pixels) < 3


def test_encode_rejects_what_is_no_picture(portrait):
    with pytest.raises(ValueError, match="float32"):
        encode_image(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ValueError, match="uint8"):
        encode_image(np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="unknown encoding"):
        encode_image(np.asarray(portrait), "tiff")


# The hostile set

HOSTILE_REASONS = {
    "made_1x3000.png": "too_small",
    "made_bomb.png": "too_large",
    "made_html.png": "decode_error",
    "made_text.jpg": "decode_error",
    "made_tiny1.png": "too_small",
    "made_tiny8.png": "too_small",
    "made_truncated.png": "decode_error",
    "made_truncated60.jpg": "decode_error",
    "made_truncated_header.jpg": "decode_error",
    "made_zero_byte.jpg": "empty_image",
}


def test_hostile_set(shared_dir):
    """Everything decodes but what cannot; what shows the same portrait looks the same."""
    pixels, reasons = {}, {}
    for path in sorted((shared_dir / "data" / "hostile").iterdir()):
        if path.is_file():
            try:
                pixels[path.name] = decode_image(path.read_bytes())
            except ImageError as error:
                reasons[path.name] = error.reason
    assert reasons == HOSTILE_REASONS
    upright = pixels["made_exif_1.jpg"]
    same = [f"made_exif_{orientation}.jpg" for orientation in range(2, 9)]
    same += ["made_exif_invalid42.jpg", "made_cmyk.jpg", "made_icc.jpg", "made_progressive.jpg", "made_UPPER.JPG"]
    same += ["made_jpeg_noext", "made_png_named.jpg", "made_lab.tif", "made_trailing_garbage.jpg", "made_static.webp"]
    for name in same:
        assert difference(pixels[name], upright) < 6, name
    luminance = np.repeat((upright @ [0.299, 0.587, 0.114])[..., None], 3, axis=2)
    for name in ("made_gray.jpg", "made_gray16.png", "made_gray_alpha.png", "made_float32.tif"):
        assert difference(pixels[name], luminance) < 6, name


def test_an_80_megapixel_photo_takes_about_a_second(shared_dir):
    data = (shared_dir / "data" / "hostile" / "made_huge_9000.jpg").read_bytes()
    started = time.process_time()
    assert decode_image(data).shape == (9000, 9000, 3)
    assert time.process_time() - started < 5
