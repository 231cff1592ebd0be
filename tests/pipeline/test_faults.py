"""What goes wrong around a job, one test per fault: the same bytes at the end, and which bug each test catches."""

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import stand_in_models as stand_in
from job_process import Job, finish, shard_bytes
from stand_in_models import write_photos

from cfr.pipeline import manifests, storage
from cfr.pipeline.commit import commit_unit
from cfr.pipeline.errors import UserError
from cfr.pipeline.lease import Lease
from cfr.pipeline.manifests import Layout, Manifest


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """24 photos, six units of which hold failures too."""
    folder = tmp_path_factory.mktemp("photos")
    bad = {3: stand_in.NOT_AN_IMAGE, 9: stand_in.FIT_RAISES, 17: stand_in.NO_FACE}
    write_photos(folder / "a.parquet", [bad.get(number, stand_in.GOOD) for number in range(24)])
    return folder


@pytest.fixture(scope="module")
def undisturbed(photos, tmp_path_factory) -> dict[str, bytes]:
    return finish(photos, tmp_path_factory.mktemp("undisturbed") / "out")


def failures(output: Path) -> set[tuple[str, str, str]]:
    rows = [row for path in (output / "failures").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    return {(row["image_id"], row["stage"], row["reason"]) for row in rows}


class TestTwoLaunches:
    def test_the_second_is_refused_and_the_first_not_disturbed(self, photos, undisturbed, tmp_path):
        """Catches: the second start cleans up the first one's unfinished files and heartbeats."""
        output, gate = tmp_path / "out", tmp_path / "gate"
        gate.touch()
        first = Job(photos, output, STAND_IN_GATE=str(gate))
        first.until(lambda: any(output.glob("_progress/started-*")))
        second = Job(photos, output)
        assert second.wait() == 2
        assert f"another launch works on it (process {first.process.pid} on" in second.err
        assert "another launch" in second.err.strip().splitlines()[-1]
        assert "Traceback" not in second.err
        gate.unlink()
        assert first.wait() == 0, first.err
        assert shard_bytes(output) == undisturbed
        assert not (output / "_launch.json").exists()

    def test_started_at_the_same_moment(self, photos, undisturbed, tmp_path):
        """Catches: both look, see nobody, and both start."""
        jobs = [Job(photos, tmp_path / "out", seconds=0.2) for _ in range(2)]
        codes = sorted(job.wait() for job in jobs)
        assert codes in ([0, 2], [0, 0]), [job.err for job in jobs]  # one may be over before the other starts
        assert finish(photos, tmp_path / "out") == undisturbed

    def test_both_end_right_should_they_overlap_all_the_same(self, tmp_path):
        """Catches: a commit that leaves half of its own and half of the other's; the lease is no lock."""
        layout = Layout(str(tmp_path / "out"))
        manifest = Manifest("u-0-4", "/in", 0, 4, "1-a", "h", 0, "", 0, "", 4, 0, 0, 4, 0)

        def commit():
            for _ in range(40):
                # A commit that meets the other's says so and is tried again, as WriteShard does.
                with contextlib.suppress(OSError):
                    commit_unit(layout, manifest, b"shard" * 1000, b"failures")

        threads = [threading.Thread(target=commit) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        commit_unit(layout, manifest, b"shard" * 1000, b"failures")
        assert list(manifests.read_done(layout, verify=True).manifests) == ["u-0-4"]
        assert not storage.list_folder(layout.scratch)

    def test_a_holder_that_was_killed_is_succeeded_at_once(self, tmp_path):
        layout = Layout(str(tmp_path / "out"))
        dead = subprocess.Popen(["true"])
        dead.wait()
        with Lease(layout):
            held = json.loads((tmp_path / "out" / "_launch.json").read_text())
        storage.write_bytes(storage.join(layout.output, "_launch.json"), json.dumps({**held, "pid": dead.pid}).encode())
        started = time.monotonic()
        with Lease(layout):
            assert time.monotonic() - started < 1

    def test_a_holder_elsewhere_is_watched_for_a_while(self, tmp_path):
        """Catches: trusting clocks of other machines, or never taking over from one that is gone."""
        layout = Layout(str(tmp_path / "out"))
        path = tmp_path / "out" / "_launch.json"
        path.parent.mkdir()
        elsewhere = {"token": "t", "host": "elsewhere", "pid": 1, "since": "yesterday", "renewals": 1}
        path.write_text(json.dumps(elsewhere))
        renewal = threading.Timer(1.0, lambda: path.write_text(json.dumps({**elsewhere, "renewals": 2})))
        renewal.start()
        with pytest.raises(UserError, match="process 1 on elsewhere, since yesterday"), Lease(layout):
            pass
        renewal.join()
        with Lease(layout):
            assert json.loads(path.read_text())["host"] != "elsewhere"
        assert not path.exists()


def fill(disk: Path) -> None:
    """Leave no room at all."""
    with contextlib.suppress(OSError), open(disk / "ballast", "wb", buffering=0) as stream:
        while stream.write(bytes(1 << 12)):
            pass


class TestDisk:
    @pytest.fixture
    def small_disk(self, tmp_path):
        """A file system of 8 MB."""
        disk = tmp_path / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "cfr-test", disk], capture_output=True).returncode:
            pytest.skip("mounting a small file system needs root")
        yield disk
        subprocess.run(["umount", "-l", disk], check=True)

    @pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
    def test_a_full_disk_stops_the_job_and_room_resumes_it(self, photos, undisturbed, small_disk, workers):
        """Catches: a torn shard that counts, hours of work for nothing, a traceback, a strike for innocent units."""
        output = small_disk / "out"
        job = Job(photos, output, "--workers", workers, seconds=0.4)
        job.until_under_way()
        fill(small_disk)
        assert job.wait() == 1, job.err
        assert "No space left on device" in job.err
        assert "run the same command to resume" in job.err
        assert "Traceback" not in job.err
        assert not (output / "_SUCCESS").exists()
        assert not list((output / "_progress").glob("started-*"))
        (small_disk / "ballast").unlink()
        assert finish(photos, output) == undisturbed

    def test_a_full_disk_at_the_start_is_an_error_of_one_line(self, photos, small_disk):
        fill(small_disk)
        with pytest.raises(UserError, match="0 GB free"):
            finish(photos, small_disk / "out")
        with pytest.raises(UserError, match="No space left on device"), Lease(Layout(str(small_disk / "out"))):
            pass

    def test_a_read_only_output_is_an_error_of_one_line(self, photos, undisturbed, small_disk):
        """Catches: a traceback, or work before the first write."""
        output = small_disk / "out"
        output.mkdir()
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        job = Job(photos, output)
        assert job.wait() == 2
        assert "cannot write there" in job.err
        assert "cannot write there" in job.err.strip().splitlines()[-1]
        assert "Traceback" not in job.err
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
        assert finish(photos, output) == undisturbed

    def test_an_output_that_becomes_read_only_stops_the_job(self, photos, undisturbed, small_disk):
        output = small_disk / "out"
        job = Job(photos, output, seconds=0.4)
        job.until_under_way()
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        assert job.wait() == 1, job.err
        assert "Read-only file system" in job.err
        assert "Traceback" not in job.err
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
        assert finish(photos, output) == undisturbed


