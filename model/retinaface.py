"""Face detector: RetinaFace (Deng et al. 2020) with ResNet-50, for weights of biubug6/Pytorch_Retinaface.

The paper's authors align with it. Its weights are not part of this package: `load_checkpoint(path, RetinaFace())`.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cfr.model.detector import Detections
from cfr.model.networks.residual import Bottleneck, ResidualNetwork

STRIDES = (8, 16, 32)
PRIOR_SIDES = ((16, 32), (64, 128), (256, 512))
"""Sides (px) of the two squares around every cell, for each stride."""

# How much of a prior's side an offset of 1 is, and how much an enlargement of 1 is in the logarithm of the side.
_CENTRE_VARIANCE, _SIZE_VARIANCE = 0.1, 0.2
_BGR_MEAN = (104.0, 117.0, 123.0)
_CHANNELS = 256
_LEAST_SCORE = 0.6
_CONFIDENT_SCORE = 0.95
_OVERLAP = 0.4
_MOST_CANDIDATES = 2000
_GREY = 127


@dataclass(frozen=True)
class _Look:
    """One run of the network on the photo reduced to `side` px, in a grey frame of this share of its longer side."""

    side: int
    frame: float = 0.0


# The first look finds faces from some 3% of the photo's side; the second the small ones of large photos; the third
# faces that fill the picture.
_LOOKS = (_Look(640), _Look(1600), _Look(480, frame=0.4))


class RetinaFace(nn.Module):
    """The network, and the search for the faces of a photo with it."""

    def __init__(self):
        super().__init__()
        self.body = ResidualNetwork(Bottleneck, (3, 4, 6, 3))
        self.fpn = _FeaturePyramid((512, 1024, 2048))
        self.ssh1, self.ssh2, self.ssh3 = (_ContextHead() for _ in STRIDES)
        self.ClassHead = nn.ModuleList(_Head(2) for _ in STRIDES)
        self.BboxHead = nn.ModuleList(_Head(4) for _ in STRIDES)
        self.LandmarkHead = nn.ModuleList(_Head(10) for _ in STRIDES)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the network says about every prior; see `priors` for their order.

        Args:
            image: (B,3,H,W) float RGB, 0..255. The weights were trained on BGR minus a mean; both is done here.

        Returns:
            face probability (B,P), offsets of centre and size (B,P,4), offsets of the five points (B,P,5,2); all in
            units that `decode_boxes` and `decode_landmarks` understand.
        """
        image = image.flip(1) - image.new_tensor(_BGR_MEAN).view(3, 1, 1)
        levels = self.fpn(*self.body.stages(image)[1:])
        levels = [head(level) for head, level in zip((self.ssh1, self.ssh2, self.ssh3), levels, strict=True)]
        classes, boxes, landmarks = (
            torch.cat([head(level) for head, level in zip(heads, levels, strict=True)], dim=1)
            for heads in (self.ClassHead, self.BboxHead, self.LandmarkHead)
        )
        return classes.softmax(2)[..., 1], boxes, landmarks.unflatten(2, (5, 2))

    @torch.no_grad()
    def detect(self, image: np.ndarray) -> Detections:
        """Find the faces of a photo.

        Args:
            image: (H,W,3) uint8 RGB, upright (EXIF orientation applied).

        Returns:
            The faces with a score of at least 0.6; none is no error.

        Raises:
            ValueError: the image has another shape or type.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ValueError(f"the detector wants (H,W,3) uint8 RGB, got {image.shape} {image.dtype}")
        best = Detections(np.empty((0, 4), np.float32), np.empty((0, 5, 2), np.float32), np.empty(0, np.float32))
        seen = set()
        for look in _LOOKS:
            side = min(look.side, max(image.shape[:2]))
            if (side, look.frame) in seen:
                continue
            seen.add((side, look.frame))
            found = self._look(image, side, look.frame)
            if found.scores.max(initial=0) > best.scores.max(initial=0):
                best = found
            if best.scores.max(initial=0) >= _CONFIDENT_SCORE:
                break
        return best

    def _look(self, image: np.ndarray, side: int, frame_share: float) -> Detections:
        height, width = image.shape[:2]
        scale = side / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        reduced = Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.BILINEAR)
        frame = math.ceil(frame_share * side)
        framed = np.pad(np.asarray(reduced), ((frame, frame), (frame, frame), (0, 0)), constant_values=_GREY)
        device = self.fpn.output1[0].weight.device
        pixels = torch.from_numpy(framed).to(device).permute(2, 0, 1)[None].float()
        scores, boxes, landmarks = (values[0].float() for values in self(pixels))
        candidates = torch.nonzero(scores >= _LEAST_SCORE)[:, 0]
        around = priors(*framed.shape[:2]).to(device)[candidates]
        scores = scores[candidates]
        boxes = decode_boxes(boxes[candidates], around)
        order = non_maximum_suppression(boxes, scores)
        points = decode_landmarks(landmarks[candidates[order]], around[order])
        factor = boxes.new_tensor([width / size[0], height / size[1]])
        return Detections(
            ((boxes[order] - frame) * factor.repeat(2)).cpu().numpy(),
            ((points - frame) * factor).cpu().numpy(),
            scores[order].cpu().numpy(),
        )


def priors(height: int, width: int) -> Tensor:
    """The squares that the network's outputs refer to, (P,3) float32: centre x, y and side in px of its input.

    From the finest level to the coarsest; in a level row by row; in a cell the smaller one first.
    """
    levels = []
    for stride, sides in zip(STRIDES, PRIOR_SIDES, strict=True):
        rows = (torch.arange(math.ceil(height / stride)) + 0.5) * stride
        columns = (torch.arange(math.ceil(width / stride)) + 0.5) * stride
        y, x, side = torch.meshgrid(rows, columns, torch.tensor(sides, dtype=torch.float32), indexing="ij")
        levels.append(torch.stack([x, y, side], dim=3).flatten(0, 2))
    return torch.cat(levels)


def decode_boxes(offsets: Tensor, around: Tensor) -> Tensor:
    """Offsets (P,4) of priors (P,3) -> boxes (P,4): x1, y1, x2, y2 in px of the network's input."""
    side = around[:, 2:]
    centre = around[:, :2] + _CENTRE_VARIANCE * offsets[:, :2] * side
    half = side * torch.exp(_SIZE_VARIANCE * offsets[:, 2:]) / 2
    return torch.cat([centre - half, centre + half], dim=1)


