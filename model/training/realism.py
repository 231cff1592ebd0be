"""Fréchet and kernel distance of completed faces from photos, by torchmetrics (the extra `metrics`).

FID (Heusel et al. 2017) and KID (Bińkowski et al. 2018) with the features of the perceptual loss's network in place of
Inception-v3, so that no other file is needed. Good for comparing runs; not comparable with published values.
"""

import warnings

import torch
from torch import Tensor, nn

from cfr.model.losses import imagenet_normalised
from cfr.model.networks.perceptual import ResNet50Slices, VGG19Slices
from cfr.model.training.config import ConfigError

_KID_SUBSETS, _KID_SUBSET_SIZE = 20, 100


class _PooledFeatures(nn.Module):
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


class RealismScores:
    """Collects pictures of one validation and scores them all together, over all processes.

    Args:
        network: of the perceptual loss, in evaluation mode.

    Raises:
        ConfigError: torchmetrics is not installed.
    """

    def __init__(self, network: ResNet50Slices | VGG19Slices):
        try:
            from torchmetrics.image.fid import FrechetInceptionDistance
            from torchmetrics.image.kid import KernelInceptionDistance
        except ModuleNotFoundError as error:
            raise ConfigError("distances need torchmetrics: pip install 'cfr[metrics]'") from error
        device = next(network.parameters()).device
        features = _PooledFeatures(network)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that KID keeps features in memory
            self.frechet = FrechetInceptionDistance(features, normalize=True).to(device)
            self.kernel = KernelInceptionDistance(features, subsets=_KID_SUBSETS, normalize=True).to(device)
        self.pictures = 0

    def reset(self) -> None:
        """Forget the pictures."""
        self.pictures = 0
        self.frechet.reset()
        self.kernel.reset()

    def update(self, image: Tensor, target: Tensor) -> None:
        """Collect pictures (B,3,H,W) float RGB 0..1."""
        self.pictures += len(image)
        for metric in (self.frechet, self.kernel):
            metric.update(target, real=True)
            metric.update(image.clamp(0, 1), real=False)

    def compute(self) -> dict[str, float]:
        """`frechet_distance` and `kernel_distance`; empty with fewer than two pictures."""
        if self.pictures < 2:
            return {}
        self.kernel.subset_size = min(_KID_SUBSET_SIZE, self.pictures)
        with torch.random.fork_rng():
            torch.manual_seed(0)  # chooses the subsets
            kernel, _ = self.kernel.compute()
        return {"frechet_distance": float(self.frechet.compute()), "kernel_distance": float(kernel)}
