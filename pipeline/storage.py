"""Files of a job, wherever Beam's FileSystems can reach: local disk, HDFS, GCS, S3."""

import contextlib
import errno
import hashlib
import importlib.util
import io
import os
import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from apache_beam.io.filesystem import CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from cfr.pipeline.errors import UserError
from cfr.pipeline.s3_connections import share_connections

_RENAMING_SCHEMES = (None, "hdfs")
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class OutputUnwritable(Exception):
    """Nobody can write to the output (disk full, quota, read-only): going on would be work for nothing."""


def use_options(options: PipelineOptions) -> None:
    """Beam options that file systems need (--s3_endpoint_url and the like), also outside of a running pipeline."""
    FileSystems.set_options(options)


def check_scheme(path: str, flag: str) -> None:
    """Whether this installation can reach such paths at all.

    Raises:
        UserError: a client is not installed, or there is no such scheme.
    """
    scheme = FileSystems.get_scheme(path)
    missing = {"s3": ("boto3", "aws"), "gs": ("google.cloud.storage", "gcp")}.get(scheme)
    if missing and _find(missing[0]) is None:
        raise UserError(f"{flag} {path}: {scheme}:// needs the extra `{missing[1]}`: pip install 'cfr[{missing[1]}]'")
    try:
        FileSystems.get_filesystem(path)
    except ValueError:
        raise UserError(f"{flag} {path}: nothing is installed that reads {scheme}://; see docs/scale.md") from None


def _find(module: str):
    try:
        return importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None


def check_unwritable(error: OSError) -> None:
    """Raise OutputUnwritable if the error says that the disk is full or read-only."""
    # Beam wraps errors of several files in one, which has no errno of its own.
    wrapped = getattr(error, "exception_details", None) or {}
    for each in (error, *wrapped.values()):
        if getattr(each, "errno", None) in _UNWRITABLE:
            raise OutputUnwritable(f"the output cannot be written ({each}); make room") from error


@contextlib.contextmanager
def _remote_errors(path: str) -> Iterator[None]:
    """Clients of object stores raise classes of their own; here they become OSErrors like everybody's."""
    if FileSystems.get_scheme(path) == "s3":
        share_connections()
    if FileSystems._pipeline_options is None and not is_local(path):
        # Without a running pipeline (`cfr ingest`, a worker of a pool) Beam's S3 client takes none for an error.
        use_options(PipelineOptions([]))
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if is_local(path):
            raise
        code = errno.ENOENT if getattr(error, "code", None) == 404 else errno.EIO
        text = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
        raise OSError(code, " ".join(str(text).split())[:200], path) from error


def is_local(path: str) -> bool:
    """True for a path without a scheme."""
    return "://" not in path and FileSystems.get_scheme(path) is None


def join(*parts: str) -> str:
    """Path from its parts."""
    return FileSystems.join(*parts)


def exists(path: str) -> bool:
    """Whether the file (or local directory) is there."""
    with _remote_errors(path):
        return FileSystems.exists(path)


def open_read(path: str):
    """Seekable binary stream of a file, never decompressed by its suffix."""
    if is_local(path):
        return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return io.BufferedReader(_RemoteFile(path), 1 << 20)


def read_bytes(path: str) -> bytes:
    """A whole file."""
    if is_local(path):
        with open(path, "rb") as stream:  # a third of the time; a resume reads a million manifests
            return stream.read()
    with open_read(path) as stream:
        return stream.read()


class _RemoteFile(io.RawIOBase):
    """A remote file whose errors are OSErrors, not only on opening it."""

    def __init__(self, path: str):
        super().__init__()
        self._path = path
        self._stream = io.BytesIO()  # to close, if opening fails
        with _remote_errors(path):
            self._stream = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        with _remote_errors(self._path):
            data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def write_bytes(path: str, data: bytes) -> None:
    """Create a file in one go. For files whose readers cope with a torn write: see `publish` for the others."""
    with _remote_errors(path):
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
    return {FileSystems.split(entry.path)[1]: entry.size_in_bytes for entry in _match_below(folder, pattern)}


def absolute(path: str) -> str:
    """A local path made absolute; others as they are."""
    return os.path.abspath(os.path.expanduser(path)) if is_local(path) else path


def split_glob(pattern: str) -> tuple[str, str]:
    """An absolute glob as (folder without wildcards, the rest); brackets in the name of a folder are no wildcards."""
    parts = re.split(r"[/\\]", pattern)
    root = 1
    while root < len(parts) - 1:
        part = parts[root]
        if _has_wildcard(part) and not exists("/".join(parts[: root + 1])):
            break
        root += 1
    return "/".join(parts[:root]) or "/", "/".join(parts[root:])


def match(pattern: str) -> list[str]:
    """Sorted paths of the files that an absolute glob stands for; a path that exists stands for itself."""
    if exists(pattern):
        return [pattern]
    root, rest = split_glob(pattern)
    if not _has_wildcard(rest):
        return []
    return sorted(entry.path for entry in _match_below(root, rest))


def _has_wildcard(path: str) -> bool:
    return re.search(r"[*?\[]", path) is not None


def delete(paths: list[str]) -> None:
    """Delete files; those that are not there are no error."""
    if all(map(is_local, paths)):
        for path in paths:  # not by FileSystems, which takes paths for patterns
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.remove(path)
        return
    present = [path for path in paths if exists(path)]
    if present:
        try:
            with _remote_errors(present[0]):
                FileSystems.delete(present)
        except OSError:
            if any(exists(path) for path in present):
                raise


def in_parallel(function, items: list, threads: int = 16) -> list:
    """Results of `function` for every item, in order; for calls that wait for storage."""
    if len(items) < 2 or threads == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(threads, len(items))) as executor:
        return list(executor.map(function, items))


def _match(pattern: str) -> list[FileMetadata]:
    try:
        with _remote_errors(pattern):
            return FileSystems.match([pattern])[0].metadata_list
    except OSError:
        return []


def _match_below(folder: str, pattern: str) -> list[FileMetadata]:
    """Files below a folder, whatever characters its name has: FileSystems cannot quote them."""
    root = folder.rstrip("/") + "/"
    found = _match(join(re.sub(r"[*?\[\]]", "?", folder), pattern))
    return [entry for entry in found if entry.path.replace("\\", "/").startswith(root)]
