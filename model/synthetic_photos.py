"""Photographs made of rendered heads: background, glasses, things in front of the face, lens and camera.

Training on them teaches a network what not to rely on. Everything is drawn from one generator, so that a seed tells
the whole data set.
"""

import io
import math

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from cfr.model.synthetic_faces import SyntheticFaces

# FaceMesh indices around the image-left and the image-right eye, wide enough for a spectacle lens, and of the temples.
_LENSES = ((46, 52, 55, 193, 128, 121, 119, 117, 111, 35), (276, 282, 285, 417, 357, 350, 348, 346, 340, 265))
_TEMPLES = (127, 356)
_BRIDGE = (193, 417)
# Side beyond which backgrounds are drawn at half the size: they take time and are out of focus anyway.
_LARGEST_BACKGROUND = 192
GLASSES_SHARE = 0.2
OCCLUDED_SHARE = 0.35
GREY_SHARE = 0.12
JPEG_SHARE = 0.6
CUT_SHARE = 0.4


def photographed(faces: SyntheticFaces, generator: torch.Generator) -> Tensor:
    """Pictures (B,3,S,S) float32 RGB 0..1 as a camera, and the people who crop and store its pictures, leave them."""
    return taken(_occluded(in_surroundings(faces, generator), generator), generator)


def in_surroundings(faces: SyntheticFaces, generator: torch.Generator) -> Tensor:
    """Pictures (B,3,S,S) of the heads in front of something, in light and shadow, some with glasses."""
    batch, size = len(faces.picture), faces.picture.shape[-1]
    detail = size if size <= _LARGEST_BACKGROUND else size // 2
    background = _backgrounds(batch, detail, generator)
    if detail < size:
        background = functional.interpolate(background, size=(size, size), mode="bilinear")
    picture = faces.picture + (1 - faces.covered) * background
    picture = _shadowed(picture, generator)
    for index in torch.nonzero(torch.rand(batch, generator=generator) < GLASSES_SHARE)[:, 0].tolist():
        picture[index] = _with_glasses(picture[index], faces.landmarks[index], faces.visible[index], generator)
    return picture


def taken(picture: Tensor, generator: torch.Generator) -> Tensor:
    """What a camera and a file make of pictures (B,3,S,S), 0..1."""
    picture = _coloured(picture, generator)
    for index in range(len(picture)):
        picture[index] = _stored(picture[index], generator)
    return _cut_off(picture, generator).clamp(0, 1)


def _smooth_noise(batch: int, channels: int, size: int, cells: Tensor | int, generator: torch.Generator) -> Tensor:
    """(B,C,size,size) of about unit variance: random values on a grid of that many cells, enlarged."""
    grid = torch.randn(batch, channels, int(cells), int(cells), generator=generator)
    return functional.interpolate(grid, size=(size, size), mode="bicubic", align_corners=False)


def _octaves(batch: int, channels: int, size: int, generator: torch.Generator) -> Tensor:
    """Noise with detail at every scale, random slope per picture, unit variance."""
    slope = 0.3 + 0.6 * torch.rand(batch, 1, 1, 1, generator=generator)
    total = torch.zeros(batch, channels, size, size)
    for octave, cells in enumerate((3, 6, 12, 24, 48, 96)):
        total = total + slope**octave * _smooth_noise(batch, channels, size, cells, generator)
    return total / total.std((2, 3), keepdim=True).clamp(min=1e-3)


def _backgrounds(batch: int, size: int, generator: torch.Generator) -> Tensor:
    """Plain, blurred or busy surroundings: a colour and its variations, and edges between several of them."""
    colour = torch.rand(batch, 3, 1, 1, generator=generator)
    other = torch.rand(batch, 3, 1, 1, generator=generator)
    contrast = 0.3 * torch.rand(batch, 1, 1, 1, generator=generator) ** 1.5
    grey = torch.rand(batch, 1, 1, 1, generator=generator)
    vivid = torch.rand(batch, 1, 1, 1, generator=generator) ** 2
    colour, other = (plain.mean(1, keepdim=True) * (1 - vivid) + plain * vivid for plain in (colour, other))
    noise = _octaves(batch, 1, size, generator) + 0.4 * _octaves(batch, 3, size, generator) * grey
    border = _smooth_noise(batch, 1, size, 4, generator) + _stripes(batch, size, generator)
    sharpness = torch.exp(5 * torch.rand(batch, 1, 1, 1, generator=generator))
    mix = torch.sigmoid(border * sharpness) * (torch.rand(batch, 1, 1, 1, generator=generator) < 0.6)
    return (colour * (1 - mix) + other * mix + contrast * noise).clamp(0, 1)


