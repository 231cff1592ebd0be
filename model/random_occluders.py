"""Occluders out of nothing but random numbers: blobs, polygons, strips and hand-like outlines, textured and shaded.

They are cut-outs like those of a folder, for `cfr.model.composites` to paste.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from cfr.model.composites import Occluder

SHAPES = ("blob", "polygon", "strip", "hand")
# Side of a cut-out in pixels, of the free rim in it, and how much finer its outline is drawn.
_SIDE, _RIM, _OVERSAMPLING = 224, 8, 2
# From pale to dark, sRGB 0..1: a hand's colour lies between two neighbours.
_SKIN = np.array([[0.93, 0.78, 0.70], [0.80, 0.60, 0.48], [0.62, 0.43, 0.32], [0.32, 0.21, 0.16]])


def random_occluder(generator: np.random.Generator) -> Occluder:
    """A random shape with a random texture.

    Returns:
        A cut-out of kind "hand" (a hand-like outline in a colour of skin) or "object"; its name is that of its shape.
    """
    shape = SHAPES[generator.integers(len(SHAPES))]
    outline = {"blob": _blob, "polygon": _polygon, "strip": _strip, "hand": _hand}[shape](generator)
    colour = _skin_colour(generator) if shape == "hand" else _colour(generator)
    texture = _texture(generator, colour, plain=shape == "hand")
    texture *= _rounded(outline, generator)[..., None]
    rgba = np.dstack([texture.clip(0, 1) * 255, outline]).round().astype(np.uint8)
    return Occluder(f"random_{shape}", "hand" if shape == "hand" else "object", rgba)


def spectral_noise(generator: np.random.Generator, side: int, slope: float, stretch: float = 1.0) -> np.ndarray:
    """(side,side) float64 noise, mean 0, deviation 1.

    Args:
        slope: the amplitude falls with frequency to this power: 0 is white noise, 1 like photographs, 2 like clouds.
        stretch: how many times longer structures are along a random direction.
    """
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    angle = generator.uniform(0, np.pi)
    along = (np.cos(angle) * fx + np.sin(angle) * fy) * stretch
    across = np.cos(angle) * fy - np.sin(angle) * fx
    amplitude = np.maximum(np.hypot(along, across), 1 / side) ** -slope
    amplitude[0, 0] = 0
    values = np.fft.irfft2(amplitude * np.exp(2j * np.pi * generator.random(amplitude.shape)), s=(side, side))
    return (values - values.mean()) / max(values.std(), 1e-9)


def _colour(generator: np.random.Generator) -> np.ndarray:
    """(3,) 0..1: dark, light or coloured, alike often."""
    kind = generator.integers(3)
    if kind == 0:
        return generator.uniform(0.03, 0.3) * generator.uniform(0.9, 1.1, 3)
    if kind == 1:
        return generator.uniform(0.7, 1.0) * generator.uniform(0.92, 1.0, 3)
    return generator.uniform(0.05, 0.95, 3)


def _skin_colour(generator: np.random.Generator) -> np.ndarray:
    place = generator.uniform(0, len(_SKIN) - 1)
    low = min(int(place), len(_SKIN) - 2)
    return _SKIN[low] + (place - low) * (_SKIN[low + 1] - _SKIN[low])


def _texture(generator: np.random.Generator, colour: np.ndarray, plain: bool) -> np.ndarray:
    """(side,side,3) about 0..1 around a colour: clouded, and unless plain often striped, chequered or spotted."""
    strength = generator.uniform(0.02, 0.1) if plain else generator.choice([0.03, 0.1, 0.25, 0.5])
    grey = spectral_noise(generator, _SIDE, generator.uniform(0.8, 1.8), generator.choice([1.0, 1.0, 4.0]))
    values = colour * np.exp(strength * grey[..., None])
    pattern = generator.integers(6)
    if plain or pattern > 2:
        return values
    y, x = np.mgrid[:_SIDE, :_SIDE] / _SIDE
    angle, period = generator.uniform(0, np.pi), generator.uniform(0.04, 0.3)
    wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
    if pattern == 1:
        wave = wave * np.sin(2 * np.pi * (y * np.cos(angle) - x * np.sin(angle)) / period)
    elif pattern == 2:
        wave = spectral_noise(generator, _SIDE, 1.5) - generator.uniform(0, 1)
    share = (wave * generator.uniform(2, 12)).clip(-1, 1)[..., None] / 2 + 0.5
    return values * share + _colour(generator) * (1 - share)


def _rounded(outline: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(side,side) factors: light that falls off towards the rim and from one side to the other."""
    depth = Image.fromarray(outline).filter(ImageFilter.GaussianBlur(generator.uniform(4, 16)))
    angle = generator.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:_SIDE, :_SIDE] / _SIDE - 0.5
    slope = generator.uniform(0, 0.6) * (x * np.cos(angle) + y * np.sin(angle))
    rim = generator.uniform(0, 0.5)
    return 1 - rim + rim * np.asarray(depth) / 255 + slope


