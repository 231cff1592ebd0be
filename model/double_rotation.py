"""Rotate to a random view and back, so that what that view cannot see is damaged. (v0 skeleton)"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DoubleRotation:
    """rotated_once, rotated (B,3,H,W) float32 RGB 0..1; visible (B,H,W) bool: mesh pixels whose colour survived."""

    rotated_once: Tensor
    rotated: Tensor
    visible: Tensor


class DoubleRotator:
    """Renders with the default face model; one per process."""

    def __init__(self, device: str = "cpu"):
        self.device = torch.device(device)

    def rotate(self, texture: Tensor, coefficients: Tensor, view: Tensor) -> DoubleRotation:
        """Double rotation of a mini-batch.

        Args:
            texture: (B,3,224,224) the roughly de-occluded photo.
            coefficients: (B,C) layout of `FaceFit.coefficients`.
            view: (B,3) yaw, pitch, roll in degrees of the random view.
        """
        visible = torch.ones(texture.shape[0], 224, 224, dtype=torch.bool)
        return DoubleRotation(texture, texture, visible)
