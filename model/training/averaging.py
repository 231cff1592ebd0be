"""Exponential moving average of a network's weights."""

import copy

import torch
from torch import nn


class AveragedNetwork:
    """A copy of a network whose weights follow the network's slowly.

    The average starts as a plain mean, so that the first steps' weights are soon forgotten: at step n the decay is
    min(decay, (1 + n) / (10 + n)). Buffers (statistics of batch norms, vectors of spectral norms) are copied.

    Args:
        network: the trained one.
        decay: 0 to 1; 0: the copy is always equal.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Follow the network after its step number `step` (from 0)."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        ours, theirs = list(self.network.parameters()), list(network.parameters())
        torch._foreach_lerp_(ours, theirs, share)
        for mine, its in zip(self.network.buffers(), network.buffers(), strict=True):
            mine.copy_(its)