class TestHangs:
    def test_a_photo_whose_decoder_hangs_costs_itself(self, tmp_path, monkeypatch):
        """Catches: one hostile file stops a job of millions."""
        monkeypatch.setenv("STAND_IN_DECODE_SECONDS", "5")
        kinds = [stand_in.GOOD, stand_in.DECODER_HANGS, stand_in.GOOD]
        ids = write_photos(tmp_path / "in" / "a.parquet", kinds)
        finish(tmp_path / "in", tmp_path / "out")
        pairs = pq.read_table(next((tmp_path / "out" / "pairs").iterdir()))
        assert pairs["image_id"].to_pylist() == [ids[0], ids[2]]
        assert failures(tmp_path / "out") == {(ids[1], "align_faces", "timeout")}

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_a_model_call_that_hangs_ends_the_worker(self, tmp_path, workers):
        """Catches: a job that waits for ever."""
        write_photos(tmp_path / "in" / "a.parquet", [*[stand_in.GOOD] * 5, stand_in.FIT_HANGS, stand_in.GOOD])
        output = tmp_path / "out"
        job = Job(tmp_path / "in", output, "--workers", workers, STAND_IN_HUNG_SECONDS="6")
        assert job.wait() == 1, job.err
        assert "did not come back within 6 s in unit" in job.err
        assert "(fit_faces)" in job.err
        assert {path.name.split(".")[0][-3:] for path in output.glob("_progress/started-*")} == {"4-3"}

    @pytest.mark.slow
    def test_the_row_that_hangs_a_model_is_found(self, tmp_path):
        """Catches: a unit that hangs every worker that tries it."""
        ids = write_photos(tmp_path / "in" / "a.parquet", [stand_in.GOOD, stand_in.FIT_HANGS, stand_in.GOOD])
        output = tmp_path / "out"
        assert Job(tmp_path / "in", output, STAND_IN_HUNG_SECONDS="6").wait() == 1
        job = Job(tmp_path / "in", output, STAND_IN_HUNG_SECONDS="12")
        assert job.wait() == 0, job.err
        assert failures(output) == {(ids[1], "fit_faces", "timeout")}
        assert pq.read_table(next((output / "pairs").iterdir()))["image_id"].to_pylist() == [ids[0], ids[2]]


