"""Frames of glasses: they are left where the mask holds the lenses only."""

import torch
from torch import Tensor

from cfr.model.face_model import MorphableModel
from cfr.model.frontalization.colours import colour_distance, mean_colour, reduced
from cfr.model.frontalization.views import View, shown_labels
from cfr.model.morphology import dilate, spread

# Heights on the mean face between which glasses sit, decimetres.
_LOWEST, _HIGHEST = 0.0, 0.5
# Share of the eyes that glasses cover, at least, and RGB distance from the skin from which on a pixel may be a frame.
_COVERED, _UNLIKE_SKIN = 0.5, 0.2
# Pixels that a frame reaches beyond a lens. Brows stay, with what lies in a window of so many pixels around them.
_FRAME, _BROW = 9, 5


class Eyewear:
    """Knows where on a face glasses sit.

    Args:
        model: that was fitted.
    """

    def __init__(self, model: MorphableModel):
        height = model.mean_shape[:, 1]
        skin, brows = model.in_regions("skin", "eyelids"), model.in_regions("brows")
        eyes = model.in_regions("sclera", "iris", "pupil")
        band = (height > _LOWEST) & (height < _HIGHEST)
        self._labels = torch.stack([skin & band, skin, brows, eyes], dim=-1).float()
        self._triangles = model.triangles

    def added(self, photo: Tensor, mask: Tensor, clear: Tensor, source: View) -> Tensor:
        """A mask and the frames beside the lenses in it.

        Args:
            photo: (B,3,S,S) float32 RGB 0..1, in the view's frame or finer by a whole factor.
            mask: (B,h,h) bool, what covers the face, in the view's frame.
            clear: (B,h,h) bool, pixels that nothing covers: skin among them is the face's.
            source: the photo's view.

        Returns:
            (B,h,h) bool.
        """
        band, skin, brows, eyes = shown_labels(source, self._labels, self._triangles)
        photo = reduced(photo, mask.shape[-1])
        covered = (eyes & mask).flatten(1).sum(1) > _COVERED * eyes.flatten(1).sum(1)
        from_skin = colour_distance(photo, mean_colour(photo, skin & clear))
        unlike = band & (from_skin > _UNLIKE_SKIN) & ~dilate(brows, _BROW)
        lenses = mask & (band | eyes) & covered[:, None, None]
        return mask | spread(lenses, unlike, 3, _FRAME)
