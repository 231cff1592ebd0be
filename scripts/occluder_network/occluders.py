"""Things that cover faces, drawn: medical masks, glasses, hands, objects; each a layer over the crop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hands import HandModel
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt
from textures import pattern, random_colour, soft

SIZE = 224
_OVERSAMPLING = 2
# iBUG points: jaw 0-16, bridge of the nose 27-30, eyes 36-41 and 42-47, mouth corners 48 and 54.
_LEFT_EYE, _RIGHT_EYE = slice(36, 42), slice(42, 48)


@dataclass(frozen=True)
class Layer:
    """colour (224,224,3) RGB 0..1, alpha (224,224) 0..1, undecided (224,224) bool: neither face nor occluder."""

    colour: np.ndarray
    alpha: np.ndarray
    undecided: np.ndarray


@dataclass(frozen=True)
class Subject:
    """The face to cover.

    landmarks (68,2) crop px; normals (224,224,3) camera space, 0 outside the mesh; skin (3,) mean colour RGB 0..1.
    """

    landmarks: np.ndarray
    normals: np.ndarray
    skin: np.ndarray

    @property
    def size(self) -> float:
        """Height from brows to chin, px."""
        return float(max(np.ptp(self.landmarks[:, 1]), 60))


def draw_occluder(generator: np.random.Generator, kind: str, subject: Subject, hands: HandModel) -> Layer:
    """A random occluder of a kind ("mask", "glasses", "hand", "object", "strip") in its place."""
    return {"mask": _medical_mask, "glasses": _glasses, "hand": _hand, "object": _object, "strip": _strip}[kind](
        generator, subject, hands
    )


def _polygon(points: np.ndarray, width: float = 0.0, outline_only: bool = False) -> np.ndarray:
    """(224,224) coverage 0..1 of a polygon, or of its outline."""
    scaled = [tuple(point) for point in np.asarray(points) * _OVERSAMPLING]
    canvas = Image.new("L", (SIZE * _OVERSAMPLING,) * 2, 0)
    draw = ImageDraw.Draw(canvas)
    if outline_only:
        draw.line([*scaled, scaled[0]], fill=255, width=max(round(width * _OVERSAMPLING), 1), joint="curve")
    else:
        draw.polygon(scaled, fill=255)
    return np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BOX), np.float64) / 255


def _line(points: np.ndarray, width: float) -> np.ndarray:
    canvas = Image.new("L", (SIZE * _OVERSAMPLING,) * 2, 0)
    scaled = [tuple(point) for point in np.asarray(points) * _OVERSAMPLING]
    ImageDraw.Draw(canvas).line(scaled, fill=255, width=max(round(width * _OVERSAMPLING), 1), joint="curve")
    return np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BOX), np.float64) / 255


def _curve(points: np.ndarray, count: int = 60) -> np.ndarray:
    """Closed smooth curve (count,2) through points (n,2): their lowest harmonics."""
    steps = np.linspace(0, len(points), 256, endpoint=False)
    closed = np.concatenate([points, points[:1]])
    dense = np.stack([np.interp(steps, np.arange(len(closed)), closed[:, axis]) for axis in range(2)], 1)
    spectrum = np.fft.fft(dense[:, 0] + 1j * dense[:, 1])
    spectrum[9:-8] = 0
    smooth = np.fft.ifft(spectrum)[:: 256 // count]
    return np.stack([smooth.real, smooth.imag], 1)


def _medical_mask(generator: np.random.Generator, subject: Subject, hands: HandModel) -> Layer:
    points = subject.landmarks
    centre = points[[2, 14, 30, 8]].mean(0)
    top = generator.uniform(0.0, 1.0)
    bridge = points[28] * (1 - top) + points[30] * top
    side = generator.uniform(1.0, 3.0)
    left = points[int(side)] * (1 - side % 1) + points[int(side) + 1] * (side % 1)
    right = points[16 - int(side)] * (1 - side % 1) + points[15 - int(side)] * (side % 1)
    chin = points[4:13]
    out = generator.uniform(0.98, 1.12)
    outline = np.concatenate([left[None], centre + (chin - centre) * out, right[None], bridge[None]])
    outline = outline + generator.normal(0, 1.5, outline.shape)
    if generator.random() < 0.35:  # a flat rectangle, as drawn on or bunched up
        low = points[8] + (points[8] - points[57]) * generator.uniform(-0.6, 0.5)
        outline = np.stack([left, left + (low - bridge) * 0.8, low, right + (low - bridge) * 0.8, right, bridge])
    alpha = _polygon(_curve(outline) if generator.random() < 0.8 else outline)
    kind = generator.random()
    if kind < 0.35:
        base = np.array([0.62, 0.80, 0.90]) * generator.uniform(0.75, 1.1) * generator.uniform(0.93, 1.07, 3)
    elif kind < 0.55:
        base = np.full(3, generator.uniform(0.78, 1.0)) * generator.uniform(0.95, 1.0, 3)
    elif kind < 0.7:
        base = np.full(3, generator.uniform(0.03, 0.25))
    else:
        base = random_colour(generator)
    plain = generator.random() < 0.7
    colour = np.broadcast_to(base, (SIZE, SIZE, 3)) if plain else pattern(generator, SIZE, base)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    dome = soft(subject.normals, 6.0)
    direction = generator.normal(loc=[0, 0.8, 1.0])
    shade = 0.72 + 0.4 * (dome @ (direction / np.linalg.norm(direction))) * generator.uniform(0.2, 1.0)
    if generator.random() < 0.6:  # pleats
        axis = points[8] - points[27]
        axis = axis / np.linalg.norm(axis)
        across = ((x - centre[0]) * -axis[1] + (y - centre[1]) * axis[0]) / subject.size
        height = (x * axis[0] + y * axis[1]) / subject.size + generator.uniform(-0.5, 0.5) * across**2
        folds = np.sin(2 * np.pi * height * generator.uniform(4, 10) + generator.uniform(0, 6))
        shade = shade * (1 + generator.uniform(0.02, 0.12) * np.clip(3 * (folds - 0.7), -1, 1))
    shade = shade * np.exp(0.04 * soft(generator.normal(size=(SIZE, SIZE)), 4.0) * 8)
    colour = colour * shade[..., None]
    if generator.random() < 0.6:  # ear loops
        loop = np.zeros((SIZE, SIZE))
        for corner, end in ((left, points[0]), (right, points[16])):
            for drop in (0.0, 0.3):
                start = corner + (points[8] - points[27]) * drop * 0.6
                loop = np.maximum(loop, _line(np.stack([start, end + (end - points[27]) * 0.1]), 1.5))
        colour = np.where((loop > alpha)[..., None], generator.uniform(0.7, 1.0), colour)
        alpha = np.maximum(alpha, loop)
    return Layer(colour.clip(0, 1), alpha, np.zeros((SIZE, SIZE), bool))


def _glasses(generator: np.random.Generator, subject: Subject, hands: HandModel) -> Layer:
    points = subject.landmarks
    eyes = np.stack([points[_LEFT_EYE].mean(0), points[_RIGHT_EYE].mean(0)])
    right = eyes[1] - eyes[0]
    distance = max(np.linalg.norm(right), 0.3 * subject.size)
    across = right / max(np.linalg.norm(right), 1e-6)
    down = np.array([-across[1], across[0]])
    width = np.maximum([np.ptp(points[_LEFT_EYE, 0]), np.ptp(points[_RIGHT_EYE, 0])], 5.0) * generator.uniform(
        0.9, 1.35
    )
    height = distance * generator.uniform(0.18, 0.38)
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    power = generator.uniform(0.45, 1.0)
    rounded = np.stack(
        [np.sign(np.cos(angle)) * abs(np.cos(angle)) ** power, np.sign(np.sin(angle)) * abs(np.sin(angle)) ** power], 1
    )
    rounded[:, 1] = np.where(rounded[:, 1] > 0, rounded[:, 1] * generator.uniform(0.8, 1.5), rounded[:, 1])
    lenses, frame = np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE))
    thick = generator.uniform(1.0, 5.0)
    drop = generator.uniform(0.0, 0.1) * distance
    for eye, half in zip(eyes, width, strict=True):
        outline = eye + down * drop + rounded[:, :1] * half * across + rounded[:, 1:] * height * down
        lenses = np.maximum(lenses, _polygon(outline))
        frame = np.maximum(frame, _polygon(outline, thick, outline_only=True))
    bridge = np.stack([eyes[0] + across * width[0], eyes[1] - across * width[1]])
    frame = np.maximum(frame, _line(bridge + down * drop * 0.5, thick))
    for eye, half, ear, sign in ((eyes[0], width[0], points[0], -1), (eyes[1], width[1], points[16], 1)):
        if (ear - eye) @ across * sign > half:
            frame = np.maximum(frame, _line(np.stack([eye + across * half * sign, ear]), max(thick * 0.8, 1)))
    frame_colour = random_colour(generator) if generator.random() < 0.5 else np.full(3, generator.uniform(0, 0.15))
    dark = generator.random() < 0.7
    y = np.mgrid[:SIZE, :SIZE][0]
    if dark:
        lens_alpha = generator.uniform(0.75, 1.0)
        base = np.full(3, generator.uniform(0, 0.2)) if generator.random() < 0.7 else random_colour(generator) * 0.6
        rise = (y - eyes[:, 1].mean()) / max(height, 1)
        lens = base + np.clip(rise * generator.uniform(-0.1, 0.3), -0.1, 0.6)[..., None]
        lens = lens + 0.12 * np.clip(soft(generator.normal(size=(SIZE, SIZE)), 7.0) * 20, 0, 3)[..., None]
    else:
        lens_alpha = generator.uniform(0.0, 0.2)
        lens = np.full((SIZE, SIZE, 3), generator.uniform(0.4, 1.0))
    alpha = np.maximum(frame, lenses * lens_alpha)
    colour = np.where((frame > 0.5)[..., None], frame_colour, lens)
    # Clear lenses show the face, bent and with reflections: either answer is right.
    undecided = (lenses > 0.3) & (frame < 0.5) if not dark else np.zeros((SIZE, SIZE), bool)
    return Layer(colour.clip(0, 1), alpha, undecided)


def _hand(generator: np.random.Generator, subject: Subject, hands: HandModel) -> Layer:
    pixels = int(subject.size * generator.uniform(0.7, 1.9))
    light = generator.normal(size=3) * [1, 1, 0.5] + [0, 0.5, 1.0]
    light = light / np.linalg.norm(light) * generator.uniform(0.2, 0.8)
    colour = (subject.skin * generator.uniform(0.7, 1.3) * generator.uniform(0.93, 1.07, 3)).clip(0.03, 0.97)
    rgba = hands.render(generator, colour, light, min(pixels, 320)).rgba.astype(np.float64)
    if generator.random() < 0.15:  # a glove
        rgba[..., :3] = rgba[..., :3].mean(-1, keepdims=True) / colour.mean() * random_colour(generator)
    return _placed(generator, rgba, subject, reach=0.55)


def _object(generator: np.random.Generator, subject: Subject, hands: HandModel) -> Layer:
    pixels = int(np.clip(subject.size * generator.uniform(0.3, 1.1), 24, 260))
    shape = _random_shape(generator, pixels)
    matched = generator.random() < 0.35
    base = (subject.skin * generator.uniform(0.85, 1.15, 3)).clip(0, 1) if matched else None
    colour = pattern(generator, pixels, base)
    if generator.random() < 0.3:  # parts of another colour
        other = pattern(generator, pixels, base)
        cut = soft(generator.normal(size=(pixels, pixels)), generator.uniform(3, 20))
        colour = np.where((cut > 0)[..., None], colour, other)
    if generator.random() < 0.75:  # rounded, lit from somewhere
        inside = distance_transform_edt(shape > 0.5)
        dome = np.sqrt(np.clip(inside / max(inside.max(), 1), 0, 1)) * inside.max()
        slope_y, slope_x = np.gradient(soft(dome, 1.5))
        angle = generator.uniform(0, 2 * np.pi)
        lit = (slope_x * np.cos(angle) + slope_y * np.sin(angle)) * generator.uniform(0.1, 0.5)
        colour = colour * np.exp(np.clip(lit, -0.9, 0.5))[..., None]
        if generator.random() < 0.4:
            spot = np.clip(soft(lit, 2.0) - generator.uniform(0.1, 0.3), 0, 1)
            colour = colour + generator.uniform(0.5, 3) * spot[..., None]
    return _placed(generator, np.concatenate([colour.clip(0, 1), shape[..., None]], -1), subject, reach=0.5)


def _strip(generator: np.random.Generator, subject: Subject, hands: HandModel) -> Layer:
    """Something that comes in from the picture's edge: a hat, a scarf, a sleeve, a wall, a microphone's stand."""
    edge = generator.normal(size=2) * [1, 1.3]
    edge = edge / np.linalg.norm(edge)
    centre = subject.landmarks[27:36].mean(0)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    along = (x - centre[0]) * -edge[1] + (y - centre[1]) * edge[0]
    bend = 12 * soft(generator.normal(size=(SIZE, SIZE)), generator.uniform(5, 25)) * 20
    reach = generator.uniform(0.12, 0.5) * subject.size
    value = (x - centre[0]) * edge[0] + (y - centre[1]) * edge[1] - reach + bend * generator.uniform(0, 1)
    value = value + generator.uniform(-0.004, 0.004) * along**2
    if generator.random() < 0.4:
        value = np.minimum(value, generator.uniform(10, 60) - value)
    matched = generator.random() < 0.25
    base = (subject.skin * generator.uniform(0.8, 1.2, 3)).clip(0, 1) if matched else None
    colour = pattern(generator, SIZE, base)
    colour = colour * np.exp(np.clip(-value / generator.uniform(20, 120), -0.4, 0.1))[..., None]
    return Layer(colour.clip(0, 1), np.clip(value + 0.5, 0, 1), np.zeros((SIZE, SIZE), bool))


def _random_shape(generator: np.random.Generator, size: int) -> np.ndarray:
    """(size,size) coverage 0..1: blob, star, polygon, rod, ring or several of them."""
    canvas = Image.new("L", (size * 2, size * 2), 0)
    draw = ImageDraw.Draw(canvas)
    for _ in range(generator.choice([1, 1, 2, 3, 6])):
        centre = generator.uniform(0.35, 0.65, 2) * size * 2
        kind = generator.choice(["blob", "star", "polygon", "rod", "ring"], p=[0.35, 0.15, 0.2, 0.2, 0.1])
        angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        if kind == "blob":
            radius = 1 + sum(
                generator.normal(0, 0.35 / k) * np.cos(k * angle + generator.uniform(0, 6)) for k in range(2, 7)
            )
        elif kind == "star":
            radius = 1 + generator.uniform(0.1, 0.5) * np.cos(generator.integers(4, 24) * angle)
        elif kind == "polygon":
            corners = generator.integers(3, 8)
            half = np.pi / corners
            radius = np.cos(half) / np.cos((angle + generator.uniform(0, 6)) % (2 * half) - half)
        else:
            radius = np.ones_like(angle)
        if kind in ("rod", "ring"):
            thick = int(generator.uniform(0.04, 0.2) * size)
            ends = centre + generator.uniform(-0.45, 0.45, (3, 2)) * size * 2
            if kind == "rod":
                draw.line([tuple(point) for point in ends[:2]], fill=255, width=max(thick, 2))
            else:
                reach = generator.uniform(0.15, 0.4) * size * 2
                draw.ellipse([*(centre - reach), *(centre + reach)], outline=255, width=max(thick, 2))
            continue
        scale = generator.uniform(0.3, 0.48) * size * 2 * np.array([1, generator.uniform(0.35, 1.0)])
        turn = generator.uniform(0, np.pi)
        points = np.stack([np.cos(angle) * radius * scale[0], np.sin(angle) * radius * scale[1]], 1)
        points = points @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) + centre
        draw.polygon([tuple(point) for point in points], fill=255)
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX), np.float64) / 255


def _placed(generator: np.random.Generator, rgba: np.ndarray, subject: Subject, reach: float) -> Layer:
    """The layer with a picture (h,h,4) centred somewhere on the face."""
    points = subject.landmarks
    low, high = points.min(0), points.max(0)
    centre = (low + high) / 2 + generator.uniform(-reach, reach, 2) * (high - low)
    size = rgba.shape[0]
    layer = np.zeros((SIZE, SIZE, 4))
    x0, y0 = np.round(centre - size / 2).astype(int)
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x0 + size, SIZE), min(y0 + size, SIZE)
    if right > left and bottom > top:
        layer[top:bottom, left:right] = rgba[top - y0 : bottom - y0, left - x0 : right - x0]
    return Layer(layer[..., :3], layer[..., 3], np.zeros((SIZE, SIZE), bool))
