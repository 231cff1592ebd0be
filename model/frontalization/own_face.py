"""What an occluder mask flags though it is the face itself: a beard, and the shaded skin of a head that is turned away.

To be found covered costs a pair a few pixels; to be removed from a frontal picture costs a person the beard. Colours
are compared as logarithms, brightness apart from tint: light changes the one more than the other.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from cfr.model.face_model import MorphableModel
from cfr.model.frontalization.colours import colour_distance, reduced
from cfr.model.frontalization.views import View, shown_labels
from cfr.model.morphology import count_around

_FACEMESH_TIP_OF_NOSE = 1
# Below this height (decimetres under the tip of the nose on the mean face) a face may have a beard.
_BELOW_NOSE = 0.05
# A beard: how much brighter than the brows it may be, and how far its tint may be from theirs.
_BRIGHTER, _OTHER_HAIR = 0.35, 0.25
# Share of what is flagged that has the colour of the brows, and share of the lips that a beard leaves free; with more
# of them flagged their tint must have more red than the beard's.
_HAIRY, _FREE_LIPS, _REDDER = 0.6, 0.5, 0.05
# Shaded skin: how far its tint may be from that of the rest, and how much colour skin must have to be told from other
# things by it. Only in photos turned by more than this yaw (degrees): from the front a hand is likelier than a shadow
# that the fit does not know.
_OTHER_SKIN, _LEAST_TINT = 0.2, 0.1
_LEAST_STRENGTH = 0.5
_TURNED = 40.0
# Side in pixels of the window in which most pixels must look like skin.
_AROUND = 9
# Pixels below which nothing can be said of a region. Added to colours before logarithms.
_FEW, _DARK = 20, 0.03


class OwnFace:
    """Knows the face model's regions.

    Args:
        model: that was fitted.
    """

    def __init__(self, model: MorphableModel):
        below = model.mean_shape[:, 1] < _tip_of_nose(model) - _BELOW_NOSE
        regions = (model.in_regions(name) for name in ("brows", "lips", "skin"))
        self._labels = torch.stack([below, *regions], dim=-1).float()
        self._triangles = model.triangles

    def flagged(self, photo: Tensor, mask: Tensor, source: View) -> Tensor:
        """The part of a mask that is the face itself.

        Args:
            photo: (B,3,S,S) float32 RGB 0..1, in the view's frame or finer by a whole factor.
            mask: (B,h,h) bool, what is taken for an occluder, in the view's frame.
            source: the photo's view.

        Returns:
            (B,h,h) bool.
        """
        below, brows, lips, skin = shown_labels(source, self._labels, self._triangles)
        colour = (reduced(photo, mask.shape[-1]) + _DARK).log()
        brightness = colour.mean(1)
        tint = colour - brightness[:, None]
        return mask & (
            _beard(brightness, tint, mask & below, brows & ~mask, lips) | _shaded(tint, skin & ~mask, source)
        )


def _beard(brightness: Tensor, tint: Tensor, flagged: Tensor, brows: Tensor, lips: Tensor) -> Tensor:
    """What is flagged (B,h,h) bool of a lower face, if it has the colour of the brows and lies around visible lips."""
    around = flagged & ~lips
    darker = brightness < _mean(brightness, brows)[..., None] + _BRIGHTER
    alike = colour_distance(tint, _mean(tint, brows[:, None])[..., None]) < _OTHER_HAIR
    share = _mean((darker & alike).float(), around)
    free = _count(flagged & lips) < (1 - _FREE_LIPS) * _count(lips)
    redder = _mean(tint[:, 0], lips) - _mean(tint[:, 0], around) > _REDDER
    told = (_count(brows) >= _FEW) & (_count(around) >= _FEW)
    return flagged & (told & (share > _HAIRY) & (free | redder))[..., None]


def _shaded(tint: Tensor, skin: Tensor, source: View) -> Tensor:
    """Pixels (B,h,h) bool of a turned head that have the tint of its visible skin (B,h,h) bool."""
    yaw = torch.rad2deg(torch.atan2(source.rotation[:, 0, 2].abs(), source.rotation[:, 2, 2]))
    of_skin = _mean(tint, skin[:, None])
    told = (yaw > _TURNED) & (_count(skin)[:, 0] >= _FEW) & (of_skin.norm(dim=1)[:, 0] > _LEAST_TINT)
    hue = F.normalize(of_skin, dim=1)[..., None]
    strength = (tint * hue).sum(1, keepdim=True)
    # What is in the shade has no weaker a colour, often a stronger one.
    strong = strength > _LEAST_STRENGTH * of_skin.norm(dim=1)[:, None, None]
    alike = strong[:, 0] & (colour_distance(tint, strength * hue) < _OTHER_SKIN)
    most = count_around(alike, _AROUND) > _AROUND**2 / 2
    return most & told[:, None, None]


def _tip_of_nose(model: MorphableModel) -> float:
    """Its height on the mean face, decimetres."""
    landmarks = model.surface_points(model.mean_shape[None], model.facemesh_triangles, model.facemesh_barycentric)
    return float(landmarks[0, _FACEMESH_TIP_OF_NOSE, 1])


def _count(mask: Tensor) -> Tensor:
    """Pixels of a mask (...,H,W): (...,1)."""
    return mask.flatten(-2).sum(-1, keepdim=True)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (...,H,W) over a mask (...,H,W): (...,1), 0 where it is empty."""
    return (values * mask).flatten(-2).sum(-1, keepdim=True) / _count(mask).clamp(min=1)
