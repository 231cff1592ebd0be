"""Colours and patterns for synthetic pictures: spectral noise, fabrics, objects; all from random numbers."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

# Colours of hair from black to grey, sRGB 0..1, between which tones are drawn.
HAIR_TONES = np.array(
    [
        [0.06, 0.05, 0.05],
        [0.13, 0.09, 0.07],
        [0.25, 0.17, 0.11],
        [0.45, 0.32, 0.18],
        [0.72, 0.58, 0.38],
        [0.62, 0.61, 0.6],
    ]
)


def spectral_noise(generator: np.random.Generator, size: int, slope: float, stretch: float = 1.0) -> np.ndarray:
    """(size,size) float64 noise of zero mean and unit variance.

    Args:
        slope: the amplitude falls with frequency to this power: 1 is like photographs, 2 like clouds, 0 white.
        stretch: how many times longer structures are along a random direction.
    """
    frequency_y = np.fft.fftfreq(size)[:, None]
    frequency_x = np.fft.rfftfreq(size)[None]
    angle = generator.uniform(0, np.pi)
    along = np.cos(angle) * frequency_x + np.sin(angle) * frequency_y
    across = -np.sin(angle) * frequency_x + np.cos(angle) * frequency_y
    radius = np.sqrt((along * stretch) ** 2 + across**2)
    amplitude = 1 / np.maximum(radius, 1 / size) ** slope
    amplitude[0, 0] = 0
    spectrum = amplitude * np.exp(2j * np.pi * generator.random(amplitude.shape))
    values = np.fft.irfft2(spectrum, s=(size, size))
    return (values - values.mean()) / (values.std() + 1e-9)


def random_colour(generator: np.random.Generator) -> np.ndarray:
    """(3,) RGB 0..1; greys, blacks and whites are as common as colours."""
    kind = generator.random()
    if kind < 0.2:
        return np.full(3, generator.uniform(0.75, 1.0)) * generator.uniform(0.93, 1.0, 3)
    if kind < 0.4:
        return np.full(3, generator.uniform(0.02, 0.25)) * generator.uniform(0.9, 1.1, 3)
    if kind < 0.5:
        return np.full(3, generator.uniform(0.25, 0.75))
    return generator.random(3)


def tone(generator: np.random.Generator, tones: np.ndarray) -> np.ndarray:
    """(3,) RGB: a random mixture of two neighbouring tones."""
    place = generator.uniform(0, len(tones) - 1)
    low = int(place)
    mixed = tones[low] + (place - low) * (tones[low + 1] - tones[low])
    return (mixed * generator.uniform(0.92, 1.08, 3)).clip(0, 1)


def pattern(generator: np.random.Generator, size: int, colour: np.ndarray | None = None) -> np.ndarray:
    """(size,size,3) RGB 0..1: plain, clouded, striped, chequered, spotted or like a photograph.

    Args:
        colour: mean colour; random if None.
    """
    base = random_colour(generator) if colour is None else colour
    strength = generator.choice([0.02, 0.08, 0.2, 0.45], p=[0.3, 0.3, 0.25, 0.15])
    slope = generator.uniform(0.6, 1.8)
    grey = spectral_noise(generator, size, slope, generator.choice([1.0, 1.0, 4.0]))
    chroma = np.stack([spectral_noise(generator, size, slope + 0.3) for _ in range(3)], -1)
    values = base * np.exp(strength * grey[..., None] + 0.4 * strength * chroma)
    kind = generator.random()
    if kind < 0.3:
        other = random_colour(generator) if colour is None else (base * generator.uniform(0.6, 1.4, 3)).clip(0, 1)
        y, x = np.mgrid[:size, :size] / size
        angle, period = generator.uniform(0, np.pi), generator.uniform(0.03, 0.3)
        wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
        if kind < 0.1:
            wave = wave * np.sin(2 * np.pi * (-x * np.sin(angle) + y * np.cos(angle)) / period)
        elif kind < 0.18:
            wave = grey - generator.uniform(0, 1)
        share = np.clip(wave * generator.uniform(2, 12), -1, 1)[..., None] * 0.5 + 0.5
        values = values * share + other * (1 - share)
    return values.clip(0, 1)


def soft(values: np.ndarray, deviation: float) -> np.ndarray:
    """Gaussian blur of (H,W) or (H,W,C) by a deviation in px, without mixing channels."""
    return gaussian_filter(values, (deviation, deviation, 0)[: values.ndim])
