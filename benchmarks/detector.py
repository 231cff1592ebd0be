"""Share of photos in which the detector finds a face, and its time per photo.

    python benchmarks/detector.py ../shared/data/photos ../shared/data/occluded [--missed]

Times are CPU milliseconds of one thread, decoding left out. `_clean` twins and `_handmask` pictures are skipped.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from cfr.model.detector import MTCNN

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def photos(folder: Path) -> list[Path]:
    """The pictures of a folder that should hold a face."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.stem.endswith(("_clean", "_handmask"))
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="folders of photos")
    parser.add_argument("--missed", action="store_true", help="name the photos without a face")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    detector = MTCNN.load_default()
    for folder in arguments.folders:
        milliseconds, missed = [], []
        paths = photos(folder)
        for path in paths:
            with Image.open(path) as picture:
                image = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
            start = time.process_time()
            found = detector.detect(image)
            milliseconds.append(1e3 * (time.process_time() - start))
            if not len(found):
                missed.append(path.name)
        rate = 1 - len(missed) / max(len(paths), 1)
        spread = np.percentile(milliseconds or [0.0], [50, 90, 100])
        print(
            f"{folder}: a face in {len(paths) - len(missed)} of {len(paths)} ({rate:.1%}); "
            f"ms per photo: mean {np.mean(milliseconds or [0.0]):.0f}, median {spread[0]:.0f}, "
            f"90% {spread[1]:.0f}, most {spread[2]:.0f}"
        )
        if arguments.missed and missed:
            print(*(f"  {name}" for name in missed), sep="\n")


if __name__ == "__main__":
    main()
