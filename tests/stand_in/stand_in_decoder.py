"""The photo decoder's child with a codec that hangs on photos of one kind."""

import sys
import time

from cfr.model.images import decode_image
from cfr.transforms.photo_decoder import serve

DECODER_HANGS = 150


def decode(data: bytes):
    pixels = decode_image(data)
    if pixels[0, 0, 0] == DECODER_HANGS:
        time.sleep(1000)
    return pixels


if __name__ == "__main__":
    serve(float(sys.argv[1]), decode)
