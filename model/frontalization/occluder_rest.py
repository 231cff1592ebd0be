"""Where an occluder goes on beyond its mask: the straps of a mask, its seams, what of it hangs below the chin.

The mask ends where the fitted mesh does, and often a few pixels before the occluder does. What is left of it would be
spread over the frontal face as if it were skin, and would tint what is painted beside it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from cfr.model.face_model import MorphableModel
from cfr.model.frontalization.colours import colour_distance, mean_colour, reduced
from cfr.model.frontalization.views import View
from cfr.model.morphology import count_around, dilate, erode, spread, window_sum
from cfr.model.rasterize import interpolate

# On the mean face, decimetres. What does not reach below this height is glasses or hair, and what has its colour beside
# it is hair: it does not go on. Nothing goes on over eyes and brows, no strap runs nearer to the middle of the face.
_LOW = -0.1
_EYES_HEIGHT, _EYES_WIDTH, _STRAP_WIDTH = 0.15, 0.62, 0.45
# Window in which the occluder's colour is taken from, and RGB distance from it up to which a pixel is more of it, if it
# is also by this factor nearer to it than to the face's skin; of a strap it need not be as near. All lengths are in
# pixels of half the crop's resolution.
_AROUND, _ALIKE, _NEARER, _STRAP_NEARER = 15, 0.2, 0.5, 0.7
# Rounds of going on, steps of each, window of a step; beyond the first round only along what is narrower than a strap.
_ROUNDS, _STEPS, _STEP, _STRAP = 5, 3, 5, 5
# Window and steps in which the mask itself is followed from its lower part.
_WHOLE_STEP, _WHOLE_STEPS = 9, 8


class OccluderRest:
    """Knows where on a face occluders go on.

    Args:
        model: that was fitted.
    """

    def __init__(self, model: MorphableModel):
        aside, height = model.mean_shape[:, 0].abs(), model.mean_shape[:, 1]
        eyes = (height > _EYES_HEIGHT) & (aside < _EYES_WIDTH)
        # Masks are the commonest occluders: skin is seen above them.
        skin = model.in_regions("skin") & (height > 0)
        self._labels = torch.stack([height < _LOW, eyes, aside < _STRAP_WIDTH, skin], dim=-1).float()
        self._triangles = model.triangles

    def added(self, photo: Tensor, mask: Tensor, clear: Tensor, source: View) -> Tensor:
        """A mask and what goes on from it in its colour, by whole cells of 2 x 2 pixels beside the mask's own.

        Args:
            photo: (B,3,S,S) float32 RGB 0..1, in the view's frame or finer by a whole factor.
            mask: (B,h,h) bool, what covers the face, in the view's frame; h even.
            clear: (B,h,h) bool, pixels that nothing covers: skin among them is the face's.
            source: the photo's view.

        Returns:
            (B,h,h) bool.
        """
        labels = interpolate(source.gbuffer, self._labels.expand(len(mask), -1, -1), self._triangles)
        low, eyes, middle, skin = (F.avg_pool2d(labels, 2) > 0.5).unbind(1)
        photo = reduced(photo, mask.shape[-1])
        half = F.avg_pool2d(photo, 2)
        skin = skin & (F.avg_pool2d(clear[:, None].float(), 2)[:, 0] == 1)
        from_skin = colour_distance(photo, mean_colour(half, skin))
        covered = F.max_pool2d(mask[:, None].float(), 2)[:, 0] > 0
        found = spread(covered & low, covered & ~eyes, _WHOLE_STEP, _WHOLE_STEPS)
        for number in range(_ROUNDS):
            near = count_around(found, _AROUND)
            colour = window_sum(half * found[:, None], _AROUND) / near.clamp(min=1)[:, None]
            # By whole pixels of the photo: a strap is a few of them wide.
            apart = colour_distance(photo, _doubled(colour))
            alike = (apart < _ALIKE) & (apart < (_STRAP_NEARER if number else _NEARER) * from_skin)
            alike = (F.max_pool2d(alike[:, None].float(), 2)[:, 0] > 0) & (near > 0) & ~eyes
            if number:
                alike &= ~dilate(erode(alike, _STRAP), _STRAP) & ~middle
            found = spread(found, alike, _STEP, _STEPS)
        return mask | _doubled(found & ~covered)


def _doubled(values: Tensor) -> Tensor:
    """Each pixel as 2 x 2."""
    return values.repeat_interleave(2, -1).repeat_interleave(2, -2)
