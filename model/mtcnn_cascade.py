"""The three networks of MTCNN and the cascade through them, in PyTorch.

It follows the package `mtcnn` 1.0.0 (MIT), whose weights it reads, step by step: area-averaged pyramid, crops sampled
bilinearly without antialiasing, and a suppression in which a suppressed box still suppresses others.
"""

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

import joblib
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

CELL = 12
_STRIDE = 2
_PROPOSAL_THRESHOLD, _REFINE_THRESHOLD = 0.6, 0.7
_LEVEL_OVERLAP, _OVERLAP = 0.5, 0.7
# Bounds on work and memory that no sensible photo reaches: proposals per level, crops per network call.
_MOST_PROPOSALS = 3000
_CROPS_PER_CALL = 256
_PAIRS_PER_STEP = 1 << 20


def _original_weights(name: str) -> list[np.ndarray]:
    """Arrays of a network (Keras layout) from the installed `mtcnn`, found without importing it (it wants TensorFlow).

    The files are pickles: they are trusted as far as the installed package's code is.
    """
    spec = importlib.util.find_spec("mtcnn")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package `mtcnn` (1.x), whose files hold the detector's weights, is not installed")
    return joblib.load(Path(spec.origin).parent / "assets" / "weights" / f"{name}.lz4")


def _load_original(network: nn.Module, name: str) -> None:
    """Copy the arrays of the installed package into the layers, in their order."""
    arrays = iter(_original_weights(name))
    layouts = {nn.Conv2d: (3, 2, 0, 1), nn.Linear: (1, 0)}
    state = {}
    for path, layer in network.named_modules():
        if type(layer) in layouts:
            state[f"{path}.weight"] = torch.from_numpy(next(arrays).transpose(layouts[type(layer)]).copy())
            state[f"{path}.bias"] = torch.from_numpy(next(arrays).copy())
        elif isinstance(layer, nn.PReLU):
            state[f"{path}.weight"] = torch.from_numpy(next(arrays).ravel().copy())
    network.load_state_dict(state)


class _ProposalNet(nn.Module):
    """Fully convolutional face / no face on 12-px cells at a stride of 2."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 10, 3), nn.PReLU(10), nn.MaxPool2d(2, 2, ceil_mode=True)),
            *(nn.Conv2d(10, 16, 3), nn.PReLU(16)),
            *(nn.Conv2d(16, 32, 3), nn.PReLU(32)),
        )
        self.offsets = nn.Conv2d(32, 4, 1)
        self.classes = nn.Conv2d(32, 2, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(1,3,H,W) -> box offsets (4,h,w), face probability (h,w)."""
        features = self.features(image)
        return self.offsets(features)[0], self.classes(features)[0].softmax(0)[1]


class _CropNet(nn.Module):
    """Convolutions, then dense layers on the features flattened in the original's order (x, y, channel)."""

    def __init__(self, convolutions: Sequence[nn.Module], features: int, hidden: int, outputs: Sequence[int]):
        super().__init__()
        self.convolutions = nn.Sequential(*convolutions)
        self.dense = nn.Sequential(nn.Linear(features, hidden), nn.PReLU(hidden))
        self.heads = nn.ModuleList(nn.Linear(hidden, count) for count in outputs)

    def forward(self, crops: Tensor) -> list[Tensor]:
        """(N,3,s,s) -> box offsets (N,4), [landmarks (N,10): five x, five y,] face probability (N,)."""
        features = self.dense(self.convolutions(crops).permute(0, 3, 2, 1).flatten(1))
        *regressions, classes = [head(features) for head in self.heads]
        return [*regressions, classes.softmax(1)[:, 1]]


