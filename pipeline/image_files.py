"""Tells by name or by first bytes whether a file is a photo, without decoding it."""

import posixpath

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".avif", ".heic", ".heif", ".jp2", ".j2k", ".jpx"}
    | {".gif", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".ico"}
)
"""Suffixes of photos, whether or not this software can decode them: the job then says so per row."""

_SIGNATURES = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",  # TIFF
    b"MM\0*",
    b"\0\0\0\x0cjP  \r\n\x87\n",  # JPEG 2000, in a container and bare
    b"\xff\x4f\xff\x51",
)
_ISO_MEDIA_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1")
_BMP_HEADER_SIZES = (b"\x28\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0")


def has_image_name(path: str) -> bool:
    """Whether the suffix, in any case, is an image's.

    False for `._photo.jpg`: macOS puts such companion files into archives and onto foreign disks.
    """
    name = posixpath.basename(path)
    return posixpath.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith("._")


def looks_like_image(start: bytes) -> bool:
    """Whether a file's first 32 bytes are those of an image format with a distinctive signature."""
    return (
        start.startswith(_SIGNATURES)
        or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
        or (start[4:8] == b"ftyp" and start[8:12] in _ISO_MEDIA_BRANDS)
        or (start[:2] == b"BM" and start[6:10] == b"\0\0\0\0" and start[14:18] in _BMP_HEADER_SIZES)
    )
