"""The graph of the pairs job, as runners get it: nothing is run here."""

import importlib.util
import logging
import shutil
import tarfile
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.coders import registry
from apache_beam.options.pipeline_options import SetupOptions
from apache_beam.runners.portability import portable_runner, stager
from apache_beam.transforms import environments
from stand_in_models import StandInModels

from cfr.pipeline.graph import GraphOptions, build_graph
from cfr.pipeline.launch import plan_launch
from cfr.pipeline.manifests import Layout
from cfr.pipeline.pairs import PairFaces
from cfr.transforms.batches import BatchCoder, FaceBatch, FitBatch, ImageBatch, PairBatch, SwapBatch, WorkUnit
from cfr.transforms.stage import PairSettings, StageContext

REPOSITORY = Path(__file__).resolve().parent.parent.parent
STAGES = {
    "ReadImages": ImageBatch,
    "AlignFaces": FaceBatch,
    "FitFaces": FitBatch,
    "TransferOcclusion": SwapBatch,
    "DoubleRotate": PairBatch,
    "WriteShard": dict,
}
GPU = GraphOptions(accelerator="type:nvidia-l4;count:1", min_ram="8GB")
GPU_HINTS = {"accelerator": "type:nvidia-l4;count:1", "min_ram_bytes": "8000000000"}
# Flags as docs/scale.md gives them; what they name is only looked up when a job is submitted.
CLUSTERS = {
    "DataflowRunner": [
        "--project=p",
        "--region=europe-west4",
        "--temp_location=gs://bucket/tmp",
        "--sdk_container_image=europe-docker.pkg.dev/p/cfr/worker:1",
        "--experiments=use_runner_v2",
        "--experiments=no_use_multiple_sdk_containers",
    ],
    "FlinkRunner": [
        "--flink_master=jobmanager:8081",
        "--environment_type=EXTERNAL",
        "--environment_config=localhost:50000",
        "--parallelism=8",
    ],
    "SparkRunner": [
        "--spark_master_url=spark://master:7077",
        "--environment_type=DOCKER",
        "--environment_config=cfr-worker:1",
    ],
}


def pipeline_of(graph: GraphOptions, arguments: list[str] | None = None) -> beam.Pipeline:
    """The job's pipeline with a cluster's options."""
    launched = plan_launch(arguments or [], 1)
    # The runner itself would look for the cluster (and Java, and Google's client); its options are what counts here.
    pipeline = beam.Pipeline(runner=portable_runner.PortableRunner(), options=launched.options)
    context = StageContext(Layout("/nowhere"), "h", PairSettings(), StandInModels())
    build_graph(pipeline, [], context, graph, PairFaces)
    return pipeline


