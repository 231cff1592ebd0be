"""The 68 points of iBUG 300-W of fitted faces, where the fitted mesh has them."""

import torch
from torch import Tensor

from cfr.model.coefficients import Coefficients
from cfr.model.face_model import MorphableModel
from cfr.model.rendering import posed


class MeshLandmarks:
    """Reads the points off the default face model, with the jaw line on the skull as in AFLW2000-3D.

    Args:
        device: of the model and of the results.
    """

    def __init__(self, device: str = "cpu"):
        self.model = MorphableModel.load_default(device)

    @torch.inference_mode()
    def of(self, coefficients: Tensor) -> Tensor:
        """Points (B,68,2) in crop px (x right, y down) of rows of coefficients (B,C); see `Coefficients.concatenated`.

        Raises:
            ValueError: the rows belong to another face model.
        """
        row = coefficients.to(self.model.mean_shape.device)
        mesh = posed(self.model, Coefficients.split(row, self.model.sizes))
        return self.model.surface_points(mesh.pixels, self.model.ibug68_triangles, self.model.ibug68_barycentric)
