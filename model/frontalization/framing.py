"""Pictures brought into the frame of a template by their five landmarks."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cfr.model.alignment import invert_affine
from cfr.model.frontalization.templates import Template
from cfr.model.rasterize import sample_image


def reframe(picture: Tensor, landmarks5: Tensor, template: Template, size: int) -> Tensor:
    """The part of each picture that a template asks for.

    Bilinear; where that would skip pixels, several samples per pixel are averaged.

    Args:
        picture: (B,C,H,W) float32.
        landmarks5: (B,5,2) px of the picture.
        template, size: framing of the result.

    Returns:
        (B,C,size,size); black outside the picture.
    """
    affines = [template.affine(points, size) for points in landmarks5.cpu().numpy()]
    inverse = torch.from_numpy(np.stack([invert_affine(affine) for affine in affines]))
    step = float(torch.linalg.vector_norm(inverse[:, [0, 3]], dim=1).amax())
    samples = max(1, round(step))
    place = (torch.arange(size * samples, device=picture.device) + 0.5) / samples
    grid = torch.stack(torch.meshgrid(place, place, indexing="xy"), -1)
    matrix = inverse.to(picture).view(-1, 1, 2, 3)
    pixels = (grid[None] @ matrix[..., :2].transpose(-1, -2)) + matrix[..., None, :, 2].view(-1, 1, 1, 2)
    return F.avg_pool2d(sample_image(picture, pixels), samples)
