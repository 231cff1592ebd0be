"""Fréchet and kernel distance of completed faces from photos (`cfr.model.distribution`), while a training validates.

With the features of the perceptual loss's network in place of Inception-v3, so that no other file is needed. Good for
comparing runs; not comparable with published values.
"""

import torch
from torch import Tensor

from cfr.model.distribution import PooledFeatures, distance_metrics
from cfr.model.networks.perceptual import ResNet50Slices, VGG19Slices
from cfr.model.training.config import ConfigError

_KID_SUBSETS, _KID_SUBSET_SIZE = 20, 100


class RealismScores:
    """Collects pictures of one validation and scores them all together, over all processes.

    Args:
        network: of the perceptual loss, in evaluation mode.

    Raises:
        ConfigError: torchmetrics is not installed.
    """

    def __init__(self, network: ResNet50Slices | VGG19Slices):
        try:
            metrics = distance_metrics(PooledFeatures(network), _KID_SUBSETS)
        except ModuleNotFoundError as error:
            raise ConfigError(str(error)) from error
        device = next(network.parameters()).device
        self.frechet, self.kernel = (metric.to(device) for metric in metrics)
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
