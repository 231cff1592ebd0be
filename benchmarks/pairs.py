"""What `cfr pairs` costs: images/s, the stages' share, overhead of Beam and I/O, memory per worker, cold start.

    python benchmarks/pairs.py --workers 2
    python benchmarks/pairs.py --photos /path/to/photos --count 256

Needs psutil (the `test` extra). Photos are repeated until there are --count of them. Every figure is a median of
--runs; `directly` is what the stages take from decoding to encoding, without Beam, with nothing committed.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from cfr.pipeline import launch
from cfr.pipeline.graph import GraphOptions, build_graph
from cfr.pipeline.manifests import Layout, Manifest, read_done
from cfr.pipeline.pairs import PairFaces
from cfr.pipeline.schemas import serialize
from cfr.pipeline.stats import total
from cfr.pipeline.work_units import find_inputs, pack_units, plan_units, read_footer
from cfr.transforms.align_faces import AlignFaces
from cfr.transforms.double_rotate import DoubleRotate
from cfr.transforms.fit_faces import FitFaces
from cfr.transforms.models import DefaultModels
from cfr.transforms.read_images import ReadImages
from cfr.transforms.stage import PairSettings, StageContext
from cfr.transforms.transfer_occlusion import TransferOcclusion
from cfr.transforms.write_pairs import WritePairs

BUNDLED = Path(__file__).resolve().parent.parent / "model" / "data" / "photos"
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def main() -> None:
    """Run all measurements and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=BUNDLED, help="folder (default: the bundled photos)")
    parser.add_argument("--count", type=int, default=128, help="photos per run")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    files = sorted(path for path in args.photos.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        sys.exit(f"no photos in {args.photos}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one, many = folder / "one.parquet", folder / "many.parquet"
        write_shard(one, files, 1)
        write_shard(many, files, args.count)
        print(f"{args.count} photos from {args.photos} ({len(files)} different), median of {args.runs}")
        cold = [run_job(one, folder / f"one-{run}", 1) for run in range(args.runs)]
        print(f"cold start (one photo): {median(cold, 'seconds'):.1f} s")
        for workers in sorted({1, args.workers}):
            runs = [run_job(many, folder / f"many-{workers}-{run}", workers) for run in range(args.runs)]
            report(workers, args.count, runs, median(cold, "seconds"))
        direct = statistics.median(run_stages(many, folder / f"direct-{run}") for run in range(args.runs))
        job = statistics.median(run_beam(many, folder / f"beam-{run}") for run in range(args.runs))
        print(f"stages called directly: {direct:.2f} s; as a job, models loaded: {job:.2f} s: {job / direct - 1:+.1%}")


def report(workers: int, count: int, runs: list[dict], cold: float) -> None:
    """Print one configuration."""
    seconds = median(runs, "seconds")
    steady = (count - 1) / (seconds - cold)
    memory = median(runs, "memory") / 1e9
    print(
        f"--workers {workers}: {count / seconds:.2f} images/s with start, {steady:.2f} without; "
        f"peak memory {memory:.2f} GB per worker"
    )
    totals = total(runs[0]["manifests"])
    spent = sum(totals["seconds"].values())
    print("  " + ", ".join(f"{name} {100 * value / spent:.1f}%" for name, value in totals["seconds"].items()))
    print(
        f"  {totals['rows_with_output']} of {totals['rows']} with output, "
        f"{totals['shard_bytes'] / max(totals['outputs'], 1) / 1e3:.0f} kB per pair"
    )


def write_shard(path: Path, files: list[Path], count: int) -> None:
    """An image shard of `count` photos, in turn."""
    chosen = [files[number % len(files)] for number in range(count)]
    table = pa.table({"image_id": [str(number) for number in range(count)], "image": [f.read_bytes() for f in chosen]})
    pq.write_table(table, path, row_group_size=32)


def run_job(shard: Path, output: Path, workers: int) -> dict:
    """`cfr pairs` on one shard: wall seconds, largest memory of a process that does the work, manifests."""
    arguments = [
        "pairs",
        "--input",
        str(shard),
        "--output",
        str(output),
        "--workers",
        str(workers),
        "--unit-rows",
        "32",
    ]
    command = [sys.executable, "-m", "cfr.pipeline.cli", *arguments]
    started = time.perf_counter()
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    memory = 0
    while process.poll() is None:
        memory = max(memory, _memory(process, workers))
        time.sleep(0.1)
    seconds = time.perf_counter() - started
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed with {process.returncode}")
    manifests: list[Manifest] = list(read_done(Layout(str(output))).manifests.values())
    return {"seconds": seconds, "memory": memory, "manifests": manifests}


def run_stages(shard: Path, output: Path, device: str = "cpu") -> float:
    """Seconds of the stages called one after the other: decoding to encoding, no Beam, nothing committed."""
    context = _context(output, device)
    stages = [stage(context) for stage in (AlignFaces, FitFaces, TransferOcclusion, DoubleRotate)]
    for stage in stages:
        stage.setup()
    reader, writer = ReadImages(context), WritePairs(context)
    seconds = 0.0
    for unit in _units(shard):
        (batch,) = reader.process(unit)
        started = time.perf_counter()
        for stage in stages:
            batch = stage.run_unit(batch)
        serialize(writer._table(batch)[0], context.settings.pictures)
        seconds += time.perf_counter() - started
    return seconds


def run_beam(shard: Path, output: Path) -> float:
    """Seconds of the job in this process, reading, committing and progress included, less what loading models takes."""
    context = _context(output)
    started = time.perf_counter()
    for stage in (AlignFaces, FitFaces, TransferOcclusion, DoubleRotate):
        stage(context).setup()
    loading = time.perf_counter() - started
    units = _units(shard)
    files = [read_footer(*found) for found in find_inputs([str(shard)])]
    packed = pack_units(files, 32, units)
    watch = launch.Watch(context.layout, sum(unit.rows for unit in units), 10**9, 1.0)
    outcome = launch.run_job(
        launch.plan_launch([], 1),
        lambda pipeline: build_graph(pipeline, packed, context, GraphOptions(), PairFaces),
        watch,
    )
    if outcome.problem:
        sys.exit(outcome.problem)
    return outcome.seconds - loading


def _context(output: Path, device: str = "cpu") -> StageContext:
    return StageContext(Layout(str(output)), "benchmark", PairSettings(), DefaultModels(device))


def _units(shard: Path):
    return plan_units([read_footer(*found) for found in find_inputs([str(shard)])], 32)


def _memory(process: psutil.Process, workers: int) -> int:
    """Bytes of the largest worker process."""
    try:
        processes = process.children(recursive=True) if workers > 1 else [process]
        return max((each.memory_info().rss for each in processes), default=0)
    except psutil.NoSuchProcess:
        return 0


def median(runs: list[dict], key: str) -> float:
    """Median of one figure."""
    return statistics.median(run[key] for run in runs)


if __name__ == "__main__":
    main()
