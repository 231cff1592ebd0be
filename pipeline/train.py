"""`cfr train`: trains CFRNet on the shards of `cfr pairs`, on one CPU, one GPU, or many under torchrun.

The loop is `cfr.model.training.engine`, networks, losses and step are `cfr.model.training.gan_training`.
"""

import argparse
import dataclasses
import fcntl
import functools
import importlib.metadata
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_type_hints

import torch

from cfr.model.checkpoints import CheckpointError
from cfr.model.training.config import ConfigError, config_text, read_config, resolve
from cfr.model.training.engine import NonFiniteLoss, Trainer, total_steps
from cfr.model.training.export import export_generator
from cfr.model.training.files import write_atomically
from cfr.model.training.gan_config import PRESETS, TrainConfig, check, with_paper_weights
from cfr.model.training.gan_training import GanTraining
from cfr.model.training.pair_data import PairData
from cfr.model.training.pair_dataset import COLUMNS
from cfr.model.training.processes import Processes
from cfr.model.training.run_log import RunLog
from cfr.model.training.shard_index import Shard, ShardIndex, TrainingDataError, build_index
from cfr.pipeline import console, storage
from cfr.pipeline.errors import UserError, reject_unknown_arguments
from cfr.pipeline.pair_rows import find_shards
from cfr.pipeline.where import comparable_columns, parse_where
from cfr.pipeline.work_units import InputFile, UnreadableFile, read_footer

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
    group = parser.add_argument_group("settings", "Flags come before the file, the file before the preset.")
    types = get_type_hints(TrainConfig)
    for field in dataclasses.fields(TrainConfig):
        flag, default = "--" + field.name.replace("_", "-"), field.default
        text = field.metadata["help"].replace("%", "%%")
        if types[field.name] is bool:
            text += f" (default: {'on' if default else 'off'})"
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text)
            continue
        text += f" (default: {default})" if default not in (None, "") else ""
        kind = next(each for each in (int, float, str) if each in (types[field.name], *_members(types[field.name])))
        choices = field.metadata["choices"] or None
        metavar = None if choices else {int: "N", float: "X", str: "TEXT"}[kind]
        group.add_argument(flag, type=kind, choices=choices, default=argparse.SUPPRESS, metavar=metavar, help=text)


def run(args: argparse.Namespace, beam_arguments: Sequence[str]) -> int:
    """Run the command; see the module's docstring. Returns the exit code."""
    reject_unknown_arguments(beam_arguments)
    try:
        config = _config(args)
        processes = Processes.start(config.device)
    except (ConfigError, ValueError) as error:
        raise UserError(str(error)) from error
    try:
        with _deterministic(config.deterministic):
            return _train(args, config, processes)
    except (ConfigError, TrainingDataError, CheckpointError, FileNotFoundError) as error:
        raise UserError(str(error)) from error
    except NonFiniteLoss as error:
        print(f"cfr train: error: {error}; the checkpoints in {args.output} are from before", flush=True)
        if error.rows:
            print("rows of the batch: " + ", ".join(error.rows), flush=True)
        return 1
    except OSError as error:
        raise UserError(f"cannot write to {args.output}: {error}; what was written before is whole") from error
    finally:
        processes.stop()


def _train(args: argparse.Namespace, config: TrainConfig, processes: Processes) -> int:
    folder = Path(args.output)
    check(config, processes.world_size)
    torch.manual_seed(config.seed)
    index = _index(args.pairs, config)
    # Beam's file systems open what is not local.
    open_file = None if storage.is_local(index.shards[0].path) else storage.open_read
    data = PairData(index, config, processes, open_file)
    export = functools.partial(
        export_generator, settings=config_text(config), facts=_facts(args.pairs, index, processes)
    )
    task = GanTraining(config, processes, export)
    with _only_run(folder, processes), RunLog(folder, processes.first, not console.is_quiet()) as log:
        _describe(log, args, config, processes, data)
        trainer = Trainer(task, data, config, processes, folder, log)
        outcome = trainer.run()
    if outcome.numbers:
        log.say("held-out pairs: " + ", ".join(f"{name} {value:.4g}" for name, value in outcome.numbers.items()))
    if outcome.interrupted:
        log.say(f"interrupted after {outcome.step} steps; run the same command to go on")
        return 130
    log.say(f"{outcome.step} of {outcome.steps} steps done: {folder / 'generator.safetensors'}")
    return 0


