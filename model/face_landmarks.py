"""Dense face landmarks: the FaceMesh network of MediaPipe, run in PyTorch, and its upright crop.

The weights are those of `face_landmark.tflite` in the wheel mediapipe==0.10.21 (Apache-2.0, see
`data/facemesh.LICENSE`), converted by `scripts/convert_facemesh.py`.
"""

from dataclasses import dataclass, replace
from importlib import resources

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn
from torch.nn import functional

from cfr.model.alignment import CROP_SIZE

INPUT_SIZE = 192
POINTS = 468
WEIGHTS = "facemesh.safetensors"

# The aligned crop is normalised by the five points, so a face always has about the same size in it: side of the first
# upright square (crop px). Its centre lies as far behind the five points, across the face, as the nose lies in front of
# the eyes' and the mouth's middle, times a factor: the more a head is turned, the more of it is on that side.
_FIRST_SIDE = 255.0
_BEHIND_THE_NOSE = 1.25
# MediaPipe's margin: the second square is the landmarks' box, enlarged.
_MARGIN = 1.5
# How many blocks of the trunk make the features: deeper ones already know what FaceMesh will answer.
FEATURE_BLOCKS = 8
# FaceMesh indices: corners of the image-left and the image-right eye of a frontal face, and of the mouth.
_LEFT_EYE, _RIGHT_EYE = (33, 133), (362, 263)
_MOUTH_CORNERS = (61, 291)


class _Block(nn.Module):
    """Depthwise 3x3, pointwise 1x1, residual sum, PReLU; a stride of 2 pools the shortcut and pads its channels."""

    def __init__(self, channels: int, out_channels: int | None = None, stride: int = 1):
        super().__init__()
        out_channels = out_channels or channels
        self.stride = stride
        self.extra_channels = out_channels - channels
        padding = 1 if stride == 1 else 0
        self.depthwise = nn.Conv2d(channels, channels, 3, stride, padding, groups=channels)
        self.pointwise = nn.Conv2d(channels, out_channels, 1)
        self.activation = nn.PReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            return self.activation(x + self.pointwise(self.depthwise(x)))
        # TensorFlow's SAME padding of an even size at stride 2 is all on the bottom and the right.
        change = self.pointwise(self.depthwise(functional.pad(x, (0, 1, 0, 1))))
        shortcut = functional.max_pool2d(x, 2)
        if self.extra_channels:
            shortcut = functional.pad(shortcut, (0, 0, 0, 0, 0, self.extra_channels))
        return self.activation(shortcut + change)


def _head(outputs: int, blocks: int) -> nn.Sequential:
    """Branch behind the trunk: to 3x3, down to 32 channels, and one output vector."""
    return nn.Sequential(
        _Block(128, stride=2),
        *(_Block(128) for _ in range(blocks)),
        nn.Conv2d(128, 32, 1),
        nn.PReLU(32),
        _Block(32),
        nn.Conv2d(32, outputs, 3),
    )