@pytest.mark.slow
def test_a_row_that_takes_all_memory_is_found(tmp_path):
    """Catches: a job that ends the same way every time it is launched."""
    ids = write_photos(tmp_path / "in" / "a.parquet", [stand_in.GOOD, stand_in.FIT_TAKES_ALL_MEMORY, stand_in.GOOD])
    output = tmp_path / "out"
    assert stand_in.run("--input", tmp_path / "in" / "*.parquet", "--output", output, "--unit-rows", "4") == 1
    (mark,) = (output / "_progress").glob("started-*")
    for strike in "12":
        shutil.copy(mark, mark.with_suffix(f".{strike}"))
    finish(tmp_path / "in", output)
    assert failures(output) == {(ids[1], "fit_faces", "worker_crashed")}


@pytest.mark.parametrize("kind", [stand_in.DETECTOR_IS_NAN, stand_in.SWAP_IS_NAN, stand_in.ROTATION_IS_NAN])
def test_a_model_that_returns_nan_costs_the_row_only(tmp_path, kind):
    """Catches: NaN that becomes black pixels, or spreads to the rest of its mini-batch."""
    good = [stand_in.GOOD] * 8
    write_photos(tmp_path / "good" / "a.parquet", good)
    ids = write_photos(tmp_path / "bad" / "a.parquet", [*good[:3], kind, *good[4:]])
    for name in ("good", "bad"):
        finish(tmp_path / name, tmp_path / f"out-{name}", "--limit", "8")
    expected, found = (
        [row for path in sorted((tmp_path / name / "pairs").iterdir()) for row in pq.read_table(path).to_pylist()]
        for name in ("out-good", "out-bad")
    )
    assert [row["image_id"] for row in found] == [image_id for image_id in ids if image_id != ids[3]]
    if kind != stand_in.DETECTOR_IS_NAN:  # there the later faces move up a slot
        assert found == [row for row in expected if row["image_id"] != ids[3]]
    assert {reason for _, _, reason in failures(tmp_path / "out-bad")} == {"not_finite"}


@dataclasses.dataclass(frozen=True)
class _ReplacesTheInput(stand_in.StandInModels):
    """Another process writes the input file anew while the job reads it."""

    path: str = ""

    def detector(self):
        detector, path = super().detector(), Path(self.path)

        class Detector:
            def detect(self, image):
                if not path.with_suffix(".old").exists():
                    path.rename(path.with_suffix(".old"))
                    write_photos(path, [stand_in.GOOD] * 5)
                return detector.detect(image)

        return Detector()


def test_an_input_that_changes_while_it_is_read(tmp_path, capsys):
    """Catches: photos of the new file under the ids of the old one."""
    folder, output = tmp_path / "in", tmp_path / "out"
    write_photos(folder / "a.parquet", [stand_in.TWO_FACES] * 8)
    arguments = ("--input", folder / "a.parquet", "--output", output, "--unit-rows", "8")
    assert stand_in.run(*arguments, models=_ReplacesTheInput(path=str(folder / "a.parquet"))) == 1
    assert "the file changed while the job ran" in capsys.readouterr().out
    assert not list(output.glob("pairs/*.parquet"))
    assert stand_in.run(*arguments) == 0
    shutil.rmtree(tmp_path / "fresh", ignore_errors=True)
    (folder / "a.old").unlink()
    assert stand_in.run("--input", folder / "a.parquet", "--output", tmp_path / "fresh", "--unit-rows", "8") == 0
    assert shard_bytes(output) == shard_bytes(tmp_path / "fresh")


def _edit_manifest(output: Path) -> None:
    path = sorted((output / "_manifest").iterdir())[0]
    path.write_text(path.read_text().replace('"rows": 4', '"rows": 5').replace('"job_hash": "', '"job_hash": "0'))


DAMAGE = {
    "shard cut off": lambda output: os.truncate(sorted((output / "pairs").iterdir())[1], 500),
    "shard deleted": lambda output: sorted((output / "pairs").iterdir())[0].unlink(),
    "failures deleted": lambda output: next((output / "failures").iterdir()).unlink(),
    "manifest cut off": lambda output: os.truncate(sorted((output / "_manifest").iterdir())[2], 100),
    "manifest deleted": lambda output: sorted((output / "_manifest").iterdir())[3].unlink(),
    "manifest empty": lambda output: sorted((output / "_manifest").iterdir())[1].write_text("[]"),
    "manifest edited": _edit_manifest,
    "all manifests deleted": lambda output: shutil.rmtree(output / "_manifest"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_done_again(photos, undisturbed, tmp_path, capsys, damage):
    """Catches: damage that counts as done, or that costs more than its own unit."""
    output = tmp_path / "out"
    finish(photos, output)
    DAMAGE[damage](output)
    capsys.readouterr()
    assert finish(photos, output) == undisturbed
    todo = 6 if damage.startswith("all") else 1
    assert f"6 units, {6 - todo} done, {todo} to do" in capsys.readouterr().out
