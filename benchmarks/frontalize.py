"""Images per second of `cfr frontalize`, and what its way of running CFRNet costs or saves against the network alone.

    python benchmarks/frontalize.py --photos ../shared/data/photos [--count 200] [--workers 2]
    python benchmarks/frontalize.py --network [--generator FILE]

The first line of a job is the whole command, start included; the second its stages alone, summed over the workers.
Without a file the network has random weights, which changes no time. The two ways of running it take turns.
"""

import argparse
import itertools
import json
import shutil
import tempfile
import time
from pathlib import Path

import torch

from cfr.model.checkpoints import load_generator
from cfr.model.frontalization.generator import GeneratorPainter
from cfr.model.networks.cfrnet import CFRNet
from cfr.pipeline import cli

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
BATCH = 4


def measure_job(photos: Path, count: int, workers: int, extra: list[str]) -> None:
    """Run the command on copies of the photos."""
    paths = sorted(path for path in photos.rglob("*") if path.suffix.lower() in SUFFIXES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        for number, path in zip(range(count), itertools.cycle(paths), strict=False):
            shutil.copy(path, folder / "photos" / f"{number:05d}{path.suffix}")
        cli.main(["ingest", str(folder / "photos"), "--output", str(folder / "shards")])
        started = time.perf_counter()
        command = ["frontalize", "--input", str(folder / "shards"), "--output", str(folder / "out")]
        unit_rows = max(8, count // (4 * workers) // 8 * 8)
        code = cli.main([*command, "--workers", str(workers), "--unit-rows", str(unit_rows), *extra])
        seconds = time.perf_counter() - started
        if code:
            raise SystemExit(code)
        stats = json.loads((folder / "out" / "_stats.json").read_text())
    busy = sum(stats["seconds"].values())
    print(f"command: {count / seconds:.2f} images/s with {workers} workers, start included")
    print(f"stages:  {workers * count / busy:.2f} images/s, {1000 * busy / count:.0f} ms per image and worker")
    for stage, spent in stats["seconds"].items():
        print(f"  {stage:20} {1000 * spent / count:6.1f} ms per image")


def measure_network(path: Path | None, rounds: int, device: str) -> None:
    """Time per image of the painter's network and of the plain one."""
    with tempfile.TemporaryDirectory() as name:
        if path is None:
            path = Path(name) / "random.pth"
            torch.save(CFRNet().state_dict(), path)
        plain, painter = load_generator(path).to(device), GeneratorPainter(path, device)
    generator = torch.Generator().manual_seed(0)
    rotated, guidance = torch.rand(2, BATCH, 3, 224, 224, generator=generator).to(device)
    ways = {
        "network alone": lambda: plain(2 * rotated - 1, 2 * guidance - 1),
        "as the painter runs it": lambda: painter.complete(rotated, guidance),
    }
    spent = {name: [] for name in ways}
    with torch.inference_mode():
        for _ in range(rounds + 1):
            for name, call in ways.items():
                started = time.perf_counter()
                call()
                if device == "cuda":
                    torch.cuda.synchronize()
                spent[name].append((time.perf_counter() - started) / BATCH)
    fastest = {name: min(seconds[1:]) for name, seconds in spent.items()}
    for name, seconds in fastest.items():
        print(f"CFRNet, {name}: {1 / seconds:.2f} images/s, {1000 * seconds:.0f} ms each (batch {BATCH}, {device})")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of photos: measure the job")
    parser.add_argument("--count", type=int, default=200, help="photos; they are repeated as needed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--network", action="store_true", help="measure CFRNet")
    parser.add_argument("--generator", type=Path, help="its checkpoint; the job uses it, too")
    parser.add_argument("--rounds", type=int, default=3, help="of the network")
    parser.add_argument("--threads", type=int, default=1, help="of torch, for the network")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="for the network")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.photos:
        extra = ["--generator", str(arguments.generator)] if arguments.generator else []
        measure_job(arguments.photos, arguments.count, arguments.workers, extra)
    if arguments.network:
        measure_network(arguments.generator, arguments.rounds, arguments.device)


if __name__ == "__main__":
    main()