class FaceMesh(nn.Module):
    """MediaPipe's FaceMesh ("lite", without attention): 468 points of one upright face, and a face score."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2)
        self.stem_activation = nn.PReLU(16)
        self.trunk = nn.Sequential(
            *(_Block(16), _Block(16), _Block(16, 32, stride=2)),
            *(_Block(32), _Block(32), _Block(32, 64, stride=2)),
            *(_Block(64), _Block(64), _Block(64, 128, stride=2)),
            *(_Block(128), _Block(128), _Block(128, stride=2)),
            *(_Block(128), _Block(128)),
        )
        self.landmark_head = _head(POINTS * 3, blocks=2)
        self.score_head = _head(1, blocks=0)

    @classmethod
    def load_default(cls, device: str | torch.device = "cpu") -> "FaceMesh":
        """The network with the weights that come with the package, frozen, in evaluation mode."""
        data = resources.files("cfr.model").joinpath("data", WEIGHTS).read_bytes()
        network = cls()
        network.load_state_dict({name: value.float() for name, value in load_safetensors(data).items()})
        return network.eval().requires_grad_(False).to(device=device, memory_format=torch.channels_last)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Landmarks of upright face crops.

        Args:
            image: (B,3,192,192) float32 RGB 0..1.

        Returns:
            landmarks (B,468,3) float32: x right, y down in px of the input (0..192), z in the same unit, smaller
            nearer to the viewer, about 0 at the head's middle; and score_logit (B,), a face where positive.
        """
        landmarks, logit, _ = self.landmarks_and_features(image)
        return landmarks, logit

    def landmarks_and_features(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, and the trunk's features (B,64,24,24), from which other heads can start."""
        x = functional.pad(image.contiguous(memory_format=torch.channels_last), (0, 1, 0, 1))
        features = self.trunk[:FEATURE_BLOCKS](self.stem_activation(self.stem(x)))
        x = self.trunk[FEATURE_BLOCKS:](features)
        return self.landmark_head(x).view(-1, POINTS, 3), self.score_head(x).view(-1), features


@dataclass(frozen=True)
class UprightSquare:
    """Where the network looks, one square per picture: centre (B,2) and side (B,) in crop px, down (B,2), the unit
    axis from brow to chin."""

    centre: Tensor
    side: Tensor
    down: Tensor

    @property
    def right(self) -> Tensor:
        """(B,2) unit axis to the right of `down`."""
        return torch.stack([self.down[:, 1], -self.down[:, 0]], dim=1)

    @classmethod
    def behind(cls, points: Tensor) -> "UprightSquare":
        """Of a face by its five points (B,5,2)."""
        left_eye, right_eye, nose, left_mouth, right_mouth = points.unbind(1)
        down = _down_axis(left_eye, right_eye, left_mouth, right_mouth)
        square = cls(points.mean(1), torch.full_like(points[:, 0, 0], _FIRST_SIDE), down)
        middle = (left_eye + right_eye + left_mouth + right_mouth) / 4
        ahead = ((nose - middle) * square.right).sum(1, keepdim=True)
        return replace(square, centre=square.centre - _BEHIND_THE_NOSE * ahead * square.right)

    @classmethod
    def of_crop(cls, points: Tensor) -> "UprightSquare":
        """The crop, turned about its centre until the face with these five points (B,5,2) is upright."""
        left_eye, right_eye, _, left_mouth, right_mouth = points.unbind(1)
        side = torch.full_like(points[:, 0, 0], float(CROP_SIZE))
        centre = torch.full_like(points[:, 0], CROP_SIZE / 2)
        return cls(centre, side, _down_axis(left_eye, right_eye, left_mouth, right_mouth))

    @classmethod
    def around(cls, landmarks: Tensor, down: Tensor | None = None) -> "UprightSquare":
        """Around landmarks (B,468,2 or 3) with MediaPipe's margin; by default upright by the landmarks themselves."""
        points = landmarks[..., :2]
        if down is None:
            down = _down_axis(
                points[:, _LEFT_EYE].mean(1), points[:, _RIGHT_EYE].mean(1), *points[:, _MOUTH_CORNERS].unbind(1)
            )
        axes = torch.stack([torch.stack([down[:, 1], -down[:, 0]], dim=1), down], dim=1)
        upright = points @ axes.transpose(1, 2)
        low, high = upright.amin(1), upright.amax(1)
        centre = ((low + high) / 2)[:, None] @ axes
        return cls(centre[:, 0], (high - low).amax(1) * _MARGIN, down)

    def cut(self, context: Tensor, size: int = INPUT_SIZE) -> Tensor:
        """A network's input (B,3,size,size), from the crop with an even border (B,3,S,S)."""
        border = (context.shape[-1] - CROP_SIZE) / 2
        steps = (torch.arange(size, device=context.device) + 0.5) / size - 0.5
        across = self.side[:, None, None, None] * steps[None, None, :, None] * self.right[:, None, None]
        along = self.side[:, None, None, None] * steps[None, :, None, None] * self.down[:, None, None]
        grid = (self.centre[:, None, None] + across + along + border) * (2 / context.shape[-1]) - 1
        return functional.grid_sample(context, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    def to_crop(self, landmarks: Tensor) -> Tensor:
        """Landmarks (B,N,3) in px of the network's input -> crop px, z in the same unit."""
        offset = landmarks[..., :2] / INPUT_SIZE - 0.5
        flat = self.centre[:, None] + self.side[:, None, None] * (
            offset[..., :1] * self.right[:, None] + offset[..., 1:] * self.down[:, None]
        )
        depth = landmarks[..., 2:] * (self.side / INPUT_SIZE)[:, None, None]
        return torch.cat([flat, depth], dim=2)

    def from_crop(self, pixels: Tensor, size: int) -> Tensor:
        """Points (B,N,2) in crop px -> px of the square at `size` px a side."""
        offset = pixels - self.centre[:, None]
        across, along = (offset * self.right[:, None]).sum(-1), (offset * self.down[:, None]).sum(-1)
        return (torch.stack([across, along], -1) / self.side[:, None, None] + 0.5) * size


@dataclass(frozen=True)
class FoundLandmarks:
    """FaceMesh's view of a mini-batch.

    landmarks (B,468,3) float32 crop px, z in the same unit (see `FaceMesh.forward`); score (B,) 0..1, how sure the
    network is of a face; square, features: of the last look, for further heads.
    """

    landmarks: Tensor
    score: Tensor
    square: UprightSquare
    features: Tensor


@torch.no_grad()
def dense_landmarks(facemesh: FaceMesh, context: Tensor, landmarks5: Tensor) -> FoundLandmarks:
    """FaceMesh landmarks of aligned faces, whatever their roll.

    The first pass looks at an upright square placed by the five points, the second at one placed by the first's
    landmarks, as MediaPipe does from one video frame to the next. The result is the mean of both, which is nearer to
    hand-made labels than either.

    Args:
        facemesh: the network; everything is moved to its device.
        context: (B,3,320,320) float32 RGB 0..1, the aligned crop with 48 px more on each side.
        landmarks5: (B,5,2) image-left eye, image-right eye, nose, mouth corners, in px of the 224-px crop.
    """
    device = facemesh.stem.weight.device
    context = context.to(device)
    square = UprightSquare.behind(landmarks5.to(device, torch.float32))
    landmarks, first_logit = facemesh(square.cut(context))
    first = square.to_crop(landmarks)
    square = UprightSquare.around(first)
    landmarks, second_logit, features = facemesh.landmarks_and_features(square.cut(context))
    score = torch.sigmoid((first_logit + second_logit) / 2)
    return FoundLandmarks((first + square.to_crop(landmarks)) / 2, score, square, features)


def _down_axis(left_eye: Tensor, right_eye: Tensor, left_mouth: Tensor, right_mouth: Tensor) -> Tensor:
    """(B,2) unit vector from the eyes to the mouth along the face's axis.

    The lines through the eyes and the mouth corners, turned by 90 degrees, vote with the line from the eyes to the
    mouth: the former shrink to noise in profile, where the latter stays long.
    """
    across = right_eye - left_eye + right_mouth - left_mouth
    along = (left_mouth + right_mouth - left_eye - right_eye) / 2
    down = along + torch.stack([-across[:, 1], across[:, 0]], dim=1)
    return down / down.norm(dim=1, keepdim=True).clamp(min=1e-6)
