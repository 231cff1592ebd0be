"""The pairs job as a process of its own, killed at bad moments: nothing is lost, and the bytes stay the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import stand_in_models as stand_in
from stand_in_models import write_photos

from cfr.pipeline import progress
from cfr.pipeline.manifests import Layout

STAND_IN = Path(stand_in.__file__)


class Job:
    """`cfr pairs` with the stand-in models, in a process group of its own."""

    def __init__(self, folder: Path, output: Path, *arguments: str, seconds: float = 0.0):
        environment = {
            **os.environ,
            "STAND_IN_SECONDS": str(seconds),
            "PYTHONPATH": str(STAND_IN.parent),
        }
        command = [sys.executable, str(STAND_IN), "--input", str(folder / "*.parquet"), "--output", str(output)]
        self.output = output
        self.process = subprocess.Popen(
            [*command, "--unit-rows", "4", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait(self, seconds: float = 120) -> int:
        """Exit code; kills what remains."""
        try:
            self.out, self.err = self.process.communicate(timeout=seconds)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.returncode

    def until_under_way(self, manifests: int = 1) -> None:
        """Wait until some units are done and others are not."""
        deadline = time.monotonic() + 90
        while len(list(self.output.glob("_manifest/*.json"))) < manifests:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def unit_of(self, worker: psutil.Process) -> str:
        """What a worker says that it works on."""
        try:
            heartbeat = next(self.output.glob(f"_progress/worker-*-{worker.pid}.json"))
            return json.loads(heartbeat.read_text())["unit_id"]
        except (StopIteration, ValueError):
            return ""

    def workers(self) -> list[psutil.Process]:
        """The worker processes."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if "cfr.pipeline.local_worker" in child.cmdline()]


