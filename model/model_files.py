"""What a file from elsewhere is: a network's checkpoint, a face model, or nothing that can be used here."""

import zipfile
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from torch import Tensor

from cfr.model.checkpoints import Lookalike, load_checkpoint, read_states, recognise
from cfr.model.face_model import MorphableModel
from cfr.model.ict_face_model import FACE_VERTICES, NEUTRAL, find_folder
from cfr.model.networks.catalogue import NETWORKS
from cfr.model.networks.face_parsing import FaceParsing
from cfr.model.paper.face_model import BaselFaceModel
from cfr.model.parsing_labels import WIDESPREAD_ORDER, label_order

BASEL = "Basel face model of CFR-GAN (BFM_model_80.mat)"
DEFAULT_LAYOUT = "face model of this package's layout"
ICT = "ICT-FaceKit face model"


@dataclass(frozen=True)
class Finding:
    """What a file, or one of several states in it, is.

    Attributes:
        kind: a name of `cfr.model.networks.catalogue.NETWORKS` or one of the constants above; empty if unknown.
        fits: it can be used.
        place: where in the file it is, for example `G_state_dict`; empty at the top.
        about: a line on its contents.
        differences: one line for each name that differs, in the network's order.
    """

    kind: str
    fits: bool
    place: str = ""
    about: str = ""
    differences: tuple[str, ...] = ()


def examine(path: str | PathLike) -> list[Finding]:
    """Say what a file or folder is; nothing in it is executed.

    Returns:
        One finding for a face model, one for each state dict of a checkpoint.

    Raises:
        FileNotFoundError: there is nothing at this path.
        ValueError: it is no model at all, or a face model with something missing or wrong.
        ImportError: a MATLAB file, and SciPy is not installed.
    """
    path = Path(path)
    if path.is_dir():
        return [_ict_folder(path)]
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    if _is_npz(path):
        model = MorphableModel.load(path)
        bases = model.identity_basis, model.expression_basis, model.log_albedo_basis
        return [Finding(DEFAULT_LAYOUT, True, about=_mesh_line(len(model.mean_shape), *map(len, bases)))]
    if path.suffix.lower() == ".mat" or _starts_with(path, b"MATLAB"):
        model = BaselFaceModel.load(path)
        bases = model.identity_basis, model.expression_basis, model.texture_basis
        return [Finding(BASEL, True, about=_mesh_line(len(model.mean_shape), *map(len, bases)))]
    return [_state(path, place, state) for place, state in read_states(path).items()]


def _state(path: Path, place: str, state: dict[str, Tensor]) -> Finding:
    numbers = sum(value.numel() for value in state.values())
    about = f"{len(state)} names, {numbers / 1e6:.1f} million numbers"
    lookalike = recognise(state)
    if lookalike is None:
        return Finding("", False, place, about, tuple(f"{name} {list(value.shape)}" for name, value in state.items()))
    fits = len(lookalike.difference) == 0
    if lookalike.sizes:
        about += "".join(f", {name.replace('_', ' ')} {size}" for name, size in lookalike.sizes.items())
    if fits and NETWORKS[lookalike.name] is FaceParsing:
        about += f", labels in {_labels(path)}"
    return Finding(lookalike.name, fits, place, about, _lines(lookalike))


def _labels(path: Path) -> str:
    order = label_order(load_checkpoint(path, FaceParsing()).eval())
    if not order:
        return "an unknown order (it does not see the nose of a portrait: untrained?)"
    return f"{order} (converted when it is loaded)" if order == WIDESPREAD_ORDER else order


def _lines(lookalike: Lookalike) -> tuple[str, ...]:
    difference = lookalike.difference
    return (
        *(f"{name}: shape {list(found)}, expected {list(wanted)}" for name, wanted, found in difference.reshaped),
        *(f"{name}: missing" for name in difference.missing),
        *(f"{name}: not part of it" for name in difference.unexpected),
    )


def _ict_folder(path: Path) -> Finding:
    """ICT-FaceKit's repository, or its folder FaceXModel: the neutral mesh, identities, and an OBJ per expression."""
    folder = find_folder(path)
    neutral = folder / NEUTRAL
    with neutral.open("rb") as file:
        vertices = sum(line.startswith(b"v ") for line in file)
    names = {file.stem for file in folder.glob("*.obj")} - {neutral.stem}
    identities = sorted(name for name in names if name.startswith("identity"))
    expressions = len(names) - len(identities)
    if vertices < FACE_VERTICES:
        raise ValueError(f"{neutral} has {vertices} vertices; the face alone has {FACE_VERTICES}: is it cut off?")
    absent = [f"identity{n:03d}" for n in range(len(identities)) if f"identity{n:03d}" not in names]
    if not identities or absent or not expressions:
        what = f"{absent[0]}.obj" if absent else "identity000.obj" if not identities else "expressions"
        raise ValueError(f"{folder} lacks {what}: clone the whole repository ICT-FaceKit again")
    return Finding(ICT, True, about=_mesh_line(vertices, len(identities), expressions, 0))


def _mesh_line(vertices: int, identities: int, expressions: int, colours: int) -> str:
    return f"{vertices} vertices; {identities} identity, {expressions} expression, {colours} colour components"


def _is_npz(path: Path) -> bool:
    if not _starts_with(path, b"PK") or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(name.endswith(".npy") for name in archive.namelist())


def _starts_with(path: Path, start: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(start)) == start
