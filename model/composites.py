"""Pictures with a known occluder: cut-outs (RGBA) pasted over a face, with the mask of what they cover.

Where a cut-out belongs follows from its file's name: `mask_*` over nose and mouth, `glasses_*` and `sunglasses_*` over
the eyes, `moustache_*` above the mouth, `hand_*` and everything else (objects) anywhere on the face. Sizes are relative
to the face. A colour-matched cut-out has the skin's mean colour, which takes from a detector the easiest clue.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

KINDS = ("mask", "glasses", "moustache", "hand", "object")
_KIND_BY_PREFIX = {
    "mask": "mask",
    "glasses": "glasses",
    "sunglasses": "glasses",
    "moustache": "moustache",
    "hand": "hand",
}
# Kinds that may well have the colour of skin.
MATCHABLE_KINDS = ("hand", "object")
# Shares of the face that an occluder may cover: less is hardly one, with more there is no face left to judge.
SMALLEST_COVER, LARGEST_COVER = 0.04, 0.55
_PLACEMENT_TRIES = 30
# A cut-out less than half of which is opaque (smoke, a drinking glass) has no well-defined mask.
_LEAST_OPAQUE_SHARE = 0.5
# Standard deviation of the soft edge as a share of the face's height (about one pixel of the 224-px crop).
_EDGE_SOFTNESS = 0.005
# Of a shadow, as shares of the face's height: how far it falls, how blurred it is; and how much light it takes at most.
_SHADOW_REACH, _SHADOW_BLUR, _DARKEST_SHADOW = (0.02, 0.09), (0.015, 0.05), (0.2, 0.6)


@dataclass(frozen=True)
class Occluder:
    """A cut-out: name of its file, kind (one of `KINDS`), rgba (h,w,4) uint8."""

    name: str
    kind: str
    rgba: np.ndarray


@dataclass(frozen=True)
class Composite:
    """A picture with something pasted over the face.

    Attributes:
        image: (H,W,3) uint8 RGB.
        mask: (H,W) bool, where the cut-out is at least half opaque.
        occluder: name of the cut-out.
        kind: one of `KINDS`.
        colour_matched: whether the cut-out was given the skin's colour.
    """

    image: np.ndarray
    mask: np.ndarray
    occluder: str
    kind: str
    colour_matched: bool


@dataclass(frozen=True)
class FacePlace:
    """The face to cover: box (x1, y1, x2, y2) and landmarks5 (5,2), px of the photo."""

    box: np.ndarray
    landmarks5: np.ndarray

    @property
    def eyes(self) -> np.ndarray:
        return self.landmarks5[:2].mean(0)

    @property
    def mouth(self) -> np.ndarray:
        return self.landmarks5[3:].mean(0)

    @property
    def down(self) -> np.ndarray:
        """From between the eyes to the mouth, px."""
        return self.mouth - self.eyes

    @property
    def roll(self) -> float:
        """Counter-clockwise tilt in degrees of the face on the screen."""
        return float(np.rad2deg(np.arctan2(self.down[0], self.down[1])))

    @property
    def size(self) -> np.ndarray:
        """Width and height of the box."""
        return self.box[2:] - self.box[:2]

    def ellipse(self, shape: tuple[int, int]) -> np.ndarray:
        """Rough outline of the face, the ellipse in its box: bool picture of this (height, width)."""
        centre = (self.box[:2] + self.box[2:]) / 2
        y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
        radius = np.maximum(self.size / 2, 1)
        return ((x - centre[0]) / radius[0]) ** 2 + ((y - centre[1]) / radius[1]) ** 2 <= 1


def occluder_kind(name: str) -> str:
    """Kind of a cut-out, from its file name."""
    return _KIND_BY_PREFIX.get(Path(name).stem.split("_")[0], "object")


def load_occluders(folder: Path) -> tuple[list[Occluder], dict[str, str]]:
    """Read the cut-outs (*.png) of a folder, ordered by name.

    Returns:
        The usable ones, and the reason why each of the others is not used, by file name: UV-space textures
        (`uvmask_*`), halves for turned heads (`*_left`, `*_right`), pictures without alpha or mostly transparent.
    """
    occluders, skipped = [], {}
    for path in sorted(folder.glob("*.png")):
        if path.stem.startswith("uvmask_"):
            skipped[path.name] = "texture in UV space"
            continue
        if path.stem.endswith(("_left", "_right")):
            skipped[path.name] = "half of a pair for turned heads"
            continue
        with Image.open(path) as picture:
            if "A" not in picture.getbands() and "transparency" not in picture.info:
                skipped[path.name] = "no alpha channel"
                continue
            rgba = np.asarray(picture.convert("RGBA"))
        seen = (rgba[..., 3] > 12).sum()
        if (rgba[..., 3] > 127).sum() < _LEAST_OPAQUE_SHARE * max(seen, 1):
            skipped[path.name] = "mostly transparent"
            continue
        occluders.append(Occluder(path.stem, occluder_kind(path.name), rgba))
    return occluders, skipped


def skin_colour(image: np.ndarray, face: FacePlace) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (3,), 0..255, of the colours between eyes, nose and mouth: image (H,W,3) uint8."""
    low = np.floor(np.minimum(face.eyes + 0.2 * face.down, face.mouth) - 0.15 * face.size[0] * np.array([1, 0]))
    high = np.ceil(face.mouth - 0.15 * face.down + 0.15 * face.size[0] * np.array([1, 0]))
    bound = np.array(image.shape[1::-1])
    x0, y0 = np.clip(low, 0, bound - 1).astype(int)
    x1, y1 = np.clip(np.maximum(high, low + 1), 1, bound).astype(int)
    pixels = image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].reshape(-1, 3).astype(np.float64)
    return pixels.mean(0), pixels.std(0)


