"""Finds photographs in folders, globs, files and archives, names them, and reads them one after the other.

`list_photos` makes the plan (names and sizes only); `read_photos` streams the bytes. Names inside archives are only
ever used as ids: nothing is extracted to a path.
"""

import glob
import itertools
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from apache_beam.io.filesystems import FileSystems

from cfr.pipeline import storage
from cfr.pipeline.archives import has_archive_suffix, open_archive
from cfr.pipeline.errors import UserError
from cfr.pipeline.image_files import has_image_name, looks_like_image

MAX_FILE_BYTES = 1 << 30
"""Larger files are skipped: a Parquet column chunk holds 2 GiB."""

_WILDCARD = re.compile(r"[*?\[]")
_READERS = 8
_READ_AHEAD = 16


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo to ingest.

    Attributes:
        image_id: path below its root with `/`, unique within a listing.
        path: the file, or the archive it is in.
        member: None, or where it is in the archive (see `archives`).
        size: bytes.
    """

    image_id: str
    path: str
    member: object | None
    size: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is not ingested, and why. For a member of an archive, `path` is archive/member."""

    path: str
    reason: str


class _Root(NamedTuple):
    """What ids are relative to: a folder or an archive. `key`: absolute path or URL; `name`: its last component."""

    key: str
    name: str


class _File(NamedTuple):
    """A file of a source. `name` is the path below the root, empty for an archive, which is its own root."""

    root: _Root
    path: str
    name: str
    size: int | None = None


class _Found(NamedTuple):
    """A photo whose id is not known yet."""

    root: _Root
    name: str
    path: str
    member: object | None
    size: int


def list_photos(sources: Sequence[str]) -> tuple[list[Photo], list[Skipped]]:
    """Find the photos.

    A file is a photo if it has a known image suffix or starts like an image. `image_id` is the path below the source
    folder, below the folder that holds the source file, below the part of a glob without wildcards, or inside the
    archive. If the sources have several such roots, the root's own name comes first. Bytes of a file name that are not
    UTF-8 are written as `\\xNN`.

    Args:
        sources: folders (searched recursively, links followed), files, globs (`**` for any depth) and tar/zip archives
            (compressed or not); local, or with any scheme that Beam's FileSystems knows.

    Returns:
        Photos by ascending `image_id`, and the skipped files by ascending path.

    Raises:
        UserError: a source that does not exist or a damaged archive; two photos with one id.
    """
    found: list[_Found] = []
    skipped: list[Skipped] = []
    for source in sources:
        for file in _files(source, skipped):
            if file.name:
                _add_file(file, found, skipped)
            else:
                _add_archive(file.root, found, skipped)
    several = len({item.root.key for item in found}) > 1
    photos = [
        Photo(_utf8(f"{root.name}/{name}" if several else name), path, member, size)
        for root, name, path, member, size in found
    ]
    photos.sort(key=lambda photo: photo.image_id)
    photos = _without_repeats(photos, skipped)
    return photos, sorted(skipped, key=lambda skip: (skip.path, skip.reason))


def read_photos(photos: Sequence[Photo]) -> Iterator[tuple[Photo, bytes | OSError]]:
    """Bytes of every photo, in the given order, or the error that reading it met.

    Files are read ahead by a few threads, since remote storage answers slowly; at most 16 are held at a time.
    """
    for path, group in itertools.groupby(photos, key=lambda photo: photo.path if photo.member is not None else None):
        if path is None:
            yield from _read_files(group)
            continue
        with open_archive(path) as archive:
            for photo in group:
                try:
                    yield photo, archive.read(photo.member)
                except OSError as error:
                    yield photo, error


def _read_files(photos: Iterator[Photo]) -> Iterator[tuple[Photo, bytes | OSError]]:
    def finish(photo: Photo, future: Future) -> tuple[Photo, bytes | OSError]:
        try:
            return photo, future.result()
        except OSError as error:
            return photo, error

    ahead: deque[tuple[Photo, Future]] = deque()
    with ThreadPoolExecutor(_READERS) as executor:
        for photo in photos:
            ahead.append((photo, executor.submit(storage.read_bytes, photo.path)))
            if len(ahead) == _READ_AHEAD:
                yield finish(*ahead.popleft())
        while ahead:
            yield finish(*ahead.popleft())


def _files(source: str, skipped: list[Skipped]) -> Iterator[_File]:
    """Every file of a source."""
    if storage.is_local(source):
        yield from _local_files(source, skipped)
    else:
        yield from _remote_files(source)


def _local_files(source: str, skipped: list[Skipped]) -> Iterator[_File]:
    if os.path.isdir(source):
        root, paths = _root(source), [source]
    elif os.path.lexists(source):
        root, paths = _root(os.path.dirname(source) or "."), [source]
    elif _WILDCARD.search(source):
        folder, rest = storage.split_glob(storage.absolute(source))
        root = _root(folder)
        paths = sorted(glob.glob(os.path.join(glob.escape(folder), rest), recursive=True, include_hidden=True))
    else:
        raise UserError(f"no such file, folder or glob: {source!r}")
    if not paths:
        raise UserError(f"no file matches {source!r}")
    visited: set[str] = set()
    for path in paths:
        if os.path.isdir(path):
            for file in _walk(path, visited, skipped):
                yield _File(root, file, _below(root, file))
        else:
            yield _archive_or_file(root, path)


