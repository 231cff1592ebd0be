"""What decides the bytes of the output: its parameters, the models' digests and a revision, hashed together."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from cfr.pipeline import storage
from cfr.pipeline.errors import UserError

OUTPUT_REVISION = 9
"""Raised by every change of the code that changes the output for the same input and parameters."""

JOB_FILE = "_job.json"


@dataclass(frozen=True)
class JobIdentity:
    """Parameters that affect the output (not the runner, the worker count, the device or paths) and their hash."""

    parameters: dict[str, Any]

    @property
    def hash(self) -> str:
        """Sixteen hex digits."""
        return hashlib.sha256(json.dumps(self.parameters, sort_keys=True).encode()).hexdigest()[:16]

    @classmethod
    def of(cls, job: str, parameters: dict[str, Any], model_digests: dict[str, str]) -> "JobIdentity":
        """Identity of a job from its name, its parameters (JSON values) and {part: digest} of its models."""
        models = {f"model {part}": digest for part, digest in sorted(model_digests.items())}
        identity = {"job": job, **parameters, **models, "output_revision": OUTPUT_REVISION}
        return cls(json.loads(json.dumps(identity)))


def read_job(output: str) -> JobIdentity | None:
    """Identity of the job that an output folder was made by; None if there is none."""
    path = storage.join(output, JOB_FILE)
    if not storage.exists(path):
        return None
    try:
        return JobIdentity(json.loads(storage.read_bytes(path))["parameters"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); use another --output or start over with --overwrite") from error


def write_job(output: str, identity: JobIdentity, scratch_folder: str) -> None:
    """Remember which job makes this output folder."""
    text = json.dumps({"hash": identity.hash, "parameters": identity.parameters}, indent=1, sort_keys=True)
    storage.publish(storage.join(output, JOB_FILE), text.encode() + b"\n", scratch_folder)


def check_same_job(output: str, identity: JobIdentity) -> None:
    """Refuse to mix two jobs' outputs in one folder.

    Raises:
        UserError: the folder was made with another parameter; names the first that differs.
    """
    made_by = read_job(output)
    if made_by is None or made_by.hash == identity.hash:
        return
    old, new = made_by.parameters, identity.parameters
    name = next(name for name in [*new, *sorted(set(old) - set(new))] if old.get(name) != new.get(name))
    raise UserError(
        f"{output} was made with {name} = {_show(old.get(name))}, now it is {_show(new.get(name))}: "
        "choose another --output, restore the parameter, or start over with --overwrite"
    )


def _show(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
