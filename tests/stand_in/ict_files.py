"""A small stand-in for the folder of ICT-FaceKit: its file names, vertex numbers and units; the package's own geometry.

The face part is a grid of quadrangles over the front of the package's face, the eyeballs are spheres in its eyes; the
other parts have no faces.
"""

from pathlib import Path

import numpy as np
import torch

from cfr.model.face_model import MorphableModel
from cfr.model.ict_face_model import KEYPOINTS

_VERTICES = 26719
_FACE = 9409  # 97 x 97
_SIDE = 97
_EYEBALLS = ((21451, 23021), (23021, 24591))
# Where its origin lies in ours, and its unit.
SHIFT, UNIT = np.array([0.0, 0.3, -0.8]), 10.0


def _face_grid(model: MorphableModel) -> np.ndarray:
    """(9409,3) points of the own mean face's front on a grid in x and y."""
    points = model.mean_shape.double().numpy()
    inside = ("mouth_interior", "teeth", "tongue", "sclera", "iris", "pupil")
    outer = ~np.isin(np.array(model.region_names)[model.region.numpy()], inside)
    front = points[outer & (model.vertex_normals(model.mean_shape[None])[0, :, 2] > 0.05).numpy()]
    x, y = np.meshgrid(np.linspace(-0.62, 0.62, _SIDE), np.linspace(-0.85, 0.85, _SIDE))
    grid = np.stack([x.ravel(), y.ravel()], 1)
    distance = torch.cdist(torch.from_numpy(grid), torch.from_numpy(front[:, :2]))
    nearest = distance.topk(3, largest=False)
    weight = 1 / (nearest.values + 1e-4)
    depth = (torch.from_numpy(front[:, 2])[nearest.indices] * weight).sum(1) / weight.sum(1)
    return np.column_stack([grid, depth.numpy()])


def write_ict_folder(path: Path, identities: int = 4) -> Path:
    """The repository's folder."""
    model = MorphableModel.load_default()
    folder = path / "FaceXModel"
    folder.mkdir(parents=True)
    neutral = np.zeros((_VERTICES, 3))
    grid = _face_grid(model)
    points = model.surface_points(model.mean_shape[None], model.ibug68_triangles, model.ibug68_barycentric)[0]
    # The grid's vertices nearest to the 68 points get their numbers.
    number = np.arange(_FACE)
    for wanted, point in zip(KEYPOINTS, points.double().numpy(), strict=True):
        found = np.linalg.norm(grid - point, axis=1).argmin()
        holder = np.flatnonzero(number == wanted)[0]
        number[[found, holder]] = number[[holder, found]]
    neutral[number] = grid
    region = model.region.numpy()
    eyes = model.mean_shape.double().numpy()[region == model.region_names.index("sclera")]
    rows, columns = np.divmod(np.arange(_SIDE * _SIDE).reshape(_SIDE, _SIDE)[:-1, :-1].ravel(), _SIDE)
    corner = rows * _SIDE + columns
    faces = [number[np.stack([corner, corner + 1, corner + _SIDE + 1, corner + _SIDE], 1)]]
    for (first, end), side in zip(_EYEBALLS, (-1, 1), strict=True):
        centre = eyes[eyes[:, 0] * side > 0].mean(0) - [0, 0, 0.06]
        angle = np.arange(end - first) * 2.399963  # the golden angle
        height = np.linspace(1, -1, end - first)
        ring = np.sqrt(1 - height**2)
        neutral[first:end] = centre + 0.11 * np.stack([ring * np.cos(angle), ring * np.sin(angle), height], 1)
        spiral = np.arange(first, end - 22)
        faces.append(np.stack([spiral, spiral + 8, spiral + 21, spiral + 13], 1))
    _write(folder / "generic_neutral_mesh.obj", neutral, np.concatenate(faces))
    smooth = np.exp(-(neutral[:, 1:2] ** 2) / 0.1)
    for number in range(identities):
        _write(folder / f"identity{number:03d}.obj", neutral + 0.02 * smooth * np.roll([1.0, 0, 0], number % 3), None)
    jaw = np.clip(-neutral[:, 1:2] - 0.3, 0, None) * [0, -0.4, -0.1]
    for name, change in (("jawOpen", jaw), ("browDown_L", 0 * jaw), ("browDown_R", 0 * jaw), ("eyeLookUp_L", 0 * jaw)):
        _write(folder / f"{name}.obj", neutral + change, None)
    return path


def _write(path: Path, vertices: np.ndarray, faces: np.ndarray | None) -> None:
    """An OBJ file as the model's: centimetres, corners with texture coordinates, numbers from 1."""
    lines = ["mtllib ICTFaceModelMaterial.mtl"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in (vertices - SHIFT) * UNIT]
    for face in faces if faces is not None else ():
        lines.append("f " + " ".join(f"{corner + 1}/{corner + 1}" for corner in face))
    path.write_text("\n".join(lines) + "\n")