class Cascade(nn.Module):
    """Proposals on a pyramid, refined by two networks on crops of 24 and 48 px."""

    def __init__(self):
        super().__init__()
        self.proposal = _ProposalNet()
        refine = (
            *(nn.Conv2d(3, 28, 3), nn.PReLU(28), nn.MaxPool2d(3, 2, ceil_mode=True)),
            *(nn.Conv2d(28, 48, 3), nn.PReLU(48), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(48, 64, 2), nn.PReLU(64)),
        )
        self.refine = _CropNet(refine, features=576, hidden=128, outputs=(4, 2))
        output = (
            *(nn.Conv2d(3, 32, 3), nn.PReLU(32), nn.MaxPool2d(3, 2, ceil_mode=True)),
            *(nn.Conv2d(32, 64, 3), nn.PReLU(64), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(64, 64, 3), nn.PReLU(64), nn.MaxPool2d(2, 2)),
            *(nn.Conv2d(64, 128, 2), nn.PReLU(128)),
        )
        self.output = _CropNet(output, features=1152, hidden=256, outputs=(4, 10, 2))

    def load_original(self) -> None:
        """Load the weights of the installed `mtcnn` package; raises FileNotFoundError if it is not installed."""
        _load_original(self.proposal, "pnet")
        _load_original(self.refine, "rnet")
        _load_original(self.output, "onet")
        self.to(memory_format=torch.channels_last)

    def forward(self, image: Tensor, scales: Sequence[float], threshold: float) -> tuple[Tensor, Tensor, Tensor]:
        """Find the faces of one photo.

        Args:
            image: (1,3,H,W) float32 RGB, 0..255 brought to (v - 127.5) / 128.
            scales: of the pyramid's levels; at scale s a face of 12 / s px fills a cell.
            threshold: the last network's least face probability.

        Returns:
            boxes (n,4) x1, y1, x2, y2, scores (n,) and landmarks (n,5,2), float64, by descending score; the
            coordinates are the original's.
        """
        image = image.contiguous(memory_format=torch.channels_last)
        levels = [self._propose(image, scale) for scale in scales]
        boxes = torch.cat([image.new_empty((0, 4), dtype=torch.float64), *(boxes for boxes, _ in levels)])
        scores = torch.cat([boxes.new_empty(0), *(scores for _, scores in levels)])
        boxes = _squared(boxes[surviving_boxes(boxes, scores, _OVERLAP)])

        offsets, scores = self._classify(self.refine, image, boxes, 24)
        keep = scores > _REFINE_THRESHOLD
        boxes, scores = _moved(boxes, offsets)[keep], scores[keep]
        boxes = _squared(boxes[surviving_boxes(boxes, scores, _OVERLAP)])

        offsets, points, scores = self._classify(self.output, image, boxes, 48)
        extent = boxes[:, None, 2:] - boxes[:, None, :2] + 1
        landmarks = points.reshape(-1, 2, 5).transpose(1, 2) * extent + boxes[:, None, :2] - 1
        keep = scores > threshold
        boxes, scores, landmarks = _moved(boxes, offsets)[keep], scores[keep], landmarks[keep]
        order = surviving_boxes(boxes, scores, _OVERLAP, of_smaller=True)
        return boxes[order], scores[order], landmarks[order]

    def _propose(self, image: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Boxes (n,4) and scores (n,) of one pyramid level, photo px, by descending score."""
        level = _area_resized(image, int(image.shape[2] * scale), int(image.shape[3] * scale))
        offsets, probability = self.proposal(level)
        rows, columns = torch.nonzero(probability > _PROPOSAL_THRESHOLD, as_tuple=True)
        scores = probability[rows, columns].double()
        corner = torch.stack([columns, rows], dim=1).double() * _STRIDE
        # A cell of the original is one pixel short: from 1 to 12.
        cells = torch.cat([corner + 1, corner + CELL], dim=1)
        boxes = (cells + (CELL - 1) * offsets[:, rows, columns].T) / scale
        order = surviving_boxes(boxes, scores, _LEVEL_OVERLAP)
        return boxes[order], scores[order]

    @staticmethod
    def _classify(network: nn.Module, image: Tensor, boxes: Tensor, size: int) -> list[Tensor]:
        """Outputs of a crop network for all boxes, float64."""
        parts = [network(_crops(image, part, size)) for part in boxes.split(_CROPS_PER_CALL)]
        return [torch.cat(outputs).double() for outputs in zip(*parts, strict=True)]


def _area_resized(image: Tensor, height: int, width: int) -> Tensor:
    """(1,3,H,W) averaged over exactly the area that an output pixel covers (TensorFlow's AREA resize)."""
    rows = image[0].permute(1, 2, 0).flatten(1)
    rows = _weighted_rows(rows, height)
    columns = _weighted_rows(rows.view(height, -1, 3).transpose(0, 1).flatten(1), width)
    return columns.view(width, height, 3).permute(2, 1, 0)[None].contiguous(memory_format=torch.channels_last)


def _weighted_rows(table: Tensor, count: int) -> Tensor:
    """(count, C): means of the rows of a table (n, C) over `count` equal, possibly fractional stretches."""
    stretch = len(table) / count
    edges = torch.arange(count + 1, dtype=torch.float64, device=table.device)[:, None] * stretch
    rows = edges[:-1].floor().long() + torch.arange(math.ceil(stretch) + 1, device=table.device)
    covered = (torch.minimum(edges[1:], rows + 1) - torch.maximum(edges[:-1], rows)).clamp(min=0)
    weights = (covered / stretch).to(table.dtype)
    return functional.embedding_bag(rows.clamp(max=len(table) - 1), table, per_sample_weights=weights, mode="sum")


def _crops(image: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Crops (n,3,size,size) of boxes (n,4) from (1,3,H,W), by TensorFlow's `crop_and_resize` as the original calls it.

    The first and the last sample lie on the box's edges, scaled by (extent - 1) / extent; samples off the photo are 0.
    """
    extent = torch.tensor([image.shape[3], image.shape[2]], dtype=torch.float64, device=image.device)
    steps = torch.linspace(0, 1, size, dtype=torch.float64, device=image.device)[None, :, None]
    corners = boxes.view(-1, 2, 2) * ((extent - 1) / extent)
    along = corners[:, :1] + steps * (corners[:, 1:] - corners[:, :1])
    outside = (along < 0) | (along > extent - 1)
    along = (along / (extent - 1).clamp(min=1) * 2 - 1).float()
    x, y = along.unbind(2)
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=3)
    samples = functional.grid_sample(image, grid.reshape(1, -1, size, 2), padding_mode="border", align_corners=True)
    outside = outside[:, None, :, 0] | outside[:, :, None, 1]
    crops = samples[0].view(3, -1, size, size).transpose(0, 1).masked_fill(outside[:, None], 0.0)
    return crops.contiguous(memory_format=torch.channels_last)


def _moved(boxes: Tensor, offsets: Tensor) -> Tensor:
    """Boxes (n,4) with their edges moved by offsets (n,4) in units of their size."""
    extent = boxes[:, 2:] - boxes[:, :2] + 1
    return boxes + offsets * torch.cat([extent, extent], dim=1)


def _squared(boxes: Tensor) -> Tensor:
    """Boxes (n,4) grown to squares about their centres."""
    extent = boxes[:, 2:] - boxes[:, :2]
    side = extent.amax(1, keepdim=True)
    corner = boxes[:, :2] + extent / 2 - side / 2
    return torch.cat([corner, corner + side], dim=1)


def surviving_boxes(boxes: Tensor, scores: Tensor, overlap: float, of_smaller: bool = False) -> Tensor:
    """Indices, by descending score, of the boxes that no better one overlaps by more than a share of their union.

    Unlike the textbook's rule, a box that is itself suppressed still suppresses. With `of_smaller`, the share is of
    the smaller box.
    """
    order = torch.argsort(scores, descending=True, stable=True)[:_MOST_PROPOSALS]
    boxes = boxes[order]
    count = len(boxes)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    step = max(1, _PAIRS_PER_STEP // max(count, 1))
    kept = torch.ones(count, dtype=torch.bool, device=boxes.device)
    for start in range(0, count, step):
        stop = min(start + step, count)
        low = torch.maximum(boxes[:stop, None, :2], boxes[None, start:stop, :2])
        high = torch.minimum(boxes[:stop, None, 2:], boxes[None, start:stop, 2:])
        shared = (high - low).clamp(min=0).prod(2)
        better, own = area[:stop, None], area[None, start:stop]
        whole = torch.minimum(better, own) if of_smaller else better + own - shared
        earlier = torch.arange(stop, device=boxes.device)[:, None] < torch.arange(start, stop, device=boxes.device)
        kept[start:stop] = ~((shared / whole > overlap) & earlier).any(0)
    return order[kept]
