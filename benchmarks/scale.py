"""What a large job costs: speed and memory against the number of photos, planning, manifests; writes a calibration.

    python benchmarks/scale.py
    python benchmarks/scale.py --worker-type my-machine --workers 16 --calibration calibration.json
    python benchmarks/scale.py --only planning --units 1000 100000

`cfr plan` reads the calibration. On a CPU it counts CPU seconds, which a busy machine does not stretch as it stretches
wall time; on a GPU wall seconds. Needs the `test` extra. Parts: photos (the real models), ceiling (the stages alone in
one and in several plain processes: what the machine has to give), stub (models that do next to nothing, for 10^5
photos), planning (footers of files without pixels; manifests). A calibration keeps what was not measured this time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pairs import BUNDLED, SUFFIXES, write_shard

from cfr.pipeline import calibration, storage, work_units
from cfr.pipeline.job import read_inputs
from cfr.pipeline.manifests import Layout, Manifest, read_done
from cfr.pipeline.stats import total
from cfr.transforms.batches import BatchCoder

ROOT = Path(__file__).resolve().parent.parent
STAND_IN = ROOT / "tests" / "stand_in" / "stand_in_models.py"
FILE_ROWS = 1000
# Writing more of them takes longer than everything else here; their slope tells the rest.
MOST_MANIFESTS = 100_000
PARTS = ("photos", "ceiling", "stub", "planning")


@dataclass(frozen=True)
class Run:
    """One job: images, wall and CPU seconds of all its processes, peak bytes of the largest and of all together."""

    images: int
    seconds: float
    cpu_seconds: float
    memory: int
    total_memory: int


def main() -> None:
    """Run the parts and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="default: all parts")
    parser.add_argument("--photos", type=Path, default=BUNDLED, help="folder of photos (default: the bundled ones)")
    parser.add_argument("--images", type=int, nargs="+", default=[100, 1000], help="with the real models")
    parser.add_argument("--stub-images", type=int, nargs="+", default=[1000, 10_000, 100_000], help="with stub models")
    parser.add_argument("--ceiling-images", type=int, default=64, help="per process, for the stages alone")
    parser.add_argument("--units", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="to plan, ascending")
    parser.add_argument("--workers", type=int, default=2, help="processes of one machine")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--worker-type", default="this-machine", help="its name in the calibration")
    parser.add_argument("--calibration", type=Path, help="JSON file to write or to add to")
    args = parser.parse_args()
    parts = args.only or PARTS
    measured: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "photos" in parts:
            measured["photos"] = photos(folder, args)
        if "ceiling" in parts and args.workers > 1:
            ceiling(folder, args)
        if "stub" in parts:
            stub(folder, args.stub_images)
        if "planning" in parts:
            measured["planning"] = planning(folder, args.units)
    if args.calibration and measured:
        calibration.add(args.calibration, args.worker_type, measured.get("photos"), measured.get("planning"))
        print(f"{args.worker_type} written to {args.calibration}")


def photos(folder: Path, args: argparse.Namespace) -> dict:
    """Real models: rate and memory against the number of photos, one process and several in turn."""
    files = sorted(path for path in args.photos.rglob("*") if path.suffix.lower() in SUFFIXES)
    flags = ["--device", args.device]
    command = [sys.executable, "-m", "cfr.pipeline.cli", "pairs"]
    write_shard(folder / "one.parquet", files, 1)
    start = run(command, folder / "one.parquet", 1, folder / "one", *flags)
    print(f"start: {start.seconds:.1f} s, {start.cpu_seconds:.1f} CPU s")
    per_image, wall, memory = [], {}, []
    for images in args.images:
        shard = folder / f"{images}.parquet"
        write_shard(shard, files, images)
        for workers in sorted({1, args.workers}):
            done = run(command, shard, images, folder / f"out-{images}-{workers}", "--workers", str(workers), *flags)
            if args.device == "cpu":
                seconds = done.cpu_seconds - workers * start.cpu_seconds
            else:
                seconds = done.seconds - start.seconds
            wall[workers] = done.seconds
            if workers == 1:
                per_image.append(seconds / images)
                memory.append(done.memory)
            print(
                f"{images} photos, --workers {workers}: {images / done.seconds:.2f} images/s, "
                f"{seconds / images:.3f} s each ({args.device}), memory {done.memory / 1e9:.2f} GB per worker, "
                f"{done.total_memory / 1e9:.2f} GB in all",
                flush=True,
            )
    print(f"from {args.images[0]} to {args.images[-1]}: seconds {per_image[-1] / per_image[0] - 1:+.1%}, ", end="")
    print(f"memory {memory[-1] / memory[0] - 1:+.1%}")
    last = args.images[-1]
    if args.workers > 1:
        # Both take as long to start; a job of many hours does not notice.
        steady = (wall[1] - start.seconds) / (wall[args.workers] - start.seconds)
        print(
            f"{args.workers} workers are {wall[1] / wall[args.workers]:.2f} times as fast as one with {last} photos, "
            f"{steady:.2f} times once started"
        )
    totals = total(read_done(Layout(str(folder / f"out-{last}-1"))).manifests.values())
    return {
        "device": args.device,
        "description": _describe(args.device),
        "workers": args.workers,
        # With all workers running: they take cache and memory bandwidth from each other.
        "seconds_per_image": seconds / last,
        "start_seconds": start.cpu_seconds,
        "memory_bytes": done.memory,
        "outputs_per_image": totals["outputs"] / totals["rows"],
        "bytes_per_output": totals["shard_bytes"] / totals["outputs"],
    }


