"""Coefficient regressor on FaceMesh's first layers: one aligned crop -> coefficients of a face model, and deviations.

It is small (a MobileNet's kind of blocks) and starts from features that were learnt on photographs, so that training
on renderings alone carries over to photographs.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cfr.model.camera import CROP_SIZE
from cfr.model.face_landmarks import FEATURE_BLOCKS, FaceMesh
from cfr.model.turned_landmarks import FEATURE_CHANNELS, SeparableResidual

# At this size a face in the aligned crop is as large as FaceMesh is used to.
INPUT_SIZE = 168
# Of the package's face model.
DEFAULT_SIZES = (80, 52, 83)
_SUMMARY_CHANNELS, _CELLS = 64, 9
# Spread of the regressed numbers: identity, expression, texture; pitch, yaw, roll (radians); light; translation (dm).
_SHAPE_SPREAD = (1.0, 0.25, 1.0)
_ANGLE_SPREAD, _LIGHT_SPREAD, _TRANSLATION_SPREAD = (0.3, 0.7, 0.25), 0.2, (0.1, 0.1, 0.6)
# Of the logarithms of the deviations.
_LEAST_LOG, _MOST_LOG = -4.0, 1.0


class FaceMeshRegressor(nn.Module):
    """FaceMesh's first layers, frozen, and separable residual blocks with two linear heads.

    Args:
        sizes: identity, expression and texture (albedo) coefficients of the face model.
        width: channels of the second of the four stages are three times this number; 64 is the shipped one.
    """

    def __init__(self, sizes: tuple[int, int, int] = DEFAULT_SIZES, width: int = 64):
        super().__init__()
        facemesh = FaceMesh().requires_grad_(False)
        self.stem, self.stem_activation = facemesh.stem, facemesh.stem_activation
        self.trunk = facemesh.trunk[:FEATURE_BLOCKS]
        self.input_norm = nn.BatchNorm2d(FEATURE_CHANNELS)
        block = SeparableResidual
        self.stage2 = nn.Sequential(
            block(FEATURE_CHANNELS, 3 * width, stride=2), *(block(3 * width, 3 * width) for _ in range(2))
        )
        self.stage3 = nn.Sequential(
            block(3 * width, 4 * width, stride=2), *(block(4 * width, 4 * width) for _ in range(3))
        )
        self.stage4 = nn.Sequential(
            block(4 * width, 6 * width, stride=2), *(block(6 * width, 6 * width) for _ in range(2))
        )
        self.summary = nn.Sequential(nn.Conv2d(6 * width, _SUMMARY_CHANNELS, 1), nn.PReLU(_SUMMARY_CHANNELS))
        identity, expression, _ = sizes
        spread = [each for size, each in zip(sizes, _SHAPE_SPREAD, strict=True) for _ in range(size)]
        spread += [*_ANGLE_SPREAD, *[_LIGHT_SPREAD] * 27, *_TRANSLATION_SPREAD]
        self.register_buffer("spread", torch.tensor(spread), persistent=False)
        self.numbers = nn.Linear(_SUMMARY_CHANNELS * _CELLS, len(spread))
        # Of identity, expression, rotation and translation.
        self.deviations = nn.Linear(_SUMMARY_CHANNELS * _CELLS, identity + expression + 6)

    def start_at_mean_face(self) -> None:
        """FaceMesh's weights in its layers, and the heads at zero: whatever the picture, the mean face, straight ahead,
        as unsure as without one."""
        own = FaceMesh.load_default()
        for mine, its in ((self.stem, own.stem), (self.stem_activation, own.stem_activation), (self.trunk, own.trunk)):
            mine.load_state_dict({name: value for name, value in its.state_dict().items() if name in mine.state_dict()})
        for head in (self.numbers, self.deviations):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Regress coefficients.

        Args:
            image: (B,3,224,224) float RGB 0..1, the aligned crop, the face about upright.

        Returns:
            (B,C) float, see `cfr.model.paper.reconstruction.from_regressed`.

        Raises:
            ValueError: the crops have another size.
        """
        return self.coefficients(self.features(image))

    def features(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features after each of the four stages, FaceMesh's layers being the first; image and errors as for
        `forward`."""
        if image.shape[1:] != (3, CROP_SIZE, CROP_SIZE):
            raise ValueError(f"the regressor wants (B,3,{CROP_SIZE},{CROP_SIZE}), got {tuple(image.shape)}")
        with torch.no_grad():
            small = functional.interpolate(image, size=(INPUT_SIZE,) * 2, mode="bilinear", antialias=True)
            # FaceMesh's padding, that of TensorFlow.
            padded = functional.pad(small.contiguous(memory_format=torch.channels_last), (0, 1, 0, 1))
            seen = self.trunk(self.stem_activation(self.stem(padded)))
        second = self.stage2(self.input_norm(seen))
        third = self.stage3(second)
        return seen, second, third, self.stage4(third)

    def coefficients(self, features: tuple[Tensor, ...]) -> Tensor:
        """What `forward` makes of `features`."""
        return self.estimate(features)[0]

    def estimate(self, features: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Coefficients (B,C) as of `forward`, and log deviations.

        Log deviations (B,I+E+6): of identity, expression, rotation about the camera's x, y, z and translation, in the
        units of `cfr.model.estimator_losses.GeometryScale`, what the network expects its errors to be.
        """
        summary = self.summary(features[-1]).flatten(1)
        return self.numbers(summary) * self.spread, self.deviations(summary).clamp(_LEAST_LOG, _MOST_LOG)
