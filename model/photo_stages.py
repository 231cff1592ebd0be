"""What each stage makes of one fitted photo, as pictures."""

import numpy as np
import torch
from torch import Tensor

from cfr.model.frontalization.frontalizer import Frontalizer
from cfr.model.frontalization.one_photo import source_faces
from cfr.model.frontalization.templates import TEMPLATES
from cfr.model.photo_fits import PhotoFit
from cfr.model.swap import transfer_occlusion


@torch.inference_mode()
def stage_pictures(fit: PhotoFit) -> dict[str, np.ndarray]:
    """Pictures by name, 224 px, uint8: (S,S,3) RGB or, masks, (S,S).

    `crop`, `guidance`, `face_mask`, `occluder_mask`: of the fit. `deoccluded`: the photo with the guidance in place of
    what covers the face; `swapped_guidance`: the guidance with the occluder. `frontal`: the face turned to the front;
    `synthesised`: 255 where that is not what the photo shows.
    """
    one = (each[None] for each in (fit.crop, fit.guidance, fit.occluder, fit.face_mask))
    clean, swapped = transfer_occlusion(*one)
    device = str(fit.crop.device)
    pose = fit.coefficients.pose.new_zeros(1, 3)
    turned = Frontalizer(device).frontalize(source_faces(fit), pose, TEMPLATES["crop224"], 224)
    return {
        "crop": _picture(fit.crop),
        "guidance": _picture(fit.guidance),
        "face_mask": _mask(fit.face_mask),
        "occluder_mask": _mask(fit.occluder & fit.face_mask),
        "deoccluded": _picture(clean[0]),
        "swapped_guidance": _picture(swapped[0]),
        "frontal": _picture(turned.picture[0]),
        "synthesised": _mask(turned.synthesised[0]),
    }


def _picture(picture: Tensor) -> np.ndarray:
    return (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def _mask(mask: Tensor) -> np.ndarray:
    return (mask * 255).byte().cpu().numpy()
