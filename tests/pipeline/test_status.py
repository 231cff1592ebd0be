"""`cfr status` while a job runs, after it was killed and when it is done; the metrics that runners get."""

import re

import apache_beam as beam
import pytest
import stand_in_models as stand_in
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from job_process import Job, finish
from stand_in_models import write_photos

from cfr.pipeline import cli, status, work_units
from cfr.pipeline.graph import GraphOptions, build_graph
from cfr.pipeline.manifests import Layout
from cfr.pipeline.pairs import PairFaces
from cfr.transforms.stage import PairSettings, StageContext


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


def test_a_runner_gets_the_counters_and_distributions_of_every_stage(photos, tmp_path):
    """Catches: a stage that Dataflow's and Flink's own pages know nothing of."""
    (file,) = (work_units.read_footer(*found) for found in work_units.find_inputs([str(photos)]))
    packed = work_units.pack_units([file], 8, work_units.plan_units([file], 8))
    context = StageContext(Layout(str(tmp_path / "out")), "h", PairSettings(), stand_in.StandInModels())
    pipeline = beam.Pipeline(runner=FnApiRunner())
    build_graph(pipeline, packed, context, GraphOptions(), PairFaces)
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query()
    counters = {(each.key.metric.namespace, each.key.metric.name): each.committed for each in found["counters"]}
    assert counters["align_faces", "failed_no_face"] == 2
    assert counters["align_faces", "failed_decode_error"] == 1
    assert (counters["write_shard", "rows"], counters["write_shard", "outputs"]) == (16, 13)
    for stage, items in {"align_faces": 16, "fit_faces": 13, "transfer_occlusion": 13, "double_rotate": 13}.items():
        sizes, times = (
            each.committed
            for name in ("items", "milliseconds")
            for each in found["distributions"]
            if (each.key.metric.namespace, each.key.metric.name) == (stage, name)
        )
        assert (sizes.count, sizes.sum, sizes.max) == (2, items, 8)
        assert times.count == 2
        assert 0 <= times.min <= times.max
