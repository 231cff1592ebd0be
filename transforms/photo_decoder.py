"""Decodes photos in a child process: one that hangs or crashes a codec costs a child and its own row, nothing else.

Run as a program it is the child: `python -m cfr.transforms.photo_decoder SECONDS`. It reads photos from stdin, each
with its length before it, and writes for each a header and then the pixels, or the reason why there are none.
"""

import contextlib
import fcntl
import os
import signal
import struct
import subprocess
import sys
import threading
import weakref
from typing import BinaryIO

import numpy as np

from cfr.model.images import ImageError, decode_image

DECODE_SECONDS = 60.0
"""Longest that a photo may take. The largest that are decoded (120 million pixels) take a few seconds."""

MAX_BYTES = 1 << 28
"""Largest encoded photo."""

_LENGTH = struct.Struct("<q")
# Height and width, or zeros and the length of the text "<reason>\n<message>".
_ANSWER = struct.Struct("<qqq")
_START_SECONDS = 120.0
_PIPE_BYTES = 1 << 20
_READY = b"r"


class DecoderUnavailable(RuntimeError):
    """The child does not even start: no photo's fault."""


class PhotoDecoder:
    """`decode_image` with a time limit. For one thread at a time; the child is started by the first photo.

    Args:
        seconds: limit per photo.
        module: the child's program; tests use another.
    """

    def __init__(self, seconds: float = DECODE_SECONDS, module: str = "cfr.transforms.photo_decoder"):
        self._seconds, self._module = seconds, module
        self._child: subprocess.Popen | None = None
        self._close = lambda: None

    @property
    def pid(self) -> int | None:
        """Process id of the child, None if there is none just now."""
        return self._child.pid if self._child else None

    def decode(self, data: bytes) -> np.ndarray:
        """Pixels of a photo: uint8 (H, W, 3) RGB, as `decode_image` returns them.

        Raises:
            ImageError: as `decode_image`; also `timeout`, `worker_crashed` (the codec ended its process, twice), and
                `too_large` for more than MAX_BYTES.
            DecoderUnavailable: the child cannot be started.
        """
        if len(data) > MAX_BYTES:
            raise ImageError("too_large", f"{len(data):,} bytes, more than {MAX_BYTES:,}; encode it smaller first")
        answer = self._ask(data)
        if answer is None:
            answer = self._ask(data)  # it may have been killed for what another process did
        if answer is None:
            raise ImageError("worker_crashed", "the decoder's process died on it, twice; encode the photo anew")
        return answer

    def close(self) -> None:
        """End the child; the next photo starts another."""
        self._close()
        self._child = None

    def _ask(self, data: bytes) -> np.ndarray | None:
        """The child's answer; None if it died."""
        child = self._child or self._start()
        late = threading.Event()

        def end() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(self._seconds, end)
        timer.daemon = True
        timer.start()
        try:
            _write(child.stdin, _LENGTH.pack(len(data)))
            _write(child.stdin, data)
            return _read_answer(child.stdout)
        except (OSError, EOFError):
            self.close()
            if late.is_set() or child.returncode == -signal.SIGALRM:
                message = f"decoding took longer than {self._seconds:g} s; encode the photo anew"
                raise ImageError("timeout", message) from None
            return None
        finally:
            timer.cancel()

    def _start(self) -> subprocess.Popen:
        command = [sys.executable, "-m", self._module, str(self._seconds)]
        child = subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._close = weakref.finalize(self, _end, child)
        with contextlib.suppress(AttributeError, OSError):  # Linux: fewer turns between the two processes
            fcntl.fcntl(child.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        timer = threading.Timer(_START_SECONDS, child.kill)
        timer.daemon = True
        timer.start()
        ready = child.stdout.read(1)
        timer.cancel()
        if ready != _READY:
            self.close()
            raise DecoderUnavailable(f"`{' '.join(command)}` ended with code {child.returncode}")
        self._child = child
        return child


def _end(child: subprocess.Popen) -> None:
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()


def _read_answer(stream: BinaryIO) -> np.ndarray:
    header = bytearray(_ANSWER.size)
    _read_into(stream, memoryview(header))
    height, width, length = _ANSWER.unpack(header)
    if length:
        text = bytearray(length)
        _read_into(stream, memoryview(text))
        raise ImageError(*text.decode().split("\n", 1))
    pixels = np.empty((height, width, 3), np.uint8)
    _read_into(stream, memoryview(pixels.reshape(-1)))
    return pixels


def _read_into(stream: BinaryIO, buffer: memoryview) -> None:
    """Fill the buffer. Raises EOFError."""
    filled = 0
    while filled < len(buffer):
        count = stream.readinto(buffer[filled:])
        if not count:
            raise EOFError
        filled += count


def serve(seconds: float, decode=decode_image) -> None:
    """The child: answer until stdin ends. It ends itself by an alarm, in case that its parent is gone and cannot."""
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # a codec that prints must not disturb the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent decides
    _write(answers, _READY)
    length = bytearray(_LENGTH.size)
    while True:
        try:
            _read_into(requests, memoryview(length))
            data = bytearray(_LENGTH.unpack(length)[0])
            _read_into(requests, memoryview(data))
        except EOFError:
            return
        signal.alarm(int(seconds) + 5)
        try:
            pixels = decode(bytes(data))
        except ImageError as error:
            text = f"{error.reason}\n{error.message}".encode()
            _write(answers, _ANSWER.pack(0, 0, len(text)) + text)
        else:
            _write(answers, _ANSWER.pack(*pixels.shape[:2], 0))
            _write(answers, memoryview(np.ascontiguousarray(pixels).reshape(-1)))
        signal.alarm(0)


def _write(stream: BinaryIO, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while len(view):
        view = view[stream.write(view) :]


if __name__ == "__main__":
    serve(float(sys.argv[1]))
