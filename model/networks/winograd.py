"""3x3 convolution on the CPU with a quarter of the multiplications (Winograd's F(4x4, 3x3); Lavin and Gray 2016).

It pays from about 128 channels on, and on small maps most. The rounding error in float32 is about 4e-5 of the outputs'
size.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
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

_LEAST_CHANNELS = 128


def _rows_and_columns(rows: tuple[tuple[float, ...], ...]) -> Tensor:
    """A transform of rows and columns as one matrix."""
    matrix = torch.tensor(rows, dtype=torch.float64)
    return torch.kron(matrix, matrix)


# (36,36) and (16,36) float32, (36,9) float64.
_ACROSS, _BACK = _rows_and_columns(_INPUT).float(), _rows_and_columns(_OUTPUT).float()
_KERNEL = _rows_and_columns(_WEIGHT)


class WinogradConv2d(nn.Module):
    """Computes what a convolution computes, for inference.

    The transformed weights take four times the room.

    Args:
        convolution: 3 x 3, stride 1, with a bias, padded with zeros or not at all.
    """

    def __init__(self, convolution: nn.Conv2d):
        super().__init__()
        if not _is_plain(convolution):
            raise ValueError(f"Winograd is for 3 x 3 convolutions of stride 1 with a bias, not {convolution}")
        self.padding = convolution.padding[0]
        self.register_buffer("kernels", _transformed_kernels(convolution.weight.detach().double().cpu()).float())
        self.register_buffer("bias", convolution.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) float32 -> (B,D,H',W') with channels last in memory."""
        tiles, grid = _transformed_tiles(x, self.padding)
        return _assembled(torch.bmm(tiles, self.kernels), grid, self.bias)


class TrainableWinogradConv2d(nn.Conv2d):
    """A convolution that is trained with Winograd's algorithm where that is faster: on the CPU, in float32.

    Forward, for the gradient of the input and for that of the weights. In evaluation mode, with few channels, on other
    devices, under autocast and in compiled graphs it is torch's own.
    """

    def __init__(self, channels: int, out_channels: int, padding: int = 0):
        super().__init__(channels, out_channels, 3, padding=padding)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        suits = self.training and x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
        elsewhere = torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
        if suits and not elsewhere and min(weight.shape[:2]) >= _LEAST_CHANNELS:
            return _Convolution.apply(x, weight, bias, self.padding[0])
        return super()._conv_forward(x, weight, bias)


class _Convolution(torch.autograd.Function):
    """Only the input is kept for the gradients: its tiles take more than twice the room and are soon made again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        tiles, grid = _transformed_tiles(x, padding)
        return _assembled(torch.bmm(tiles, _transformed_kernels(weight)), grid, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        wants_input, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        products = _taken_apart(gradient)
        by_input = by_weight = by_bias = None
        if wants_input:
            tiles = torch.bmm(products, _transformed_kernels(weight).transpose(1, 2))
            by_input = _summed_tiles(tiles, x.shape, ctx.padding)
        if wants_weight:
            tiles, _ = _transformed_tiles(x, ctx.padding)
            kernels = torch.bmm(tiles.transpose(1, 2), products)
            flat = _KERNEL.T.to(weight) @ kernels.flatten(1)
            by_weight = flat.view(3, 3, *kernels.shape[1:]).permute(3, 2, 0, 1)
        if wants_bias:
            by_bias = gradient.sum((0, 2, 3))
        return by_input, by_weight, by_bias, None


_Grid = tuple[int, int, int, int, int]
"""Of tiles: pictures, rows, columns; then height and width of the output."""


def _is_plain(convolution: nn.Conv2d) -> bool:
    return convolution.kernel_size == (3, 3) and convolution.stride == (1, 1) and convolution.bias is not None


def _transformed_kernels(weight: Tensor) -> Tensor:
    """(D,C,3,3) -> (36,C,D)."""
    flat = weight.permute(2, 3, 1, 0).reshape(9, -1)
    return (_KERNEL.to(weight) @ flat).view(_TILE**2, weight.shape[1], weight.shape[0])


def _transformed_tiles(x: Tensor, padding: int) -> tuple[Tensor, _Grid]:
    """(B,C,H,W) -> tiles (36, number of tiles, C) and how they lie."""
    height, width = (side + 2 * padding - 2 for side in x.shape[2:])
    down, right = -height % _STEP, -width % _STEP
    if padding or down or right:
        x = pad(x, (padding, padding + right, padding, padding + down))
    x = x.permute(0, 2, 3, 1).contiguous()
    batch, channels = len(x), x.shape[3]
    rows, columns = (height + down) // _STEP, (width + right) // _STEP
    image, row, column, channel = x.stride()
    tiles = x.as_strided(
        (_TILE, _TILE, batch, rows, columns, channels), (row, column, image, _STEP * row, _STEP * column, channel)
    )
    return (_ACROSS @ tiles.reshape(_TILE**2, -1)).view(_TILE**2, -1, channels), (batch, rows, columns, height, width)


def _assembled(products: Tensor, grid: _Grid, bias: Tensor) -> Tensor:
    """(36, number of tiles, D) -> (B,D,H,W) with channels last in memory."""
    batch, rows, columns, height, width = grid
    y = (_BACK @ products.flatten(1)).view(_STEP, _STEP, batch, rows, columns, -1)
    y = y.permute(2, 3, 0, 4, 1, 5).reshape(batch, rows * _STEP, columns * _STEP, -1) + bias
    return y[:, :height, :width].permute(0, 3, 1, 2)


def _taken_apart(gradient: Tensor) -> Tensor:
    """Transpose of `_assembled`: (B,D,H,W) -> (36, number of tiles, D)."""
    height, width = gradient.shape[2:]
    y = pad(gradient, (0, -width % _STEP, 0, -height % _STEP)).permute(0, 2, 3, 1)
    batch, height, width, channels = y.shape
    y = y.reshape(batch, height // _STEP, _STEP, width // _STEP, _STEP, channels).permute(2, 4, 0, 1, 3, 5)
    return (_BACK.T @ y.reshape(_STEP**2, -1)).view(_TILE**2, -1, channels)


def _summed_tiles(tiles: Tensor, shape: torch.Size, padding: int) -> Tensor:
    """Transpose of `_transformed_tiles`: (36, number of tiles, C) -> (B,C,H,W) with channels last in memory."""
    batch, channels, height, width = shape
    rows, columns = (-(-(side + 2 * padding - 2) // _STEP) for side in (height, width))
    parts = (_ACROSS.T @ tiles.flatten(1)).view(_TILE, _TILE, batch, rows, columns, channels)
    x = tiles.new_zeros(batch, rows + 1, _STEP, columns + 1, _STEP, channels)
    for i in range(_TILE):
        for j in range(_TILE):
            x[:, i // _STEP :, i % _STEP, j // _STEP :, j % _STEP][:, :rows, :columns] += parts[i, j]
    x = x.view(batch, (rows + 1) * _STEP, (columns + 1) * _STEP, channels)
    return x[:, padding : padding + height, padding : padding + width].permute(0, 3, 1, 2)
