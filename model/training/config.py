"""Settings of a training: typed dataclasses, read from a file and from flags, where a wrong name or type is an error.

A field's `help` metadata is its line in `--help`, `choices` and `least` bound its value. The file is TOML with the
fields' names as keys; the flags are the same names with dashes.
"""

import dataclasses
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_type_hints

Config = TypeVar("Config")


class ConfigError(ValueError):
    """A setting that does not exist or cannot have this value. The message names it and says what it may be."""


def setting(
    default: Any, help: str, *, choices: tuple = (), least: float | None = None, resumable: bool = False
) -> Any:
    """A field of a config.

    Args:
        default: its value if nothing else is said.
        help: one line.
        choices: allowed values; any if empty.
        least: smallest allowed number.
        resumable: whether a training that was interrupted may go on with another value: it has no influence on the
            result, or only on when the training ends.
    """
    metadata = {"help": help, "choices": choices, "least": least, "resumable": resumable}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class EngineConfig:
    """Settings of the loop, whatever is trained."""

    seed: int = setting(0, "of weights, order and augmentations", least=0)
    batch_size: int = setting(32, "rows per step, over all processes", least=1)
    accumulate: int = setting(1, "pieces of a batch whose gradients are added up, to save memory", least=1)
    epochs: float = setting(80.0, "how often each row is seen", least=0)
    max_steps: int | None = setting(None, "end the run early at this step", least=1, resumable=True)
    learning_rate: float = setting(2e-4, "of AdamW", least=0)
    beta1: float = setting(0.5, "of AdamW", least=0)
    beta2: float = setting(0.99, "of AdamW", least=0)
    weight_decay: float = setting(0.01, "of AdamW", least=0)
    schedule: str = setting(
        "cosine-cycles",
        "of the learning rate: cosine-cycles goes down and up again as in the paper, cosine goes down once",
        choices=("cosine-cycles", "cosine", "constant"),
    )
    cycle_epochs: float = setting(5.0, "epochs from the highest to the lowest rate, for cosine-cycles", least=0)
    lowest_rate: float = setting(1e-8, "learning rate at the bottom of the cosine", least=0)
    ema_decay: float = setting(0.999, "of the averaged weights that are sampled and exported; 0: no averaging", least=0)
    precision: str = setting(
        "auto", "auto: bfloat16 on a GPU that has it, else float32", choices=("auto", "float32", "bfloat16")
    )
    device: str = setting("auto", "auto: CUDA where there is a device", choices=("auto", "cpu", "cuda"))
    channels_last: bool = setting(True, "memory layout of the networks")
    compile: bool = setting(False, "torch.compile the network")
    deterministic: bool = setting(False, "deterministic kernels on CUDA, too; the CPU always is")
    sync_batch_norm: bool = setting(True, "batch norms over all processes (CUDA)")
    where: str = setting("", "train on rows that pass this filter only, for example 'quality > 0.5'")
    split_column: str = setting("", "no value of it is trained on and held out; default: identity, else image_id")
    validation_fraction: float = setting(0.05, "share of the values of the split column that is held out", least=0)
    validation_rows: int = setting(256, "how many of the held-out rows are measured", least=0)
    window: int = setting(8, "row groups whose rows are shuffled together", least=1)
    workers: int = setting(2, "processes that decode pictures; 0: none", least=0, resumable=True)
    log_every: int = setting(10, "steps between lines of the log", least=1, resumable=True)
    checkpoint_every: int = setting(500, "steps between checkpoints", least=1, resumable=True)
    keep_checkpoints: int = setting(3, "how many checkpoints are kept", least=1, resumable=True)
    validate_every: int = setting(1000, "steps between measurements on held-out rows", least=1, resumable=True)
    sample_every: int = setting(500, "steps between grids of samples", least=1, resumable=True)
    sample_rows: int = setting(8, "rows of a grid", least=1, resumable=True)


def resolve(kind: type[Config], *layers: dict[str, Any]) -> Config:
    """A config from layers of settings, the later ones before the earlier ones.

    Args:
        kind: dataclass made of `setting` fields.
        layers: {name: value}; text is converted to the field's type.

    Raises:
        ConfigError: see there.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    types = get_type_hints(kind)
    values: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            if name not in fields:
                raise ConfigError(f"no setting {name!r}; there are: {', '.join(fields)}")
            values[name] = _checked(fields[name], types[name], value)
    return kind(**values)


def read_config(path: str | Path) -> dict[str, Any]:
    """Settings in a TOML file.

    Raises:
        ConfigError: no such file, or not TOML.
    """
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def config_text(config: Any) -> str:
    """The config as TOML, one line per setting; those without a value are commented out."""
    lines = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        lines.append(f"# {field.name} =" if value is None else f"{field.name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def first_difference(ours: Any, theirs: dict[str, Any]) -> str | None:
    """The first setting in which a run would differ from an interrupted one; None if it may go on.

    Args:
        ours: the config of now.
        theirs: `dataclasses.asdict` of the interrupted run's.
    """
    for field in dataclasses.fields(ours):
        # A setting that came with a later version of the software had its default.
        was, now = theirs.get(field.name, field.default), getattr(ours, field.name)
        if not field.metadata["resumable"] and was != now:
            return f"{field.name} was {was!r} and is {now!r} now"
    return None


def check_pieces(config: EngineConfig, processes: int) -> None:
    """Raise a ConfigError unless a batch can be cut into equal pieces."""
    pieces = config.accumulate * processes
    if config.batch_size % pieces:
        raise ConfigError(
            f"batch_size = {config.batch_size}: must be a multiple of accumulate x processes = "
            f"{config.accumulate} x {processes}"
        )


def check_shares(config: EngineConfig, names: Sequence[str]) -> None:
    """Raise a ConfigError unless all of these settings are at most 1."""
    for name in names:
        if getattr(config, name) > 1:
            raise ConfigError(f"{name} = {getattr(config, name)}: must be between 0 and 1")


def _checked(field: dataclasses.Field, type_: Any, value: Any) -> Any:
    name = field.name
    optional = isinstance(type_, UnionType) and NoneType in get_args(type_)
    if optional:
        if value is None:
            return None
        type_ = next(each for each in get_args(type_) if each is not NoneType)
    if type_ is bool:
        fits = isinstance(value, bool)
    elif type_ is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        fits = isinstance(value, type_) and not isinstance(value, bool)
    if not fits:
        wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[type_]
        raise ConfigError(f"{name} = {value!r}: must be {wanted}")
    value = type_(value)
    choices, least = field.metadata["choices"], field.metadata["least"]
    if choices and value not in choices:
        raise ConfigError(f"{name} = {value!r}: must be one of {', '.join(map(str, choices))}")
    if least is not None and not least <= value < float("inf"):
        raise ConfigError(f"{name} = {value!r}: must be {least:g} or more")
    return value


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)
