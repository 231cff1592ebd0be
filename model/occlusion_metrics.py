"""How well an occluder mask matches the true one, and a guidance the face below the occluder.

Masks are compared inside the face only (a reference mask): what an occluder covers beside the face matters to nobody.
A guidance is compared with the clean photo and with two trivial ways of filling the covered part: the mean colour of
the face's visible part, and the pixels of the other half of the face.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cfr.model.face_model import MorphableModel
from cfr.model.rasterize import GBuffer, depth_test, interpolate, sample_image
from cfr.model.rendering import PosedMesh

# PSNR of a perfect match, which would be infinite.
LARGEST_PSNR = 60.0
_SSIM_WINDOW = 11
_SSIM_DEVIATION = 1.5
_SSIM_CONSTANTS = (0.01**2, 0.03**2)


@dataclass(frozen=True)
class MaskScores:
    """Agreement of a mask with the true one inside the face; None where a ratio has nothing to divide by.

    Attributes:
        iou: intersection over union.
        recall: share of what is covered that the mask found.
        precision: share of the mask that is covered.
        false_positive: share of the uncovered face that the mask flags.
        cover: share of the face that is covered.
    """

    iou: float | None
    recall: float | None
    precision: float | None
    false_positive: float | None
    cover: float


def _ratio(part: Tensor, whole: Tensor) -> float | None:
    total = int(whole.sum())
    return int(part.sum()) / total if total else None


def mask_scores(predicted: Tensor, truth: Tensor, face: Tensor) -> MaskScores:
    """Compare a mask with the true one; all (H,W) bool, nothing outside `face` counts.

    Raises:
        ValueError: the face is empty.
    """
    if not face.any():
        raise ValueError("the reference face has no pixel: nothing to compare")
    predicted, truth = predicted & face, truth & face
    hit = predicted & truth
    clean = face & ~truth
    return MaskScores(
        iou=_ratio(hit, predicted | truth),
        recall=_ratio(hit, truth),
        precision=_ratio(hit, predicted),
        false_positive=_ratio(predicted & clean, clean),
        cover=int(truth.sum()) / int(face.sum()),
    )


def psnr(picture: Tensor, truth: Tensor, region: Tensor) -> float:
    """Peak signal-to-noise ratio in dB inside a region.

    Args:
        picture, truth: (3,H,W) float32 RGB 0..1.
        region: (H,W) bool, not empty.
    """
    error = (picture - truth)[:, region].pow(2).mean().item()
    return min(LARGEST_PSNR, -10 * math.log10(max(error, 1e-12)))


def ssim(picture: Tensor, truth: Tensor, region: Tensor) -> float:
    """Structural similarity (Wang et al. 2004, Gaussian window) averaged over a region.

    Outside the region the picture is replaced by the truth, so that windows across the rim see only what is judged.

    Args:
        picture, truth: (3,H,W) float32 RGB 0..1.
        region: (H,W) bool, not empty.
    """
    pasted = torch.where(region, picture, truth)
    offset = torch.arange(_SSIM_WINDOW).to(truth) - _SSIM_WINDOW // 2
    kernel = torch.exp(-offset.pow(2) / (2 * _SSIM_DEVIATION**2))
    kernel = (kernel[:, None] * kernel / kernel.sum() ** 2)[None, None]

    def local_mean(values: Tensor) -> Tensor:
        padded = F.pad(values[:, None], (_SSIM_WINDOW // 2,) * 4, mode="reflect")
        return F.conv2d(padded, kernel)[:, 0]

    first, second = local_mean(pasted), local_mean(truth)
    first_variance = local_mean(pasted * pasted) - first**2
    second_variance = local_mean(truth * truth) - second**2
    covariance = local_mean(pasted * truth) - first * second
    brightness, contrast = _SSIM_CONSTANTS
    similarity = (2 * first * second + brightness) * (2 * covariance + contrast)
    similarity = similarity / ((first**2 + second**2 + brightness) * (first_variance + second_variance + contrast))
    return similarity[:, region].mean().item()


def mean_colour(photo: Tensor, visible: Tensor) -> Tensor:
    """Baseline: everything in the mean colour of the face's visible part.

    Args:
        photo: (3,H,W) float32.
        visible: (H,W) bool, not empty.

    Returns:
        (3,H,W).
    """
    return photo[:, visible].mean(1)[:, None, None].expand_as(photo)


def mirrored_pixels(model: MorphableModel, photo: Tensor, mesh: PosedMesh, gbuffer: GBuffer, visible: Tensor) -> Tensor:
    """Baseline: every pixel of the face takes the photo's colour at its mirror point on the other half of the face.

    The mirror point is found through the fitted mesh, so turned heads are treated fairly. Where it is covered or turned
    away there is nothing to take, and the mean colour stands in: an occluder's own colours would make a straw man.

    Args:
        model: gives triangles and the mirrored vertices.
        photo: (3,H,W) float32.
        mesh, gbuffer: the fitted face (a mini-batch of one).
        visible: (H,W) bool, face that nothing covers.

    Returns:
        (3,H,W).
    """
    attributes = torch.cat([mesh.pixels, mesh.depth[..., None]], -1)[:, model.mirror]
    place = interpolate(gbuffer, attributes, model.triangles).permute(0, 2, 3, 1)
    seen = depth_test(gbuffer, place[..., :2].contiguous(), place[..., 2].contiguous())
    colour = sample_image(photo[None], place[..., :2].contiguous())[0]
    # Bilinear weight of visible pixels: one that mixes in a covered neighbour does not count.
    clear = sample_image(visible[None, None].float(), place[..., :2].contiguous())[0, 0] > 0.999
    return torch.where(seen[0] & clear, colour, mean_colour(photo, visible))
