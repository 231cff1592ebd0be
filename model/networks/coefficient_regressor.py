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
"""Where the parts are in a row: angles are pitch, yaw, roll in radians; gamma is the light, (3 colours, 9)."""

_HEADS = {"fcid": 80, "fcex": 64, "fctex": 80, "fcangles": 3, "fcgamma": 27, "fcXY": 2, "fcZ": 1}
_FEATURES = 2048


class CoefficientRegressor(ResidualNetwork):
    """ResNet-50 with one linear head for each part of the coefficients."""

    def __init__(self):
        super().__init__(CaffeBottleneck, (3, 4, 6, 3), pooling=nn.MaxPool2d(3, 2, ceil_mode=True))
        for name, count in _HEADS.items():
            self.add_module(name, nn.Conv2d(_FEATURES, count, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Regress coefficients.

        Args:
            image: (B,3,224,224) float RGB 0..1, aligned as the paper does. The network itself was trained on BGR,
                without mean and deviation; the order is changed here.

        Returns:
            (B,257) float; see LAYOUT.

        Raises:
            ValueError: the crops have another size.
        """
        if image.shape[1:] != (3, 224, 224):
            raise ValueError(f"the regressor wants (B,3,224,224), got {tuple(image.shape)}")
        features = self.stages(image.flip(1))[-1].mean((2, 3), keepdim=True)
        return torch.cat([getattr(self, name)(features) for name in _HEADS], dim=1).flatten(1)
