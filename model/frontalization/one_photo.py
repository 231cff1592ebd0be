"""From a single fitted photo to what the frontalizer takes."""

import numpy as np
import torch

from cfr.model.alignment import context_crop, inside_photo
from cfr.model.frontalization.scene import SourceFaces
from cfr.model.photo_fits import PhotoFit


def source_faces(fit: PhotoFit, scale: int = 1) -> SourceFaces:
    """A mini-batch of one, on the fit's device.

    Args:
        fit: from `PhotoFitter`.
        scale: pixels of the texture per pixel of the crop; more than 1 for results larger than 224 px.
    """
    device = fit.crop.device
    context = torch.tensor(context_crop(fit.photo.image, fit.affine, scale), device=device)
    height, width = fit.photo.image.shape[:2]
    return SourceFaces(
        photo=context.permute(2, 0, 1)[None].float() / 255,
        inside=torch.from_numpy(inside_photo(np.array([[width, height]]), fit.affine[None])).to(device),
        occluder=fit.occluder[None],
        coefficients=fit.coefficients.concatenated(),
    )
