"""How far apart two sets of pictures are: FID and KID on the features of a network, by torchmetrics (extra `metrics`).

FID: Fréchet distance of two normal distributions (Heusel et al. 2017). KID: squared maximum mean discrepancy with the
kernel (x.y / F + 1)^3 (Bińkowski et al. 2018). Published values use Inception-v3 (`networks/inception.py`); any other
network gives distances that can be compared with each other only.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfr.model.alignment import CROP_SIZE
from cfr.model.checkpoints import CheckpointError, load_checkpoint, read_states, recognise
from cfr.model.losses import imagenet_normalised
from cfr.model.networks.catalogue import NETWORKS
from cfr.model.networks.identity_encoder import IdentityEncoder, identity_crop
from cfr.model.networks.inception import InceptionV3
from cfr.model.networks.perceptual import ResNet50Slices, VGG19Slices

# As published: a hundred subsets of a thousand pictures; fewer pictures than that are one subset.
KERNEL_SUBSETS, KERNEL_SUBSET_SIZE = 100, 1000
HALVES = 12
"""How many times both sets are halved at random to see how much a distance varies."""
# Two-sided 95 % quantile of Student's distribution with HALVES - 1 degrees of freedom.
_QUANTILE = 2.2
_ROWS_AT_ONCE = 1024


class PooledFeatures(nn.Module):
    """The last slice's features, averaged over the picture: (B,3,H,W) 0..1 -> (B,F)."""

    def __init__(self, network: ResNet50Slices | VGG19Slices):
        super().__init__()
        self.network = network

    @property
    def num_features(self) -> int:
        """F; asked for by torchmetrics."""
        return self(torch.zeros(1, 3, 64, 64, device=next(self.parameters()).device)).shape[1]

    def forward(self, picture: Tensor) -> Tensor:
        return self.network(imagenet_normalised(picture * 2 - 1))[-1].mean((2, 3))


class _IdentityFeatures(nn.Module):
    """IR-SE-50's embeddings, of length 1, of the paper's aligned crops: (B,3,H,W) 0..1 -> (B,512)."""

    def __init__(self, network: IdentityEncoder):
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor) -> Tensor:
        if picture.shape[-2:] != (CROP_SIZE, CROP_SIZE):
            picture = F.interpolate(picture, (CROP_SIZE, CROP_SIZE), mode="bilinear", antialias=True)
        return F.normalize(self.network(identity_crop(picture * 2 - 1)))


# Networks whose features can be compared, and what makes features of them.
_EXTRACTORS: dict[type[nn.Module], Callable[[nn.Module], nn.Module]] = {
    InceptionV3: lambda network: network,
    ResNet50Slices: PooledFeatures,
    VGG19Slices: PooledFeatures,
    IdentityEncoder: _IdentityFeatures,
}


@dataclass(frozen=True)
class FeatureNetwork:
    """A network that turns pictures into features.

    Attributes:
        kind: its name in `cfr.model.networks.catalogue.NETWORKS`.
        published: distances on its features are those that papers report.
        extract: (B,3,H,W) float32 RGB 0..1 -> (B,F).
    """

    kind: str
    published: bool
    extract: nn.Module


def load_feature_network(path: str | PathLike, device: str | torch.device = "cpu") -> FeatureNetwork:
    """The network that a file holds: Inception-v3 of FID, ResNet-50, VGG-19 or IR-SE-50.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: no checkpoint, none of these networks, or one that does not fit.
    """
    lookalikes = [found for state in read_states(path).values() if (found := recognise(state))]
    kinds = [found.name for found in lookalikes if NETWORKS[found.name] in _EXTRACTORS]
    if not kinds:
        wanted = ", ".join(name for name, network in NETWORKS.items() if network in _EXTRACTORS)
        known = f"it looks like: {lookalikes[0].name}" if lookalikes else "it looks like no network that is known here"
        raise CheckpointError(f"{path} holds no network for features ({wanted}); {known}")
    network = load_checkpoint(path, NETWORKS[kinds[0]]()).eval().requires_grad_(False)
    extract = _EXTRACTORS[type(network)](network).to(device).eval()
    return FeatureNetwork(kinds[0], isinstance(network, InceptionV3), extract)


