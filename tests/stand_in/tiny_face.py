"""A face model of a few hundred vertices, and shards of renderings of it with boxes pasted over them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pair_shards import IMAGE, png

from cfr.model.estimated_faces import load_face_estimator

GRID = 17
SIZES = (3, 2, 2)
# FaceMesh points that an alignment needs, as places (u, v) on the grid: corners of eyes and mouth, tip of the nose.
FIVE_POINTS = {33: (-0.5, -0.25), 133: (-0.3, -0.25), 362: (0.3, -0.25), 263: (0.5, -0.25), 1: (0, 0.15)}
FIVE_POINTS |= {61: (-0.3, 0.5), 291: (0.3, 0.5)}


def write_face_model(path: Path, nose: float = 0.22) -> Path:
    """A half ellipsoid with a nose, brows, eyes and lips, in the layout of the package's face model."""
    v, u = (axis.ravel() for axis in np.mgrid[-1 : 1 : GRID * 1j, -1 : 1 : GRID * 1j])
    radius = np.minimum(np.hypot(u, v), 1)
    x, y = 0.72 * u * np.sqrt(1 - v**2 / 2), 0.95 * -v * np.sqrt(1 - u**2 / 2)
    bump = np.exp(-((u / 0.15) ** 2) - ((v - 0.1) / 0.3) ** 2)
    z = 0.6 * np.sqrt(1.05 - radius**2) + nose * bump - 0.2
    cell = np.arange((GRID - 1) ** 2)
    corner = cell + cell // (GRID - 1)
    a, b, c, d = corner, corner + 1, corner + GRID, corner + GRID + 1
    triangles = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
    dark = np.exp(-(((np.abs(u) - 0.38) / 0.2) ** 2) - ((v + 0.25) / 0.08) ** 2)
    lips = np.exp(-((u / 0.35) ** 2) - ((v - 0.5) / 0.09) ** 2)
    log_albedo = np.log([0.8, 0.6, 0.5]) - dark[:, None] * [2, 1.6, 1.4] - lips[:, None] * [0.1, 1.0, 0.8]
    zero = np.zeros_like(u)
    identity = [
        np.stack([0.08 * u, zero, zero], 1),
        np.stack([zero, -0.08 * v, zero], 1),
        np.stack([zero, zero, bump / 9], 1),
    ]
    expression = [np.stack([zero, -0.15 * lips, zero], 1), np.stack([zero, 0.1 * dark, zero], 1)]
    albedo = [np.tile([0.2, 0.2, 0.2], (len(u), 1)), lips[:, None] * [0.3, -0.2, -0.2]]
    rows = np.random.default_rng(0).choice(len(triangles), 68, replace=False)
    middle_u, middle_v = u[triangles].mean(1), v[triangles].mean(1)
    facemesh = np.zeros(468, int)
    for point, place in FIVE_POINTS.items():
        facemesh[point] = np.argmin(np.hypot(middle_u - place[0], middle_v - place[1]))
    arrays = {
        "mean_shape": np.stack([x, y, z], 1),
        "identity_basis": np.stack(identity),
        "expression_basis": np.stack(expression),
        "log_albedo_mean": log_albedo,
        "log_albedo_basis": np.stack(albedo),
        "triangles": triangles,
        "mirror": np.arange(len(u)).reshape(GRID, GRID)[:, ::-1].ravel(),
        "region": np.where(lips > 0.3, 1, 0),
        "region_names": np.array(["skin", "lips"]),
        "identity_mirror": np.ones(3),
        "expression_mirror": np.arange(2),
        "frozen_expressions": np.zeros(2, bool),
        "facemesh_triangles": facemesh,
        "facemesh_barycentric": np.full((468, 3), 1 / 3),
        "ibug68_triangles": rows,
        "ibug68_barycentric": np.full((68, 3), 1 / 3),
        "albedo_names": np.array(["tone", "lips"]),
        "albedo_parts": np.array([1, 2]),
        "expression_names": np.array(["open", "brows"]),
        "name": np.array("tiny face"),
    }
    np.savez(path, **arrays)
    return path


def random_rows(count: int, seed: int) -> torch.Tensor:
    """(count,40) rows as the regressor's: shape, light, poses up to about 25 degrees, small shifts."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([0.7] * 3 + [0.3] * 2 + [0.5] * 2 + [0.1, 0.25, 0.1] + [0.05] * 27 + [0.06, 0.06, 0.2])
    return torch.randn(count, 40, generator=generator).clamp(-2, 2) * spread


def rendered(face_model: Path, count: int, seed: int) -> dict[str, np.ndarray]:
    """Original and occluded (N,224,224,3) and face mask (N,224,224) uint8, landmarks (N,68,2) and coefficients."""
    estimator = load_face_estimator(face_model)
    generator = np.random.default_rng(seed)
    faces = estimator.faces(random_rows(count, seed))
    pictures, covered = estimator.render(faces)
    ground = generator.uniform(0, 1, (count, 1, 1, 3))
    shown = np.where(covered[..., None], pictures.permute(0, 2, 3, 1).clamp(0, 1), ground)
    original = (shown * 255).round().astype(np.uint8)
    occluded = original.copy()
    for picture in occluded:
        x, y = generator.integers(50, 130, 2)
        width, height = generator.integers(30, 75, 2)
        picture[y : y + height, x : x + width] = generator.integers(0, 256, 3)
    mask = covered.numpy().astype(np.uint8) * 255
    numbers = {"landmarks": faces.landmarks.numpy(), "coefficients": faces.coefficients.concatenated().numpy()}
    return {"original": original, "occluded": occluded, "face_mask": mask, **numbers}


def write_occlusions(folder: Path, face_model: Path, rows: int = 32, seed: int = 0) -> Path:
    """An output folder of `cfr occlude` with renderings."""
    values = rendered(face_model, rows, seed)
    names = [f"face-{row}.png" for row in range(rows)]
    data = {
        "occlusion_id": pa.array([f"{name}#0.0" for name in names]),
        "image_id": pa.array(names),
        "coefficients": pa.array(values["coefficients"].tolist(), pa.list_(pa.float32())),
        "landmarks68": pa.array(values["landmarks"].reshape(rows, -1).tolist(), pa.list_(pa.float32(), 136)),
    }
    for column in ("original", "occluded", "face_mask"):
        data[column] = pa.array([png(picture) for picture in values[column]], IMAGE)
    path = folder / "occluded" / "0.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table(data), path, row_group_size=16)
    return folder
