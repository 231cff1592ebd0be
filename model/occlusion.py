"""Where something covers the face: a small network compares the photo with the guidance, pixel by pixel."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cfr.model.face_model import MorphableModel
from cfr.model.morphology import count_around, dilate, erode
from cfr.model.occluder_network import OccluderNetwork, occluder_features
from cfr.model.rasterize import GBuffer, interpolate

# Log odds from which a pixel is taken for an occluder. Lower: more of the hands is found, and more of the face is taken
# for one; measured by `cfr evaluate occlusion`.
THRESHOLD = 0.5
# Side of the squares that the mask may not be finer than, and how many pixels of the mask a part needs around it.
OPENING = 5
NEIGHBOURHOOD = 25
SMALLEST_PART = 130
REGROWTH = 9


def _tidied(mask: Tensor) -> Tensor:
    """(B,H,W) bool -> bool: without hairs, pinholes and specks; larger parts keep their shape."""
    mask = erode(dilate(dilate(erode(mask, OPENING), OPENING), OPENING), OPENING)
    kept = mask & (count_around(mask, NEIGHBOURHOOD) > SMALLEST_PART)
    # The ends of long parts have few neighbours of their own: they grow back.
    for _ in range(3):
        kept = dilate(kept, REGROWTH) & mask
    return kept


class OccluderDetector:
    """Finds what covers the face; keeps the network and where each vertex lies on the mean face.

    Args:
        model: the face model whose guidance is compared.
    """

    def __init__(self, model: MorphableModel):
        self.triangles = model.triangles
        self.mean_shape = model.mean_shape
        self.network = OccluderNetwork.load_default(str(model.mean_shape.device))

    def detect(self, photo: Tensor, guidance: Tensor, gbuffer: GBuffer) -> Tensor:
        """Mask of what covers the face, (B,H,W) bool, False outside the mesh.

        Args:
            photo, guidance: (B,3,H,W) float32 RGB 0..1.
            gbuffer: of the fitted mesh in the photo.
        """
        inside = gbuffer.covered
        place = interpolate(gbuffer, self.mean_shape.expand(len(photo), -1, -1), self.triangles)
        half = [F.avg_pool2d(picture, 2) for picture in (photo, guidance, place, inside[:, None].float())]
        features = occluder_features(*half[:3], half[3][:, 0])
        log_odds = self.network(features.contiguous(memory_format=torch.channels_last))
        full = F.interpolate(log_odds[:, None], scale_factor=2, mode="bilinear", align_corners=False)[:, 0]
        return _tidied((full > THRESHOLD) & inside) & inside
