"""The graph of the pairs job, as runners get it."""

import apache_beam as beam
import pytest
from apache_beam.transforms import environments
from stand_in_models import StandInModels

from cfr.pipeline.graph import GraphOptions
from cfr.pipeline.manifests import Layout
from cfr.pipeline.pairs import build_graph
from cfr.transforms.stage import PairSettings, StageContext

STAGES = ["ReadImages", "AlignFaces", "FitFaces", "TransferOcclusion", "DoubleRotate", "WriteShard"]


def graph(options: GraphOptions):
    """(labels of all transforms, {stage: resource hints})."""
    pipeline = beam.Pipeline(options=beam.options.pipeline_options.PipelineOptions([]))
    context = StageContext(Layout("/nowhere"), "h", PairSettings(), StandInModels())
    build_graph(pipeline, [], context, options)
    proto = pipeline.to_runner_api(default_environment=environments.EmbeddedPythonEnvironment.default())
    transforms = proto.components.transforms.values()
    hints = {}
    for transform in transforms:
        name = transform.unique_name.rsplit("/", 1)[-1]
        if name in STAGES:
            found = proto.components.environments[transform.environment_id].resource_hints
            hints[name] = {urn.split(":")[-2]: value.decode() for urn, value in found.items()}
    return [transform.unique_name for transform in transforms], hints


def test_every_stage_is_a_labelled_line_after_one_shuffle():
    names, hints = graph(GraphOptions())
    assert hints.keys() == set(STAGES)
    assert {"WorkUnits", "Reshuffle", "MakePairs"} <= set(names)
    assert not any(hints.values())
    assert sum(name.endswith("GroupByKey") for name in names) == 1


def test_hints_are_the_same_on_all_stages_that_are_fused():
    options = GraphOptions(accelerator="type:nvidia-l4;count:1", min_ram="8GB")
    _, hints = graph(options)
    assert hints["ReadImages"]["accelerator"] == "type:nvidia-l4;count:1"
    assert all(of_stage == hints["ReadImages"] for of_stage in hints.values())


@pytest.mark.parametrize("accelerator", ["", "type:nvidia-l4;count:1"])
def test_split_stages_have_hints_after_the_second_shuffle_only(accelerator):
    names, hints = graph(GraphOptions(split_stages=True, accelerator=accelerator))
    assert sum(name.endswith("GroupByKey") for name in names) == 2
    assert hints["ReadImages"] == hints["AlignFaces"] == {}
    expected = {"accelerator": accelerator} if accelerator else {}
    assert all(hints[name] == expected for name in STAGES[2:])
