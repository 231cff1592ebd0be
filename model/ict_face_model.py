"""The face of ICT-FaceKit (Li et al. 2020, USC Institute for Creative Technologies, MIT licence) from its OBJ files.

One file is the neutral face, one each a mode of identity or an expression, all with the same 26,719 vertices in
centimetres. The skin, eyes, teeth and gums are used; the transparent shells before the eyes, lashes and the neck's
back are not.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

NEUTRAL = "generic_neutral_mesh.obj"
FACE_VERTICES = 9409
# Vertices of the used parts: [first, end).
PARTS = {
    "face": (0, 9409),
    "mouth": (11248, 13294),
    "eye sockets": (13294, 14062),
    "gums and tongue": (14062, 17039),
    "teeth": (17039, 21451),
    "eyeballs": (21451, 24591),
}
# Vertices of the 68 points (Multi-PIE order, that of iBUG 300-W), as the model's documentation lists them.
KEYPOINTS = np.array(
    [
        *(1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443),
        *(268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509),
        *(978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360),
        *(1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732),
        *(5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841),
        *(5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966),
    ]
)
_DECIMETRES = 0.1


@dataclass(frozen=True)
class ICTFace:
    """The used part of the model.

    Attributes:
        vertices: (V,3) float32 decimetres, neutral.
        part: (V,) str, keys of PARTS.
        triangles: (F,3) int64.
        identities (I,V,3), expressions (E,V,3): float32 decimetres, differences to the neutral face.
        expression_names: of the files, in alphabetical order.
        digest: sha256 hex of all files' digests in a row.
    """

    vertices: np.ndarray
    part: np.ndarray
    triangles: np.ndarray
    identities: np.ndarray
    expressions: np.ndarray
    expression_names: tuple[str, ...]
    digest: str


def find_folder(path: Path) -> Path:
    """FaceXModel, from the path of itself or of the repository.

    Raises:
        ValueError: there is no neutral mesh.
    """
    folder = path / "FaceXModel" if (path / "FaceXModel").is_dir() else path
    if not (folder / NEUTRAL).is_file():
        raise ValueError(f"{path} is a folder without {NEUTRAL}, so it is not the FaceXModel of ICT-FaceKit")
    return folder


def read_folder(path: Path) -> ICTFace:
    """Read the repository's folder, or FaceXModel itself.

    Raises:
        ValueError: a file is missing, damaged, or has other vertices than the neutral mesh.
    """
    folder = find_folder(path)
    neutral, quads = _read_obj(folder / NEUTRAL)
    if len(neutral) < FACE_VERTICES:
        raise ValueError(f"{folder / NEUTRAL} has {len(neutral)} vertices; the face alone has {FACE_VERTICES}")
    names = sorted(file.stem for file in folder.glob("*.obj") if file.name != NEUTRAL)
    identities = [name for name in names if name.startswith("identity")]
    expressions = [name for name in names if not name.startswith("identity")]
    if not identities or not expressions:
        raise ValueError(f"{folder} has no identity or no expression shapes: clone the whole repository ICT-FaceKit")
    ranges = {name: (first, end) for name, (first, end) in PARTS.items() if end <= len(neutral)}
    used = np.concatenate([np.arange(first, end) for first, end in ranges.values()])
    part = np.concatenate([np.full(end - first, name) for name, (first, end) in ranges.items()])
    place = np.full(len(neutral), -1)
    place[used] = np.arange(len(used))
    triangles = place[np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])]
    triangles = triangles[(triangles >= 0).all(1) & (triangles[:, 1] != triangles[:, 2])]

    def difference(name: str) -> np.ndarray:
        shape, _ = _read_obj(folder / f"{name}.obj", with_faces=False)
        if shape.shape != neutral.shape:
            raise ValueError(f"{folder / name}.obj has {len(shape)} vertices, {NEUTRAL} has {len(neutral)}")
        return ((shape - neutral)[used] * _DECIMETRES).astype(np.float32)

    files = [folder / NEUTRAL, *(folder / f"{name}.obj" for name in (*identities, *expressions))]
    digests = b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)
    return ICTFace(
        (neutral[used] * _DECIMETRES).astype(np.float32),
        part,
        triangles,
        np.stack([difference(name) for name in identities]),
        np.stack([difference(name) for name in expressions]),
        tuple(expressions),
        hashlib.sha256(digests).hexdigest(),
    )


def _read_obj(path: Path, with_faces: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V,3) float64 and faces (F,4) int64 from 0; a triangle's last corner comes twice."""
    lines = path.read_bytes().split(b"\n")
    try:
        vertices = np.array([line.split()[1:4] for line in lines if line.startswith(b"v ")]).astype(np.float64)
        if vertices.ndim != 2 or vertices.shape[1] != 3 or not np.isfinite(vertices).all():
            raise ValueError("it has no vertices")
        faces = [
            [int(corner.split(b"/")[0]) - 1 for corner in line.split()[1:]]
            for line in (lines if with_faces else ())
            if line.startswith(b"f ")
        ]
    except ValueError as error:
        raise ValueError(f"{path} is not an OBJ file as ICT-FaceKit has them: {error}") from None
    faces = [(*face, face[-1]) if len(face) == 3 else tuple(face) for face in faces]
    if any(len(face) != 4 or min(face) < 0 or max(face) >= len(vertices) for face in faces):
        raise ValueError(f"{path} has a face that is no triangle or quadrangle of its own vertices")
    return vertices, np.array(faces, dtype=np.int64).reshape(-1, 4)