@pytest.fixture(scope="module")
def shared_source(tmp_path_factory):
    """A copy of the sources: building leaves folders behind."""
    copy = tmp_path_factory.mktemp("source") / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("model", "transforms", "pipeline"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE", "MANIFEST.in"):
        if (REPOSITORY / name).exists():
            shutil.copy(REPOSITORY / name, copy)
    return copy


def labels(pipeline: beam.Pipeline) -> list[str]:
    found = []

    class Visitor(beam.pipeline.PipelineVisitor):
        def enter_composite_transform(self, node):
            found.append(node.full_label)

        def visit_transform(self, node):
            found.append(node.full_label)

    pipeline.visit(Visitor())
    return found


def hints_of(proto) -> dict[str, dict[str, str]]:
    """{stage: resource hints}."""
    hints = {}
    for transform in proto.components.transforms.values():
        name = transform.unique_name.rsplit("/", 1)[-1]
        if name in STAGES:
            found = proto.components.environments[transform.environment_id].resource_hints
            hints[name] = {urn.split(":")[-2]: value.decode() for urn, value in found.items()}
    return hints


def shuffled(pipeline: beam.Pipeline) -> list[type]:
    """What the elements of every shuffle are, without key and timestamp."""
    found = []

    class Visitor(beam.pipeline.PipelineVisitor):
        def visit_transform(self, node):
            if isinstance(node.transform, beam.GroupByKey):
                _, value = node.inputs[0].element_type.tuple_types
                found.append(value.tuple_types[0])

    pipeline.visit(Visitor())
    return found


def to_proto(pipeline: beam.Pipeline):
    return pipeline.to_runner_api(default_environment=environments.EmbeddedPythonEnvironment.default())


def test_every_stage_is_a_labelled_line_after_one_shuffle():
    pipeline = pipeline_of(GraphOptions())
    names = labels(pipeline)
    assert {"WorkUnits", "Reshuffle", "MakeShards"} <= set(names)
    assert [name.rsplit("/", 1)[-1] for name in names if name.rsplit("/", 1)[-1] in STAGES] == list(STAGES)
    hints = hints_of(to_proto(pipeline))
    assert hints.keys() == STAGES.keys()
    assert not any(hints.values())


def test_only_references_are_shuffled_and_with_split_stages_also_crops():
    """Catches: pixels in a shuffle, 1-5 ms and all the job's memory for each photo."""
    assert shuffled(pipeline_of(GraphOptions())) == [WorkUnit]
    assert shuffled(pipeline_of(GraphOptions(split_stages=True))) == [WorkUnit, FaceBatch]
    unit = WorkUnit("photos-00000000-1000000-64", "gs://bucket/" + "x" * 100, 10**6, 64, "1" * 80)
    assert len(BatchCoder().encode(unit)) < 500


@pytest.mark.parametrize("runner", CLUSTERS)
def test_hints_are_the_same_on_all_stages_that_are_fused(runner):
    """Catches: a hint on one stage, which breaks the fusion."""
    hints = hints_of(to_proto(pipeline_of(GPU, [f"--runner={runner}", *CLUSTERS[runner]])))
    assert hints == dict.fromkeys(STAGES, GPU_HINTS)


@pytest.mark.parametrize("hint", [{}, {"accelerator": "type:nvidia-l4;count:1"}])
def test_split_stages_have_hints_after_the_second_shuffle_only(hint):
    hints = hints_of(to_proto(pipeline_of(GraphOptions(split_stages=True, **hint))))
    assert hints == {name: {} if name in ("ReadImages", "AlignFaces") else hint for name in STAGES}


@pytest.mark.parametrize("runner", CLUSTERS)
def test_every_batch_has_the_coder_whose_size_estimate_is_cheap(runner):
    """Catches: Beam's default coder, which pickles pixels to find out how many there are."""
    pipeline = pipeline_of(GraphOptions(), [f"--runner={runner}", *CLUSTERS[runner]])
    found = {}

    class Visitor(beam.pipeline.PipelineVisitor):
        def visit_transform(self, node):
            name = node.full_label.rsplit("/", 1)[-1]
            if name in STAGES:
                found[name] = node.outputs[None].element_type

    pipeline.visit(Visitor())
    assert {name: found[name] for name in STAGES if STAGES[name] is not dict} == {
        name: type_ for name, type_ in STAGES.items() if type_ is not dict
    }
    for type_ in (WorkUnit, *list(STAGES.values())[:-1]):
        assert type(registry.get_coder(type_)) is BatchCoder


@pytest.mark.parametrize("runner", ["FlinkRunner", "SparkRunner"])
def test_the_worker_environment_is_the_one_that_was_asked_for(runner):
    pipeline = pipeline_of(GPU, [f"--runner={runner}", *CLUSTERS[runner]])
    proto = portable_runner.PortableRunner.get_proto_pipeline(pipeline, pipeline._options)
    urn = {"FlinkRunner": "beam:env:external:v1", "SparkRunner": "beam:env:docker:v1"}[runner]
    payload = {"FlinkRunner": b"localhost:50000", "SparkRunner": b"cfr-worker:1"}[runner]
    used = {transform.environment_id for transform in proto.components.transforms.values()} - {""}
    assert all(proto.components.environments[name].urn == urn for name in used)
    assert all(payload in proto.components.environments[name].payload for name in used)


@pytest.mark.parametrize("runner", CLUSTERS)
def test_the_package_is_staged_and_no_main_session(runner, shared_source, tmp_path, caplog):
    """Catches: workers without the package, or with a pickle of whatever `__main__` held."""
    options = plan_launch([f"--runner={runner}", *CLUSTERS[runner]], 1).options
    assert options.view_as(SetupOptions).save_main_session is not True
    options.view_as(SetupOptions).setup_file = str(shared_source / "setup.py")
    caplog.set_level(logging.ERROR)
    resources = stager.Stager.create_job_resources(options, str(tmp_path), populate_requirements_cache=lambda *a: None)
    staged = {resource.role_payload.decode("latin1").strip(): resource for resource in resources}
    assert any("workflow.tar.gz" in name for name in staged)
    assert not any("main_session" in name or "pickled" in name for name in staged)
    with tarfile.open(next(tmp_path.glob("cfr-*.tar.gz"))) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {"model/data/face_model.npz", "pipeline/pairs.py", "transforms/align_faces.py"} <= names


def test_nothing_of_the_graph_is_defined_in_main():
    """Catches: a class that workers cannot import."""
    for transform in to_proto(pipeline_of(GraphOptions(split_stages=True))).components.transforms.values():
        assert b"__main__" not in transform.spec.payload


@pytest.mark.skipif(
    importlib.util.find_spec("apitools") is not None, reason="Google's client is installed: Dataflow would be reached"
)
def test_dataflow_without_googles_client_says_what_to_install(tmp_path, capsys):
    from cfr.pipeline import cli

    flags = ["--runner=DataflowRunner", *CLUSTERS["DataflowRunner"]]
    assert cli.main(["pairs", "--input", str(tmp_path), "--output", "gs://bucket/out", *flags]) == 2
    err = capsys.readouterr().err
    assert "pip install 'cfr[gcp]'" in err
    assert len(err.strip().splitlines()) == 1
