"""Published checkpoints into our networks: what a file holds, which network it is for, where it differs.

Nothing in a file is ever executed: safetensors, or `torch.load(weights_only=True)`, which reads tensors and plain
containers and refuses everything else.
"""

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cfr.model.networks.catalogue import NETWORKS, expected_shapes
from cfr.model.networks.cfrnet import CFRNet

# What DataParallel and torch.compile put in front of every name.
_WRAPPERS = ("module.", "_orig_mod.")
# Counters of training steps that old versions of torch did not save; they have no influence on the output.
_OPTIONAL = "num_batches_tracked"
# First bytes: of today's files of torch, of those of torch before 1.6, of any other pickle.
_ZIP, _OLD_TORCH, _PICKLE = b"PK", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", b"\x80"
_REFUSED = (
    "{path} holds Python objects besides tensors, which are not loaded because loading them can run code; "
    "save the network's state_dict() alone and use that file"
)
# How deep in nested dictionaries states are looked for.
_DEEPEST = 3
# Share of a network's names that a file must have with the right shapes to be called one of its kind.
_LEAST_SHARE = 0.5

Network = TypeVar("Network", bound=nn.Module)
Shapes = dict[str, tuple[int, ...]]
"""State names and their shapes."""


class CheckpointError(ValueError):
    """A file that is no checkpoint, or one of another network. The message names the file and the difference."""


@dataclass(frozen=True)
class Difference:
    """Where a state departs from a network's, in the network's order.

    Attributes:
        expected: how many names the network has.
        missing: names that the network has and the file has not.
        reshaped: names with another shape: (name, the network's, the file's).
        unexpected: names that only the file has.
    """

    expected: int
    missing: tuple[str, ...]
    reshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    unexpected: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.missing) + len(self.reshaped) + len(self.unexpected)

    @property
    def fitting(self) -> int:
        """How many of the network's names are there with the right shape."""
        return self.expected - len(self.missing) - len(self.reshaped)

    def first(self) -> str:
        """The first differing name and what is wrong with it; empty if nothing is."""
        if self.reshaped:
            name, expected, found = self.reshaped[0]
            return f"{name!r} has the shape {list(found)}, expected {list(expected)}"
        if self.missing:
            return f"{self.missing[0]!r} is missing"
        return f"{self.unexpected[0]!r} is not part of it" if self.unexpected else ""


def load_checkpoint(path: str | PathLike, network: Network) -> Network:
    """Fill a network with the weights of a file.

    Bare state dicts, ones inside a dictionary (`{"G_state_dict": ...}`, `{"state_dict": ...}`), and names with the
    prefix of DataParallel are taken alike; of several states in a file, the one that fits. Half-precision weights
    become the network's type.

    Args:
        path: .pth, .pt or .safetensors.
        network: one of ours, on any device. Its mode and its parameters' `requires_grad` stay as they are.

    Returns:
        The network itself. For inference: `load_checkpoint(path, CFRNet()).eval().requires_grad_(False)`.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: the file is no checkpoint, or does not fit: the message names the first differing name, and
            the network that the file looks like.
    """
    states = read_states(path)
    expected = shapes_of(network.state_dict())
    candidates = [adapted(state, network) for state in states.values()]
    state = min(candidates, key=lambda candidate: len(compare(shapes_of(candidate), expected)))
    difference = compare(shapes_of(state), expected)
    if difference:
        raise CheckpointError(f"{path} does not fit {type(network).__name__}: {difference.first()}; {_told(states)}")
    network.load_state_dict(state, strict=False)  # compare() was strict about all but the optional counters
    return network


def load_generator(path: str | PathLike) -> CFRNet:
    """CFRNet with the weights of a file, the authors' or one of `cfr train`, of whatever width and depth it has.

    Returns:
        The network for inference.

    Raises:
        As `load_checkpoint`.
    """
    sizes = [sizes for state in read_states(path).values() if (sizes := CFRNet.sizes_of(state))]
    return load_checkpoint(path, CFRNet(**(sizes[0] if sizes else {}))).eval().requires_grad_(False)


