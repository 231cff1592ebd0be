"""`cfr status` while a job runs, after it was killed and when it is done."""

import re

import pytest
import stand_in_models as stand_in
from job_process import Job, finish
from stand_in_models import write_photos

from cfr.pipeline import cli, status


@pytest.fixture
def photos(tmp_path):
    kinds = [stand_in.NO_FACE, stand_in.NOT_AN_IMAGE, stand_in.NO_FACE] + [stand_in.GOOD] * 13
    write_photos(tmp_path / "in" / "a.parquet", kinds)
    return tmp_path / "in"


def report(capsys, output) -> str:
    assert cli.main(["status", str(output), "--slowest", "2"]) == 0
    return capsys.readouterr().out


def test_a_job_that_runs_and_one_that_was_killed(photos, tmp_path, capsys, monkeypatch):
    output = tmp_path / "out"
    job = Job(photos, output, seconds=1.0)
    job.until_under_way()
    running = report(capsys, output)
    job.process.kill()
    job.wait()
    assert re.search(r"[1-3] of 4 units done: \d+ images", running)
    assert re.search(r"1 workers, [\d.]+ images/s since the launch; about [\d.]+ hours left", running)
    assert re.search(r"worker \S+/\d+: \S+ \(\w+\)", running)
    assert "failures: 2 no_face, 1 decode_error" in running
    monkeypatch.setattr(status, "_LATE_SECONDS", 0.0)
    assert "the job is not running; launch it again to resume" in report(capsys, output)


def test_a_job_that_is_done(photos, tmp_path, capsys):
    finish(photos, tmp_path / "out")
    capsys.readouterr()
    out = report(capsys, tmp_path / "out")
    assert "4 of 4 units done: 16 images, 13 with output (13 rows" in out
    assert "the job is done" in out
    assert len(re.findall(r"^slow: a-\w+-\d+-4, [\d.]+ s for 4 images", out, re.MULTILINE)) == 2
    assert re.search(r"stages: .*fit_faces \d+%", out)


def test_a_folder_without_a_job_is_an_error_of_one_line(tmp_path, capsys):
    assert cli.main(["status", str(tmp_path)]) == 2
    assert "no job has written there" in capsys.readouterr().err
