"""What the tests of the model share: faces with known coefficients, a fitted real one, and weights for the networks."""

import importlib.util
import json
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cfr.model.alignment import CROP_IN_CONTEXT, apply_affine, context_crop, crop_affine
from cfr.model.coefficients import Coefficients
from cfr.model.detector import MTCNN
from cfr.model.face_model import MorphableModel
from cfr.model.fitting import FaceFit, FaceFitter
from cfr.model.images import decode_image
from cfr.model.rasterize import GBuffer
from cfr.model.rendering import PosedMesh, posed, render_guidance

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stand_in"))

FIRST_BAND = 0.8862  # basis value of the constant light


@dataclass(frozen=True)
class RenderedFaces:
    """Two faces of the model: what they are, and their pictures (2,3,224,224)."""

    coefficients: Coefficients
    mesh: PosedMesh
    gbuffer: GBuffer
    picture: torch.Tensor


@pytest.fixture(scope="session")
def face_model() -> MorphableModel:
    return MorphableModel.load_default()


@pytest.fixture(scope="session")
def rendered_faces(face_model: MorphableModel) -> RenderedFaces:
    identities, expressions, albedos = face_model.sizes
    generator = torch.Generator().manual_seed(5)
    expression = torch.zeros(2, expressions)
    expression[:, face_model.expression_names.index("jawOpen")] = torch.tensor([0.3, 0.0])
    albedo = torch.zeros(2, albedos)
    albedo[:, 0] = torch.tensor([-0.7, 1.2])
    light = torch.zeros(2, 9, 3)
    light[:, 0] = 0.95 / FIRST_BAND
    light[:, 2] = 0.15
    light[:, 3] = torch.tensor([[-0.1], [0.1]])
    coefficients = Coefficients(
        torch.randn(2, identities, generator=generator) * 0.8,
        expression,
        albedo,
        light,
        torch.tensor([[20.0, -8.0, 5.0], [-35.0, 6.0, -10.0]]),
        torch.tensor([[0.05, -0.03, 0.2], [0.0, 0.04, -0.1]]),
    )
    mesh = posed(face_model, coefficients)
    gbuffer = mesh.rasterized(face_model.triangles)
    return RenderedFaces(coefficients, mesh, gbuffer, render_guidance(face_model, coefficients, mesh, gbuffer))


@pytest.fixture(scope="session")
def astronaut(photos_dir) -> tuple[torch.Tensor, FaceFit]:
    """The bundled portrait's crop (1,3,224,224) RGB 0..1 and its fit."""
    image = decode_image((photos_dir / "astronaut.png").read_bytes())
    landmarks5 = MTCNN.load_default().detect(image).landmarks5[0]
    affine = crop_affine(landmarks5)
    context = torch.tensor(context_crop(image, affine))[None]
    points = torch.from_numpy(apply_affine(landmarks5, affine)).float()[None]
    photo = context[:, CROP_IN_CONTEXT, CROP_IN_CONTEXT].permute(0, 3, 1, 2).float() / 255
    return photo, FaceFitter().fit(context, points)


@pytest.fixture(scope="session")
def reference_state(shared_dir) -> Callable[[str], dict[str, Tensor]]:
    """Name of a network -> the weights under which the reference's outputs were recorded."""
    folder = shared_dir / "fixtures"
    spec = importlib.util.spec_from_file_location("fill", folder / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    shapes = json.loads((folder / "state_dicts.json").read_text())
    return lambda network: fill.fill_state_dict(shapes[network])


@pytest.fixture(scope="session")
def recorded(shared_dir) -> Callable[[str], dict[str, Tensor]]:
    """Name of a recording -> its arrays; half precision and bytes become float32, names stay as they are."""

    def read(name: str) -> dict[str, Tensor | np.ndarray]:
        with np.load(shared_dir / "fixtures" / f"{name}.npz") as arrays:
            loaded = {key: arrays[key] for key in arrays.files}
        return {
            key: torch.from_numpy(value.astype(np.float32) if value.dtype in (np.float16, np.uint8) else value)
            if value.dtype.kind in "fiu"
            else value
            for key, value in loaded.items()
        }

    return read


@pytest.fixture(scope="session")
def stand_in() -> Callable[[nn.Module], nn.Module]:
    """Network -> the same in evaluation mode, with weights that depend on the names and shapes of its state alone."""
    return fill_with_stand_in_weights


def fill_with_stand_in_weights(network: nn.Module) -> nn.Module:
    state = {name: _stand_in_values(name, value) for name, value in network.state_dict().items()}
    for name in [name for name in state if name.endswith("weight_u")]:
        matrix = state[name.replace("weight_u", "weight_orig")]
        # A transposed convolution has its output channels on the second axis.
        matrix = matrix if len(matrix) == len(state[name]) else matrix.transpose(0, 1)
        left, _, right = torch.linalg.svd(matrix.flatten(1), full_matrices=False)
        state[name], state[name.replace("weight_u", "weight_v")] = left[:, 0], right[0]
    network.load_state_dict(state)
    return network.eval()


def _stand_in_values(name: str, like: Tensor) -> Tensor:
    # RandomState's stream is frozen for good, unlike torch's.
    noise = np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, tuple(like.shape))
    values = torch.from_numpy(np.asarray(noise, np.float32)).reshape(like.shape)
    if like.dim() > 1:
        return values * (3 / like[0].numel()) ** 0.5
    if name.endswith(("running_var", "weight")):
        return 0.75 + 0.25 * values
    return (0.1 * values).to(like.dtype)


@pytest.fixture(scope="session")
def picture() -> Callable[..., Tensor]:
    """Number of pictures and side -> (N,3,S,S) in -1..1: smooth, different in every picture and channel."""

    def draw(count: int, side: int) -> Tensor:
        axis = torch.linspace(0, 1, side)
        wave = torch.arange(1, 3 * count + 1, dtype=torch.float32).view(count, 3, 1, 1)
        return torch.sin(wave * (3 * axis[:, None] + axis) + wave) * torch.cos(5 * axis - wave)

    return draw


@pytest.fixture(scope="session")
def sampled() -> Callable[[Tensor], list[float]]:
    """Tensor -> five of its values, from the first to the last."""
    return lambda values: values.flatten()[torch.linspace(0, values.numel() - 1, 5).long()].tolist()
