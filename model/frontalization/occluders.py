"""Which part of an occluder mask a frontal picture is freed of, and which belongs to the person or is a false alarm."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cfr.model.face_model import MorphableModel
from cfr.model.frontalization.eyewear import Eyewear
from cfr.model.frontalization.occluder_rest import OccluderRest
from cfr.model.frontalization.own_face import OwnFace
from cfr.model.frontalization.views import View, shown_labels
from cfr.model.morphology import dilate, erode, spread

# Hair over them belongs to the person; over the neck also hangs what covers the face.
_KEPT_REGIONS = ("ears", "neck", "scalp", "border")
# Heights on the mean face, decimetres: above the first hair and headgear come in from the second.
FOREHEAD, HAIRLINE = 0.50, 0.80
# Side in pixels of the squares that a part of the mask must hold somewhere: brows, lips and shadows are flatter.
_SOLID = 17
# Growth per step, on a grid of half the size, and steps of regaining a part from its core.
_STEP, _STEPS = 9, 8


class RemovableOccluders:
    """Knows the face model's regions.

    Args:
        model: that was fitted.
    """

    def __init__(self, model: MorphableModel):
        height = model.mean_shape[:, 1]
        kept = model.in_regions(*_KEPT_REGIONS)
        parts = [~kept, (height > FOREHEAD) | kept, (height > HAIRLINE) | kept]
        self._labels = torch.stack([*parts, model.in_regions("neck")], dim=-1).float()
        self._own_face, self._rest, self._eyewear = OwnFace(model), OccluderRest(model), Eyewear(model)
        self._triangles = model.triangles

    def select(self, photo: Tensor, occluder: Tensor, source: View) -> Tensor:
        """What is to be removed.

        Hair, hats and hoods that come in from above or the side over the forehead stay, and so do what is the face
        itself (`OwnFace`) and parts that are nowhere solid. What the mask misses of the rest goes, too: frames of
        glasses (`Eyewear`), straps and what hangs below the chin (`OccluderRest`).

        Args:
            photo: (B,3,S,S) float32 RGB 0..1, in the view's frame or finer by a whole factor.
            occluder: (B,h,h) bool, the middle of the frame.
            source: the photo's view.

        Returns:
            (B,S,S) bool, the frame of `source`, a little wider than the mask.
        """
        margin = (source.gbuffer.depth.shape[-1] - occluder.shape[-1]) // 2
        mask = F.pad(occluder, (margin,) * 4)
        if not mask.any():
            return mask
        face, forehead, hairline, neck = shown_labels(source, self._labels, self._triangles)
        hair = _regained(mask & hairline, mask & forehead)
        candidate = mask & face & ~hair & ~self._own_face.flagged(photo, mask, source)
        removed = _regained(erode(candidate, _SOLID), candidate | (mask & neck))
        if not removed.any():
            return removed
        removed = self._eyewear.added(photo, removed, ~mask, source)
        return dilate(self._rest.added(photo, removed, ~mask, source), 5)


def _regained(core: Tensor, mask: Tensor) -> Tensor:
    """The parts of a mask that hold something of the core (geodesic dilation), both (B,H,W) bool, H and W even."""
    core, half = (F.max_pool2d(each[:, None].float(), 2)[:, 0] > 0 for each in (core & mask, mask))
    return spread(core, half, _STEP, _STEPS).repeat_interleave(2, -1).repeat_interleave(2, -2) & mask
