"""Face detector: MTCNN on one photo, with second looks before it says that there is no face."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cfr.model.mtcnn_cascade import CELL, Cascade, surviving_boxes

# Least score of the first look and, since they are many more chances to be wrong, of the further ones.
_FIRST_SCORE, _FURTHER_SCORE = 0.8, 0.9
# A photo is done when a look found a face with at least this score; else the look with the best score counts.
_CONFIDENT_SCORE = 0.95
_PYRAMID_FACTOR = 0.709
# The looks at the whole photo see it reduced to at most this many px on its longer side; tiles see it sharper.
_WORKING_SIDE = 1280
_TILE_OVERLAP = 256
# The sharpest look is at a picture of at most this many px, which bounds the time spent on a photo without a face.
_SHARPEST_PIXELS = 16_000_000
# Faces that two tiles saw: overlap, as a share of the smaller box, above which only the better one is kept.
_DUPLICATE_OVERLAP = 0.5
_GREY = 127


@dataclass(frozen=True)
class Detections:
    """The faces of one photo by descending score.

    boxes (n,4) float32: x1, y1, x2, y2; landmarks5 (n,5,2) float32: image-left eye, image-right eye, nose tip, mouth
    corner left and right; scores (n,) float32, 0.8..1. Coordinates are px of the photo (the first pixel's centre is
    at 0.5) and may lie outside it.
    """

    boxes: np.ndarray
    landmarks5: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class _Look:
    """One run of the cascade: faces from `smallest` px on, with at least `score`, on a photo reduced to `side` px.

    `frame` is the width of a grey frame around it, as a share of its longer side.
    """

    smallest: float
    score: float = _FURTHER_SCORE
    side: int = _WORKING_SIDE
    frame: float = 0.0


# MTCNN misses some faces for no other reason than where its pyramid's levels happen to lie: 34 is half a level away
# from 40. The frames are for pictures that a face fills, so those looks do not need many pixels.
_LOOKS = (
    _Look(40, score=_FIRST_SCORE),
    _Look(34, side=640, frame=0.25),
    _Look(20),
    _Look(24, side=320, frame=0.5),
)
_TILE_LOOK = _Look(24)


class MTCNN(nn.Module):
    """MTCNN (Zhang et al. 2016) with the weights of the installed package `mtcnn`.

    Faces of about 40 px and more on the photo reduced to 1280 px are found by the first look. Where it finds none,
    or none surely, further looks follow: other sizes, a frame around the photo, tiles at (almost) full resolution.
    Upright faces only, up to a roll of some 40 degrees.
    """

    def __init__(self):
        super().__init__()
        self.cascade = Cascade()

    @classmethod
    def load_default(cls, device: str | torch.device = "cpu") -> "MTCNN":
        """The detector with the original weights, frozen; FileNotFoundError if `mtcnn` is not installed."""
        detector = cls()
        detector.cascade.load_original()
        return detector.eval().requires_grad_(False).to(device)

    @torch.no_grad()
    def detect(self, image: np.ndarray) -> Detections:
        """Find the faces of a photo.

        Args:
            image: (H,W,3) uint8 RGB, upright (EXIF orientation applied).

        Returns:
            The faces; none is no error. The result depends on the photo alone.

        Raises:
            ValueError: the image has another shape or type.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ValueError(f"the detector wants (H,W,3) uint8 RGB, got {image.shape} {image.dtype}")
        best = _NO_FACES
        for found in self._looks(image):
            if _top_score(found) > _top_score(best):
                best = found
            if _top_score(best) >= _CONFIDENT_SCORE:
                break
        return _as_detections(best)

    def detect_at(self, image: np.ndarray, smallest: float) -> Detections:
        """One look without reduction: what the `mtcnn` package finds with `min_face_size=smallest`, in its coordinates.

        Args:
            image: (H,W,3) uint8 RGB.
            smallest: side of the smallest face, px.
        """
        with torch.no_grad():
            found = self._look(image, _Look(smallest, score=_FIRST_SCORE))
        return _as_detections(found)

    def _looks(self, image: np.ndarray) -> Iterator["_Found"]:
        """What each look finds, photo px; lazily, since most photos need the first only."""
        for look in _LOOKS:
            factor = math.ceil(max(image.shape[:2]) / look.side)
            yield _scaled(self._look(_reduced(image, factor), look), factor)
        factor = math.ceil(max(image.shape[:2]) / _WORKING_SIDE)
        sharp_factor = math.ceil(math.sqrt(image.shape[0] * image.shape[1] / _SHARPEST_PIXELS))
        if sharp_factor < factor:
            yield _scaled(self._look_at_tiles(_reduced(image, sharp_factor)), sharp_factor)

    def _look_at_tiles(self, image: np.ndarray) -> "_Found":
        parts = []
        for top in _tile_starts(image.shape[0]):
            for left in _tile_starts(image.shape[1]):
                tile = image[top : top + _WORKING_SIDE, left : left + _WORKING_SIDE]
                parts.append(_shifted(self._look(tile, _TILE_LOOK), left, top))
        boxes, scores, landmarks = (torch.cat(part) for part in zip(*parts, strict=True))
        order = surviving_boxes(boxes, scores, _DUPLICATE_OVERLAP, of_smaller=True)
        return boxes[order], scores[order], landmarks[order]

    def _look(self, image: np.ndarray, look: _Look) -> "_Found":
        frame = math.ceil(look.frame * max(image.shape[:2]))
        if frame:
            image = np.pad(image, ((frame, frame), (frame, frame), (0, 0)), constant_values=_GREY)
        device = next(self.parameters()).device
        # Read-only arrays (decoded photos) make torch warn: the copy is needed for the conversion anyway.
        pixels = torch.from_numpy(image.astype(np.float32)).to(device).permute(2, 0, 1)[None]
        found = self.cascade((pixels - 127.5) / 128, _pyramid(image, look.smallest), look.score)
        return _shifted(found, -frame, -frame) if frame else found


_Found = tuple[Tensor, Tensor, Tensor]
_NO_FACES: _Found = (torch.empty(0, 4), torch.empty(0), torch.empty(0, 5, 2))


def _as_detections(found: _Found) -> Detections:
    boxes, scores, landmarks = (part.float().cpu().numpy() for part in found)
    return Detections(boxes, landmarks, scores)


def _top_score(found: _Found) -> float:
    return float(found[1].max()) if len(found[1]) else 0.0


def _pyramid(image: np.ndarray, smallest: float) -> list[float]:
    """Scales from the one at which a face of `smallest` px fills a cell to the last at which the photo does."""
    side = min(image.shape[:2])
    scales = [CELL / smallest]
    while side * scales[-1] >= CELL:
        scales.append(scales[-1] * _PYRAMID_FACTOR)
    return scales[:-1]


def _tile_starts(length: int) -> list[int]:
    """Starts of overlapping tiles that cover a side, the last one flush with its end."""
    last = max(length - _WORKING_SIDE, 0)
    return [*range(0, last, _WORKING_SIDE - _TILE_OVERLAP), last]


def _reduced(image: np.ndarray, factor: int) -> np.ndarray:
    """The photo at 1 / factor, averaged over whole blocks."""
    if factor == 1:
        return image
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).reduce(factor))


def _scaled(found: _Found, factor: int) -> _Found:
    boxes, scores, landmarks = found
    return boxes * factor, scores, landmarks * factor


def _shifted(found: _Found, x: float, y: float) -> _Found:
    boxes, scores, landmarks = found
    offset = boxes.new_tensor([x, y])
    return boxes + offset.repeat(2), scores, landmarks + offset
