"""`cfr train-estimator`: trains the 3D regressor on renderings, then on shards of `cfr occlude` in the paper's stages.

The loop is `cfr.model.training.engine`, losses and step are `cfr.model.training.estimator_training`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cfr.model.training.config import read_config, resolve
from cfr.model.training.estimator_config import EstimatorConfig, check, with_defaults_of_stage
from cfr.model.training.estimator_training import EstimatorTraining
from cfr.model.training.export import REGRESSOR
from cfr.model.training.occlusion_dataset import COLUMNS, OcclusionData
from cfr.model.training.processes import Processes
from cfr.model.training.rendered_shards import make_shards
from cfr.pipeline import console
from cfr.pipeline.errors import UserError, reject_unknown_arguments
from cfr.pipeline.training_command import TrainingCommand, add_setting_arguments, given_settings, run_training

_EXAMPLES = """\
RUN holds config.toml, checkpoints/, tensorboard/, metrics.jsonl, samples/, regressor.safetensors and model_card.md.
The same command goes on where an interrupted run was.
Stage 0 renders its faces itself, into RUN/renders, unless --occluded says where some are.

examples:
  cfr train-estimator --stage 0 --network facemesh --output stage0
  cfr train-estimator --stage 1 --occluded occluded --output stage1 --initial-regressor regressor.pth \\
    --face-model BFM_model_80.mat
  cfr train-estimator --stage 2 --occluded occluded --output stage2 --face-model BFM_model_80.mat \\
    --initial-regressor stage1/regressor.safetensors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `cfr train-estimator`: its own and one for each setting."""
    parser.epilog = _EXAMPLES
    parser.add_argument("--occluded", metavar="GLOB", help="output folder of `cfr occlude`, or shards")
    parser.add_argument("--output", required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--config", metavar="FILE", help="settings in TOML, named as the flags with _ for -")
    add_setting_arguments(parser, EstimatorConfig, "Flags come before the file.")


def run(args: argparse.Namespace, beam_arguments: Sequence[str]) -> int:
    """Run the command; see the module's docstring. Returns the exit code."""
    reject_unknown_arguments(beam_arguments)
    command = TrainingCommand(
        "train-estimator",
        "occluded",
        "occlude",
        COLUMNS,
        REGRESSOR,
        check,
        OcclusionData,
        EstimatorTraining,
        _losses_off,
        _render,
    )
    return run_training(command, args, lambda: _config(args))


def _config(args: argparse.Namespace) -> EstimatorConfig:
    """Settings from the file and the flags."""
    flags = given_settings(args, EstimatorConfig)
    file = read_config(args.config) if args.config else {}
    resolve(EstimatorConfig, file, flags)  # the types, before the weights are looked up
    return resolve(EstimatorConfig, with_defaults_of_stage({**file, **flags}))


def _render(args: argparse.Namespace, config: EstimatorConfig, processes: Processes) -> None:
    """In stage 0 without shards, make them."""
    if args.occluded:
        return
    if config.stage:
        raise UserError(f"stage {config.stage} needs --occluded GLOB: the output folder of `cfr occlude`, or shards")
    folder = Path(args.output) / "renders"
    say = console.note if processes.first else lambda _line: None
    make_shards(
        folder,
        config.face_model,
        config.renders,
        config.seed,
        config.workers,
        processes.rank,
        processes.world_size,
        say,
    )
    args.occluded = str(folder)


def _losses_off(config: EstimatorConfig) -> list[str]:
    if config.stage != 1:
        return []
    lines = [] if config.initial_regressor else ["starting from random weights: give --initial-regressor FILE"]
    if not config.identity_weights:
        lines.append("the identity loss is off: give --identity-weights FILE to turn it on")
    return lines
