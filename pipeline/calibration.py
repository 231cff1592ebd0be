"""What a job costs on a kind of machine, as `benchmarks/scale.py` measured it: one JSON file, a machine per name."""

import dataclasses
import importlib.metadata
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from cfr.pipeline.errors import UserError

_VERSION = 1


@dataclass(frozen=True)
class WorkerType:
    """One kind of machine.

    Attributes:
        device: "cpu" or "cuda".
        description: of the processor or the GPU.
        workers: processes that run side by side on one machine (on a GPU: one).
        seconds_per_image: of one process, with one face and one view per photo, PNG.
        start_seconds: of one process, until its models are loaded.
        memory_bytes: peak of one process.
        outputs_per_image: rows per photo.
        bytes_per_output: of a row with all six pictures.
    """

    device: str
    description: str
    workers: int
    seconds_per_image: float
    start_seconds: float
    memory_bytes: float
    outputs_per_image: float
    bytes_per_output: float


@dataclass(frozen=True)
class Planning:
    """What the launcher costs.

    Attributes:
        seconds_per_unit: to plan, footers included.
        seconds_per_manifest: to read what is done, from a local disk.
        memory_bytes_per_unit: of the launcher.
        reference_bytes: of a unit in the shuffle.
    """

    seconds_per_unit: float
    seconds_per_manifest: float
    memory_bytes_per_unit: float
    reference_bytes: float


@dataclass(frozen=True)
class Calibration:
    """A calibration file."""

    worker_types: dict[str, WorkerType]
    planning: Planning


def read(path: str | None) -> Calibration:
    """A calibration file; None: the one of the package.

    Raises:
        UserError: it cannot be read or is no calibration.
    """
    try:
        text = (
            Path(path).read_text() if path else resources.files("cfr.pipeline").joinpath("calibration.json").read_text()
        )
        value = json.loads(text)
        if value["version"] != _VERSION:
            raise ValueError(f"version {value['version']}, not {_VERSION}")
        types = {name: WorkerType(**each) for name, each in value["worker_types"].items()}
        return Calibration(types, Planning(**value["planning"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--calibration {path}: {error}; write it with benchmarks/scale.py --calibration") from error


def add(path: Path, name: str, worker_type: dict | None, planning: dict | None) -> None:
    """Write a machine's figures into a calibration file, beside those that it has.

    Args:
        path: the file; it need not exist.
        name: of the machine.
        worker_type: its WorkerType; None: as the file has it.
        planning: the launcher's Planning; None: as the file has it.

    Raises:
        UserError: None is given for what the file does not have, or it is no calibration.
    """
    known = read(str(path)) if path.exists() else None
    if known is None and (worker_type is None or planning is None):
        raise UserError(f"--calibration {path}: a new file needs the parts `photos` and `planning`; measure both")
    types = {each: dataclasses.asdict(value) for each, value in known.worker_types.items()} if known else {}
    if worker_type is not None:
        types[name] = dataclasses.asdict(WorkerType(**worker_type))
    value = {
        "version": _VERSION,
        "software": f"cfr {importlib.metadata.version('cfr')}",
        "worker_types": dict(sorted(types.items())),
        "planning": dataclasses.asdict(Planning(**planning) if planning is not None else known.planning),
    }
    path.write_text(json.dumps(_rounded(value), indent=1) + "\n")


def _rounded(value):
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