def distance_metrics(features: nn.Module, kernel_subsets: int) -> tuple[nn.Module, nn.Module]:
    """torchmetrics' FrechetInceptionDistance and KernelInceptionDistance on features of pictures (B,3,H,W) 0..1.

    Raises:
        ModuleNotFoundError: torchmetrics is not installed; the message says how to install it.
    """
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.kid import KernelInceptionDistance
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("distances need torchmetrics: pip install 'cfr[metrics]'") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that KID keeps features in memory
        frechet = FrechetInceptionDistance(features, normalize=True)
        return frechet, KernelInceptionDistance(features, subsets=kernel_subsets, normalize=True)


@dataclass(frozen=True)
class Distance:
    """A distance of two sets and how sure it is.

    Attributes:
        value: of all pictures.
        error: standard error, None where a set has fewer than four pictures.
        interval: 95 %, around the value.
    """

    value: float
    error: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class SetDistances:
    """What `set_distances` finds.

    Attributes:
        frechet, kernel: FID and KID; KID is without bias and can be a little below 0, FID never.
        frechet_floor: FID of one half of the first set from its other half, mean of three halvings: what FID shows at
            that size where there is no difference at all. None below four pictures.
    """

    frechet: Distance
    kernel: Distance
    frechet_floor: float | None


@torch.inference_mode()
def set_distances(
    first: Tensor, second: Tensor, seed: int = 0, progress: Callable[[], None] | None = None
) -> SetDistances:
    """Distances of two sets by their features (N,F) and (M,F), N and M at least 2.

    The error is that of the delete-half jackknife (Shao and Wu 1989): both sets are halved at random, and the deviation
    of the halves' distances is the whole's standard error. Unlike a bootstrap it draws no picture twice, which would
    make FID larger than it is. The bias that FID has with few pictures is not part of the interval: see the floor.

    Raises:
        ModuleNotFoundError: see `distance_metrics`.
    """
    generator = torch.Generator().manual_seed(seed)
    tick = progress or (lambda: None)

    def half(features: Tensor) -> tuple[Tensor, Tensor]:
        order = torch.randperm(len(features), generator=generator)
        middle = len(features) // 2
        return features[order[:middle]], features[order[middle:]]

    whole = _distances(first, second)
    tick()
    if min(len(first), len(second)) < 4:
        return SetDistances(*(Distance(value, None, None) for value in whole), None)
    halves = []
    for _ in range(HALVES):
        halves.append(_distances(half(first)[0], half(second)[0]))
        tick()
    floor = sum(_frechet(*half(first)) for _ in range(3)) / 3
    tick()
    errors = torch.tensor(halves, dtype=torch.float64).std(0).tolist()
    found = (
        Distance(value, error, (value - _QUANTILE * error, value + _QUANTILE * error))
        for value, error in zip(whole, errors, strict=True)
    )
    return SetDistances(*found, floor)


@torch.inference_mode()
def nearest(features: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Euclidean distance (N,) from each of features (N,F) to the nearest of others (M,F), and its index (N,)."""
    parts = [torch.cdist(part, others).min(1) for part in features.split(_ROWS_AT_ONCE)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def _distances(first: Tensor, second: Tensor) -> tuple[float, float]:
    return _frechet(first, second), _kernel(first, second)


class _AsTheyAre(nn.Module):
    """Hands torchmetrics features that are at hand already."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def _frechet(first: Tensor, second: Tensor) -> float:
    count, width = len(first), first.shape[1]
    both = torch.cat([first, second]).double()
    if len(both) < width:
        # Fewer pictures than features: the same distance within the space that they span, for less work.
        both = both @ torch.linalg.qr(both.T).Q
    metric, _ = distance_metrics(_AsTheyAre(both.shape[1]), 1)
    metric.update(both[:count], real=True)
    metric.update(both[count:], real=False)
    return max(float(metric.compute()), 0.0)


def _kernel(first: Tensor, second: Tensor) -> float:
    size = min(len(first), len(second), KERNEL_SUBSET_SIZE)
    # All pictures of both sets in one subset: there is only one.
    subsets = 1 if len(first) == len(second) == size else KERNEL_SUBSETS
    _, metric = distance_metrics(_AsTheyAre(first.shape[1]), subsets)
    metric.subset_size = size
    metric.update(first.double(), real=True)
    metric.update(second.double(), real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # chooses the subsets
        return float(metric.compute()[0])