def _remote_files(source: str) -> Iterator[_File]:
    source = source.rstrip("/")
    try:
        if wildcard := _WILDCARD.search(source):
            folder = source[: wildcard.start()].rpartition("/")[0]
            entries = FileSystems.match([source])[0].metadata_list
        else:
            folder = source
            entries = FileSystems.match([f"{source}/**"])[0].metadata_list
            if not entries:
                folder = source.rpartition("/")[0]
                entries = FileSystems.match([source])[0].metadata_list
    except (OSError, ValueError, ImportError) as error:  # ValueError: a scheme whose package is not installed
        raise UserError(f"cannot list {source!r}: {error}") from error
    if not entries:
        raise UserError(f"no file matches {source!r}")
    root = _root(folder)
    for entry in entries:
        yield _archive_or_file(root, entry.path, entry.size_in_bytes)


def _archive_or_file(root: _Root, path: str, size: int | None = None) -> _File:
    if has_archive_suffix(path):
        archive = _root(path)
        return _File(archive, archive.key, "")
    return _File(root, path, _below(root, path), size)


def _walk(folder: str, visited: set[str], skipped: list[Skipped]) -> Iterator[str]:
    """Every file below a local folder; links to folders are followed, but no folder is visited twice."""

    def unreadable(error: OSError) -> None:
        skipped.append(Skipped(_utf8(error.filename), f"unreadable: {error.strerror}"))

    for current, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        identity = os.path.realpath(current)
        if identity in visited:
            folders.clear()
            continue
        visited.add(identity)
        folders.sort()  # which of two links to one folder is followed must not depend on the disk's order
        for file in files:
            path = os.path.join(current, file)
            if has_archive_suffix(path):
                skipped.append(Skipped(_utf8(path), "archive inside a folder: name it as a source to open it"))
            else:
                yield path


def _add_file(file: _File, found: list[_Found], skipped: list[Skipped]) -> None:
    try:
        if file.size is None:
            status = os.stat(file.path)
            file = file._replace(size=status.st_size)
            if not stat.S_ISREG(status.st_mode):  # opening a named pipe would block for ever
                raise OSError("not a regular file")
        reason = _why_skip(file.name, file.size, lambda: _first_bytes(file.path))
    except OSError as error:
        reason = f"unreadable: {error.strerror or error}"
    if reason:
        skipped.append(Skipped(_utf8(file.path), reason))
    else:
        found.append(_Found(file.root, file.name, file.path, None, file.size))


def _add_archive(root: _Root, found: list[_Found], skipped: list[Skipped]) -> None:
    with open_archive(root.key) as archive:
        for member in archive.members():
            if member.location is None:
                skipped.append(Skipped(_utf8(f"{root.key}/{member.name}"), "not a regular file"))
                continue
            try:
                reason = _why_skip(member.name, member.size, lambda member=member: archive.start(member.location))
            except OSError as error:
                reason = f"unreadable: {error}"
            if reason:
                skipped.append(Skipped(_utf8(f"{root.key}/{member.name}"), reason))
            else:
                found.append(_Found(root, member.name, root.key, member.location, member.size))


def _why_skip(name: str, size: int, first_bytes: Callable[[], bytes]) -> str | None:
    """None if the file is a photo. `first_bytes()` is only called when the name does not tell."""
    if not has_image_name(name) and not looks_like_image(first_bytes()):
        return "not an image"
    if size > MAX_FILE_BYTES:
        return f"larger than {MAX_FILE_BYTES >> 30} GiB"
    return None


def _first_bytes(path: str) -> bytes:
    with storage.open_read(path) as stream:
        return stream.read(32)


def _without_repeats(photos: list[Photo], skipped: list[Skipped]) -> list[Photo]:
    """Drop what two sources both reached; of an archive's members with one name the last one counts, as in tar.

    Raises:
        UserError: two different photos have the same id.
    """
    unique: list[Photo] = []
    for photo in photos:
        if unique and unique[-1].image_id == photo.image_id:
            previous = unique.pop()
            if os.path.abspath(previous.path) != os.path.abspath(photo.path):
                raise UserError(
                    f"{previous.path!r} and {photo.path!r} would both get the image_id {photo.image_id!r}: rename one, "
                    "or name the folder that holds both as the only source"
                )
            if previous.member != photo.member:
                skipped.append(
                    Skipped(f"{_utf8(photo.path)}/{photo.image_id}", "replaced by a later member of the same name")
                )
        unique.append(photo)
    return unique


def _root(key: str) -> _Root:
    if storage.is_local(key):
        key = os.path.abspath(key)
        return _Root(key, os.path.basename(key) or "root")
    return _Root(key, key.rstrip("/").rsplit("/", 1)[-1])


def _below(root: _Root, path: str) -> str:
    """Path relative to the root, with `/`."""
    if storage.is_local(path):
        return os.path.relpath(path, root.key).replace(os.sep, "/")
    return path.removeprefix(root.key).lstrip("/")


def _utf8(path: str) -> str:
    """Name that is valid Unicode: bytes that were not UTF-8 on disk become `\\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