def have_ended(processes: list[psutil.Process], seconds: float = 10) -> bool:
    """Whether they end in time; one that only waits to be reaped by init has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes):
            return True
        time.sleep(0.1)
    return False


def shard_bytes(output: Path) -> dict[str, bytes]:
    return {str(p.relative_to(output)): p.read_bytes() for p in sorted(output.glob("[pf]a*/*.parquet"))}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """36 photos in two files, a few of them bad."""
    folder = tmp_path_factory.mktemp("photos")
    bad = {3: stand_in.NOT_AN_IMAGE, 9: stand_in.FIT_RAISES, 17: stand_in.NO_FACE, 22: stand_in.TWO_FACES}
    write_photos(folder / "a.parquet", [bad.get(number, stand_in.GOOD) for number in range(24)])
    write_photos(folder / "b.parquet", [bad.get(number, stand_in.GOOD) for number in range(12)])
    return folder


def finish(folder: Path, output: Path, *arguments: str) -> dict[str, bytes]:
    """Run the job here, to its end; the shards."""
    code = stand_in.run("--input", folder / "*.parquet", "--output", output, "--unit-rows", "4", *arguments)
    assert code == 0
    assert (output / "_SUCCESS").exists()
    return shard_bytes(output)


@pytest.fixture(scope="module")
def undisturbed(photos, tmp_path_factory) -> dict[str, bytes]:
    """The shards of a run that nothing happened to."""
    shards = finish(photos, tmp_path_factory.mktemp("undisturbed") / "out")
    assert len([name for name in shards if name.startswith("pairs/")]) == 9
    return shards


@pytest.mark.parametrize(
    "arguments",
    [["--workers", "2"], ["--direct_runner_bundle_repeat=1"], ["--split-stages", "--runner", "FnApiRunner"]],
    ids=" ".join,
)
def test_same_bytes_however_it_is_run(photos, undisturbed, tmp_path, capfd, monkeypatch, arguments):
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN.parent))
    assert finish(photos, tmp_path / "out", *arguments) == undisturbed
    assert json.loads((tmp_path / "out" / "_stats.json").read_text())["rows"] == 36
    err = capfd.readouterr().err
    assert "Traceback" not in err
    assert "WARNING" not in err


def test_a_replayed_bundle_does_its_units_again(photos, tmp_path, monkeypatch):
    """Otherwise the replay above would prove nothing."""
    fits = []
    monkeypatch.setattr(stand_in.time, "sleep", fits.append)
    monkeypatch.setenv("STAND_IN_SECONDS", "0.125")
    finish(photos, tmp_path / "once")
    once = fits.count(0.125)
    finish(photos, tmp_path / "twice", "--direct_runner_bundle_repeat=1")
    assert fits.count(0.125) >= 2 * once


@pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.slow), "2"])
def test_kill_9_of_the_launcher(photos, undisturbed, tmp_path, workers):
    output = tmp_path / "out"
    job = Job(photos, output, "--workers", workers, seconds=0.3)
    job.until_under_way(2)
    workers_then = job.workers()
    os.kill(job.process.pid, signal.SIGKILL)
    job.wait()
    assert len(workers_then) == (2 if workers == "2" else 0)
    assert have_ended(workers_then)
    assert 0 < len(list((output / "_manifest").iterdir())) < 9
    assert finish(photos, output) == undisturbed
    assert not list((output / "_tmp").iterdir())


def test_kill_9_of_a_worker_is_noticed(photos, undisturbed, tmp_path):
    output = tmp_path / "out"
    job = Job(photos, output, "--workers", "2", seconds=0.3)
    job.until_under_way()
    victim, other = job.workers()
    while not job.unit_of(victim):
        time.sleep(0.02)
    victim.kill()
    killed = time.monotonic()
    assert job.wait() == 1
    assert time.monotonic() - killed < 30
    assert f"worker process {victim.pid} died while it did unit" in job.err
    assert "run the same command to resume" in job.err
    assert "Traceback" not in job.err
    assert have_ended([other])
    assert not (output / "_SUCCESS").exists()
    assert finish(photos, output) == undisturbed


@pytest.mark.parametrize(
    ("number", "workers"),
    [(signal.SIGINT, "1"), (signal.SIGTERM, "2"), pytest.param(signal.SIGINT, "2", marks=pytest.mark.slow)],
    ids=str,
)
def test_an_interrupted_job_exits_with_130_and_resumes(photos, undisturbed, tmp_path, number, workers):
    output = tmp_path / "out"
    job = Job(photos, output, "--workers", workers, seconds=0.3)
    job.until_under_way()
    if number == signal.SIGINT:
        os.killpg(job.process.pid, number)  # as Ctrl-C in a terminal does: all processes of the job get it
    else:
        os.kill(job.process.pid, number)
    assert job.wait(60) == 130
    assert "interrupted" in job.err
    assert "Traceback" not in job.err
    assert not list((output / "_progress").glob("started-*"))
    assert finish(photos, output) == undisturbed


@pytest.mark.slow
def test_after_three_strikes_the_row_that_kills_is_found(tmp_path):
    kinds = [stand_in.GOOD, stand_in.FIT_KILLS, stand_in.GOOD, stand_in.DETECTOR_KILLS, stand_in.GOOD]
    write_photos(tmp_path / "in" / "a.parquet", kinds)
    output = tmp_path / "out"
    for strike in range(3):
        job = Job(tmp_path / "in", output, "--unit-rows", "8")
        assert job.wait() == -signal.SIGKILL
        assert len(list((output / "_progress").glob("started-*"))) == strike + 1
    job = Job(tmp_path / "in", output, "--unit-rows", "8")
    assert job.wait() == 0, job.err
    pairs = pq.read_table(next((output / "pairs").iterdir()))
    assert pairs["image_id"].to_pylist() == ["a/0000.png", "a/0002.png", "a/0004.png"]
    failures = pq.read_table(next((output / "failures").iterdir())).to_pylist()
    assert {(row["image_id"], row["stage"], row["reason"]) for row in failures} == {
        ("a/0001.png", "fit_faces", "worker_crashed"),
        ("a/0003.png", "align_faces", "worker_crashed"),
    }
    assert not list((output / "_progress").glob("started-*"))


@pytest.mark.parametrize(
    "kind", [stand_in.FIT_KILLS, pytest.param(stand_in.TWO_FACES, marks=pytest.mark.slow)], ids=["poison", "no poison"]
)
def test_isolated_rows_have_the_same_bytes_and_the_one_that_kills_is_found(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN.parent))
    write_photos(tmp_path / "in" / "a.parquet", [stand_in.GOOD, stand_in.TWO_FACES, stand_in.GOOD])
    finish(tmp_path / "in", tmp_path / "out")
    write_photos(tmp_path / "in" / "a.parquet", [stand_in.GOOD, kind, stand_in.GOOD])
    _strike_out(tmp_path / "isolated", next((tmp_path / "out" / "pairs").iterdir()).stem)
    finish(tmp_path / "in", tmp_path / "isolated")
    usual, isolated = (
        pq.read_table(next((tmp_path / name / "pairs").iterdir())).to_pylist() for name in ("out", "isolated")
    )
    if kind == stand_in.TWO_FACES:
        assert isolated == usual
        return
    assert isolated == [usual[0], usual[2]]
    failures = pq.read_table(next((tmp_path / "isolated" / "failures").iterdir())).to_pylist()
    assert [(row["image_id"], row["reason"]) for row in failures] == [("a/0001.png", "worker_crashed")]


def _strike_out(output: Path, unit_id: str) -> None:
    for _ in range(progress.STRIKES):
        progress.mark_started(Layout(str(output)), unit_id)
