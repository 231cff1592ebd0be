"""Which pixels near the outline of a turned head show the face, and which the background behind it."""

import torch
from torch import Tensor

from cfr.model.frontalization.colours import colour_distance, mean_colour, reduced
from cfr.model.frontalization.pyramids import distance
from cfr.model.frontalization.views import View
from cfr.model.morphology import dilate, erode, window_mean

# Pixels of the photo from the mesh's rim that are not used, and over how many more trust rises for a head in profile.
_RIM, _TURNED_RIM = 2.0, 3.0
# Where the background is looked at: pixels beyond the mesh's far outline.
_BEYOND = (4, 10)
# RGB distance up to which a pixel is taken for more of that background, and how deep into the mesh that may go on in a
# head in profile.
_ALIKE = 0.12
_DEEPEST = 25.0
# Window that must lie on the mesh where the colour of the face is taken from.
_INNER = 41


def outline_trust(photo: Tensor, view: View, pose: Tensor) -> Tensor:
    """How far each pixel of the photo can be taken for the face, by its place near the outline.

    What lies near the outline of a turned head is seen at a slant, and where the fit is a few degrees off it shows the
    background: the more the head is turned, the farther from the rim the photo is believed, as its mirror image shows
    the same places from nearer. Beyond that, what looks like the background beside it, and less like the face, is left
    out.

    Args:
        photo: (B,3,S,S) float32 RGB 0..1, in the view's frame or finer by a whole factor.
        view: the photo's.
        pose: (B,3) yaw, pitch, roll, degrees.

    Returns:
        (B,1,s,s) float32 0..1, in the view's frame.
    """
    covered = view.gbuffer.covered
    turn = torch.sin(torch.deg2rad(pose[:, 0])).square()[:, None, None]
    rising = ((distance(~covered) - _RIM) / (1 + _TURNED_RIM * turn)).clamp(0, 1)
    photo = reduced(photo, covered.shape[-1])
    to_left = (pose[:, 0] < 0)[:, None, None]
    # The far outline is at image right if the nose points there: the others are looked at flipped.
    background = _background(
        torch.where(to_left[..., None], photo.flip(-1), photo),
        torch.where(to_left, covered.flip(-1), covered),
        _DEEPEST * turn,
    )
    background = torch.where(to_left, background.flip(-1), background)
    return (rising * ~dilate(background, 5))[:, None]


def _background(photo: Tensor, covered: Tensor, deepest: Tensor) -> Tensor:
    """Pixels of the mesh that, from its right outline inwards, go on like what lies beyond, (B,S,S) bool."""
    width = covered.shape[-1]
    column = torch.arange(width, device=photo.device)
    outline = torch.where(covered, column, -1).amax(-1, keepdim=True)
    smooth = window_mean(photo, 3)
    beyond = [(outline + step).clamp(0, width - 1) for step in range(*_BEYOND)]
    seen = torch.stack([smooth.gather(3, each[:, None].expand(-1, 3, -1, -1)) for each in beyond]).mean(0)
    face = mean_colour(photo, erode(covered, _INNER))
    apart = colour_distance(smooth, seen)
    alike = (apart < _ALIKE) & (apart < colour_distance(smooth, face))
    depth_inside = outline - column
    alike |= depth_inside < _BEYOND[0]  # the rim mixes both
    goes_on = alike.flip(-1).to(torch.uint8).cummin(-1).values.flip(-1) > 0
    return goes_on & covered & (depth_inside < deepest) & (outline >= 0)
