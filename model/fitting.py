"""Fit of the morphable model to a face crop: landmarks first, then light and albedo. (v0 skeleton: signatures only)"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FaceFit:
    """Fitted faces of a mini-batch; all float32 tensors on the fitter's device.

    identity (B,I), expression (B,E) in 0..1, albedo (B,A), light (B,9,3), pose (B,3) yaw/pitch/roll degrees,
    translation (B,3) decimetres; guidance (B,3,224,224) RGB 0..1, black outside the mesh; face_mask (B,224,224) bool,
    the mesh; landmarks (B,468,3) FaceMesh points in crop px; fit_error (B,) landmark NME (fraction);
    landmark_score (B,) 0..1.
    """

    identity: Tensor
    expression: Tensor
    albedo: Tensor
    light: Tensor
    pose: Tensor
    translation: Tensor
    guidance: Tensor
    face_mask: Tensor
    landmarks: Tensor
    fit_error: Tensor
    landmark_score: Tensor

    def coefficients(self) -> Tensor:
        """All coefficients side by side, (B,C): identity, expression, albedo, light 27, pose 3, translation 3."""
        return torch.cat(
            [self.identity, self.expression, self.albedo, self.light.flatten(1), self.pose, self.translation], dim=1
        )


class FaceFitter:
    """Fits the default face model; one per process."""

    def __init__(self, device: str = "cpu"):
        self.device = torch.device(device)

    def fit(self, context: Tensor, landmarks5: Tensor) -> FaceFit:
        """Fit every face of a mini-batch: context (B,320,320,3) uint8, landmarks5 (B,5,2) crop px."""
        batch = len(context)
        photo = context[:, 48:272, 48:272].permute(0, 3, 1, 2).float().to(self.device) / 255
        ys, xs = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
        mask = (((xs - 112) / 70) ** 2 + ((ys - 120) / 90) ** 2 < 1).expand(batch, -1, -1)
        mean = photo.flatten(2).mean(2)[:, :, None, None].expand_as(photo)
        return FaceFit(
            torch.zeros(batch, 80), torch.zeros(batch, 52), torch.zeros(batch, 80), torch.zeros(batch, 9, 3),
            torch.zeros(batch, 3), torch.zeros(batch, 3), mean * mask[:, None], mask,
            torch.zeros(batch, 468, 3), torch.zeros(batch), torch.ones(batch),
        )  # fmt: skip
