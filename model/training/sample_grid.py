"""A picture of what a network makes of some rows."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_GAP, _HEADER = 4, 24
# Smaller pictures are enlarged by a whole factor.
_LEAST_TILE = 112
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


def sample_grid(columns: dict[str, Tensor]) -> Image.Image:
    """Rows below each other.

    Args:
        columns: by name, from left to right: pictures (B,3,S,S) and masks (B,1,S,S), float 0..1.

    Returns:
        RGB picture.
    """
    tiles = {name: _tiles(pictures) for name, pictures in columns.items()}
    rows, size = next(iter(tiles.values())).shape[:2]
    page = Image.new("RGB", (len(tiles) * (size + _GAP) - _GAP, _HEADER + rows * (size + _GAP) - _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    for column, name in enumerate(tiles):
        left = column * (size + _GAP)
        draw.text((left + size // 2, _HEADER // 2), name, fill=_INK, font=ImageFont.load_default(12), anchor="mm")
        for row, tile in enumerate(tiles[name]):
            page.paste(Image.fromarray(tile), (left, _HEADER + row * (size + _GAP)))
    return page


def _tiles(pictures: Tensor) -> np.ndarray:
    """(B,C,S,S) -> (B,T,T,3) uint8."""
    array = (pictures.float().clamp(0, 1) * 255).round().byte().cpu().permute(0, 2, 3, 1).numpy()
    factor = -(-_LEAST_TILE // array.shape[1])
    array = array.repeat(factor, axis=1).repeat(factor, axis=2)
    return array.repeat(3, axis=-1) if array.shape[-1] == 1 else array
