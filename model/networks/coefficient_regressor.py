"""The paper's 3DMM regressor: one aligned crop -> 257 coefficients of the face model `BFM_model_80.mat`.

ResNet-50 as in Deep3DFaceReconstruction (Deng et al. 2019), fine-tuned by the authors on occluded faces.
"""

import torch
from torch import Tensor, nn

from cfr.model.networks.residual import CaffeBottleneck, ResidualNetwork

LAYOUT = {
    "identity": slice(0, 80),
    "expression": slice(80, 144),
    "texture": slice(144, 224),
    "angles": slice(224, 227),
    "gamma": slice(227, 254),
    "translation": slice(254, 257),
}
"""Where the parts are in a row of the paper's face model: angles are pitch, yaw, roll in radians; gamma is the light,
(3 colours, 9)."""

PAPER_SIZES = (80, 64, 80)
"""Identity, expression and texture coefficients of the paper's face model."""

BLOCKS = {14: (1, 1, 1, 1), 26: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
"""Bottlenecks in each of the four stages, by the number of layers."""


class CoefficientRegressor(ResidualNetwork):
    """ResNet with one linear head for each part of the coefficients.

    Args:
        sizes: how many identity, expression and texture (albedo) coefficients the face model has.
        width: channels of the first convolution; 64 is ResNet-50.
        depth: layers, one of BLOCKS.
    """

    def __init__(self, sizes: tuple[int, int, int] = PAPER_SIZES, width: int = 64, depth: int = 50):
        super().__init__(CaffeBottleneck, BLOCKS[depth], pooling=nn.MaxPool2d(3, 2, ceil_mode=True), width=width)
        heads = dict(zip(("fcid", "fcex", "fctex"), sizes, strict=True))
        heads |= {"fcangles": 3, "fcgamma": 27, "fcXY": 2, "fcZ": 1}
        self._heads = tuple(heads)
        for name, count in heads.items():
            self.add_module(name, nn.Conv2d(32 * width, count, 1))

    def start_at_mean_face(self) -> None:
        """Set the heads to zero: whatever the picture, the coefficients are those of the mean face, straight ahead."""
        for name in self._heads:
            for parameter in getattr(self, name).parameters():
                nn.init.zeros_(parameter)

    def forward(self, image: Tensor) -> Tensor:
        """Regress coefficients.

        Args:
            image: (B,3,224,224) float RGB 0..1, aligned as the paper does. The network itself was trained on BGR,
                without mean and deviation; the order is changed here.

        Returns:
            (B,C) float, C = the sizes' sum + 33: 257 for the paper's; see LAYOUT.

        Raises:
            ValueError: the crops have another size.
        """
        return self.coefficients(self.features(image))

    def features(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features after each of the stages; image and errors as for `forward`."""
        if image.shape[1:] != (3, 224, 224):
            raise ValueError(f"the regressor wants (B,3,224,224), got {tuple(image.shape)}")
        return self.stages(image.flip(1))

    def coefficients(self, features: tuple[Tensor, ...]) -> Tensor:
        """What `forward` makes of `features`."""
        pooled = features[-1].mean((2, 3), keepdim=True)
        return torch.cat([getattr(self, name)(pooled) for name in self._heads], dim=1).flatten(1)

    def estimate(self, features: tuple[Tensor, ...]) -> tuple[Tensor, None]:
        """`coefficients`, and None: this network does not say how sure it is."""
        return self.coefficients(features), None