def _canvas() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    canvas = Image.new("L", (_SIDE * _OVERSAMPLING,) * 2, 0)
    return canvas, ImageDraw.Draw(canvas)


def _reduced(canvas: Image.Image) -> np.ndarray:
    """(side,side) uint8 coverage."""
    return np.asarray(canvas.resize((_SIDE, _SIDE), Image.Resampling.BOX))


def _filled(points: np.ndarray) -> np.ndarray:
    """(side,side) uint8 coverage of a polygon (n,2), scaled to fill the cut-out but for its rim."""
    low, high = points.min(0), points.max(0)
    free = (_SIDE - 2 * _RIM) * _OVERSAMPLING
    scaled = (points - (low + high) / 2) * (free / (high - low).max()) + _SIDE * _OVERSAMPLING / 2
    canvas, draw = _canvas()
    draw.polygon([tuple(point) for point in scaled], fill=255)
    return _reduced(canvas)


def _blob(generator: np.random.Generator) -> np.ndarray:
    """A smooth closed curve: a circle and a few harmonics, stretched."""
    angle = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    radius = np.ones_like(angle)
    for order in range(2, 7):
        radius += generator.normal(0, 0.35 / order) * np.cos(order * angle + generator.uniform(0, 2 * np.pi))
    points = np.stack([np.cos(angle), np.sin(angle)], 1) * np.maximum(radius, 0.25)[:, None]
    return _filled(points * [1, generator.uniform(0.5, 1)])


def _polygon(generator: np.random.Generator) -> np.ndarray:
    """Three to eight straight edges."""
    angle = np.sort(generator.uniform(0, 2 * np.pi) + np.linspace(0, 2 * np.pi, generator.integers(3, 9), False))
    radius = generator.uniform(0.6, 1, len(angle))
    return _filled(np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None])


def _strip(generator: np.random.Generator) -> np.ndarray:
    """A bent band, as of a scarf, a strand of hair or a cable."""
    canvas, draw = _canvas()
    extent, along = _SIDE * _OVERSAMPLING, np.linspace(0, 1, 60)
    bend = generator.normal(0, 0.12, 3)
    across = 0.5 + sum(size * np.sin(np.pi * (order + 1) * along) for order, size in enumerate(bend))
    width = generator.uniform(0.12, 0.35) * extent
    rim = _RIM * _OVERSAMPLING + width / 2
    points = np.stack([rim + along * (extent - 2 * rim), (across * extent).clip(rim, extent - rim)], 1)
    _stroke(draw, points, width)
    return _reduced(canvas)


def _hand(generator: np.random.Generator) -> np.ndarray:
    """A palm, three to five fingers and the wrist."""
    canvas, draw = _canvas()
    scale = _SIDE * _OVERSAMPLING
    palm = np.array([0.5, 0.58])
    half = np.array([generator.uniform(0.15, 0.19), generator.uniform(0.17, 0.21)])
    draw.ellipse([*(scale * (palm - half)), *(scale * (palm + half))], fill=255)
    wrist = np.array([0.5 + generator.normal(0, 0.04), 0.8])
    _stroke(draw, scale * np.stack([palm, wrist]), scale * generator.uniform(0.2, 0.26))
    spread, bent = generator.uniform(5, 16), generator.uniform(0.45, 1)
    for finger in range(generator.integers(3, 5)):
        turn = np.deg2rad((finger - 1.5) * spread + generator.normal(0, 3))
        root = palm + np.array([(finger - 1.5) * 0.075, -0.12])
        length = bent * (0.3, 0.34, 0.33, 0.27)[finger] * generator.uniform(0.85, 1.1)
        tip = root + length * np.array([np.sin(turn), -np.cos(turn)])
        _stroke(draw, scale * np.stack([root, tip]), scale * generator.uniform(0.07, 0.085))
    if generator.random() < 0.7:
        side = generator.choice([-1, 1])
        thumb = palm + np.array([side * generator.uniform(0.24, 0.33), -generator.uniform(0.0, 0.18)])
        _stroke(draw, scale * np.stack([palm + np.array([side * 0.1, 0.06]), thumb]), scale * 0.09)
    return _reduced(canvas)


def _stroke(draw: ImageDraw.ImageDraw, points: np.ndarray, width: float) -> None:
    """A line (n,2) with round ends."""
    draw.line([tuple(point) for point in points], fill=255, width=max(round(width), 1), joint="curve")
    for x, y in points[[0, -1]]:
        draw.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=255)