def _config(args: argparse.Namespace) -> TrainConfig:
    """Settings from the preset, the file and the flags."""
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    flags = {name: value for name, value in vars(args).items() if name in names}
    file = read_config(args.config) if args.config else {}
    preset = PRESETS[args.preset]
    resolve(TrainConfig, preset, file, flags)  # the types, before the weights are looked up
    return resolve(TrainConfig, with_paper_weights({**preset, **file, **flags}))


def _index(pairs: str, config: TrainConfig) -> ShardIndex:
    """Check the shards and choose their rows."""
    files = storage.in_parallel(lambda path: read_footer(path, path), list(find_shards(pairs, "--pairs").rows))
    for file in files:
        if isinstance(file, UnreadableFile):
            raise UserError(f"{file.path}: {file.message}")
        lacking = [name for name in COLUMNS if name not in file.schema.names]
        if lacking:
            raise UserError(f"{file.path} has no column `{lacking[0]}`: make it with `cfr pairs`, with its pictures")
    files = [file for file in files if isinstance(file, InputFile) and file.rows]
    if not files:
        raise UserError(f"--pairs {pairs}: the shards hold no rows")
    schema = files[0].schema
    split_column = config.split_column or ("identity" if "identity" in schema.names else "image_id")
    where = parse_where(config.where, schema) if config.where else None
    columns = comparable_columns(schema) if config.where else []
    for file in files:
        for name in (split_column, *columns):
            if name not in file.schema.names:
                raise UserError(f"{file.path} has no column `{name}`, which other shards or --split-column have")
    return build_index(
        [Shard(file.path, file.input_identity) for file in files],
        split_column,
        config.validation_fraction,
        where,
        columns,
        None if storage.is_local(files[0].path) else storage.open_read,
    )


def _facts(pairs: str, index: ShardIndex, processes: Processes) -> dict[str, object]:
    """What the model card says about data and software."""
    return {
        "pairs": pairs,
        "shards": len(index.shards),
        "data_digest": index.digest(),
        "rows": index.rows,
        "rows_trained_on": len(index.training),
        "rows_held_out": len(index.validation),
        "split_column": index.split_column,
        "cfr": importlib.metadata.version("cfr"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processes": processes.world_size,
        "device": torch.cuda.get_device_name() if processes.device.type == "cuda" else "cpu",
    }


def _describe(log: RunLog, args: argparse.Namespace, config: TrainConfig, processes: Processes, data: PairData) -> None:
    """Print what is about to happen, and keep it with the run."""
    text = config_text(config)
    index = data.index
    log.say(text)
    log.say(
        f"{index.rows} rows in {len(index.shards)} shards: {len(index.training)} to train on, {len(index.validation)} "
        f"held out by {index.split_column}; {total_steps(config, data.rows)} steps on {processes.world_size} x "
        f"{processes.device.type}"
    )
    for name, path in (("perceptual", config.perceptual_weights), ("identity", config.identity_weights)):
        if not path:
            log.say(f"the {name} loss is off: give --{name}-weights FILE to turn it on")
    if not len(index.validation):
        log.say("no rows are held out: nothing will be measured")
    if processes.first and not (Path(args.output) / "checkpoints").exists():
        write_atomically(Path(args.output) / "config.toml", lambda path: path.write_text(text))


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    """Kernels that give the same bits each time, or an error from those that cannot."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def _only_run(folder: Path, processes: Processes) -> Iterator[None]:
    """Make the folder, and keep other trainings out of it as long as this one runs."""
    folder.mkdir(parents=True, exist_ok=True)
    if not processes.first:
        yield
        return
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another training is writing to {folder}; wait for it or choose another folder"
            ) from error
        yield


def _members(type_: object) -> tuple:
    return getattr(type_, "__args__", ())
