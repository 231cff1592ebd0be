"""Face models that a user brings, in the layout of the package's own: ICT-FaceKit, BFM_model_80.mat, or that layout.

ICT-FaceKit has no colours, and neither of the two knows the FaceMesh points: these are carried over from the package's
own face (`face_model_transfer`).
"""

import functools
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cfr.model.face_model import MorphableModel
from cfr.model.face_model_transfer import (
    Surface,
    nearest_on_surface,
    nearest_vertex,
    own_surface,
    upright,
    warp_between,
)
from cfr.model.ict_face_model import KEYPOINTS, read_folder
from cfr.model.paper.face_model import BaselFaceModel

# Regions of the own face that a part of ICT's may take after; the others are the skin's.
_ICT_REGIONS = {
    "mouth": ("mouth_interior",),
    "gums and tongue": ("mouth_interior", "tongue"),
    "teeth": ("teeth",),
    "eye sockets": ("eyelids",),
    "eyeballs": ("sclera", "iris", "pupil"),
}
# What lies behind lips and lids: no part of another model's skin takes after it.
_INNER_REGIONS = ("mouth_interior", "tongue", "teeth", "sclera", "iris", "pupil")
# ICT's expressions that no landmark tells of: gaze, pupils.
_FROZEN = ("eyeLook", "Pupil")
# BFM's expressions have two directions and unit deviation, ours lie in 0..1 with a deviation of 0.4.
_BASEL_EXPRESSION_SCALE = 1 / 0.4
# BFM's texture components by what they stand for: the first ones change the whole face's tone, then features.
_BASEL_TONES, _BASEL_FEATURES = 3, 30
_DARKEST = 0.02


@functools.cache
def load_face_model(path: str, device: str = "cpu") -> MorphableModel:
    """A face model for the visible recipe; one per file, device and process.

    Args:
        path: folder of ICT-FaceKit, `BFM_model_80.mat`, a file of this package's layout, or "" for the package's own.
        device: where it goes.

    Raises:
        ValueError, OSError: it is no such file or folder, or something in it is missing or damaged.
        ImportError: a MATLAB file, and SciPy is not installed.
    """
    if not path:
        return MorphableModel.load_default(device)
    if Path(path).is_dir():
        return _from_ict(Path(path)).to(device)
    if Path(path).suffix.lower() == ".mat":
        return _from_basel(BaselFaceModel.load(path)).to(device)
    return MorphableModel.load(path, device)


def _from_ict(path: Path) -> MorphableModel:
    face = read_folder(path)
    own = MorphableModel.load_default()
    vertices, triangles = torch.from_numpy(face.vertices), torch.from_numpy(face.triangles)
    rotation, translation = upright(vertices, torch.from_numpy(KEYPOINTS), own)
    vertices = vertices @ rotation.T + translation
    carried = _Carried(own, Surface(vertices, triangles, vertices[KEYPOINTS]))
    for part, regions in _ICT_REGIONS.items():
        carried.restrict(torch.from_numpy(face.part == part), regions)
    names = face.expression_names
    mirror = [names.index(other) if (other := _other_side(name)) in names else k for k, name in enumerate(names)]
    arrays = carried.arrays(face.identities @ rotation.T.numpy()) | {
        "expression_basis": face.expressions @ rotation.T.numpy(),
        "expression_names": np.array(names),
        "expression_mirror": np.array(mirror),
        "frozen_expressions": np.array([name.startswith(_FROZEN) for name in names]),
        "log_albedo_mean": carried.blended(own.log_albedo_mean),
        "log_albedo_basis": np.stack([carried.blended(mode) for mode in own.log_albedo_basis]),
        "albedo_names": np.array(own.albedo_names),
        "albedo_parts": np.array(own.albedo_parts),
        "name": np.array("ICT-FaceKit, albedo of the package's own face"),
    }
    return MorphableModel(arrays, face.digest, "MIT (ICT-FaceKit, USC Institute for Creative Technologies)")


