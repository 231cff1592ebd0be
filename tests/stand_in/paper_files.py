"""Stand-ins for the three files of the paper's authors: their layout, with what this package has inside.

The face model is the package's own face. The regressor says of every photo that it shows a near frontal face of the
mean shape, and the parsing that it shows skin, so that pairs come out whatever the rest of their random weights is.
"""

from pathlib import Path

import numpy as np
import torch

from cfr.model.face_model import MorphableModel
from cfr.model.networks.coefficient_regressor import LAYOUT, CoefficientRegressor
from cfr.model.networks.face_parsing import LABELS, FaceParsing


def basel_arrays() -> dict[str, np.ndarray]:
    """The arrays of `BFM_model_80.mat` for the package's own face: same layout, types and order of magnitude."""
    model = MorphableModel.load_default()
    identities, expressions, albedos = 80, 64, 80
    vertices = len(model.mean_shape)
    expression_basis = torch.zeros(expressions, vertices, 3)
    expression_basis[: len(model.expression_basis)] = model.expression_basis
    mean_texture = model.log_albedo_mean.exp()
    texture_basis = (model.log_albedo_basis[:albedos] * mean_texture).flatten(1)
    corner = model.triangles.flatten()
    owner = torch.arange(len(model.triangles)).repeat_interleave(3)
    order = corner.argsort(stable=True)
    count = torch.bincount(corner, minlength=vertices)
    place = torch.arange(len(corner)) - (count.cumsum(0) - count)[corner[order]]
    adjacent = torch.full((vertices, 8), len(model.triangles))
    kept = place < 8
    adjacent[corner[order][kept], place[kept]] = owner[order][kept]
    points = model.surface_points(model.mean_shape[None], model.ibug68_triangles, model.ibug68_barycentric)[0]
    keypoints = torch.cdist(points, model.mean_shape).argmin(1)
    return {
        "meanshape": model.mean_shape.reshape(1, -1).numpy(),
        "idBase": model.identity_basis[:identities].flatten(1).T.numpy(),
        "exBase": expression_basis.flatten(1).T.numpy(),
        "meantex": mean_texture.reshape(1, -1).numpy(),
        "texBase": texture_basis.T.numpy(),
        "tri": model.triangles.numpy(),
        "point_buf": adjacent.numpy(),
        "keypoints": keypoints[None].numpy(),
        "skinmask": np.ones((1, vertices)),
    }


def write_basel_file(path: Path, **changes: np.ndarray | None) -> Path:
    """The file; `changes` replaces arrays, None leaves them out."""
    from scipy.io import savemat

    arrays = {**basel_arrays(), **changes}
    savemat(path, {name: values for name, values in arrays.items() if values is not None})
    return path


def write_regressor(path: Path) -> Path:
    """A checkpoint of the regressor."""
    torch.manual_seed(0)
    network = CoefficientRegressor()
    row = torch.zeros(257)
    row[LAYOUT["angles"]] = torch.tensor([0.05, 0.1, 0.0])
    row[LAYOUT["translation"]] = torch.tensor([0.0, 0.0, 0.0])
    row[LAYOUT["gamma"]] = torch.tensor([0.3, 0, 0, 0, 0, 0, 0, 0, 0]).repeat(3)
    first = 0
    for name in ("fcid", "fcex", "fctex", "fcangles", "fcgamma", "fcXY", "fcZ"):
        head = getattr(network, name)
        torch.nn.init.zeros_(head.weight)
        head.bias.data = row[first : first + len(head.bias)].clone()
        first += len(head.bias)
    torch.save({"state_dict": {f"module.{key}": value for key, value in network.state_dict().items()}}, path)
    return path


def write_parsing(path: Path) -> Path:
    """A checkpoint of the parsing network."""
    torch.manual_seed(0)
    network = FaceParsing()
    weight = torch.zeros_like(network.conv_out.conv_out.weight)
    weight[LABELS.index("skin")] = 1.0  # features are not negative
    network.conv_out.conv_out.weight.data = weight
    torch.save(network.state_dict(), path)
    return path


def write_paper_files(folder: Path) -> list[str]:
    """All three files, by the authors' names, and the flags of `cfr pairs` that name them."""
    folder.mkdir(exist_ok=True)
    return [
        *("--recipe", "paper"),
        *("--regressor", str(write_regressor(folder / "trained_weights_occ_3d.pth"))),
        *("--face-model", str(write_basel_file(folder / "BFM_model_80.mat"))),
        *("--parsing", str(write_parsing(folder / "parsing.pth"))),
    ]