def match_colour(rgba: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Cut-out (h,w,4) uint8 whose opaque pixels have this mean colour and at most twice this contrast (0..255)."""
    colour = rgba[..., :3].astype(np.float64)
    opaque = colour[rgba[..., 3] > 127]
    gain = np.minimum(1.0, 2 * deviation / np.maximum(opaque.std(0), 1e-6)).mean()
    matched = (colour - opaque.mean(0)) * gain + mean
    return np.concatenate([matched.clip(0, 255).round().astype(np.uint8), rgba[..., 3:]], axis=-1)


def composites_of(
    image: np.ndarray,
    face: FacePlace,
    occluders: list[Occluder],
    *,
    name: str,
    index: int,
    copies: int,
    matched_share: float,
    seed: int,
) -> Iterator[Composite]:
    """Composites of one photo of a series; over the series every kind of cut-out comes up equally often.

    Args:
        image: (H,W,3) uint8 RGB photo.
        face: where the face is.
        occluders: to choose from, not empty.
        name: of the photo; places and cut-outs follow from it and the seed, not from the other photos.
        index: of the photo in the series; with the copies, it tells the kinds' turn.
        copies: how many composites.
        matched_share: share of the `MATCHABLE_KINDS` that are colour-matched.
        seed: of the series.
    """
    kinds = [kind for kind in KINDS if any(occluder.kind == kind for occluder in occluders)]
    for copy in range(copies):
        entropy = [seed, zlib.crc32(name.encode()), copy]
        generator = np.random.default_rng([*entropy, 0])
        kind = kinds[(index * copies + copy) % len(kinds)]
        candidates = [occluder for occluder in occluders if occluder.kind == kind]
        occluder = candidates[generator.integers(len(candidates))]
        matched = kind in MATCHABLE_KINDS and bool(generator.random() < matched_share)
        yield paste_occluder(image, face, occluder, [*entropy, 1], matched)


def paste_occluder(
    image: np.ndarray,
    face: FacePlace,
    occluder: Occluder,
    seed: list[int],
    colour_matched: bool = False,
    shadow: bool = False,
) -> Composite:
    """Paste a cut-out over a face.

    The place is drawn until the cut-out covers between `SMALLEST_COVER` and `LARGEST_COVER` of the face's ellipse; the
    last try is taken if none does. The same arguments give the same picture.

    Args:
        image: (H,W,3) uint8 RGB photo.
        face: where the face is.
        seed: entropy of the random place and size.
        colour_matched: give the cut-out the skin's colour.
        shadow: let it darken its surroundings; they are not in the mask.

    Returns:
        The composite; its picture has the photo's size.
    """
    generator = np.random.default_rng(seed)
    rgba = match_colour(occluder.rgba, *skin_colour(image, face)) if colour_matched else occluder.rgba
    outline = face.ellipse(image.shape[:2])
    for _ in range(_PLACEMENT_TRIES):
        layer = _place(rgba, occluder.kind, face, image.shape[:2], generator)
        cover = (layer[..., 3] > 0.5)[outline].mean() if outline.any() else 0.0
        if SMALLEST_COVER <= cover <= LARGEST_COVER:
            break
    alpha = layer[..., 3:]
    ground = image * (1 - _shadow(layer[..., 3], face, generator))[..., None] if shadow else image
    blended = ground * (1 - alpha) + layer[..., :3]
    return Composite(
        blended.clip(0, 255).round().astype(np.uint8), alpha[..., 0] > 0.5, occluder.name, occluder.kind, colour_matched
    )


def _place(
    rgba: np.ndarray, kind: str, face: FacePlace, shape: tuple[int, int], generator: np.random.Generator
) -> np.ndarray:
    """The cut-out, scaled, turned and put where its kind belongs.

    Returns:
        (H,W,4) float64 of the photo's size: colours 0..255 premultiplied with alpha 0..1.
    """
    height, width = rgba.shape[:2]
    box_width, box_height = face.size
    down = np.linalg.norm(face.down)
    jitter = generator.normal(0, 0.03, 2) * face.size
    angle = face.roll + generator.normal(0, 3)
    if kind == "mask":
        size = np.array([box_width * generator.uniform(0.92, 1.08), down * generator.uniform(1.35, 1.6)])
        centre = face.eyes + face.down * generator.uniform(1.1, 1.2) + 0.5 * jitter
    elif kind == "glasses":
        eye_distance = np.linalg.norm(face.landmarks5[1] - face.landmarks5[0])
        size = np.array([1.0, height / width]) * max(eye_distance, 0.6 * down) * generator.uniform(2.1, 2.4)
        centre = face.eyes + face.down * 0.04 + 0.3 * jitter
    elif kind == "moustache":
        mouth_width = np.linalg.norm(face.landmarks5[4] - face.landmarks5[3])
        size = np.array([1.0, height / width]) * max(mouth_width, 0.4 * down) * generator.uniform(1.2, 1.7)
        centre = (face.mouth + face.landmarks5[2]) / 2 + face.down * 0.08 + 0.3 * jitter
    else:
        share = generator.uniform(0.5, 0.95) if kind == "hand" else generator.uniform(0.35, 0.8)
        size = np.array([width, height]) * (share * box_height / max(width, height))
        centre = face.box[:2] + face.size * generator.uniform([0.1, 0.2], [0.9, 0.95])
        angle = generator.uniform(-180, 180) if kind == "hand" else generator.uniform(-60, 60)
        if generator.random() < 0.5:
            rgba = rgba[:, ::-1]
    return _warp(rgba, size, centre, angle, float(_EDGE_SOFTNESS * box_height), shape)


def _shadow(alpha: np.ndarray, face: FacePlace, generator: np.random.Generator) -> np.ndarray:
    """(H,W) share of the light that is lost: the cut-out's alpha (H,W), shifted to a random side and blurred."""
    height = float(face.size[1])
    angle, reach = generator.uniform(0, 2 * np.pi), generator.uniform(*_SHADOW_REACH) * height
    shifted = Image.new("L", alpha.shape[::-1], 0)
    offset = (round(reach * np.cos(angle)), round(reach * np.sin(angle)))
    shifted.paste(Image.fromarray((alpha * 255).clip(0, 255).round().astype(np.uint8)), offset)
    blurred = shifted.filter(ImageFilter.GaussianBlur(generator.uniform(*_SHADOW_BLUR) * height))
    return generator.uniform(*_DARKEST_SHADOW) * np.asarray(blurred) / 255


def _warp(
    rgba: np.ndarray, size: np.ndarray, centre: np.ndarray, angle: float, softness: float, shape: tuple[int, int]
) -> np.ndarray:
    """Cut-out scaled to size (width, height) px, turned counter-clockwise, centred at (x, y), edges softened (px)."""
    target = tuple(np.maximum(np.round(size), 2).astype(int))
    # Premultiplied (RGBa) bands, one by one: no colour of transparent pixels bleeds in.
    bands, margin = [], int(np.ceil(3 * softness))
    for band in Image.fromarray(np.ascontiguousarray(rgba)).convert("RGBa").split():
        scaled = ImageOps.expand(band.resize(target, Image.Resampling.BICUBIC), margin)
        turned = scaled.rotate(angle, Image.Resampling.BILINEAR, expand=True)
        bands.append(np.asarray(turned.filter(ImageFilter.GaussianBlur(softness)), np.float64))
    values = np.stack(bands, -1)
    values[..., 3] /= 255
    layer = np.zeros((*shape, 4))
    x0, y0 = np.round(centre - np.array(values.shape[1::-1]) / 2).astype(int)
    left, top = max(x0, 0), max(y0, 0)
    right, bottom = min(x0 + values.shape[1], shape[1]), min(y0 + values.shape[0], shape[0])
    if right > left and bottom > top:
        layer[top:bottom, left:right] = values[top - y0 : bottom - y0, left - x0 : right - x0]
    return layer
