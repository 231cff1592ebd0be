"""The 3D morphable face model: identity, expression and albedo as linear bases on one fixed mesh."""

import functools
import hashlib
import io
from importlib import resources
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

MODEL_FILE = "face_model.npz"
LICENSE_FILE = "face_model.LICENSE"
_FLOATS = (
    "mean_shape",
    "identity_basis",
    "expression_basis",
    "log_albedo_mean",
    "log_albedo_basis",
    "facemesh_barycentric",
    "ibug68_barycentric",
)
_INTEGERS = ("triangles", "mirror", "region", "facemesh_triangles", "ibug68_triangles", "expression_mirror")
_OTHERS = (
    "albedo_names",
    "albedo_parts",
    "frozen_expressions",
    "identity_mirror",
    "expression_names",
    "region_names",
    "name",
)


class MorphableModel(nn.Module):
    """A face mesh whose vertices move linearly with identity and expression, and whose log albedo is linear too.

    Model space: x right, y up, z towards the viewer, 1 unit = 1 decimetre; a mean face at translation 0 and pose 0
    projects onto the aligned crop as the five-point alignment places a photo.

    Attributes (buffers are float32 or int64, on the module's device):
        mean_shape: (V,3) dm. identity_basis: (I,V,3) dm per standard deviation. expression_basis: (E,V,3) dm at 1.
        log_albedo_mean: (V,3), log_albedo_basis: (A,V,3) per standard deviation; albedo is RGB 0..1, sRGB-encoded.
        triangles: (F,3), counter-clockwise seen from outside. mirror: (V,) the vertex on the other side of x = 0.
        region: (V,) index into `region_names`. frozen_expressions: (E,) bool, not to be fitted (gaze, tongue).
        identity_mirror: (I,) float +1 or -1, the sign that mirrors a coefficient; expression_mirror: (E,) index of the
            mirrored expression.
        facemesh_triangles (468,), facemesh_barycentric (468,3): where the FaceMesh landmarks lie on the mesh;
            ibug68_triangles (68,), ibug68_barycentric (68,3): the 68 points of iBUG 300-W (jaw line on the skull, as in
            AFLW2000-3D).
        albedo_parts: two indices, where the albedo coefficients' parts end: skin tone, then features (lips, brows, eyes
            ...); the rest are smooth over the skin. albedo_names: (A,) their names.
        expression_names, region_names: tuples of str. name, license, digest (sha256 hex of the file): str.
    """

    def __init__(self, arrays: dict[str, np.ndarray], digest: str, license_text: str):
        super().__init__()
        for key in _FLOATS:
            self.register_buffer(key, torch.from_numpy(arrays[key].astype(np.float32)))
        for key in _INTEGERS:
            self.register_buffer(key, torch.from_numpy(arrays[key].astype(np.int64)))
        self.register_buffer("frozen_expressions", torch.from_numpy(arrays["frozen_expressions"].astype(bool)))
        self.register_buffer("identity_mirror", torch.from_numpy(arrays["identity_mirror"].astype(np.float32)))
        self.expression_names = tuple(arrays["expression_names"].tolist())
        self.region_names = tuple(arrays["region_names"].tolist())
        self.albedo_names = tuple(arrays["albedo_names"].tolist())
        self.albedo_parts = tuple(arrays["albedo_parts"].tolist())
        self.name = str(arrays["name"])
        self.digest = digest
        self.license = license_text

    @classmethod
    @functools.cache
    def load_default(cls, device: str = "cpu") -> "MorphableModel":
        """The model that comes with the package (built by scripts/face_model/build.py from CC0 data).

        One instance per device and process, which all stages share: do not change it.
        """
        folder = resources.files("cfr.model").joinpath("data")
        license_text = folder.joinpath(LICENSE_FILE).read_text(encoding="utf-8")
        return cls._from_bytes(folder.joinpath(MODEL_FILE).read_bytes(), MODEL_FILE, license_text).to(device)

    @classmethod
    def load(cls, path: str | PathLike, device: str | torch.device = "cpu") -> "MorphableModel":
        """A model file of the same layout; the text of `<stem>.LICENSE` beside it, if there is one, is its licence.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not such a file, or a part of it is missing or does not fit the mesh.
        """
        path = Path(path)
        license_path = path.with_suffix(".LICENSE")
        license_text = license_path.read_text(encoding="utf-8") if license_path.is_file() else "unknown"
        return cls._from_bytes(path.read_bytes(), str(path), license_text).to(device)

    @classmethod
    def _from_bytes(cls, data: bytes, origin: str, license_text: str) -> "MorphableModel":
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                arrays = dict(archive)
        except (ValueError, OSError, EOFError) as error:
            raise ValueError(f"{origin} is not a face model file (npz): {error}") from None
        missing = [key for key in (*_FLOATS, *_INTEGERS, *_OTHERS) if key not in arrays]
        if missing:
            raise ValueError(f"{origin} is not a face model of this version: it has no '{missing[0]}'")
        _check_sizes(arrays, origin)
        return cls(arrays, hashlib.sha256(data).hexdigest(), license_text)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many identity, expression and albedo coefficients a face has."""
        return len(self.identity_basis), len(self.expression_basis), len(self.log_albedo_basis)

    def in_regions(self, *names: str) -> Tensor:
        """(V,) bool: vertices of these regions, as far as the face model has them."""
        indices = [self.region_names.index(name) for name in names if name in self.region_names]
        return torch.isin(self.region, self.region.new_tensor(indices))

    def shape(self, identity: Tensor, expression: Tensor) -> Tensor:
        """Vertices (B,V,3) in dm of faces with identity (B,I), unit variance, and expression (B,E), 0..1."""
        return (
            self.mean_shape
            + torch.tensordot(identity, self.identity_basis, dims=1)
            + torch.tensordot(expression, self.expression_basis, dims=1)
        )

    def albedo(self, coefficients: Tensor) -> Tensor:
        """Vertex colours (B,V,3), RGB, sRGB-encoded, > 0 and mostly <= 1, for albedo coefficients (B,A)."""
        return torch.exp(self.log_albedo_mean + torch.tensordot(coefficients, self.log_albedo_basis, dims=1))

    def vertex_normals(self, vertices: Tensor) -> Tensor:
        """Outward unit normals (B,V,3) of vertices (B,V,3): the area-weighted mean of the adjacent triangles'."""
        corners = vertices[:, self.triangles]
        across = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
        total = torch.zeros_like(vertices)
        for corner in range(3):
            total.index_add_(1, self.triangles[:, corner], across)
        return functional.normalize(total, dim=-1, eps=1e-12)

    def surface_points(self, vertices: Tensor, triangles: Tensor, barycentric: Tensor) -> Tensor:
        """Points (B,N,3) on the surface of vertices (B,V,3), given by triangle index (N,) and weights (N,3)."""
        return (vertices[:, self.triangles[triangles]] * barycentric[..., None]).sum(dim=2)