def _stripes(batch: int, size: int, generator: torch.Generator) -> Tensor:
    """(B,1,S,S) straight edges in a random direction, as of buildings, shelves and shoulders."""
    angle = math.pi * torch.rand(batch, 1, 1, 1, generator=generator)
    step = torch.arange(size) / size - 0.5
    along = step[None, None, None] * angle.cos() + step[None, None, :, None] * angle.sin()
    frequency = 2 + 20 * torch.rand(batch, 1, 1, 1, generator=generator) ** 2
    phase = 6.3 * torch.rand(batch, 1, 1, 1, generator=generator)
    return (frequency * along + phase).sin() * torch.rand(batch, 1, 1, 1, generator=generator)


def _shadowed(picture: Tensor, generator: torch.Generator) -> Tensor:
    """Soft and hard shadows and lit patches."""
    batch, _, size, _ = picture.shape
    soft = torch.exp(0.2 * _smooth_noise(batch, 1, size, 4, generator))
    edge = torch.sigmoid(
        _smooth_noise(batch, 1, size, 4, generator) * torch.exp(4 * torch.rand(batch, 1, 1, 1, generator=generator))
    )
    depth = (
        0.6 * torch.rand(batch, 1, 1, 1, generator=generator) * (torch.rand(batch, 1, 1, 1, generator=generator) < 0.3)
    )
    return picture * soft * (1 - depth * edge)


