"""CFRNet made ready for inference."""

import torch
from torch import Tensor, nn
from torch.nn.functional import group_norm

from cfr.model.networks.cfrnet import CFRNet, GatedResidualBlock
from cfr.model.networks.spectral import fold_spectral_norm
from cfr.model.networks.winograd import WinogradConv2d


class PreparedGenerator(nn.Module):
    """CFRNet for inference: the same pictures, faster.

    The spectral norms are folded into the weights. On CUDA everything is in bfloat16 with channels last. On the CPU it
    stays in float32 (the same bits whatever bfloat16 units a machine has), and the residual blocks, three quarters of
    the work, use Winograd's convolution on channels last.

    Args:
        network: CFRNet with its weights; it is taken over and changed.
        device: where it runs.
    """

    def __init__(self, network: CFRNet, device: str | torch.device = "cpu"):
        super().__init__()
        network.eval().requires_grad_(False)
        fold_spectral_norm(network)
        self.on_cuda = torch.device(device).type == "cuda"
        if not self.on_cuda:
            for block in network.resblocks:
                _accelerate(block)
        layout = torch.channels_last if self.on_cuda else torch.preserve_format
        self.network = network.to(device, memory_format=layout)

    @torch.inference_mode()
    def forward(self, rotated: Tensor, guidance: Tensor) -> tuple[Tensor, Tensor]:
        """See CFRNet; the results are float32."""
        if self.on_cuda:
            rotated, guidance = (each.contiguous(memory_format=torch.channels_last) for each in (rotated, guidance))
        with torch.autocast("cuda", torch.bfloat16, enabled=self.on_cuda):
            image, mask = self.network(rotated, guidance)
        return image.float(), mask.float()


class _ChannelsLastNorm(nn.Module):
    """Instance normalisation that leaves channels last where they are.

    For small maps: on those of 224 px torch's kernel for channels last loses two digits.
    """

    def forward(self, x: Tensor) -> Tensor:
        return group_norm(x, x.shape[1])


def _accelerate(block: GatedResidualBlock) -> None:
    for part in (block.conv_block, block.gating):
        for index, layer in enumerate(part):
            if isinstance(layer, nn.InstanceNorm2d):
                part[index] = _ChannelsLastNorm()
            elif isinstance(layer, nn.Conv2d):
                part[index] = WinogradConv2d(layer)
            elif hasattr(layer, "conv2d"):
                part[index] = WinogradConv2d(layer.conv2d)
