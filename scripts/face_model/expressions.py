"""The 52 expression shapes (ARKit's names) on the face mesh, made mirror-symmetric."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from base_mesh import AnnyData
from geometry import FaceMesh

# Gaze does not show in the landmarks, and the tongue is not worth its false positives.
FROZEN = ("eyeLook", "tongueOut")
# The face units overshoot on average lids, which are less open than the base mesh's: closed at 1, not at 0.6.
STRENGTH = {"eyeBlinkLeft": 0.78, "eyeBlinkRight": 0.78}


@dataclass(frozen=True)
class Expressions:
    """names (E,); basis (E, V, 3) dm at coefficient 1; frozen (E,) bool; mirror (E,) index of the mirrored one."""

    names: list[str]
    basis: np.ndarray
    frozen: np.ndarray
    mirror: np.ndarray


def build_expressions(data: AnnyData, mesh: FaceMesh) -> Expressions:
    """Face units on the face mesh; each is averaged with its mirrored partner's mirror image."""
    names = sorted(path.stem for path in (data.folder / "faceunits01/targets/faceunits").glob("*.target"))
    mirror = np.array([names.index(_other_side(name)) for name in names])
    raw = np.stack([mesh.weights @ data.target(f"faceunits/{name}") for name in names])
    mirrored = raw[mirror][:, mesh.mirror] * [-1, 1, 1]
    strength = np.array([STRENGTH.get(name, 1.0) for name in names])[:, None, None]
    frozen = np.array([name.startswith(FROZEN) for name in names])
    return Expressions(names, 0.5 * strength * (raw + mirrored), frozen, mirror)


def _other_side(name: str) -> str:
    if name.endswith("Left"):
        return name.removesuffix("Left") + "Right"
    if name.endswith("Right"):
        return name.removesuffix("Right") + "Left"
    return name
