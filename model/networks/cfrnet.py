"""CFRNet, the paper's generator: a damaged rotated face and its guidance -> the completed face and its mask.

Ju et al., "Complete Face Recovery GAN", WACV 2022, section 3.3. The module's attributes carry the names of the
published checkpoints.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from cfr.model.networks.spectral import SpectralConv2d
from cfr.model.networks.winograd import TrainableWinogradConv2d

_SLOPE = 0.2
_FIRST_CORRECTION = 0.1


class AdaptiveFeatureDifference(nn.Module):
    """Where two feature maps disagree: a convolution of their squared difference, normalised."""

    def __init__(self, channels: int):
        super().__init__()
        # Never called, neither here nor by the authors; the checkpoints have their weights.
        self.embedding_r = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1)).requires_grad_(False)
        self.embedding_g = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1)).requires_grad_(False)
        self.conv_IN = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.InstanceNorm2d(channels))

    def forward(self, rotated: Tensor, guidance: Tensor) -> Tensor:
        return self.conv_IN((rotated - guidance).square())


class GatedDownsampling(nn.Module):
    """Strided convolution whose output is let through where the gate, a mask of damage, is low."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.gating = nn.Sequential(*self._convolution(channels, out_channels))
        self.feature_extract = nn.Sequential(*self._convolution(channels, out_channels), nn.LeakyReLU(_SLOPE))

    @staticmethod
    def _convolution(channels: int, out_channels: int) -> tuple[nn.Module, ...]:
        return (
            nn.ReflectionPad2d(1),
            SpectralConv2d(channels, out_channels, 3, stride=2),
            nn.InstanceNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B,C,H,W) -> features (B,D,H/2,W/2) and the gate of the same shape before its sigmoid."""
        gate = self.gating(x)
        return (1 - gate.sigmoid()) * self.feature_extract(x), gate


class GatedResidualBlock(nn.Module):
    """The input times its own gate, plus two convolutions of that."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv_block = nn.Sequential(
            *(nn.ReflectionPad2d(1), SpectralConv2d(channels, channels, 3), nn.InstanceNorm2d(channels)),
            nn.LeakyReLU(_SLOPE),
            *(nn.ReflectionPad2d(1), SpectralConv2d(channels, channels, 3), nn.InstanceNorm2d(channels)),
        )
        self.gating = nn.Sequential(
            TrainableWinogradConv2d(channels, channels, padding=1), nn.InstanceNorm2d(channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.gating(x)
        return x + self.conv_block(x)


class Upsampling(nn.Module):
    """Transposed convolution to twice the size."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.conv_trans = nn.utils.spectral_norm(nn.ConvTranspose2d(channels, out_channels, 4, stride=2, padding=1))
        self.IN = nn.InstanceNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(self.IN(self.conv_trans(x)), _SLOPE)


class MaskHead(nn.Module):
    """The difference and the two gates, from coarse to fine -> one mask."""

    def __init__(self, width: int):
        super().__init__()
        self.upsample_64_to_128 = nn.Sequential(*self._doubling(4 * width, 2 * width))
        self.upsample_128_to_256 = nn.Sequential(
            *(nn.Conv2d(4 * width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.LeakyReLU(_SLOPE)),
            *self._doubling(2 * width, width),
        )
        self.conv = nn.Sequential(nn.Conv2d(width, 1, 3, padding=1), nn.Sigmoid())

    @staticmethod
    def _doubling(channels: int, out_channels: int) -> tuple[nn.Module, ...]:
        upsampling = nn.ConvTranspose2d(channels, out_channels, 3, stride=2, padding=1, output_padding=1)
        return upsampling, nn.BatchNorm2d(out_channels), nn.LeakyReLU(_SLOPE)

    def forward(self, difference: Tensor, gate: Tensor, coarse_gate: Tensor) -> Tensor:
        """(B,C,H,W), (B,2C,H/2,W/2), (B,4C,H/4,W/4), all before their sigmoids -> (B,1,H,W) in 0..1."""
        gates = torch.cat([gate, self.upsample_64_to_128(coarse_gate)], dim=1)
        return self.conv(difference + self.upsample_128_to_256(gates))


class CFRNet(nn.Module):
    """The paper's generator.

    Sides must be multiples of 4 (the paper: 224) and at least 8.

    Args:
        width: channels at full resolution; twice and four times as many at half and a quarter.
        residual_blocks: at a quarter of the resolution.
        blended: not in the paper: instead of painting every pixel, the decoder corrects a blend of `rotated` and
            guidance by the mask. So what is visible need not go through the bottleneck, and training starts near a
            face. The state has one more entry, `correction`.
    """

    def __init__(self, width: int = 64, residual_blocks: int = 9, blended: bool = False):
        super().__init__()
        self.conv_r = self._stem(width)
        self.conv_g = self._stem(width)
        self.afd = AdaptiveFeatureDifference(width)
        self.downsample = nn.ModuleList([GatedDownsampling(width, 2 * width), GatedDownsampling(2 * width, 4 * width)])
        self.resblocks = nn.Sequential(*(GatedResidualBlock(4 * width) for _ in range(residual_blocks)))
        self.upsample = nn.Sequential(Upsampling(4 * width, 2 * width), Upsampling(2 * width, width))
        self.last_conv = nn.Sequential(nn.ReflectionPad2d(3), SpectralConv2d(width, 3, 7), nn.Tanh())
        self.mixing = MaskHead(width)
        if blended:
            # How much of the decoder's output, whose scale is fixed by its spectral norm, is added to the blend.
            self.correction = nn.Parameter(torch.full((3, 1, 1), _FIRST_CORRECTION))
        self.blended = blended

    @staticmethod
    def sizes_of(state: Mapping[str, Tensor]) -> dict[str, int]:
        """Arguments for the network that a state belongs to; the paper's where it does not tell."""
        stem = state.get("conv_r.1.conv2d.bias")
        blocks = {name.split(".")[1] for name in state if name.startswith("resblocks.")}
        sizes = {"width": len(stem)} if stem is not None and stem.dim() == 1 and len(stem) else {}
        sizes |= {"residual_blocks": len(blocks)} if blocks else {}
        return sizes | ({"blended": True} if "correction" in state else {})

    @staticmethod
    def _stem(width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.ReflectionPad2d(3), SpectralConv2d(3, width, 7), nn.InstanceNorm2d(width), nn.LeakyReLU(_SLOPE)
        )

    def forward(self, rotated: Tensor, guidance: Tensor) -> tuple[Tensor, Tensor]:
        """Complete faces.

        Args:
            rotated: (B,3,H,W) float RGB in -1..1, the photo's texture at the wanted pose, damaged; black outside.
            guidance: the same shape and range, the face model at that pose.

        Returns:
            image (B,3,H,W) RGB in -1..1 and mask (B,1,H,W) in 0..1, 1 where `rotated` was not to be trusted.
        """
        stem = self.conv_r(rotated)
        difference = self.afd(stem, self.conv_g(guidance))
        features, gate = self.downsample[0](stem * (1 - difference.sigmoid()))
        features, coarse_gate = self.downsample[1](features)
        image = self.last_conv(self.upsample(self.resblocks(features)))
        mask = self.mixing(difference, gate, coarse_gate)
        if self.blended:
            image = (rotated + (guidance - rotated) * mask + self.correction * image).clamp(-1, 1)
        return image, mask
