"""Landmarks of faces turned away from the camera: a second head on FaceMesh's trunk.

FaceMesh was made for people in front of their own camera: near profile its points squeeze the hidden half of the face
into view, as if it were turned by 45 degrees. This head starts from the features of FaceMesh's first layers and was
trained on renderings of the face model only (scripts/turned_landmarks), where the position of every point is known,
hidden ones too. It also says how sure it is of each.
"""

from dataclasses import dataclass
from importlib import resources

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from cfr.model.face_landmarks import INPUT_SIZE, POINTS, FoundLandmarks

WEIGHTS = "turned_landmarks.safetensors"
FEATURE_CHANNELS = 64
# Up to this yaw (degrees) FaceMesh's landmarks are kept, from this one on they are replaced.
KEPT_YAW, REPLACED_YAW = 30.0, 45.0
# Expected error, and difference between the heads, that take 63 % of the trust (shares of the face's size).
EXPECTED_ERROR_SCALE, DISAGREEMENT_SCALE = 0.035, 0.1
# FaceMesh indices before the ears: the line between them tells the yaw.
_LEFT_OF_FACE, _RIGHT_OF_FACE = 234, 454


class SeparableResidual(nn.Module):
    """Depthwise 3x3 and pointwise convolution with a shortcut; a stride of 2 halves the resolution."""

    def __init__(self, channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        self.middle = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.activation = nn.PReLU(out_channels)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels == out_channels
            else nn.Sequential(nn.AvgPool2d(stride, ceil_mode=True), nn.Conv2d(channels, out_channels, 1, bias=False))
        )

    def forward(self, x: Tensor) -> Tensor:
        change = self.norm(self.pointwise(self.middle(self.depthwise(x))))
        return self.activation(change + self.shortcut(x))


class TurnedLandmarkHead(nn.Module):
    """From FaceMesh's features to 468 points and a deviation for each."""

    def __init__(self):
        super().__init__()
        self.input_norm = nn.BatchNorm2d(FEATURE_CHANNELS)
        self.body = nn.Sequential(
            *(SeparableResidual(64, 64), SeparableResidual(64, 64), SeparableResidual(64, 128, stride=2)),
            *(SeparableResidual(128, 128), SeparableResidual(128, 128), SeparableResidual(128, 192, stride=2)),
            *(
                SeparableResidual(192, 192),
                SeparableResidual(192, 192),
                SeparableResidual(192, 192),
                SeparableResidual(192, 256, stride=2),
            ),
            *(SeparableResidual(256, 256), SeparableResidual(256, 256)),
            *(nn.Conv2d(256, 48, 1), nn.PReLU(48), nn.Flatten()),
        )
        self.points = nn.Linear(48 * 9, POINTS * 3)
        self.log_deviation = nn.Linear(48 * 9, POINTS)

    @classmethod
    def load_default(cls, device: str | torch.device = "cpu") -> "TurnedLandmarkHead":
        """The head with the weights that come with the package, frozen, in evaluation mode."""
        data = resources.files("cfr.model").joinpath("data", WEIGHTS).read_bytes()
        head = cls()
        head.load_state_dict({name: value.float() for name, value in load_safetensors(data).items()})
        return head.eval().requires_grad_(False).to(device=device, memory_format=torch.channels_last)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Landmarks of upright face crops.

        Args:
            features: (B,64,24,24) float32 from `FaceMesh.landmarks_and_features`.

        Returns:
            landmarks (B,468,3) in px of FaceMesh's input as `FaceMesh.forward` gives them, hidden points where the
            surface is; deviation (B,468), the expected error of each point in the same unit.
        """
        summary = self.body(self.input_norm(features))
        offset = self.points(summary).unflatten(1, (POINTS, 3)) / 4
        # Untrained points start in the middle of the input.
        landmarks = (offset + offset.new_tensor([0.5, 0.5, 0.0])) * INPUT_SIZE
        return landmarks, self.log_deviation(summary).clamp(-4, 4).exp()


@dataclass(frozen=True)
class TurnedLandmarks:
    """Landmarks of a mini-batch by both heads.

    landmarks (B,468,3) crop px, FaceMesh's where a face looks at the camera, this head's where it is turned away;
    turned (B,) 0..1, the share of the latter; score (B,) 0..1, how far they can be trusted: FaceMesh's face score, less
    where this head expects large errors and where the two disagree about a face that is not turned.
    """

    landmarks: Tensor
    turned: Tensor
    score: Tensor


@torch.no_grad()
def with_turned_landmarks(head: TurnedLandmarkHead, found: FoundLandmarks) -> TurnedLandmarks:
    """Replace FaceMesh's landmarks of turned faces; how far a face is turned is this head's judgement."""
    landmarks, deviation = head(found.features)
    across = landmarks[:, _RIGHT_OF_FACE] - landmarks[:, _LEFT_OF_FACE]
    yaw = torch.rad2deg(torch.atan2(across[:, 2].abs(), across[:, 0]))
    turned = ((yaw - KEPT_YAW) / (REPLACED_YAW - KEPT_YAW)).clamp(0, 1)
    own = found.square.to_crop(landmarks)
    size = (own[..., :2].amax(1) - own[..., :2].amin(1)).prod(1).clamp(min=1).sqrt()
    expected = deviation.mean(1) * found.square.side / INPUT_SIZE / size
    difference = (own - found.landmarks)[..., :2].norm(dim=-1).mean(1) / size * (1 - turned)
    doubt = (expected / EXPECTED_ERROR_SCALE).pow(2) + (difference / DISAGREEMENT_SCALE).pow(2)
    share = turned[:, None, None]
    blended = found.landmarks * (1 - share) + own * share
    return TurnedLandmarks(blended, turned, found.score * torch.exp(-doubt))
