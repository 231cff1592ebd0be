"""Pictures between the stages (uint8, channels last) and in the models (float32 0..1, channels first)."""

import numpy as np
import torch
from torch import Tensor


def array_to_picture(pictures: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """(n,H,W,3) uint8 -> (n,3,H,W) float32 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).to(device).permute(0, 3, 1, 2).float() / 255


def picture_to_array(pictures: Tensor) -> np.ndarray:
    """(n,3,H,W) float32 0..1 -> (n,H,W,3) uint8, rounded; NaN becomes black."""
    levels = (pictures.nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def array_to_mask(masks: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """(n,H,W) uint8 0/255 -> bool."""
    return torch.from_numpy(np.ascontiguousarray(masks)).to(device) > 0


def array_to_soft_mask(masks: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """(n,H,W) uint8 0..255 -> float32 0..1."""
    return torch.from_numpy(np.ascontiguousarray(masks)).to(device).float() / 255


def mask_to_array(masks: Tensor) -> np.ndarray:
    """(n,H,W) bool, or float 0..1 -> uint8 0..255, rounded."""
    return (masks.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def finite_slots(*pictures: Tensor) -> np.ndarray:
    """(n,) bool: whether all values of a slot are finite in all of these (n,...) tensors."""
    return torch.stack([each.flatten(1).isfinite().all(1) for each in pictures]).all(0).cpu().numpy()