def _check_sizes(arrays: dict[str, np.ndarray], origin: str) -> None:
    vertices, faces = len(arrays["mean_shape"]), len(arrays["triangles"])
    identities, expressions = len(arrays["identity_basis"]), len(arrays["expression_basis"])
    expected = {
        "mean_shape": (vertices, 3),
        "triangles": (faces, 3),
        "identity_basis": (identities, vertices, 3),
        "identity_mirror": (identities,),
        "expression_basis": (expressions, vertices, 3),
        "expression_names": (expressions,),
        "expression_mirror": (expressions,),
        "frozen_expressions": (expressions,),
        "log_albedo_mean": (vertices, 3),
        "albedo_names": (len(arrays["log_albedo_basis"]),),
        "albedo_parts": (2,),
        "log_albedo_basis": (len(arrays["log_albedo_basis"]), vertices, 3),
        "mirror": (vertices,),
        "region": (vertices,),
        "facemesh_triangles": (468,),
        "facemesh_barycentric": (468, 3),
        "ibug68_triangles": (68,),
        "ibug68_barycentric": (68, 3),
    }
    for key, size in expected.items():
        if arrays[key].shape != size:
            raise ValueError(f"{origin}: '{key}' has shape {arrays[key].shape}, expected {size}")
    limits = {
        "triangles": vertices,
        "mirror": vertices,
        "region": len(arrays["region_names"]),
        "facemesh_triangles": faces,
        "ibug68_triangles": faces,
        "expression_mirror": expressions,
    }
    for key, limit in limits.items():
        if arrays[key].min() < 0 or arrays[key].max() >= limit:
            raise ValueError(f"{origin}: '{key}' points outside 0..{limit - 1}")
