"""What a large job costs: speed and memory against the number of photos, planning, manifests; writes a calibration.

    python benchmarks/scale.py
    python benchmarks/scale.py --worker-type my-machine --workers 16 --calibration calibration.json
    python benchmarks/scale.py --only planning --units 10000 100000 1000000

`cfr plan` reads the calibration. On a CPU it counts CPU seconds, which a busy machine does not stretch as it stretches
wall time; on a GPU wall seconds. Needs the `test` extra. Parts: photos (the real models), stub (models that do
next to nothing, for 10^5 photos), planning (footers of files without pixels; manifests).
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
PARTS = ("photos", "stub", "planning")


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
    parser.add_argument("--units", type=int, nargs="+", default=[10_000, 100_000], help="for planning and manifests")
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
        if "stub" in parts:
            stub(folder, args.stub_images)
        if "planning" in parts:
            measured["planning"] = planning(folder, args.units)
    if args.calibration:
        if len(measured) < 2:
            sys.exit("--calibration needs the parts `photos` and `planning`")
        calibration.add(args.calibration, args.worker_type, measured["photos"], measured["planning"])
        print(f"{args.worker_type} written to {args.calibration}")


def photos(folder: Path, args: argparse.Namespace) -> dict:
    """Real models: rate and memory against the number of photos, one process and several in turn."""
    files = sorted(path for path in args.photos.rglob("*") if path.suffix.lower() in SUFFIXES)
    flags = ["--device", args.device]
    command = [sys.executable, "-m", "cfr.pipeline.cli", "pairs"]
    write_shard(folder / "one.parquet", files, 1)
    start = run(command, folder / "one.parquet", 1, folder / "one", *flags)
    print(f"start: {start.seconds:.1f} s, {start.cpu_seconds:.1f} CPU s")
    per_image, rates, memory = [], {}, []
    for images in args.images:
        shard = folder / f"{images}.parquet"
        write_shard(shard, files, images)
        for workers in sorted({1, args.workers}):
            done = run(command, shard, images, folder / f"out-{images}-{workers}", "--workers", str(workers), *flags)
            seconds = (done.cpu_seconds if args.device == "cpu" else done.seconds) - workers * start.cpu_seconds
            rates[images, workers] = images / done.seconds
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
        print(f"{args.workers} workers are {rates[last, args.workers] / rates[last, 1]:.2f} times as fast as one")
    totals = total(read_done(Layout(str(folder / f"out-{last}-1"))).manifests.values())
    return {
        "device": args.device,
        "description": _describe(args.device),
        "workers": args.workers,
        "seconds_per_image": per_image[-1],
        "start_seconds": start.cpu_seconds,
        "memory_bytes": memory[-1],
        "outputs_per_image": totals["outputs"] / totals["rows"],
        "bytes_per_output": totals["shard_bytes"] / totals["outputs"],
    }


def stub(folder: Path, counts: list[int]) -> None:
    """Models that do next to nothing: does anything grow with the number of photos?"""
    sys.path.insert(0, str(STAND_IN.parent))
    from stand_in_models import GOOD, write_photos

    os.environ["PYTHONPATH"] = str(STAND_IN.parent)
    runs = []
    for count in counts:
        shard = folder / f"stub-{count}.parquet"
        write_photos(shard, [GOOD] * count, row_group_size=64)
        output = folder / f"stub-out-{count}"
        runs.append(run([sys.executable, str(STAND_IN)], shard, count, output, "--workers", "2", "--columns", "target"))
        print(
            f"{count} photos, stub models, 2 workers: {count / runs[-1].seconds:.0f} images/s, "
            f"{1000 * runs[-1].cpu_seconds / count:.2f} CPU ms each, {runs[-1].memory / 1e9:.3f} GB per process"
        )
    print(f"memory from {counts[0]} to {counts[-1]}: {runs[-1].memory / runs[0].memory - 1:+.1%}")


def planning(folder: Path, counts: list[int]) -> dict:
    """Seconds and bytes of planning against the number of units, from footers and from manifests."""
    seconds, manifest_seconds = [], []
    for count in counts:
        inputs, output = folder / f"footers-{count}", folder / f"manifests-{count}"
        synthetic_files(inputs, count)
        code = f"import scale; scale.plan_once({str(inputs)!r})"
        planned = json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=Path(__file__).parent))
        seconds.append(planned["seconds"])
        manifest_seconds.append(read_manifests(output, inputs))
        print(
            f"{count} units in {count * 64 // FILE_ROWS} files: planned in {planned['seconds']:.2f} s, "
            f"{planned['memory'] / 1e6:.0f} MB more; their manifests read in {manifest_seconds[-1]:.2f} s"
        )
    slopes = [each[-1] / counts[-1] for each in (seconds, manifest_seconds)]
    print(f"per million units: {1e6 * slopes[0]:.0f} s to plan, {1e6 * slopes[1]:.0f} s to read the manifests")
    unit = work_units.plan_units(read_inputs([str(inputs)])[0], 64, 1)[0]
    return {
        "seconds_per_unit": slopes[0],
        "seconds_per_manifest": slopes[1],
        "memory_bytes_per_unit": planned["memory"] / counts[-1],
        "reference_bytes": len(BatchCoder().encode(unit)) + 40,
    }


def synthetic_files(folder: Path, units: int) -> None:
    """Parquet files of 1000 rows without pixels, of so many units of 64 rows together; all are one file, linked."""
    folder.mkdir()
    table = pa.table({"image_id": [str(number) for number in range(FILE_ROWS)], "image": [b""] * FILE_ROWS})
    first = folder / "000000.parquet"
    pq.write_table(table, first, row_group_size=64)
    for number in range(1, max(1, round(units * 64 / FILE_ROWS))):
        # A file has only so many links on some file systems.
        source = first if number % 10_000 else folder / f"{number:06}.parquet"
        if source is not first:
            source.write_bytes(first.read_bytes())
            first = source
        else:
            os.link(first, folder / f"{number:06}.parquet")


def plan_once(inputs: str) -> None:
    """Plan in this process and print seconds and bytes as JSON."""
    before, started = psutil.Process().memory_info().rss, time.perf_counter()
    files, _ = read_inputs([inputs])
    units = work_units.plan_units(files, 64)
    packed = work_units.pack_units(files, 64, units)
    seconds = time.perf_counter() - started
    memory = psutil.Process().memory_info().rss - before
    print(json.dumps({"seconds": seconds, "memory": memory, "units": len(units), "files": len(packed)}))


def read_manifests(output: Path, inputs: Path) -> float:
    """Seconds to read the manifests of all units, written beforehand."""
    files, _ = read_inputs([str(inputs)])
    layout = Layout(str(output))
    for folder in (layout.manifests, layout.shards):
        storage.make_folder(folder)
    units = work_units.plan_units(files, 64)
    for unit in units:
        values = {**vars(unit), "job_hash": "h", "shard_bytes": 1, "shard_sha256": "0" * 64, "failures_bytes": 0}
        manifest = Manifest(**values, failures_sha256="", rows_with_output=unit.rows, rows_failed=0, rows_filtered=0,
                            outputs=unit.rows, faces_failed=0)  # fmt: skip
        Path(layout.manifest(unit.unit_id)).write_bytes(manifest.to_json())
        Path(layout.shard(unit.unit_id)).write_bytes(b"x")
    started = time.perf_counter()
    done = read_done(layout)
    seconds = time.perf_counter() - started
    assert len(done.manifests) == len(units)
    return seconds


def run(command: list[str], shard: Path, images: int, output: Path, *flags: str) -> Run:
    """A job in a process of its own, its CPU time and its processes' memory."""
    arguments = ["--input", str(shard), "--output", str(output), *flags]
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
