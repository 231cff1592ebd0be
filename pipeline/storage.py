"""Files of a job, wherever Beam's FileSystems can reach: local disk, HDFS, GCS, S3."""

import hashlib
import os
import re
import uuid
from concurrent.futures import ThreadPoolExecutor

from apache_beam.io.filesystem import CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

_RENAMING_SCHEMES = (None, "hdfs")


def is_local(path: str) -> bool:
    """True for a path without a scheme."""
    return FileSystems.get_scheme(path) is None


def join(*parts: str) -> str:
    """Path from its parts."""
    return FileSystems.join(*parts)


def exists(path: str) -> bool:
    """Whether the file (or local directory) is there."""
    return FileSystems.exists(path)


def open_read(path: str):
    """Seekable binary stream of a file, never decompressed by its suffix."""
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def read_bytes(path: str) -> bytes:
    """A whole file."""
    with open_read(path) as stream:
        return stream.read()


def write_bytes(path: str, data: bytes) -> None:
    """Create a file in one go. For files whose readers cope with a torn write: see `publish` for the others."""
    stream = FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED)
    stream.write(data)
    # Not in a `with`: after a failed write, closing would publish the torn object on an object store.
    stream.close()


def publish(path: str, data: bytes, scratch_folder: str) -> None:
    """Write a file so that it is either whole or absent.

    Local disk and HDFS: a temporary file in `scratch_folder`, then a rename. Object stores, where a rename is a copy
    and a create is atomic: one create of the final name.
    """
    if FileSystems.get_scheme(path) not in _RENAMING_SCHEMES:
        write_bytes(path, data)
        return
    folder, name = FileSystems.split(path)
    temporary = join(scratch_folder, f"{name}.{uuid.uuid4().hex}")
    make_folder(folder)
    write_bytes(temporary, data)
    if not is_local(path):
        delete([path])  # HDFS renames onto nothing; POSIX replaces the target, without a moment in which it is missing
    FileSystems.rename([temporary], [path])


def make_folder(path: str) -> None:
    """Create a folder where the file system has them; no error if it exists."""
    if not exists(path):
        try:
            FileSystems.mkdirs(path)
        except OSError:
            if not exists(path):
                raise


def digest(path: str) -> tuple[int, str]:
    """(size in bytes, sha256) of a file as it reads back now."""
    sha256, size = hashlib.sha256(), 0
    with open_read(path) as stream:
        while block := stream.read(1 << 22):
            sha256.update(block)
            size += len(block)
    return size, sha256.hexdigest()


def list_folder(folder: str, pattern: str = "*") -> dict[str, int]:
    """{name: size in bytes} of the files directly in a folder whose names match; empty if it does not exist."""
    found = _match(join(_escape(folder), pattern))
    return {FileSystems.split(entry.path)[1]: entry.size_in_bytes for entry in found}


def absolute(path: str) -> str:
    """A local path made absolute; others as they are."""
    return os.path.abspath(os.path.expanduser(path)) if is_local(path) else path


def match(pattern: str) -> list[str]:
    """Sorted paths of the files that an absolute glob stands for; a path that exists stands for itself."""
    if exists(pattern):
        return [pattern]
    folder, name = FileSystems.split(pattern)
    if has_wildcard(folder) and exists(folder):
        pattern = join(_escape(folder), name)
    return sorted(entry.path for entry in _match(pattern)) if has_wildcard(pattern) else []


def has_wildcard(pattern: str) -> bool:
    """True if the path has glob characters."""
    return re.search(r"[*?\[]", pattern) is not None


def delete(paths: list[str]) -> None:
    """Delete files; those that are not there are no error."""
    present = [path for path in paths if exists(path)]
    if present:
        try:
            FileSystems.delete(present)
        except OSError:
            if any(exists(path) for path in present):
                raise


def in_parallel(function, items: list, threads: int = 16) -> list:
    """Results of `function` for every item, in order; for calls that wait for storage."""
    if len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(threads, len(items))) as executor:
        return list(executor.map(function, items))


def _match(pattern: str) -> list[FileMetadata]:
    try:
        return FileSystems.match([pattern])[0].metadata_list
    except OSError:
        return []


def _escape(path: str) -> str:
    """Glob that matches the path itself, in Beam's dialect: one-character classes."""
    return re.sub(r"([*?\[])", r"[\1]", path)
