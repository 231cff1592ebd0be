"""The Basel Face Model as CFR-GAN uses it: `BFM_model_80.mat`, identity, expression and texture as linear bases."""

import hashlib
import io
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cfr.model.networks.coefficient_regressor import PAPER_SIZES

KEYPOINTS = 68
NEIGHBOURS = 8
_KEYS = ("meanshape", "idBase", "exBase", "meantex", "texBase", "tri", "point_buf", "keypoints", "skinmask")


class FaceModelError(ValueError):
    """A file that is not a face model of the expected kind; the message names the file, the part and the fix."""


class BaselFaceModel(nn.Module):
    """Vertices and vertex colours that are linear in 80 identity, 64 expression and 80 texture coefficients.

    Attributes (buffers on the module's device):
        mean_shape: (V,3) float32 decimetres, x right, y up, z to the viewer; its centroid is the origin.
        identity_basis (80,V,3), expression_basis (64,V,3): float32 decimetres per coefficient.
        mean_texture (V,3), texture_basis (80,V,3): float32 RGB, about 0..1.
        triangles: (F,3) int64, counter-clockwise seen from outside.
        adjacent_triangles: (V,8) int64, the triangles around each vertex; F stands for none.
        keypoints: (68,) int64 vertices of the 68 points of iBUG 300-W.
        skin: (V,) bool, vertices that show skin.
        digest: sha256 hex of the file.
    """

    def __init__(self, arrays: dict[str, np.ndarray], digest: str = ""):
        """Arrays by the names in the file, checked by `load`; colours 0..1."""
        super().__init__()

        def basis(name: str) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(arrays[name].T, np.float32)).unflatten(1, (-1, 3))

        mean = torch.from_numpy(np.asarray(arrays["meanshape"], np.float32)).view(-1, 3)
        self.register_buffer("mean_shape", mean - mean.mean(0))
        self.register_buffer("identity_basis", basis("idBase"))
        self.register_buffer("expression_basis", basis("exBase"))
        self.register_buffer("mean_texture", torch.from_numpy(np.asarray(arrays["meantex"], np.float32)).view(-1, 3))
        self.register_buffer("texture_basis", basis("texBase"))
        self.register_buffer("triangles", torch.from_numpy(arrays["tri"].astype(np.int64)))
        self.register_buffer("adjacent_triangles", torch.from_numpy(arrays["point_buf"].astype(np.int64)))
        self.register_buffer("keypoints", torch.from_numpy(arrays["keypoints"].astype(np.int64).ravel()))
        self.register_buffer("skin", torch.from_numpy(arrays["skinmask"].ravel() > 0.5))
        self.digest = digest

    @classmethod
    def load(cls, path: str | PathLike, device: str | torch.device = "cpu") -> "BaselFaceModel":
        """Read `BFM_model_80.mat`.

        Raises:
            FaceModelError: there is no such file, it is no MATLAB file of versions 4 to 7, or an array is missing, has
                another shape or points outside the mesh.
            ImportError: SciPy, which reads MATLAB files, is not installed.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise FaceModelError(f"{path} cannot be read: {error.strerror or error}") from None
        return cls(_read_mat(data, str(path)), hashlib.sha256(data).hexdigest()).to(device)

    def shape(self, identity: Tensor, expression: Tensor) -> Tensor:
        """Vertices (B,V,3) in decimetres of faces with identity (B,80) and expression (B,64)."""
        return (
            self.mean_shape
            + torch.tensordot(identity, self.identity_basis, dims=1)
            + torch.tensordot(expression, self.expression_basis, dims=1)
        )

    def texture(self, coefficients: Tensor) -> Tensor:
        """Vertex colours without light, (B,V,3) RGB, about 0..1, of faces with texture coefficients (B,80)."""
        return self.mean_texture + torch.tensordot(coefficients, self.texture_basis, dims=1)

    def vertex_normals(self, vertices: Tensor) -> Tensor:
        """Unit normals (B,V,3) of vertices (B,V,3): the sum of the adjacent triangles', weighted by their area."""
        a, b, c = vertices[:, self.triangles].unbind(2)
        across = torch.linalg.cross(a - b, b - c, dim=-1)
        across = torch.cat([across, across.new_zeros(len(across), 1, 3)], dim=1)
        return F.normalize(across[:, self.adjacent_triangles].sum(2), dim=-1)


def _read_mat(data: bytes, origin: str) -> dict[str, np.ndarray]:
    """The arrays of a `BFM_model_80.mat`, checked."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise ImportError(
            "reading BFM_model_80.mat needs SciPy, which is not installed: pip install 'cfr[face-models]'"
        ) from None
    if data[:4] == b"MATL" and b"MATLAB 7.3" in data[:128]:
        raise FaceModelError(f"{origin} is a MATLAB 7.3 file; save it again in MATLAB with '-v7'")
    try:
        arrays = loadmat(io.BytesIO(data), variable_names=_KEYS)
    except Exception as error:  # scipy raises whatever the damaged bytes lead it to
        raise FaceModelError(f"{origin} is not a MATLAB file ({error}); BFM_model_80.mat is needed") from None
    missing = [key for key in _KEYS if key not in arrays]
    if missing:
        raise FaceModelError(
            f"{origin} has no array '{missing[0]}', so it is not the face model of CFR-GAN (BFM_model_80.mat); "
            "a BFM_model_front.mat or 01_MorphableModel.mat has to be converted by the authors' script first"
        )
    _check(arrays, origin)
    return {key: arrays[key] for key in _KEYS}


def _check(arrays: dict[str, np.ndarray], origin: str) -> None:
    """Raise a FaceModelError unless the shapes and indices belong to one mesh."""
    vertices, triangles = arrays["meanshape"].size // 3, len(arrays["tri"])
    shapes = {
        "meanshape": (1, 3 * vertices),
        "idBase": (3 * vertices, PAPER_SIZES[0]),
        "exBase": (3 * vertices, PAPER_SIZES[1]),
        "meantex": (1, 3 * vertices),
        "texBase": (3 * vertices, PAPER_SIZES[2]),
        "tri": (triangles, 3),
        "point_buf": (vertices, NEIGHBOURS),
        "keypoints": (1, KEYPOINTS),
        "skinmask": (1, vertices),
    }
    for key, shape in shapes.items():
        if arrays[key].shape != shape:
            raise FaceModelError(f"{origin}: '{key}' has shape {arrays[key].shape}, expected {shape}")
        if arrays[key].dtype.kind not in "fiu" or not np.isfinite(arrays[key]).all():
            raise FaceModelError(f"{origin}: '{key}' holds something else than finite numbers; the file is damaged")
    # 0-based as CFR-GAN's file has them; 1-based ones, as in Deep3DFaceRecon's, end one higher.
    for key, limit in {"tri": vertices, "point_buf": triangles + 1, "keypoints": vertices}.items():
        if arrays[key].min() < 0 or arrays[key].max() >= limit:
            raise FaceModelError(
                f"{origin}: '{key}' points outside 0..{limit - 1}; CFR-GAN's file counts from 0, "
                "Deep3DFaceRecon's from 1"
            )
