"""A small stand-in for the authors' `BFM_model_80.mat`, made from the face model that comes with the package."""

from pathlib import Path

import numpy as np
import torch

from cfr.model.face_model import MorphableModel


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
