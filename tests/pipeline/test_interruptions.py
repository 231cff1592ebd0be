"""The pairs job as a process of its own, killed at bad moments: nothing is lost, and the bytes stay the same."""

import json
import os
import random
import signal
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import stand_in_models as stand_in
from job_process import Job, finish, have_ended
from stand_in_models import write_photos

from cfr.pipeline import local_worker, progress
from cfr.pipeline.manifests import Layout


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """36 photos in two files, a few of them bad."""
    folder = tmp_path_factory.mktemp("photos")
    bad = {3: stand_in.NOT_AN_IMAGE, 9: stand_in.FIT_RAISES, 17: stand_in.NO_FACE, 22: stand_in.TWO_FACES}
    write_photos(folder / "a.parquet", [bad.get(number, stand_in.GOOD) for number in range(24)])
    write_photos(folder / "b.parquet", [bad.get(number, stand_in.GOOD) for number in range(12)])
    return folder


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
def test_same_bytes_however_it_is_run(photos, undisturbed, tmp_path, capfd, arguments):
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


def test_nothing_stays_in_the_folder_for_temporary_files(photos, tmp_path):
    """Catches: the folder that Beam makes for every pipeline, one more of them for each job."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    job = Job(photos, tmp_path / "out", "--workers", "2", TMPDIR=str(temporary))
    assert job.wait() == 0, job.err
    assert not list(temporary.iterdir())


def test_kill_9_of_a_worker_is_noticed(photos, undisturbed, tmp_path):
    output = tmp_path / "out"
    launched = time.monotonic()
    job = Job(photos, output, "--workers", "2", seconds=0.3)
    job.until(lambda: job.has_started() and len(job.workers()) == 2)
    victim, other = job.workers()
    job.until(lambda: job.unit_of(victim) != "")
    killed = time.monotonic()
    victim.kill()
    assert job.wait() == 1
    # On a machine so busy that starting takes longer, noticing may, too.
    assert time.monotonic() - killed < max(30, killed - launched)
    assert f"worker process {victim.pid} died while it did unit" in job.err
    assert "run the same command to resume" in job.err
    assert "Traceback" not in job.err
    assert have_ended([other])
    assert not (output / "_SUCCESS").exists()
    assert finish(photos, output) == undisturbed


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("round_", [0, 1, *(pytest.param(number, marks=pytest.mark.slow) for number in range(2, 20))])
def test_killed_at_any_moment(photos, undisturbed, tmp_path, round_):
    """Catches whatever is not written in one step: launcher (even rounds) or worker (odd) may die anywhere.

    The moments lie shortly after something that the job has got to, so that they fall into its work on any machine.
    """
    chance = random.Random(round_)
    output = tmp_path / "out"
    for _ in range(3):
        _kill_at_a_random_moment(Job(photos, output, "--workers", "2" if round_ % 2 else "1", seconds=0.1), chance)
    assert finish(photos, output) == undisturbed
    assert not list((output / "_tmp").iterdir())
    assert not list((output / "_progress").glob("started-*"))


def test_a_mark_that_a_killed_process_left_on_a_done_unit_is_no_strike(photos, undisturbed, tmp_path):
    """Catches: killed between manifest and mark; three of those, and the unit would be redone in a child process."""
    output = tmp_path / "out"
    finish(photos, output)
    (done, other) = sorted(path.stem for path in (output / "pairs").iterdir())[:2]
    (output / "pairs" / f"{other}.parquet").unlink()
    for unit_id in (done, other):
        progress.mark_started(Layout(str(output)), unit_id)
    progress.clear_marks_of_done(Layout(str(output)), {done})
    assert [path.name.partition(".")[0] for path in output.glob("_progress/started-*")] == [f"started-{other}"]
    progress.mark_started(Layout(str(output)), done)
    assert finish(photos, output) == undisturbed
    assert not list(output.glob("_progress/started-*"))


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
    assert job.wait() == 130
    assert "interrupted" in job.err
    assert "Traceback" not in job.err
    assert not list((output / "_progress").glob("started-*"))
    assert finish(photos, output) == undisturbed


def test_a_unit_that_starts_while_the_job_is_stopped_gets_no_strike(photos, undisturbed, tmp_path, monkeypatch):
    """Catches: marks cleared of the units that were under way when Ctrl-C was heard, not of those that were stopped."""
    output = tmp_path / "out"

    def started() -> set[str]:
        return {path.name for path in output.glob("_progress/started-*")}

    def kill_workers(folder: str) -> None:
        before = started()
        deadline = time.monotonic() + 60
        while not started() - before:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def interrupt() -> None:
        while not started():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setenv("STAND_IN_SECONDS", "0.3")
    monkeypatch.setattr(local_worker, "kill_workers", kill_workers)
    threading.Thread(target=interrupt, daemon=True).start()
    assert stand_in.run("--input", photos / "*.parquet", "--output", output, "--unit-rows", "4") == 130
    assert not started()
    monkeypatch.undo()
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
def test_isolated_rows_have_the_same_bytes_and_the_one_that_kills_is_found(tmp_path, kind):
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


def _kill_at_a_random_moment(job: Job, chance: random.Random) -> None:
    """The launcher, or of two workers one."""
    in_processes = "2" in job.process.args
    goal = job.units_done() + chance.choice([0, 1, 1, 2, 3])
    job.until(lambda: job.has_started() and job.units_done() >= goal and (not in_processes or bool(job.workers())))
    time.sleep(chance.uniform(0, 0.5))
    victims = job.workers() if in_processes else [job.process]
    if victims and job.process.poll() is None:
        chance.choice(victims).kill()
    job.wait()


def _strike_out(output: Path, unit_id: str) -> None:
    for _ in range(progress.STRIKES):
        progress.mark_started(Layout(str(output)), unit_id)
