"""Convolution with spectral normalisation, under the names that the paper's checkpoints use."""

from torch import Tensor, nn
from torch.nn.utils import remove_spectral_norm, spectral_norm

from cfr.model.networks.winograd import TrainableWinogradConv2d


class SpectralConv2d(nn.Module):
    """2-D convolution whose weight is divided by its largest singular value (Miyato et al. 2018).

    The old interface of torch is used on purpose: published checkpoints have its keys `weight_orig`, `weight_u`,
    `weight_v`. In training mode each forward pass makes one step of power iteration; in evaluation mode none.
    """

    def __init__(self, channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0):
        super().__init__()
        if (kernel_size, stride) == (3, 1):
            convolution = TrainableWinogradConv2d(channels, out_channels, padding)
        else:
            convolution = nn.Conv2d(channels, out_channels, kernel_size, stride, padding)
        nn.init.kaiming_normal_(convolution.weight)
        self.conv2d = spectral_norm(convolution)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2d(x)


def fold_spectral_norm(network: nn.Module) -> None:
    """Divide the weights once and for all, in place: the network computes the same in evaluation mode, faster.

    Its state has `weight` in place of `weight_orig`, `weight_u` and `weight_v` afterwards.
    """
    for module in network.modules():
        if hasattr(module, "weight_orig"):
            remove_spectral_norm(module)
