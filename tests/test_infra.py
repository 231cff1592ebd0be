"""Worker image and launch files, as far as they can be checked without a cluster: versions, names and flags agree."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cfr.pipeline import pairs
from cfr.pipeline.launch import plan_launch

sys.path.insert(0, str(Path(__file__).resolve().parent / "stand_in"))
from page_commands import environment, page_commands

ROOT = Path(__file__).resolve().parent.parent
INFRA = ROOT / "infra"
SCRIPTS = sorted(INFRA.glob("*.sh"))
FLINK = "1.20"


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.lower().split("==") for line in lines if not line.startswith("#"))


def containers() -> list[tuple[str, dict]]:
    """(file, container) of every compose and Kubernetes file."""
    found = []
    for path in sorted(INFRA.rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            services = document.get("services") or {}
            found += [(path.name, {"name": name, **service}) for name, service in services.items()]
            if document.get("kind") == "Deployment":
                found += [(path.name, each) for each in document["spec"]["template"]["spec"]["containers"]]
    return found


def arguments(container: dict) -> list[str]:
    given = container.get("command", container.get("args", []))
    return given if isinstance(given, list) else given.split()


def launch_commands() -> list[list[str]]:
    """The commands of the docs that start a launch file."""
    shown = page_commands(ROOT / "docs" / "scale.md")
    return [words for words in shown if words[-1].startswith("infra/") and words[-1].endswith(".sh")]


def pairs_arguments(words: list[str], folder: Path) -> list[str]:
    """What the launch file of such a command hands to `cfr pairs`; a program of that name in `folder` takes it down."""
    fake = folder / "cfr"
    fake.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    fake.chmod(0o755)
    variables, command = environment(words)
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    done = subprocess.run(
        command, cwd=ROOT, env={**variables, "PATH": path}, capture_output=True, text=True, check=True
    )
    given = done.stdout.split("\0")[:-1]
    assert given[0] == "pairs"
    return given[1:]


def test_there_is_a_launch_file_for_every_cluster_in_the_docs():
    page = (ROOT / "docs" / "scale.md").read_text()
    named = set(re.findall(r"infra/[\w./-]+\w", page))
    assert {f"infra/{name}" for name in ("Dockerfile", "dataflow.sh", "flink.sh", "spark.sh")} <= named
    assert all((ROOT / name).exists() for name in named)
    files = {str(path.relative_to(ROOT)) for path in INFRA.rglob("*") if path.is_file()}
    assert files <= named


def test_the_image_is_the_pinned_beam_and_installs_the_pinned_versions():
    text = (INFRA / "Dockerfile").read_text()
    assert re.findall(r"^FROM (.*)$", text, re.MULTILINE) == [f"apache/beam_python3.11_sdk:{pins()['apache-beam']}"]
    installs = re.findall(r"RUN pip install ((?:[^\n]|\\\n)*)", text)
    assert installs
    assert all("--constraint constraints.txt" in line for line in installs)
    assert "ENTRYPOINT" not in text  # Beam's own
    copied = {word.rstrip("/") for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for word in line.split()}
    assert {"setup.py", "pyproject.toml", "constraints.txt", "model", "transforms", "pipeline"} <= copied
    missing = [name for name in copied if "[" not in name and not (ROOT / name).exists()]
    assert not missing


def test_every_container_is_of_the_pinned_version():
    beam = pins()["apache-beam"]
    expected = {
        "apache/beam_flink1.20_job_server": beam,
        "apache/beam_spark3_job_server": beam,
        "flink": f"{FLINK}-java17",
        "spark": "3.5.5",
        "cfr-worker": re.search(r'version="([\d.]+)"', (ROOT / "setup.py").read_text())[1],
    }
    images = {container["image"] for _, container in containers()}
    assert images == {f"{name}:{version}" for name, version in expected.items()}


def test_flink_is_a_version_that_this_beam_has_a_job_server_for():
    from apache_beam.options.pipeline_options import FlinkRunnerOptions

    assert FLINK in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS


@pytest.mark.parametrize("path", sorted(INFRA.rglob("*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_worker_has_its_pool_beside_it(path):
    """Catches: a pool in a network of its own, where localhost:50000 is not."""
    for document in yaml.safe_load_all(path.read_text()):
        services = document.get("services") or {}
        if services:
            pool = services["worker-pool"]
            beside = pool["network_mode"].removeprefix("service:")
            assert beside in services
            assert arguments(pool) == ["--worker_pool"]
        pod = document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
        if any(container["name"] == "taskmanager" for container in pod):
            (pool,) = (container for container in pod if container["name"] == "worker-pool")
            assert arguments(pool) == ["--worker_pool"]


def test_the_docs_start_every_launch_file():
    assert {ROOT / words[-1] for words in launch_commands()} == set(SCRIPTS)


@pytest.mark.parametrize("words", launch_commands(), ids=lambda words: Path(words[-1]).stem)
def test_launched_as_the_docs_say_every_flag_exists(words, tmp_path):
    """Catches: a flag that cfr or Beam renamed."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    pairs.add_arguments(parser)
    args, beam_arguments = parser.parse_known_args(pairs_arguments(words, tmp_path))
    launched = plan_launch(beam_arguments, args.workers)
    assert not launched.local
    given = launched.options.get_all_options(drop_default=True)
    assert given["runner"] in ("DataflowRunner", "PortableRunner")
    if given["runner"] == "PortableRunner":
        assert given["environment_type"] == "EXTERNAL"
        assert given["environment_config"] == "localhost:50000"
    else:
        assert args.accelerator.startswith("type:nvidia-")
        assert "no_use_multiple_sdk_containers" in given["experiments"]
        assert "worker_accelerator" not in " ".join(given.get("dataflow_service_options", []))


def test_a_launch_file_says_which_variable_is_missing():
    for script in SCRIPTS:
        done = subprocess.run(["bash", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
        assert done.returncode
        assert re.search(r"(PROJECT|INPUT): ", done.stderr)
