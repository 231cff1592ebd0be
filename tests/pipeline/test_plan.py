"""`cfr plan` on a calibration, and that planning stays small."""

import json
import os
import re
import resource
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cfr.pipeline import calibration, cli

WORKER = {
    "device": "cpu",
    "description": "a machine",
    "workers": 4,
    "seconds_per_image": 0.5,
    "start_seconds": 10.0,
    "memory_bytes": 1e9,
    "outputs_per_image": 0.9,
    "bytes_per_output": 150_000.0,
}
PLANNING = {
    "seconds_per_unit": 1e-4,
    "seconds_per_manifest": 2e-4,
    "memory_bytes_per_unit": 1000.0,
    "reference_bytes": 400.0,
}


@pytest.fixture
def measured(tmp_path):
    path = tmp_path / "calibration.json"
    calibration.add(path, "four", WORKER, PLANNING)
    return path


def plan(capsys, *arguments) -> str:
    code = cli.main(["plan", *map(str, arguments)])
    captured = capsys.readouterr()
    return captured.out if code == 0 else f"exit {code}: {captured.err}"


def test_the_numbers_follow_from_the_calibration(measured, capsys):
    out = plan(capsys, "--images", "1e8", "--worker-type", "four", "--calibration", measured, "--machines", 100)
    # 1e8 x 0.5 s / 4 processes / 100 machines = 125,000 s = 34.7 hours
    assert "34.7 hours, 3,472 machine hours" in out
    assert "1,562,500 of 64 rows" in out
    assert "625 MB" in out  # 1,562,500 references of 400 bytes
    assert "13.5 TB in 3,125,000 files" in out  # 0.9 x 150 kB
    assert "4 GB per machine" in out
    assert "156 s" not in out
    assert "3 min and 1.56 GB to plan; 5 min more to resume" in out


def test_hours_decide_the_machines_and_price_the_cost(measured, capsys):
    common = ("--images", "1e8", "--worker-type", "four", "--calibration", measured)
    out = plan(capsys, *common, "--hours", "10", "--price", "2")
    machines, hours, cost = re.search(
        r"([\d,]+) machines\n.* ([\d.]+) hours, [\d,]+ machine hours, ([\d,]+) for", out
    ).groups()
    assert int(machines) == 348
    assert float(hours) <= 10
    assert int(cost.replace(",", "")) == pytest.approx(348 * 9.98 * 2, rel=0.01)


def test_views_faces_and_split_stages_cost_what_they_cost(measured, capsys):
    common = ("--images", "1000000", "--worker-type", "four", "--calibration", measured, "--machines", 1)

    def hours(*flags):
        return float(re.search(r"([\d.]+) hours", plan(capsys, *common, *flags))[1])

    assert hours("--views-per-face", 3) == pytest.approx(1.6 * hours(), rel=0.01)
    assert hours("--faces-per-image", 1.8) == pytest.approx(2 * hours(), rel=0.01)
    assert "shuffle         277 GB" in plan(capsys, *common, "--split-stages")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "0", "--worker-type", "four"], "0 is not a positive number"),
        (["--images", "1.5", "--worker-type", "four"], "not a whole number"),
        (["--images", "1e6", "--worker-type", "five"], "the calibration has four; measure yours"),
        (["--images", "1e6", "--worker-type", "four", "--hours", "0.001"], "shorter than the start"),
        (["--images", "1e6", "--worker-type", "four", "--calibration", "none.json"], "write it with benchmarks"),
    ],
)
def test_mistakes_are_one_line(measured, capsys, arguments, message):
    given = [] if "--calibration" in arguments else ["--calibration", measured]
    out = plan(capsys, *arguments, *given)
    assert out.startswith("exit 2")
    assert message in out
    assert len(out.strip().splitlines()) == 1


def test_a_calibration_keeps_the_other_machines(measured):
    calibration.add(measured, "gpu", {**WORKER, "device": "cuda", "workers": 1}, PLANNING)
    assert list(calibration.read(str(measured)).worker_types) == ["four", "gpu"]
    value = json.loads(measured.read_text())
    measured.write_text(json.dumps({**value, "version": 2}))
    with pytest.raises(calibration.UserError, match="version 2, not 1"):
        calibration.read(str(measured))


def test_the_calibration_of_the_package_has_the_machine_of_the_docs(capsys):
    assert re.search(r"images on 1-core .*images/s", plan(capsys, "--images", "1e8", "--worker-type", "1-core"))


@pytest.fixture(scope="module")
def a_million_rows(tmp_path_factory):
    """1000 files of 1000 rows without pixels."""
    folder = tmp_path_factory.mktemp("footers")
    table = pa.table({"image_id": [str(number) for number in range(1000)], "image": [b""] * 1000})
    pq.write_table(table, folder / "0000.parquet", row_group_size=64)
    for number in range(1, 1000):
        os.link(folder / "0000.parquet", folder / f"{number:04}.parquet")
    return folder


# A program's own peak: getrusage would count what the process that started it, or another child, needed.
_WITH_PEAK = """
import re, sys
from cfr.pipeline.cli import main
code = main(sys.argv[1:])
print("peak", re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1], file=sys.stderr)
sys.exit(code)
"""


def test_a_million_rows_are_planned_within_a_minute_and_a_gigabyte(a_million_rows, tmp_path):
    """Catches: rows read instead of footers, one after the other, or units that are kept as large objects."""
    arguments = ["--input", str(a_million_rows), "--output", str(tmp_path / "out"), "--dry-run"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", _WITH_PEAK, "pairs", *arguments], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "16000 units, 0 done, 16000 to do" in done.stdout, done.stderr
    # CPU time: another program on this machine must not fail the test. With the imports it takes some five seconds.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 60
    assert int(re.search(r"peak (\d+)", done.stderr)[1]) < 1e6  # kB
