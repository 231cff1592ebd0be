"""Faces with known coefficients, and a fitted real one, that the tests of the model share."""

from dataclasses import dataclass

import pytest
import torch

from cfr.model.alignment import CROP_IN_CONTEXT, apply_affine, context_crop, crop_affine
from cfr.model.coefficients import Coefficients
from cfr.model.detector import MTCNN
from cfr.model.face_model import MorphableModel
from cfr.model.fitting import FaceFit, FaceFitter
from cfr.model.images import decode_image
from cfr.model.rasterize import GBuffer
from cfr.model.rendering import PosedMesh, posed, render_guidance

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
