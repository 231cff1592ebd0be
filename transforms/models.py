"""The models that the stages call, loaded once per process; tests pass a stand-in with the same methods.

Once per process, not per stage object: a runner with several threads per process (a GPU worker with one SDK process)
makes a stage object per thread, and all of them share the weights. The models keep no state between calls, so that
threads may call them side by side.
"""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cfr.transforms.photo_decoder import PhotoDecoder

_loaded: dict[tuple[str, str], Any] = {}
_loading = threading.Lock()


def once(part: str, device: str, load: Callable[[str], Any]) -> Any:
    """The model of this process; other threads wait while one loads."""
    with _loading:
        if (part, device) not in _loaded:
            _loaded[part, device] = load(device)
        return _loaded[part, device]


FITTERS = ("landmarks", "regressor", "regressor+landmarks")
"""What pose and shape are taken from."""


@dataclass(frozen=True)
class DefaultModels:
    """Everything that a default run needs, from the package and its dependencies.

    Attributes:
        device: "cpu", "cuda", or "auto" = CUDA where there is any.
        face_model: path of another face model (see `face_model_files`), "" for the package's own.
        detector_weights: path of a RetinaFace checkpoint, "" for MTCNN.
        fitter_kind: one of FITTERS.
        regressor_weights: path of the fitter's regressor (see `ShapeEstimator`), "" for the package's own.
    """

    device: str = "auto"
    face_model: str = field(default="", kw_only=True)
    detector_weights: str = field(default="", kw_only=True)
    fitter_kind: str = field(default=FITTERS[0], kw_only=True)
    regressor_weights: str = field(default="", kw_only=True)

    def torch_device(self) -> str:
        """Where the models run.

        Raises:
            RuntimeError: "cuda" was asked for and this machine has none.
        """
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("--device cuda: torch sees no CUDA device on this machine; use --device auto or cpu")
        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        return self.device

    def decoder(self) -> PhotoDecoder:
        """Photo decoder with `decode(data)`; one per caller."""
        return PhotoDecoder()

    def detector(self):
        """Face detector with `detect(image)`."""
        if self.detector_weights:
            from cfr.model.checkpoints import load_checkpoint
            from cfr.model.retinaface import RetinaFace

            return once(
                f"detector {self.detector_weights}",
                self.torch_device(),
                lambda device: (
                    load_checkpoint(self.detector_weights, RetinaFace()).eval().requires_grad_(False).to(device)
                ),
            )
        from cfr.model.detector import MTCNN

        return once("detector", self.torch_device(), MTCNN.load_default)

    def alignment(self):
        """Function from a photo and its five landmarks to the crop with its margin, and its affine."""
        from cfr.model.alignment import align_photo

        return align_photo

    def fitter(self):
        """Fit with `fit(context, landmarks5)`."""
        from cfr.model.fitting import FaceFitter

        return once(
            f"fitter {self.face_model} {self.fitter_kind} {self.regressor_weights}",
            self.torch_device(),
            lambda device: FaceFitter(device, self._model(device), self.fitter_kind, self.regressor_weights),
        )

    def occlusion_transfer(self):
        """Occluder mask and swap with `transfer(photo, guidance, coefficients)`."""
        from cfr.transforms.transfer_occlusion import OcclusionTransfer

        return once(
            f"occlusion {self.face_model}",
            self.torch_device(),
            lambda device: OcclusionTransfer(device, self._model(device)),
        )

    def rotator(self):
        """Double rotation with `rotate(faces, coefficients, view)`."""
        from cfr.transforms.double_rotate import OccludedRotation

        return once(
            f"rotator {self.face_model}",
            self.torch_device(),
            lambda device: OccludedRotation(device, self._model(device)),
        )

    def check(self) -> None:
        """Make sure, before any work starts, that the models' files are there and are what they have to be.

        Raises:
            ValueError, OSError, ImportError: one is not; the message names it and the fix.
        """
        self.active()
        if self.detector_weights:
            self.detector()
        if self.regressor_weights:
            from cfr.model.shape_estimate import ShapeEstimator

            ShapeEstimator(self._model("cpu"), self.regressor_weights)

    def parameters(self) -> dict[str, str]:
        """What decides the output besides the weights: part of the job's hash and of the shards' metadata."""
        return {"recipe": "visible"} | ({"fitter": self.fitter_kind} if self.fitter_kind != FITTERS[0] else {})

    def active(self) -> list[dict[str, str]]:
        """Part, name, licence and digest of all weights; by part.

        Raises:
            FileNotFoundError: a file of a model is missing.
        """
        from cfr.model.registry import active_models, part_model

        models = [vars(model) for model in active_models()]
        if self.fitter_kind != FITTERS[0]:
            regressor = vars(part_model("regressor"))
            if self.regressor_weights:
                digest = file_digest(self.regressor_weights)
                regressor |= {"name": "own regressor", "licence": "see where the file is from", "digest": digest}
            models.append(regressor)
        if self.detector_weights:
            detector = next(model for model in models if model["part"] == "detector")
            digest = file_digest(self.detector_weights)
            detector |= {"name": "RetinaFace, ResNet-50", "licence": "see where the file is from", "digest": digest}
        if self.face_model:
            own = next(model for model in models if model["part"] == "face_model")
            brought = self._model("cpu")
            own |= {"name": brought.name, "licence": brought.license.split("\n")[0], "digest": brought.digest}
        return models

    def _model(self, device: str):
        """The face model, once per device and process."""
        from cfr.model.face_model_files import load_face_model

        return load_face_model(self.face_model, device)

    def coefficient_layout(self) -> dict[str, tuple[int, int]]:
        """Half-open ranges of the parts of `coefficients`, by name."""
        from cfr.model.coefficients import coefficient_layout

        return coefficient_layout(self._model("cpu").sizes)


def file_digest(path: str) -> str:
    """sha256 hex of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
