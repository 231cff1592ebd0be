"""`cfr train`: trains CFRNet on the shards of `cfr pairs`, on one CPU, one GPU, or many under torchrun.

The loop is `cfr.model.training.engine`, networks, losses and step are `cfr.model.training.gan_training`.
"""

import argparse
from collections.abc import Sequence

from cfr.model.training.config import read_config, resolve
from cfr.model.training.export import GENERATOR
from cfr.model.training.gan_config import PRESETS, TrainConfig, check, with_paper_weights
from cfr.model.training.gan_training import GanTraining
from cfr.model.training.pair_data import PairData
from cfr.model.training.pair_dataset import COLUMNS
from cfr.pipeline.errors import reject_unknown_arguments
from cfr.pipeline.training_command import TrainingCommand, add_setting_arguments, given_settings, run_training

_EXAMPLES = """\
RUN holds config.toml, checkpoints/, tensorboard/, metrics.jsonl, samples/, generator.safetensors and model_card.md.
The same command goes on where an interrupted run was.

examples:
  cfr train --pairs 'pairs/pairs/*.parquet' --output run --where "quality > 0.5" --perceptual-weights resnet50.pth
  cfr train --pairs pairs --output tiny --preset tiny --max-steps 500
  torchrun --nproc-per-node 8 -m cfr.pipeline.cli train --pairs pairs --output run --config run.toml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `cfr train`: its own and one for each setting."""
    parser.epilog = _EXAMPLES
    parser.add_argument("--pairs", required=True, metavar="GLOB", help="output folder of `cfr pairs`, or shards")
    parser.add_argument("--output", required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--config", metavar="FILE", help="settings in TOML, named as the flags with _ for -")
    parser.add_argument("--preset", choices=list(PRESETS), default="paper", help="settings to begin with (paper)")
    add_setting_arguments(parser, TrainConfig, "Flags come before the file, the file before the preset.")


def run(args: argparse.Namespace, beam_arguments: Sequence[str]) -> int:
    """Run the command; see the module's docstring. Returns the exit code."""
    reject_unknown_arguments(beam_arguments)
    command = TrainingCommand("train", "pairs", "pairs", COLUMNS, GENERATOR, check, PairData, GanTraining, _losses_off)
    return run_training(command, args, lambda: _config(args))


def _config(args: argparse.Namespace) -> TrainConfig:
    """Settings from the preset, the file and the flags."""
    flags = given_settings(args, TrainConfig)
    file = read_config(args.config) if args.config else {}
    preset = PRESETS[args.preset]
    resolve(TrainConfig, preset, file, flags)  # the types, before the weights are looked up
    return resolve(TrainConfig, with_paper_weights({**preset, **file, **flags}))


def _losses_off(config: TrainConfig) -> list[str]:
    files = (("perceptual", config.perceptual_weights), ("identity", config.identity_weights))
    return [f"the {name} loss is off: give --{name}-weights FILE to turn it on" for name, path in files if not path]
