"""The paper's critic: the same patch network at full and at half resolution."""

from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, leaky_relu

from cfr.model.networks.spectral import SpectralConv2d


class PatchDiscriminator(nn.Module):
    """Four strided convolutions and one score per patch."""

    def __init__(self, width: int):
        super().__init__()
        channels = (3, width, 2 * width, 4 * width, 8 * width)
        self.net = nn.Sequential(
            *(SpectralConv2d(c, d, 4, stride=2, padding=2) for c, d in pairwise(channels)),
            SpectralConv2d(channels[-1], 1, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B,3,H,W) in -1..1 -> scores (B,P), row by row."""
        *convolutions, score = self.net
        for convolution in convolutions:
            image = leaky_relu(convolution(image), 0.2)
        return score(image).flatten(1)


class TwoScaleDiscriminator(nn.Module):
    """Scores of an image's patches at two scales; higher is more real (a critic: no sigmoid).

    Args:
        width: channels after the first convolution; they double three times.
    """

    def __init__(self, width: int = 64):
        super().__init__()
        self.D1 = PatchDiscriminator(width)
        self.D2 = PatchDiscriminator(width)

    @staticmethod
    def sizes_of(state: Mapping[str, Tensor]) -> dict[str, int]:
        """`width` of the network that a state belongs to; nothing where it does not tell."""
        first = state.get("D1.net.0.conv2d.bias")
        return {"width": len(first)} if first is not None and first.dim() == 1 and len(first) else {}

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Score images.

        Args:
            image: (B,3,H,W) float RGB in -1..1.

        Returns:
            Scores of the full scale and of the half scale; at 224 px (B,225) and (B,64).
        """
        return self.D1(image), self.D2(avg_pool2d(image, 2))
