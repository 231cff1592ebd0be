"""Whether the memory of a `cfr pairs` worker grows with the number of rows.

    python benchmarks/memory.py --rows 100 1000 10000

Needs psutil (the `test` extra). The photos are the bundled ones, scaled down, so that the long end takes minutes.
"""

import argparse
import io
import tempfile
from pathlib import Path

from pairs import BUNDLED, SUFFIXES, run_job, write_shard
from PIL import Image


def main() -> None:
    """Run every size and print its peak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--side", type=int, default=256, help="longer side of the photos in pixels")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [scaled(path, args.side, folder) for path in sorted(BUNDLED.iterdir()) if path.suffix in SUFFIXES]
        for rows in args.rows:
            shard = folder / f"{rows}.parquet"
            write_shard(shard, files, rows)
            result = run_job(shard, folder / f"out-{rows}", args.workers)
            print(
                f"{rows} rows, --workers {args.workers}: peak memory {result['memory'] / 1e9:.3f} GB per worker, "
                f"{rows / result['seconds']:.2f} images/s",
                flush=True,
            )


def scaled(path: Path, side: int, folder: Path) -> Path:
    """A small JPEG copy of a photo."""
    with Image.open(path) as image:
        small = image.convert("RGB")
        small.thumbnail((side, side))
    data = io.BytesIO()
    small.save(data, "JPEG", quality=90)
    copy = folder / f"{path.stem}.jpg"
    copy.write_bytes(data.getvalue())
    return copy


if __name__ == "__main__":
    main()
