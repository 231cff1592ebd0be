"""A mouth that cannot be seen well is taken for closed.

Where an occluder hides the lips, the landmark network reads its outline as lips: a moustache or a hand opens the mouth
of the fitted face. The photo says nothing about it then, and most mouths are nearly closed. In a profile the network
gives every mouth the same narrow gap, whatever the photo shows.
"""

from dataclasses import replace

import torch
from torch import Tensor

from cfr.model.coefficients import Coefficients
from cfr.model.face_model import MorphableModel
from cfr.model.morphology import dilate
from cfr.model.rasterize import sample_image
from cfr.model.rendering import PosedMesh

# FaceMesh's outer and inner outline of the lips; the middles of their inner edges.
_LIPS = (
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
    *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191),
)
_UPPER_LIP, _LOWER_LIP = 13, 14
# An expression opens the mouth if it moves the lips apart by this share of the most that it moves any of their points.
_OPENING_SHARE = 0.3
# Expressions that move the lips less (dm) are about something else.
_SMALLEST_MOTION = 0.02
# Pixels around what was found: the edge of an occluder is as misleading.
_MARGIN = 9
# Share of the lips' points that is covered: from the first on the mouth closes, at the second it does so by `_CLOSING`.
_SOME_COVERED, _MOST_COVERED = 0.3, 0.7
_CLOSING = 0.9
# Yaw in degrees: from the first on the mouth closes, at the second it is closed.
_TURNED, _PROFILE = 45.0, 60.0


class CoveredMouth:
    """Keeps which expressions open the mouth of a face model."""

    def __init__(self, model: MorphableModel):
        self.triangles = model.facemesh_triangles[list(_LIPS)]
        self.barycentric = model.facemesh_barycentric[list(_LIPS)]
        self.model = model
        moved = model.surface_points(model.expression_basis, self.triangles, self.barycentric)
        apart = (moved[:, _LIPS.index(_UPPER_LIP), 1] - moved[:, _LIPS.index(_LOWER_LIP), 1]).abs()
        motion = moved.norm(dim=-1).amax(1)
        self.opening = (apart > _OPENING_SHARE * motion) & (motion > _SMALLEST_MOTION)

    def closed_in_profile(self, coefficients: Coefficients) -> Coefficients:
        """The faces of a mini-batch, with the mouths closed of those that are seen from the side."""
        closing = ((coefficients.pose[:, 0].abs() - _TURNED) / (_PROFILE - _TURNED)).clamp(0, 1)
        return self._less_open(coefficients, closing)

    def closed(self, coefficients: Coefficients, mesh: PosedMesh, covered: Tensor) -> tuple[Coefficients, bool]:
        """The faces with the mouths closed that are covered, and whether there are any.

        Args:
            coefficients: as fitted; mesh: what they describe.
            covered: (B,H,W) bool, what does not show the face.
        """
        lips = self.model.surface_points(mesh.pixels, self.triangles, self.barycentric)
        share = sample_image(dilate(covered, _MARGIN)[:, None].float(), lips[:, :, None])[:, 0, :, 0].mean(1)
        closing = _CLOSING * ((share - _SOME_COVERED) / (_MOST_COVERED - _SOME_COVERED)).clamp(0, 1)
        return self._less_open(coefficients, closing), bool((closing > 0).any())

    def _less_open(self, coefficients: Coefficients, closing: Tensor) -> Coefficients:
        """The faces with their mouths closed by a share (B,)."""
        kept = torch.where(self.opening, 1 - closing[:, None], 1.0)
        return replace(coefficients, expression=coefficients.expression * kept)
