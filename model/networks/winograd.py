"""3x3 convolution on the CPU with a quarter of the multiplications (Winograd's F(4x4, 3x3); Lavin and Gray 2016)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

# The transforms for outputs of 4 x 4 from inputs of 6 x 6, at the points 0, 1, -1, 2, -2 and infinity.
_TILE, _STEP = 6, 4
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_WEIGHT = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


class WinogradConv2d(nn.Module):
    """Computes what a convolution computes, for inference; pays from about 128 channels on, and on small maps most.

    The transformed weights take four times the room. The rounding error in float32 is about 4e-5 of the outputs' size.

    Args:
        convolution: 3 x 3, stride 1, with a bias, padded with zeros or not at all.
    """

    def __init__(self, convolution: nn.Conv2d):
        super().__init__()
        if convolution.kernel_size != (3, 3) or convolution.stride != (1, 1) or convolution.bias is None:
            raise ValueError(f"Winograd is for 3 x 3 convolutions of stride 1 with a bias, not {convolution}")
        across, weight, back = (torch.tensor(rows, dtype=torch.float64) for rows in (_INPUT, _WEIGHT, _OUTPUT))
        kernels = torch.einsum("ia,ocab,jb->ijco", weight, convolution.weight.detach().double().cpu(), weight)
        self.padding = convolution.padding[0]
        # Rows and columns are transformed in one product.
        self.register_buffer("across", torch.kron(across, across).float())
        self.register_buffer("kernels", kernels.flatten(0, 1).float().contiguous())
        self.register_buffer("back", torch.kron(back, back).float())
        self.register_buffer("bias", convolution.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) float32 -> (B,D,H',W') with channels last in memory."""
        height, width = (side + 2 * self.padding - 2 for side in x.shape[2:])
        down, right = -height % _STEP, -width % _STEP
        if self.padding or down or right:
            x = pad(x, (self.padding, self.padding + right, self.padding, self.padding + down))
        x = x.permute(0, 2, 3, 1).contiguous()
        batch, channels = len(x), x.shape[3]
        rows, columns = (height + down) // _STEP, (width + right) // _STEP
        image, row, column, channel = x.stride()
        tiles = x.as_strided(
            (_TILE, _TILE, batch, rows, columns, channels),
            (row, column, image, _STEP * row, _STEP * column, channel),
        )
        products = torch.bmm((self.across @ tiles.reshape(_TILE**2, -1)).view(_TILE**2, -1, channels), self.kernels)
        y = (self.back @ products.view(_TILE**2, -1)).view(_STEP, _STEP, batch, rows, columns, -1)
        y = y.permute(2, 3, 0, 4, 1, 5).reshape(batch, rows * _STEP, columns * _STEP, -1) + self.bias
        return y[:, :height, :width].permute(0, 3, 1, 2)
