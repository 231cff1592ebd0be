"""The numbers that describe one fitted face, and their layout in a row."""

from dataclasses import dataclass

import torch
from torch import Tensor

LIGHT_SIZE = 27


@dataclass(frozen=True)
class Coefficients:
    """Fitted faces of a mini-batch; float32 tensors on one device.

    Attributes:
        identity: (B,I), unit variance.
        expression: (B,E), 0..1.
        albedo: (B,A), unit variance.
        light: (B,9,3) spherical-harmonic light per colour (RGB).
        pose: (B,3) yaw, pitch, roll in degrees.
        translation: (B,3) decimetres in camera space.
    """

    identity: Tensor
    expression: Tensor
    albedo: Tensor
    light: Tensor
    pose: Tensor
    translation: Tensor

    def concatenated(self) -> Tensor:
        """All coefficients side by side, (B,C) in the order of the attributes; light is flattened band by band."""
        return torch.cat(
            [self.identity, self.expression, self.albedo, self.light.flatten(1), self.pose, self.translation], dim=1
        )

    @classmethod
    def split(cls, row: Tensor, sizes: tuple[int, int, int]) -> "Coefficients":
        """Undo `concatenated`: row (B,C), sizes = (I, E, A) of the face model.

        Raises:
            ValueError: the row's width does not belong to this face model.
        """
        widths = [*sizes, LIGHT_SIZE, 3, 3]
        if row.shape[-1] != sum(widths):
            raise ValueError(f"{row.shape[-1]} coefficients, but the face model has {sum(widths)}: another face model?")
        identity, expression, albedo, light, pose, translation = torch.split(row, widths, dim=-1)
        return cls(identity, expression, albedo, light.reshape(-1, 9, 3), pose, translation)


def coefficient_layout(sizes: tuple[int, int, int]) -> dict[str, tuple[int, int]]:
    """Half-open ranges of each part within a row of `Coefficients.concatenated`, by name; sizes = (I, E, A)."""
    layout, start = {}, 0
    for name, width in zip(
        ["identity", "expression", "albedo", "light", "pose", "translation"], [*sizes, LIGHT_SIZE, 3, 3], strict=True
    ):
        layout[name] = (start, start + width)
        start += width
    return layout