def ceiling(folder: Path, args: argparse.Namespace) -> None:
    """The stages alone, in one plain process and in several in turn: no Beam, nothing committed."""
    files = sorted(path for path in args.photos.rglob("*") if path.suffix.lower() in SUFFIXES)
    shard = folder / "ceiling.parquet"
    write_shard(shard, files, args.ceiling_images)
    rates: dict[int, list[float]] = {1: [], args.workers: []}
    for turn in range(3):
        for count in rates:
            # The one before and the one after, so that what else the machine does falls on both.
            if turn < 2 or count == 1:
                rates[count].append(_plain_processes(count, shard, args))
    alone, together = (sum(each) / len(each) for each in rates.values())
    print(
        f"stages alone: {alone:.2f} images/s in one process, {together:.2f} in {args.workers}: "
        f"{together / alone:.2f} times as fast",
        flush=True,
    )


def _plain_processes(count: int, shard: Path, args: argparse.Namespace) -> float:
    """Images/s of so many processes side by side, without what loading the models takes."""
    given = f"Path({str(shard)!r}), Path({str(shard.parent / 'stages')!r}), {args.device!r}"
    code = f"from pathlib import Path; import pairs; print(pairs.run_stages({given}))"
    command, here = [sys.executable, "-c", code], Path(__file__).parent
    processes = [subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    seconds = [float(process.communicate()[0]) for process in processes]
    return sum(args.ceiling_images / each for each in seconds)


def stub(folder: Path, counts: list[int]) -> None:
    """Models that do next to nothing, two workers: does anything grow with the number of photos?

    One photo in eight has a face, so that most of the time goes into what surrounds the models.
    """
    sys.path.insert(0, str(STAND_IN.parent))
    from stand_in_models import GOOD, NO_FACE, write_photos

    os.environ["PYTHONPATH"] = str(STAND_IN.parent)
    runs = []
    for count in [64, *counts]:
        shards, output = folder / f"stub-{count}", folder / f"stub-out-{count}"
        shards.mkdir()
        kinds = ([GOOD] + [NO_FACE] * 7) * (count // 8 + 1)
        # A file's footer grows with its rows, and is read for every unit: files as `cfr ingest` writes them.
        for start in range(0, count, FILE_ROWS):
            rows = kinds[start : min(start + FILE_ROWS, count)]
            write_photos(shards / f"{start:07d}.parquet", rows, row_group_size=64)
        command = [sys.executable, str(STAND_IN)]
        runs.append(run(command, shards, count, output, "--workers", "2", "--columns", "target"))
        milliseconds = [1000 * (each.cpu_seconds - runs[0].cpu_seconds) / each.images for each in runs[1:]]
        if milliseconds:
            print(
                f"{count} photos, stub models, 2 workers: {count / runs[-1].seconds:.0f} images/s with start, "
                f"{milliseconds[-1]:.2f} CPU ms each without, {runs[-1].memory / 1e9:.3f} GB per process",
                flush=True,
            )
    print(
        f"from {counts[0]} to {counts[-1]}: CPU {milliseconds[-1] / milliseconds[0] - 1:+.1%}, "
        f"memory {runs[-1].memory / runs[1].memory - 1:+.1%}"
    )


def planning(folder: Path, counts: list[int]) -> dict:
    """CPU seconds and bytes of planning against the number of units, from footers and from manifests."""
    seconds, memory, manifest_seconds = [], [], []
    for count in counts:
        inputs = folder / f"footers-{count}"
        synthetic_files(inputs, count)
        code = f"import scale; scale.plan_once({str(inputs)!r})"
        planned = json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=Path(__file__).parent))
        seconds.append(planned["seconds"])
        memory.append(planned["memory"])
        print(
            f"{count} units in {planned['files']} files: planned in {planned['seconds']:.2f} CPU s, "
            f"{planned['memory'] / 1e6:.0f} MB more",
            end="",
        )
        if count <= MOST_MANIFESTS or not manifest_seconds:
            manifest_seconds.append(read_manifests(folder / f"manifests-{count}", inputs))
            print(f"; their manifests read in {manifest_seconds[-1]:.2f} CPU s", end="")
        print(flush=True)
        unit = work_units.plan_units(read_inputs([str(inputs)])[0], 64, 1)[0]
    per_unit, bytes_per_unit = _slope(counts, seconds), _slope(counts, memory)
    per_manifest = _slope(counts[: len(manifest_seconds)], manifest_seconds)
    print(
        f"per million units: {1e6 * per_unit:.0f} CPU s and {bytes_per_unit / 1e3:.2f} GB to plan, "
        f"{1e6 * per_manifest:.0f} CPU s to read the manifests"
    )
    return {
        "seconds_per_unit": per_unit,
        "seconds_per_manifest": per_manifest,
        "memory_bytes_per_unit": bytes_per_unit,
        "reference_bytes": len(BatchCoder().encode(unit)) + 40,
    }


