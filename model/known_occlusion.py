"""True occluder masks of photos that come with them, and the scores of one fitted photo against its truth."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from cfr.model.alignment import CROP_IN_CONTEXT, context_crop
from cfr.model.face_model import MorphableModel
from cfr.model.occlusion_metrics import MaskScores, mask_scores, mean_colour, mirrored_pixels, psnr, ssim
from cfr.model.photo_fits import PhotoFit, carried_mask, carried_picture

# Largest difference of a smoothed colour channel (0..255) that two JPEG copies of one picture show.
_COPY_NOISE = 14
_CLOSING = 9
# What is narrower than this is noise along edges, not an occluder.
_OPENING = 9
# A region with fewer pixels says nothing about a picture.
_SMALLEST_REGION = 60

METHODS = ("guidance", "mean_colour", "mirrored", "uncovered")


@dataclass(frozen=True)
class GuidanceScores:
    """PSNR (dB) and SSIM against the clean photo, by method (`METHODS`)."""

    psnr: dict[str, float]
    ssim: dict[str, float]


@dataclass(frozen=True)
class OcclusionScores:
    """Scores of one photo.

    Attributes:
        mask: of the occluder mask.
        covered, visible: of the guidance in the covered and in the visible part of the face; None without a clean
            photo, or where that part is tiny.
    """

    mask: MaskScores
    covered: GuidanceScores | None
    visible: GuidanceScores | None


def difference_mask(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """What was drawn onto a photo, from the two pictures: (H,W) bool; closed and without holes, without specks.

    Args:
        first, second: (H,W,3) uint8, the same picture with and without it.

    Raises:
        ValueError: the pictures have different sizes.
    """
    if first.shape != second.shape:
        raise ValueError(f"the two pictures have different sizes: {first.shape[1::-1]} and {second.shape[1::-1]}")
    smooth = [
        np.asarray(Image.fromarray(picture).filter(ImageFilter.BoxBlur(1)), np.int16) for picture in (first, second)
    ]
    difference = np.abs(smooth[0] - smooth[1]).max(-1)
    mask = Image.fromarray(((difference > _COPY_NOISE) * 255).astype(np.uint8))
    mask = mask.filter(ImageFilter.MaxFilter(_CLOSING)).filter(ImageFilter.MinFilter(_CLOSING))
    mask = mask.filter(ImageFilter.MinFilter(_OPENING)).filter(ImageFilter.MaxFilter(_OPENING))
    # Holes are what the background, flooded from a border around the picture, does not reach.
    framed = Image.new("L", (mask.width + 2, mask.height + 2), 0)
    framed.paste(mask, (1, 1))
    ImageDraw.floodfill(framed, (0, 0), 128)
    return np.asarray(framed)[1:-1, 1:-1] != 128


def cropped_mask(mask: np.ndarray, affine: np.ndarray) -> Tensor:
    """A photo's mask (H,W) bool in the 224-px crop of this affine: (224,224) bool."""
    picture = np.repeat((mask * np.uint8(255))[..., None], 3, axis=-1)
    return torch.from_numpy(context_crop(picture, affine)[CROP_IN_CONTEXT, CROP_IN_CONTEXT, 0] > 127)


def score_occlusion(
    model: MorphableModel, fit: PhotoFit, truth: np.ndarray, reference: PhotoFit | None
) -> OcclusionScores:
    """Compare a fitted photo with what is known about it.

    Args:
        model: the fit's.
        fit: of the photo with the occluder.
        truth: (H,W) bool, what is covered in the photo.
        reference: of the same photo without the occluder; None: there is none. Its oval is the face in which the mask
            counts (a fit that the occluder pulled away must not choose where it is judged), else the fit's own.

    Raises:
        ValueError: the face is empty.
    """
    covered = cropped_mask(truth, fit.affine).to(fit.crop.device)
    face = fit.oval if reference is None else carried_mask(reference.oval, reference.affine, fit.affine)
    # A face that the photo's edge cuts off is judged on what the photo shows.
    face = face & cropped_mask(np.ones_like(truth), fit.affine).to(face.device)
    scores = mask_scores(fit.occluder, covered, face)
    if reference is None:
        return OcclusionScores(scores, None, None)
    target = (
        torch.from_numpy(context_crop(reference.photo.image, fit.affine)[CROP_IN_CONTEXT, CROP_IN_CONTEXT].copy())
        .permute(2, 0, 1)
        .float()
        / 255
    )
    target = target.to(face.device)
    # The guidance exists on its own mesh only; every method is judged on the same pixels.
    region = face & fit.face_mask
    visible = region & ~covered
    if not visible.any():
        return OcclusionScores(scores, None, None)
    # What the face model makes of a face that nothing covers: how near a guidance can come.
    best = carried_picture(reference.guidance, reference.affine, fit.affine)
    seen = carried_mask(reference.face_mask, reference.affine, fit.affine)
    pictures = {
        "guidance": fit.guidance,
        "mean_colour": mean_colour(fit.crop, visible),
        "mirrored": mirrored_pixels(model, fit.crop, fit.mesh, fit.gbuffer, visible),
        "uncovered": torch.where(seen, best, fit.guidance),
    }
    return OcclusionScores(scores, _compare(pictures, target, region & covered), _compare(pictures, target, visible))


def _compare(pictures: dict[str, Tensor], target: Tensor, region: Tensor) -> GuidanceScores | None:
    if region.sum() < _SMALLEST_REGION:
        return None
    return GuidanceScores(
        {name: psnr(picture, target, region) for name, picture in pictures.items()},
        {name: ssim(picture, target, region) for name, picture in pictures.items()},
    )