def _from_basel(basel: BaselFaceModel) -> MorphableModel:
    own = MorphableModel.load_default()
    rotation, translation = upright(basel.mean_shape, basel.keypoints, own)
    vertices = basel.mean_shape @ rotation.T + translation
    carried = _Carried(own, Surface(vertices, basel.triangles, vertices[basel.keypoints]))
    expression = basel.expression_basis @ rotation.T * _BASEL_EXPRESSION_SCALE
    texture = basel.mean_texture.clamp(min=_DARKEST)
    arrays = carried.arrays((basel.identity_basis @ rotation.T).numpy()) | {
        "expression_basis": torch.cat([expression, -expression]).numpy(),
        "expression_names": np.array([f"{sign}{number}" for sign in "+-" for number in range(len(expression))]),
        "expression_mirror": np.arange(2 * len(expression)),
        "frozen_expressions": np.zeros(2 * len(expression), bool),
        # The logarithm's first-order term: exact at the mean texture.
        "log_albedo_mean": texture.log().numpy(),
        "log_albedo_basis": (basel.texture_basis / texture).numpy(),
        "albedo_names": np.array([f"texture {number}" for number in range(len(basel.texture_basis))]),
        "albedo_parts": np.array([_BASEL_TONES, _BASEL_FEATURES]),
        "name": np.array("Basel Face Model, 80 components"),
    }
    return MorphableModel(arrays, basel.digest, "Basel Face Model licence")


class _Carried:
    """What another mean face takes from the package's own: each of its vertices has a place on the own surface."""

    def __init__(self, own: MorphableModel, other: Surface):
        self.own, self.other = own, other
        mine = own_surface(own)
        self.on_own = warp_between(other, mine)(other.vertices)
        self.on_other = warp_between(mine, other)
        self.triangle_region = own.region[own.triangles].mode(1).values
        self.triangle = torch.zeros(len(other.vertices), dtype=torch.int64)
        self.barycentric = torch.zeros(len(other.vertices), 3)
        outer = tuple(name for name in own.region_names if name not in _INNER_REGIONS)
        self.restrict(torch.ones(len(other.vertices), dtype=torch.bool), outer)

    def restrict(self, chosen: Tensor, regions: tuple[str, ...]) -> None:
        """Find the places of the chosen vertices (V,) bool again, among these regions of the own face only."""
        if not chosen.any():
            return
        indices = torch.tensor([self.own.region_names.index(name) for name in regions])
        usable = torch.isin(self.triangle_region, indices).nonzero()[:, 0]
        found, weights = nearest_on_surface(self.on_own[chosen], self.own.mean_shape, self.own.triangles[usable])
        self.triangle[chosen], self.barycentric[chosen] = usable[found], weights

    def blended(self, values: Tensor) -> np.ndarray:
        """Values at the own vertices (V_own,C) -> at the other's (V,C)."""
        return (values[self.own.triangles[self.triangle]] * self.barycentric[..., None]).sum(1).numpy()

    def arrays(self, identity_basis: np.ndarray) -> dict[str, np.ndarray]:
        """Mesh, identities (I,V,3), landmarks and regions, as `MorphableModel` has them."""
        own, other = self.own, self.other
        points = own.surface_points(own.mean_shape[None], own.facemesh_triangles, own.facemesh_barycentric)[0]
        facemesh = nearest_on_surface(self.on_other(points), other.vertices, other.triangles)
        ibug = nearest_on_surface(other.keypoints, other.vertices, other.triangles)
        flip = torch.tensor([-1.0, 1.0, 1.0])
        mirror = nearest_vertex(other.vertices * flip, other.vertices)
        reflected = identity_basis[:, mirror.numpy()] * flip.numpy()
        return {
            "mean_shape": other.vertices.numpy(),
            "triangles": other.triangles.numpy(),
            "mirror": mirror.numpy(),
            "identity_basis": identity_basis,
            "identity_mirror": np.where((reflected * identity_basis).sum((1, 2)) < 0, -1.0, 1.0),
            "region": self.triangle_region[self.triangle].numpy(),
            "region_names": np.array(own.region_names),
            "facemesh_triangles": facemesh[0].numpy(),
            "facemesh_barycentric": facemesh[1].numpy(),
            "ibug68_triangles": ibug[0].numpy(),
            "ibug68_barycentric": ibug[1].numpy(),
        }


def _other_side(name: str) -> str:
    """browDown_L -> browDown_R, mouthLeft -> mouthRight, and back; other names as they are."""
    for left, right in (("_L", "_R"), ("Left", "Right")):
        if name.endswith(left):
            return name.removesuffix(left) + right
        if name.endswith(right):
            return name.removesuffix(right) + left
    return name
