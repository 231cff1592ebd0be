"""Finding and reading the photos of an evaluation folder."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from cfr.model.images import ImageError, decode_image
from cfr.pipeline.errors import UserError

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


def find_photos(paths: Sequence[str], recursive: bool = False) -> list[Path]:
    """Photos among files and folders, ordered by path.

    Args:
        paths: files (taken whatever their name) and folders (searched for known image suffixes, any case).
        recursive: search folders within folders too.

    Raises:
        UserError: a path doesn't exist, or there is no photo at all.
    """
    found: set[Path] = set()
    for path in map(Path, paths):
        if path.is_file():
            found.add(path)
        elif path.is_dir():
            entries = path.rglob("*") if recursive else path.iterdir()
            found.update(entry for entry in entries if entry.suffix.lower() in PHOTO_SUFFIXES and entry.is_file())
        else:
            raise UserError(f"{path}: no such file or folder")
    if not found:
        raise UserError(f"no photo in {', '.join(map(str, paths))} ({' '.join(sorted(PHOTO_SUFFIXES))})")
    return sorted(found)


def photo_name(path: Path) -> str:
    """What a photo is called in reports: with its folder, for file names repeat from person to person."""
    return f"{path.parent.name}/{path.name}"


def read_photo(path: Path) -> np.ndarray:
    """Decoded photo (H,W,3) uint8 RGB.

    Raises:
        ImageError: it cannot be decoded.
        UserError: it cannot be read at all.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    return decode_image(data)


def read_photos(paths: Iterable[Path], unreadable: dict[Path, str]) -> Iterator[tuple[Path, np.ndarray]]:
    """Stream (path, image) of the photos that decode; why the others do not is noted in `unreadable`."""
    for path in paths:
        try:
            yield path, read_photo(path)
        except ImageError as error:
            unreadable[path] = str(error)


def read_points(path: Path) -> np.ndarray:
    """Array of a .npy file.

    Raises:
        UserError: it is missing, damaged or holds objects instead of numbers.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: not a readable .npy file of numbers ({error})") from error
    if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.number):
        raise UserError(f"{path}: not a .npy file of numbers")
    return array
