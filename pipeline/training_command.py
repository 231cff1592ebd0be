"""What the commands that train have in common: flags of settings, choice of rows, the run, its description and lock."""

import argparse
import dataclasses
import fcntl
import functools
import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch

from cfr.model.checkpoints import CheckpointError
from cfr.model.training.config import ConfigError, EngineConfig, config_text
from cfr.model.training.engine import NonFiniteLoss, Task, Trainer, total_steps
from cfr.model.training.export import Product, export_network
from cfr.model.training.files import write_atomically
from cfr.model.training.processes import Processes
from cfr.model.training.run_log import RunLog
from cfr.model.training.shard_data import ShardData
from cfr.model.training.shard_index import Shard, ShardIndex, TrainingDataError, build_index
from cfr.pipeline import console, storage
from cfr.pipeline.errors import UserError
from cfr.pipeline.pair_rows import find_shards
from cfr.pipeline.where import comparable_columns, parse_where
from cfr.pipeline.work_units import InputFile, UnreadableFile, read_footer


@dataclass(frozen=True)
class TrainingCommand:
    """What distinguishes one such command from another.

    Attributes:
        name: of the command.
        input: name of the argument that says where the shards are.
        made_by: command that makes them.
        columns: that they must have.
        product: what is exported.
        check: raises a ConfigError for settings that don't go together; settings, number of processes.
        data: from chosen rows, settings, processes and what opens files.
        task: from settings, processes and what exports.
        losses_off: lines about losses that want a file which is not given.
        prepare: makes what is trained on if it is not given; arguments, settings, processes.
    """

    name: str
    input: str
    made_by: str
    columns: Sequence[str]
    product: Product
    check: Callable[[Any, int], None]
    data: Callable[..., ShardData]
    task: Callable[..., Task]
    losses_off: Callable[[Any], list[str]]
    prepare: Callable[[argparse.Namespace, Any, Processes], None] = lambda args, config, processes: None


def add_setting_arguments(parser: argparse.ArgumentParser, config: type[EngineConfig], title: str) -> None:
    """One flag for each setting; title: which layer of settings comes before which."""
    group = parser.add_argument_group("settings", title)
    types = get_type_hints(config)
    for field in dataclasses.fields(config):
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


def given_settings(args: argparse.Namespace, config: type[EngineConfig]) -> dict[str, Any]:
    """The settings that were given as flags."""
    names = {field.name for field in dataclasses.fields(config)}
    return {name: value for name, value in vars(args).items() if name in names}


def run_training(command: TrainingCommand, args: argparse.Namespace, configured: Callable[[], EngineConfig]) -> int:
    """Run a command that trains; returns the exit code.

    Args:
        command: which.
        args: its arguments; `output` is the folder of the run.
        configured: makes the settings; may raise ConfigError.

    Raises:
        UserError: wrong settings or data, files of weights that don't fit, a folder that cannot be written.
    """
    try:
        config = configured()
        processes = Processes.start(config.device)
    except (ConfigError, ValueError) as error:
        raise UserError(str(error)) from error
    try:
        with _deterministic(config.deterministic):
            return _train(command, args, config, processes)
    except (ConfigError, TrainingDataError, CheckpointError, FileNotFoundError) as error:
        raise UserError(str(error)) from error
    except NonFiniteLoss as error:
        print(f"cfr {command.name}: error: {error}; the checkpoints in {args.output} are from before", flush=True)
        if error.rows:
            print("rows of the batch: " + ", ".join(error.rows), flush=True)
        return 1
    except OSError as error:
        raise UserError(f"cannot write to {args.output}: {error}; what was written before is whole") from error
    finally:
        processes.stop()


def _train(command: TrainingCommand, args: argparse.Namespace, config: EngineConfig, processes: Processes) -> int:
    folder = Path(args.output)
    command.check(config, processes.world_size)
    torch.manual_seed(config.seed)
    command.prepare(args, config, processes)
    source = getattr(args, command.input)
    index = _index(command, source, config)
    # Beam's file systems open what is not local.
    open_file = None if storage.is_local(index.shards[0].path) else storage.open_read
    data = command.data(index, config, processes, open_file)
    facts = _facts(command.input, source, index, processes)
    export = functools.partial(export_network, command.product, settings=config_text(config), facts=facts)
    task = command.task(config, processes, export)
    with _only_run(folder, processes), RunLog(folder, processes.first, not console.is_quiet()) as log:
        _describe(log, folder, command.losses_off(config), config, processes, data)
        outcome = Trainer(task, data, config, processes, folder, log).run()
    if outcome.numbers:
        log.say("held-out rows: " + ", ".join(f"{name} {value:.4g}" for name, value in outcome.numbers.items()))
    if outcome.interrupted:
        log.say(f"interrupted after {outcome.step} steps; run the same command to go on")
        return 130
    log.say(f"{outcome.step} of {outcome.steps} steps done: {folder / command.product.weights}")
    return 0


def _index(command: TrainingCommand, source: str, config: EngineConfig) -> ShardIndex:
    """Check the shards and choose their rows."""
    paths = find_shards(source, f"--{command.input}").rows
    files = storage.in_parallel(lambda path: read_footer(path, path), list(paths))
    for file in files:
        if isinstance(file, UnreadableFile):
            raise UserError(f"{file.path}: {file.message}")
        lacking = [name for name in command.columns if name not in file.schema.names]
        if lacking:
            made_by = f"make it with `cfr {command.made_by}`, with its pictures"
            raise UserError(f"{file.path} has no column `{lacking[0]}`: {made_by}")
    files = [file for file in files if isinstance(file, InputFile) and file.rows]
    if not files:
        raise UserError(f"--{command.input} {source}: the shards hold no rows")
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


def _facts(name: str, source: str, index: ShardIndex, processes: Processes) -> dict[str, object]:
    """What the model card says about data and software."""
    return {
        name: source,
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


def _describe(
    log: RunLog, folder: Path, losses_off: list[str], config: EngineConfig, processes: Processes, data: ShardData
) -> None:
    """Print what is about to happen, and keep it with the run."""
    text = config_text(config)
    index = data.index
    log.say(text)
    log.say(
        f"{index.rows} rows in {len(index.shards)} shards: {len(index.training)} to train on, {len(index.validation)} "
        f"held out by {index.split_column}; {total_steps(config, data.rows)} steps on {processes.world_size} x "
        f"{processes.device.type}"
    )
    for line in losses_off:
        log.say(line)
    if not len(index.validation):
        log.say("no rows are held out: nothing will be measured")
    if processes.first and not (folder / "checkpoints").exists():
        write_atomically(folder / "config.toml", lambda path: path.write_text(text))


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