def _slope(counts: list[int], values: list[float]) -> float:
    """Cost of one more unit: between the smallest and the largest count, or, of one count, all of it."""
    if len(counts) == 1:
        return values[0] / counts[0]
    return (values[-1] - values[0]) / (counts[-1] - counts[0])


def synthetic_files(folder: Path, units: int) -> None:
    """Parquet files of 1000 rows without pixels, of so many units of 64 rows together; all are one file, linked."""
    folder.mkdir()
    table = pa.table({"image_id": [str(number) for number in range(FILE_ROWS)], "image": [b""] * FILE_ROWS})
    first = folder / "000000.parquet"
    pq.write_table(table, first, row_group_size=64)
    for number in range(1, max(1, round(units * 64 / FILE_ROWS))):
        # A file has only so many links on some file systems, here as below.
        source = first if number % 10_000 else folder / f"{number:06}.parquet"
        if source is not first:
            source.write_bytes(first.read_bytes())
            first = source
        else:
            os.link(first, folder / f"{number:06}.parquet")


def plan_once(inputs: str) -> None:
    """Plan in this process and print CPU seconds and bytes as JSON."""
    before, started = psutil.Process().memory_info().rss, time.process_time()
    files, _ = read_inputs([inputs])
    units = work_units.plan_units(files, 64)
    packed = work_units.pack_units(files, 64, units)
    seconds = time.process_time() - started
    memory = psutil.Process().memory_info().rss - before
    print(json.dumps({"seconds": seconds, "memory": memory, "units": len(units), "files": len(packed)}))


def read_manifests(output: Path, inputs: Path) -> float:
    """CPU seconds to read the manifests of all units, written beforehand."""
    files, _ = read_inputs([str(inputs)])
    layout = Layout(str(output))
    for folder in (layout.manifests, layout.shards):
        storage.make_folder(folder)
    units = work_units.plan_units(files, 64)
    for number, unit in enumerate(units):
        values = {**vars(unit), "job_hash": "h", "shard_bytes": 1, "shard_sha256": "0" * 64, "failures_bytes": 0}
        manifest = Manifest(**values, failures_sha256="", rows_with_output=unit.rows, rows_failed=0, rows_filtered=0,
                            outputs=unit.rows, faces_failed=0)  # fmt: skip
        Path(layout.manifest(unit.unit_id)).write_bytes(manifest.to_json())
        first = layout.shard(units[number - number % 10_000].unit_id)
        if number % 10_000:
            os.link(first, layout.shard(unit.unit_id))
        else:
            Path(first).write_bytes(b"x")
    started = time.process_time()
    done = read_done(layout)
    seconds = time.process_time() - started
    assert len(done.manifests) == len(units)
    return seconds


def run(command: list[str], shards: Path, images: int, output: Path, *flags: str) -> Run:
    """A job in a process of its own, its CPU time and its processes' memory."""
    arguments = ["--input", str(shards), "--output", str(output), *flags]
    started = time.perf_counter()
    errors = output.with_suffix(".stderr").open("w+b")
    process = psutil.Popen([*command, *arguments], stdout=subprocess.DEVNULL, stderr=errors)
    peaks, over = [0, 0], threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            try:
                sizes = [each.memory_info().rss for each in [process, *process.children(recursive=True)]]
            except psutil.NoSuchProcess:
                continue
            peaks[:] = max(peaks[0], max(sizes)), max(peaks[1], sum(sizes))

    thread = threading.Thread(target=watch)
    thread.start()
    _, status, usage = os.wait4(process.pid, 0)
    over.set()
    thread.join()
    with errors:
        if status:
            errors.seek(0)
            sys.exit(f"{' '.join([*command, *arguments])}: {errors.read().decode()[-2000:]}")
    return Run(images, time.perf_counter() - started, usage.ru_utime + usage.ru_stime, *peaks)


def _describe(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{os.cpu_count()} x {model[0].split(':')[1].strip() if model else 'CPU'}"


if __name__ == "__main__":
    main()
