"""Faces of the paper's kind: from the fixtures where they are, and from the package's own face model everywhere."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from cfr.model.coefficients import Coefficients
from cfr.model.paper.face_model import BaselFaceModel
from cfr.model.paper.reconstruction import Reconstruction, reconstruct


@pytest.fixture(scope="session")
def fixture(shared_dir) -> Callable[[str], dict[str, Tensor]]:
    """Loads the arrays of a file of reference outputs by its name; half precision becomes float32."""

    def load(name: str) -> dict[str, Tensor]:
        with np.load(shared_dir / "fixtures" / f"{name}.npz") as archive:
            arrays = {key: torch.from_numpy(np.asarray(archive[key])) for key in archive.files}
        return {key: value.float() if value.dtype == torch.half else value for key, value in arrays.items()}

    return load


@pytest.fixture(scope="session")
def reference_model(shared_dir) -> BaselFaceModel:
    """The face model that the reference outputs were made with."""
    with np.load(shared_dir / "fixtures" / "standin_face_model.npz") as archive:
        return BaselFaceModel(dict(archive))


@pytest.fixture(scope="session")
def own_model() -> BaselFaceModel:
    """The package's own face in the layout of the paper's."""
    from paper_files import basel_arrays

    return BaselFaceModel(basel_arrays())


@pytest.fixture(scope="session")
def own_coefficients() -> Coefficients:
    """Two of its faces, in white light: one near frontal, one turned by 40 degrees."""
    generator = torch.Generator().manual_seed(3)
    light = torch.zeros(2, 9, 3)
    light[:, 0] = 1.0 / 0.8862  # a light of 1 everywhere: the first harmonic is 0.8862
    return Coefficients(
        0.7 * torch.randn(2, 80, generator=generator),
        torch.zeros(2, 64),
        0.5 * torch.randn(2, 80, generator=generator),
        light,
        torch.tensor([[5.0, 3.0, -2.0], [-40.0, -5.0, 4.0]]),
        torch.tensor([[0.02, 0.0, 0.05], [-0.05, 0.03, -0.1]]),
    )


@pytest.fixture(scope="session")
def own_faces(own_model, own_coefficients) -> Reconstruction:
    """The meshes of `own_coefficients`."""
    return reconstruct(own_model, own_coefficients)
