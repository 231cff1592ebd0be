"""The decoder's process: the same pixels as without it, and no photo that takes more than itself along."""

import os
import signal

import numpy as np
import pytest

from cfr.model.images import ImageError, decode_image
from cfr.transforms import photo_decoder
from cfr.transforms.photo_decoder import DecoderUnavailable, PhotoDecoder


@pytest.fixture
def decoder():
    decoder = PhotoDecoder(seconds=20)
    yield decoder
    decoder.close()


def test_pixels_and_errors_are_those_of_decode_image(decoder, photos_dir):
    for path in sorted(photos_dir.glob("*.*g")):
        data = path.read_bytes()
        np.testing.assert_array_equal(decoder.decode(data), decode_image(data))
    first = decoder.pid
    for bad in (b"", b"no photo", data[:1000]):
        with pytest.raises(ImageError) as here:
            decode_image(bad)
        with pytest.raises(ImageError) as there:
            decoder.decode(bad)
        assert (there.value.reason, there.value.message) == (here.value.reason, here.value.message)
    assert decoder.pid == first


def test_a_decoder_that_hangs_is_killed_and_replaced(decoder, photos_dir):
    data = (photos_dir / "astronaut.png").read_bytes()
    decoder.decode(data)
    hung, decoder._seconds = decoder.pid, 0.3
    os.kill(hung, signal.SIGSTOP)
    with pytest.raises(ImageError, match=r"timeout: decoding took longer than 0.3 s"):
        decoder.decode(data * 10)  # more than the pipe holds: writing to a process that hangs hangs too
    with pytest.raises(ProcessLookupError):
        os.kill(hung, 0)
    decoder._seconds = 20
    assert decoder.decode(data).shape == decode_image(data).shape


def test_a_decoder_that_was_killed_for_anothers_memory_is_no_photos_fault(decoder, photos_dir):
    data = (photos_dir / "astronaut.png").read_bytes()
    decoder.decode(data)
    os.kill(decoder.pid, signal.SIGKILL)
    np.testing.assert_array_equal(decoder.decode(data), decode_image(data))


def test_a_photo_that_kills_its_decoder_twice_is_at_fault(decoder, monkeypatch):
    monkeypatch.setattr(PhotoDecoder, "_ask", _count(PhotoDecoder._ask, asked := []))
    monkeypatch.setattr(photo_decoder, "_read_answer", _kill_and_fail(decoder))
    with pytest.raises(ImageError, match=r"worker_crashed: .*twice"):
        decoder.decode(b"photo")
    assert len(asked) == 2


def test_a_decoder_that_does_not_start_is_no_photos_fault():
    with pytest.raises(DecoderUnavailable, match="ended with code 1"):
        PhotoDecoder(module="there.is.none").decode(b"photo")


def test_a_photo_of_too_many_bytes_is_refused_before_it_is_copied(decoder, monkeypatch):
    monkeypatch.setattr(photo_decoder, "MAX_BYTES", 10)
    with pytest.raises(ImageError, match="too_large: 11 bytes"):
        decoder.decode(bytes(11))
    assert decoder.pid is None


def _count(function, calls):
    def counting(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return counting


def _kill_and_fail(decoder):
    def read_answer(stream):
        os.kill(decoder.pid, signal.SIGKILL)
        raise EOFError

    return read_answer
