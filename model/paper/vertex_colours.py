"""Colours of a picture at the projected vertices: the nearest pixel, whatever lies in front of it.

The rounding has no half-pixel shift, so that colours come from half a pixel further left and down, and hidden vertices
take the colour of what hides them: that is what CFR-GAN does, and where the streaks in its rotated faces are from.
"""

import torch
from torch import Tensor


def sample_vertex_colours(picture: Tensor, pixels: Tensor) -> Tensor:
    """Colour of the pixel nearest to each projected vertex.

    Args:
        picture: (B,C,H,W) float32.
        pixels: (B,V,2) float32 crop px, x right, y down, pixel centres at +0.5 (as from `camera.project`).

    Returns:
        (B,V,C) float32; vertices outside the picture take the border's colours.
    """
    height, width = picture.shape[-2:]
    # The paper's v points up; flipped after clamping, rounded half to even.
    column = pixels[..., 0].clamp(0, width - 1).round().long()
    row = (height - 1 - (height - pixels[..., 1]).clamp(0, height - 1)).round().long()
    place = (row * width + column)[:, None].expand(-1, picture.shape[1], -1)
    return torch.gather(picture.flatten(2), 2, place).transpose(1, 2)
