"""The paper's augmentations of a pair: flip, low resolution, and erased parts of the face with their mask.

Lengths are those of a 224-pixel picture and are scaled to the picture's size.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

_PAPER_SIZE = 224
FACE_LEVEL = 0.03
"""Mean of the guidance's colours, 0..1, above which a pixel is face."""
# Pixels at 224: where boxes and crosses may begin, how large a box, how far the face is shifted, width of the cross.
_BOX_X, _BOX_Y, _BOX_SIDE = (67, 168), (67, 156), (5, 73)
_SHIFT_X, _SHIFT_Y, _CROSS = (7, 20), (7, 20), 15
_CROSS_START = (67, 168)


@dataclass(frozen=True)
class Augmentation:
    """How likely each change is; all zero leaves the pairs as they are.

    Attributes:
        flip: everything mirrored.
        low_resolution: `rotated` halved in resolution.
        erase: a part of `rotated` replaced: half of the time a box, else what a misalignment would uncover.
    """

    flip: float = 0.5
    low_resolution: float = 0.25
    erase: float = 0.4


NONE = Augmentation(0, 0, 0)
"""For validation and samples."""


def face_region(guidance: np.ndarray) -> np.ndarray:
    """Where the face is, (H,W) bool; guidance (H,W,3) uint8, black outside the mesh."""
    return guidance.mean(-1) > FACE_LEVEL * 255


def augment(
    pair: dict[str, np.ndarray], chances: Augmentation, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """Change a pair at random.

    Args:
        pair: `target`, `rotated`, `guidance` (H,W,3) uint8 RGB and `occlusion_mask` (H,W) uint8, 255 = not to be taken
            from `rotated`. H = W. They are not written to.
        chances: see there.
        generator: the only source of randomness.

    Returns:
        Arrays of the same names, shapes and types.
    """
    pair = dict(pair)
    if generator.random() < chances.low_resolution:
        pair["rotated"] = _low_resolution(pair["rotated"])
    if generator.random() < chances.erase:
        change = _erase_box if generator.random() < 0.5 else _erase_misalignment
        pair["rotated"], pair["occlusion_mask"] = change(pair, generator)
    if generator.random() < chances.flip:
        pair = {name: picture[:, ::-1] for name, picture in pair.items()}
    return pair


def _low_resolution(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    small = Image.fromarray(picture).resize((width // 2, height // 2), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))


def _erase_box(pair: dict[str, np.ndarray], generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A box of one colour, or that of what it covers, half of the time with noise."""
    rotated, mask = pair["rotated"].copy(), pair["occlusion_mask"].copy()
    scale = len(rotated) / _PAPER_SIZE
    left, top = _pixels(_BOX_X, scale, generator), _pixels(_BOX_Y, scale, generator)
    width, height = (max(1, _pixels(_BOX_SIDE, scale, generator)) for _ in range(2))
    box = np.s_[top : top + height, left : left + width]
    patch = rotated[box].astype(np.float32)
    colour = generator.uniform(0, 255, 3) if generator.random() < 0.5 else patch.mean((0, 1))
    filled = np.broadcast_to(colour, patch.shape)
    if generator.random() < 0.5:
        filled = filled + generator.uniform(-0.25 * 255, 0.25 * 255, patch.shape)
    face = face_region(pair["guidance"])[box]
    rotated[box] = np.where(face[..., None], filled.clip(0, 255), 0).astype(np.uint8)
    mask[box] = np.where(face, 255, 0)
    return rotated, mask


def _erase_misalignment(pair: dict[str, np.ndarray], generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The rim that a face shifted upwards and to one side leaves uncovered, half of the time except for a cross."""
    rotated, mask = pair["rotated"].copy(), pair["occlusion_mask"].copy()
    size = len(rotated)
    scale = size / _PAPER_SIZE
    up = max(1, _pixels(_SHIFT_Y, scale, generator))
    aside = int(generator.integers(-_SHIFT_X[1], _SHIFT_X[1] + 1))
    if abs(aside) < _SHIFT_X[0]:
        aside = _SHIFT_X[0]
    aside = round(aside * scale)
    face = face_region(pair["guidance"])
    shifted = np.zeros_like(face)
    shifted[: size - up, max(0, aside) : size + min(0, aside)] = face[up:, max(0, -aside) : size - max(0, aside)]
    hole = face & ~shifted
    filled = np.broadcast_to(generator.uniform(0, 255, 3), rotated.shape)
    if generator.random() < 0.5:
        filled = filled + generator.uniform(0, 0.5 * 255, rotated.shape)
    if generator.random() < 0.5:
        top, left = _pixels(_CROSS_START, scale, generator), _pixels(_CROSS_START, scale, generator)
        width = max(1, round(_CROSS * scale))
        hole[top : top + width] = False
        hole[:, left : left + width] = False
    rotated[hole] = filled[hole].clip(0, 255).astype(np.uint8)
    mask[hole] = 255
    return rotated, mask


def _pixels(bounds: tuple[int, int], scale: float, generator: np.random.Generator) -> int:
    """A whole number within the bounds, both included, scaled."""
    return round(int(generator.integers(bounds[0], bounds[1] + 1)) * scale)
