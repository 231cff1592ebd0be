"""Reads members of tar and zip archives at random, in bounded memory, without extracting anything to a path."""

import bz2
import gzip
import lzma
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple, Protocol

from cfr.pipeline import storage
from cfr.pipeline.errors import UserError

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
_DECOMPRESSORS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError)


class Member(NamedTuple):
    """An entry of an archive that is no folder.

    Attributes:
        name: as stored, less a leading `./`.
        location: for `read`; None if it cannot be read: a symbolic link, a device.
        size: bytes.
    """

    name: str
    location: object | None
    size: int


class Archive(Protocol):
    """An opened archive. Locations stay valid when the same archive is opened again."""

    def members(self) -> Iterator[Member]:
        """What is in it, in stored order."""
        ...

    def start(self, location: object) -> bytes:
        """The first 32 bytes of a member. Raises OSError."""
        ...

    def read(self, location: object) -> bytes:
        """A whole member. Raises OSError."""
        ...


def has_archive_suffix(path: str) -> bool:
    """Whether the name says that the file is an archive."""
    return path.lower().endswith(_SUFFIXES)


@contextmanager
def open_archive(path: str) -> Iterator[Archive]:
    """Open a tar (plain, gzip, bzip2, xz: told by its bytes) or zip archive.

    A compressed tar cannot be read at random: it is decompressed into an unnamed temporary file first (in TMPDIR).

    Raises:
        UserError: missing or damaged archive.
    """
    try:
        with storage.open_read(path) as stream:
            if path.lower().endswith(".zip"):
                with zipfile.ZipFile(stream) as archive:
                    yield _Zip(archive)
            else:
                with _decompressed(stream) as plain:
                    yield _Tar(plain)
    except _DAMAGED as error:
        raise UserError(f"cannot read the archive {path!r}: {error}") from error


@contextmanager
def _decompressed(stream: BinaryIO) -> Iterator[BinaryIO]:
    start = stream.read(6)
    stream.seek(0)
    decompress = next((function for magic, function in _DECOMPRESSORS.items() if start.startswith(magic)), None)
    if decompress is None:
        yield stream
        return
    with tempfile.TemporaryFile() as spool:
        with decompress(stream) as source:
            shutil.copyfileobj(source, spool, 1 << 20)
        spool.seek(0)
        yield spool


class _Tar:
    """Location: (offset of the data, size)."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream

    def members(self) -> Iterator[Member]:
        offsets: dict[str, tuple[int, int]] = {}  # for hard links, which repeat an earlier member
        with tarfile.open(fileobj=self._stream, mode="r:") as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # it would keep every header
                name = info.name.removeprefix("./")
                if info.islnk() and info.linkname.removeprefix("./") in offsets:
                    location = offsets[info.linkname.removeprefix("./")]
                elif info.isreg() and not info.issparse():
                    location = (info.offset_data, info.size)
                else:
                    if not info.isdir():
                        yield Member(name, None, 0)
                    continue
                offsets[name] = location
                yield Member(name, location, location[1])
            # tarfile takes a damaged header for the end of the archive.
            self._stream.seek(archive.offset)
            if self._stream.read(tarfile.BLOCKSIZE).strip(b"\0"):
                raise tarfile.ReadError(f"damaged at byte {archive.offset:,}")

    def start(self, location: tuple[int, int]) -> bytes:
        return self._read(location[0], min(32, location[1]))

    def read(self, location: tuple[int, int]) -> bytes:
        return self._read(*location)

    def _read(self, offset: int, size: int) -> bytes:
        self._stream.seek(offset)
        data = self._stream.read(size)
        if len(data) != size:
            raise OSError("the archive ends inside this member")
        return data


class _Zip:
    """Location: index in the central directory."""

    def __init__(self, archive: zipfile.ZipFile):
        self._archive = archive

    def members(self) -> Iterator[Member]:
        for index, info in enumerate(self._archive.infolist()):
            if not info.is_dir():
                yield Member(info.filename.removeprefix("./"), index, info.file_size)

    def start(self, location: int) -> bytes:
        return self._read(location, 32)

    def read(self, location: int) -> bytes:
        return self._read(location, -1)

    def _read(self, location: int, size: int) -> bytes:
        try:
            with self._archive.open(self._archive.infolist()[location]) as stream:
                return stream.read(size)
        except RuntimeError as error:  # an encrypted member
            raise OSError(str(error)) from error
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
            raise OSError(f"damaged member: {error}") from error
