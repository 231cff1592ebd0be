"""The pairs job really distributed: a job service, an external pool and two worker processes, on the bundled photos.

The same with Flink's embedded cluster where there is Java and the job server's jar (CFR_FLINK_JOB_SERVER_JAR).
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from job_process import shard_bytes

from cfr.pipeline import cli

STAND_IN = Path(__file__).resolve().parent.parent / "stand_in"
JAR = os.environ.get("CFR_FLINK_JOB_SERVER_JAR", "")


@pytest.fixture(scope="module")
def shards(photos_dir, tmp_path_factory) -> Path:
    """The bundled photos four times over: enough units for two workers to have some each."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(4):
        shutil.copytree(photos_dir, folder / str(number))
    shards = tmp_path_factory.mktemp("shards")
    assert cli.main(["ingest", str(folder), "--output", str(shards)]) == 0
    return shards


@pytest.fixture(scope="module")
def local(shards, tmp_path_factory) -> dict[str, bytes]:
    """The shards of a run in one process."""
    output = tmp_path_factory.mktemp("local") / "out"
    assert cli.main(["pairs", "--input", f"{shards}/*.parquet", "--output", str(output), "--unit-rows", "1"]) == 0
    return shard_bytes(output)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Service:
    """A server process of Beam's, ended with everything that it started."""

    def __init__(self, log: Path, port: int, *command: str):
        # The pool starts `python` from PATH: it must be this one.
        paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
        self.log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, "PATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        deadline = time.monotonic() + 90
        while True:
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)

    def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def start(tmp_path):
    services = []

    def start_service(*command: str, port: int) -> Service:
        services.append(Service(tmp_path / f"service-{len(services)}.log", port, *command))
        return services[-1]

    yield start_service
    for service in services:
        service.end()


def run(shards: Path, output: Path, *flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "cfr.pipeline.cli", "pairs", "--input", f"{shards}/*.parquet"]
    command += ["--output", str(output), "--unit-rows", "1", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=400)


def workers_of(output: Path) -> set[str]:
    return {path.stem for path in (output / "_progress").glob("worker-*.json")}


def test_two_worker_processes_of_an_external_pool_make_the_same_bytes(shards, local, tmp_path, start):
    pool, jobs = free_port(), free_port()
    start(sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={pool}", port=pool)
    start(sys.executable, str(STAND_IN / "two_worker_job_service.py"), str(jobs), port=jobs)
    flags = [
        "--runner=PortableRunner",
        f"--job_endpoint=localhost:{jobs}",
        "--environment_type=EXTERNAL",
        f"--environment_config=localhost:{pool}",
    ]
    output = tmp_path / "out"
    done = run(shards, output, *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert shard_bytes(output) == local
    assert len(workers_of(output)) == 2
    assert sum(pq.read_metadata(path).num_rows for path in (output / "pairs").iterdir()) >= 8
    again = run(shards, output, *flags)
    assert ", 0 to do" in again.stdout


@pytest.mark.slow
@pytest.mark.skipif(
    not (JAR and shutil.which("java")),
    reason="needs Java and CFR_FLINK_JOB_SERVER_JAR=beam-runners-flink-1.19-job-server-2.77.0.jar (from Maven Central)",
)
def test_flinks_embedded_cluster_makes_the_same_bytes(shards, local, tmp_path, start):
    pool = free_port()
    start(sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={pool}", port=pool)
    flags = [
        "--runner=FlinkRunner",
        f"--flink_job_server_jar={JAR}",
        "--flink_master=[local]",
        "--parallelism=2",
        "--environment_type=EXTERNAL",
        f"--environment_config=localhost:{pool}",
    ]
    done = run(shards, tmp_path / "out", *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert shard_bytes(tmp_path / "out") == local