def decode_landmarks(offsets: Tensor, around: Tensor) -> Tensor:
    """Offsets (P,5,2) of priors (P,3) -> points (P,5,2) in px of the network's input."""
    return around[:, None, :2] + _CENTRE_VARIANCE * offsets * around[:, None, 2:]


def non_maximum_suppression(boxes: Tensor, scores: Tensor, overlap: float = _OVERLAP) -> Tensor:
    """Indices of boxes (N,4), by descending score, that overlap no better kept box by more than this share (IoU).

    Greedy, as in the textbook: a suppressed box suppresses no other. Only the best 2000 boxes take part.
    """
    order = torch.argsort(scores, descending=True, stable=True)[:_MOST_CANDIDATES]
    boxes = boxes[order]
    extent = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - torch.maximum(boxes[:, None, :2], boxes[:, :2])
    shared = extent.clamp(min=0).prod(2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    overlaps = (shared > overlap * (area[:, None] + area - shared)).triu(1)
    # Box by box would be as many steps as boxes. Here each pass settles at least one more of every chain of boxes that
    # suppress each other, so that a few passes reach the same end.
    kept = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    while True:
        still = ~(overlaps & kept[:, None]).any(0)
        if torch.equal(still, kept):
            return order[kept]
        kept = still


def _convolution(channels: int, out_channels: int, kernel_size: int = 3, activated: bool = True) -> nn.Sequential:
    convolution = nn.Conv2d(channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), *([nn.ReLU()] if activated else []))


class _FeaturePyramid(nn.Module):
    """Features of three stages brought to one number of channels; the coarse ones are added to the fine."""

    def __init__(self, channels: tuple[int, int, int]):
        super().__init__()
        self.output1, self.output2, self.output3 = (_convolution(count, _CHANNELS, 1) for count in channels)
        self.merge1, self.merge2 = _convolution(_CHANNELS, _CHANNELS), _convolution(_CHANNELS, _CHANNELS)

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        coarse, middle, fine = self.output3(coarse), self.output2(middle), self.output1(fine)
        middle = self.merge2(middle + interpolate(coarse, middle.shape[2:]))
        return self.merge1(fine + interpolate(middle, fine.shape[2:])), middle, coarse


class _ContextHead(nn.Module):
    """SSH (Najibi et al. 2017): the surroundings in windows of 3, 5 and 7 cells."""

    def __init__(self):
        super().__init__()
        quarter = _CHANNELS // 4
        self.conv3X3 = _convolution(_CHANNELS, _CHANNELS // 2, activated=False)
        self.conv5X5_1 = _convolution(_CHANNELS, quarter)
        self.conv5X5_2 = _convolution(quarter, quarter, activated=False)
        self.conv7X7_2 = _convolution(quarter, quarter)
        self.conv7x7_3 = _convolution(quarter, quarter, activated=False)

    def forward(self, x: Tensor) -> Tensor:
        wider = self.conv5X5_1(x)
        windows = (self.conv3X3(x), self.conv5X5_2(wider), self.conv7x7_3(self.conv7X7_2(wider)))
        return torch.cat(windows, dim=1).relu()


class _Head(nn.Module):
    """`values` numbers for each prior: (B,C,h,w) -> (B, h w 2, values)."""

    def __init__(self, values: int):
        super().__init__()
        self.values = values
        self.conv1x1 = nn.Conv2d(_CHANNELS, len(PRIOR_SIDES[0]) * values, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.conv1x1(features).permute(0, 2, 3, 1).reshape(len(features), -1, self.values)