def _with_glasses(picture: Tensor, landmarks: Tensor, visible: Tensor, generator: torch.Generator) -> Tensor:
    """Spectacles or sunglasses drawn over the eyes of one picture (3,S,S)."""
    points = landmarks[:, :2]
    scale = 2
    size = picture.shape[-1] * scale
    draw, dark, thickness, grow = torch.rand(4, generator=generator).tolist()
    frame = tuple((255 * 0.5 * torch.rand(3, generator=generator)).int().tolist())
    width = int(1 + 5 * thickness)
    layer = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    pen = ImageDraw.Draw(layer)
    opacity = int(255 * (dark if draw < 0.4 else 0.15 * dark))
    lens_colour = tuple((80 * torch.rand(3, generator=generator)).int().tolist()) if draw < 0.4 else (255, 255, 255)
    for lens, temple in zip(_LENSES, _TEMPLES, strict=True):
        outline = points[list(lens)]
        middle = outline.mean(0)
        outline = (middle + (outline - middle) * (0.95 + 0.5 * grow)) * scale
        if visible[list(lens)].float().mean() > 0.3:
            corners = [tuple(corner) for corner in outline.tolist()]
            pen.polygon(corners, fill=(*lens_colour, opacity))
            pen.line([*corners, corners[0]], fill=(*frame, 255), width=width)
        if visible[temple]:
            outer = min(outline.tolist(), key=lambda corner: math.dist(corner, (points[temple] * scale).tolist()))
            pen.line([tuple(outer), tuple((points[temple] * scale).tolist())], fill=(*frame, 255), width=width)
    if visible[list(_BRIDGE)].any():
        pen.line([tuple((points[i] * scale).tolist()) for i in _BRIDGE], fill=(*frame, 255), width=width)
    small = np.asarray(layer.resize((size // scale, size // scale), Image.Resampling.BOX), np.float32) / 255
    overlay = torch.from_numpy(small).permute(2, 0, 1)
    return picture * (1 - overlay[3:]) + overlay[:3] * overlay[3:]


def _occluded(picture: Tensor, generator: torch.Generator) -> Tensor:
    """Blobs and bars of any colour, skin too, in front of some of the faces."""
    batch, _, size, _ = picture.shape
    centre = (0.1 + 0.8 * torch.rand(batch, 2, 1, 1, generator=generator)) * size
    radius = (0.06 + 0.22 * torch.rand(batch, 2, 1, 1, generator=generator)) * size
    angle = math.pi * torch.rand(batch, 1, 1, generator=generator)
    y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    dx, dy = x - centre[:, 0], y - centre[:, 1]
    across, along = dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()
    distance = ((across / radius[:, 0]) ** 2 + (along / radius[:, 1]) ** 2)[:, None]
    field = 1 - distance + 0.7 * _smooth_noise(batch, 1, size, 6, generator)
    chosen = torch.rand(batch, 1, 1, 1, generator=generator) < OCCLUDED_SHARE
    alpha = (field * 20).sigmoid() * chosen
    colour = torch.rand(batch, 3, 1, 1, generator=generator)
    own = picture[:, :, size // 2 - 8 : size // 2 + 8, size // 2 - 8 : size // 2 + 8].mean((2, 3), keepdim=True)
    colour = torch.where(torch.rand(batch, 1, 1, 1, generator=generator) < 0.4, own, colour)
    texture = 1 + 0.25 * torch.rand(batch, 1, 1, 1, generator=generator) * _octaves(batch, 1, size, generator)
    return picture * (1 - alpha) + (colour * texture).clamp(0, 1) * alpha


def _coloured(picture: Tensor, generator: torch.Generator) -> Tensor:
    """White balance, contrast, gamma, saturation, grey pictures."""
    batch = len(picture)

    def normal(deviation, *shape):
        return deviation * torch.randn(batch, *shape, 1, 1, generator=generator)

    picture = picture.clamp(1e-3, 1) ** torch.exp(normal(0.3, 1))
    picture = picture * torch.exp(normal(0.1, 3))
    grey = picture.mean(1, keepdim=True)
    saturation = torch.exp(normal(0.35, 1))
    saturation = torch.where(torch.rand(batch, 1, 1, 1, generator=generator) < GREY_SHARE, 0.0, saturation)
    picture = grey + saturation * (picture - grey)
    return ((picture - 0.5) * torch.exp(normal(0.2, 1)) + 0.5 + normal(0.05, 1)).clamp(0, 1)


def _stored(picture: Tensor, generator: torch.Generator) -> Tensor:
    """One picture (3,S,S) with the blur, noise, resolution and compression of a photo file."""
    size = picture.shape[-1]
    blur, coarse, noise, quality, chance = torch.rand(5, generator=generator).tolist()
    texture = 0.03 * torch.randn(1, size, size, generator=generator)
    picture = picture * (1 + texture)
    if coarse < 0.5:
        reduced = int(size * (0.25 + 1.5 * coarse))
        small = functional.interpolate(picture[None], size=(reduced, reduced), mode="bilinear", antialias=True)
        picture = functional.interpolate(small, size=(size, size), mode="bilinear")[0]
    elif blur < 0.3:
        picture = functional.avg_pool2d(picture[None], 3, 1, 1, count_include_pad=False)[0]
    picture = picture + 0.06 * noise**2 * torch.randn(3, size, size, generator=generator)
    if chance > JPEG_SHARE:
        return picture
    data = io.BytesIO()
    pixels = (picture.clamp(0, 1) * 255).byte().permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(pixels).save(data, "JPEG", quality=int(20 + 75 * quality))
    return torch.from_numpy(np.array(Image.open(data))).permute(2, 0, 1).float() / 255


def _cut_off(picture: Tensor, generator: torch.Generator) -> Tensor:
    """Black beyond the photo's edge, as `context_crop` leaves it, on some sides of some pictures."""
    batch, _, size, _ = picture.shape
    cut = torch.rand(batch, 4, generator=generator) ** 2 * 0.33 * size
    cut = cut * (torch.rand(batch, 4, generator=generator) < 0.6)
    cut = torch.where(torch.rand(batch, 1, generator=generator) < CUT_SHARE, cut, 0.0)
    step = torch.arange(size)
    left, right, top, bottom = cut.T[:, :, None]
    inside_x = (step >= left) & (step < size - right)
    inside_y = (step >= top) & (step < size - bottom)
    return picture * (inside_x[:, None, None, :] & inside_y[:, None, :, None])