def read_states(path: str | PathLike) -> dict[str, dict[str, Tensor]]:
    """The state dicts in a file, without wrappers' prefixes, by where they are in it ("" for a bare one).

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: not a checkpoint, or none that can be read without executing code.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    content = _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)
    states = {place: _unwrapped(state) for place, state in _find_states(content)}
    if not states:
        raise CheckpointError(f"{path} holds no named tensors, so it is not a network's checkpoint")
    return states


@dataclass(frozen=True)
class Lookalike:
    """The known network that a state is nearest to.

    Attributes:
        name: the network's name in the catalogue.
        sizes: where it has any: arguments of its class that the state asks for.
        difference: what keeps it from fitting; its length is 0 if it fits.
    """

    name: str
    sizes: dict[str, int]
    difference: Difference

    def __str__(self) -> str:
        sizes = "".join(f", {name.replace('_', ' ')} {size}" for name, size in self.sizes.items())
        return f"{self.name}{sizes} ({self.difference.fitting} of {self.difference.expected} names fit)"


def recognise(state: dict[str, Tensor]) -> Lookalike | None:
    """The network of the catalogue that a state fits best; None if it comes near none of them."""
    found = []
    for name, network in NETWORKS.items():
        own = adapted(state, network)
        sizes = network.sizes_of(own) if hasattr(network, "sizes_of") else {}
        found.append(Lookalike(name, sizes, compare(shapes_of(own), expected_shapes(network, **sizes))))
    best = max(found, key=lambda lookalike: lookalike.difference.fitting / lookalike.difference.expected)
    return best if best.difference.fitting >= _LEAST_SHARE * best.difference.expected else None


def compare(found: Shapes, expected: Shapes) -> Difference:
    """How the shapes in a file differ from a network's. Missing counters of training steps don't count."""
    return Difference(
        expected=len(expected),
        missing=tuple(name for name in expected if name not in found and not name.endswith(_OPTIONAL)),
        reshaped=tuple(
            (name, shape, found[name]) for name, shape in expected.items() if found.get(name, shape) != shape
        ),
        unexpected=tuple(name for name in found if name not in expected),
    )


def shapes_of(state: Mapping[str, Tensor]) -> Shapes:
    """Names and shapes of a state dict."""
    return {name: tuple(value.shape) for name, value in state.items()}


def adapted(state: dict[str, Tensor], network: nn.Module | type[nn.Module]) -> dict[str, Tensor]:
    """The state under the network's own names, for networks whose weights are published under others, too."""
    rename = getattr(network, "rename_published", None)
    return rename(state) if rename else state


def _told(states: Mapping[str, dict[str, Tensor]]) -> str:
    lookalikes = [str(lookalike) for state in states.values() if (lookalike := recognise(state))]
    if lookalikes:
        return f"the file looks like: {'; '.join(lookalikes)}"
    return "the file looks like no network that is known here"


def _is_safetensors(path: Path) -> bool:
    """Told by the bytes: the length of a JSON header and its opening brace."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is a damaged safetensors file: {error}") from error


def _read_torch(path: Path) -> object:
    with path.open("rb") as file:
        start = file.read(len(_OLD_TORCH))
    if not start.startswith((_ZIP, _OLD_TORCH)):
        if start.startswith(_PICKLE):
            raise CheckpointError(_REFUSED.format(path=path))
        raise CheckpointError(f"{path} is not a checkpoint of torch or safetensors; it starts with {start!r}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_REFUSED.format(path=path)) from error
    except Exception as error:  # what torch raises on damaged bytes has no common base class
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise CheckpointError(f"{path} is no checkpoint of torch, or damaged: {reason}") from error


def _find_states(content: object, place: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Dictionaries from names to tensors, in the order of the file, however deep (within reason) they are."""
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return
    state = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if state:
        yield place, state
    for name, value in content.items():
        if isinstance(name, str):
            yield from _find_states(value, f"{place}.{name}" if place else name, depth + 1)


def _unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in state):
            return _unwrapped({name.removeprefix(wrapper): value for name, value in state.items()})
    return state
