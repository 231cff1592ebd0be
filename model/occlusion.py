"""Where something covers the face: a robust comparison of the photo with the guidance.

Each pixel of the mesh is the face (photo = guidance up to Student-t noise in log opponent colours, wider for
luminance, where shadows live, than for chroma) or an occluder (any colour; after the first pass, the colours that the
occluder has elsewhere in this photo). Mean-field iterations with weights that fall across colour edges of the photo
make the decision spatially coherent.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cfr.model.face_model import MorphableModel
from cfr.model.morphology import count_around, dilate, erode
from cfr.model.photometric_fit import DARKEST, OPPONENT
from cfr.model.rasterize import GBuffer, interpolate

STUDENT_FREEDOM = 8.0
LUMINANCE_DEVIATION = 0.40
CHROMA_DEVIATION = 0.055
# Darkness level (0..1) at which log colours lose their meaning to sensor noise and compression.
NOISE_FLOOR = 0.06
# How far the comparison can be trusted, by region: the model knows little about gaze, brows and what an open mouth
# shows, so there the surroundings decide. 1 elsewhere.
REGION_EVIDENCE = {
    "brows": 0.25, "eyelids": 0.3, "sclera": 0.15, "iris": 0.15, "pupil": 0.15, "lips": 0.7,
    "mouth_interior": 0.05, "teeth": 0.05, "tongue": 0.05, "nostrils": 0.3, "ears": 0.7,
}  # fmt: skip
OCCLUDER_PRIOR = 0.2
# Volume of the log opponent colours that an occluder may have.
OCCLUDER_DENSITY = 1 / (3.0 * 0.7 * 0.7)
DILATIONS = (1, 2, 4)
MEAN_FIELD_ITERATIONS = 6
COUPLING = 6.0
EDGE_DEVIATION = 0.05
HISTOGRAM_BINS = 12
# Side of the squares that the mask may not be finer than, and how many pixels of the mask a part needs around it.
OPENING = 5
NEIGHBOURHOOD = 25
SMALLEST_PART = 130
REGROWTH = 9


def _neighbours(values: Tensor, dilation: int) -> list[Tensor]:
    """Eight views like values (...,H,W): the neighbours at this distance, edges replicated."""
    height, width = values.shape[-2:]
    padded = F.pad(values, (dilation,) * 4, mode="replicate")
    steps = [(dy, dx) for dy in (0, dilation, 2 * dilation) for dx in (0, dilation, 2 * dilation)]
    steps.remove((dilation, dilation))
    return [padded[..., dy : dy + height, dx : dx + width] for dy, dx in steps]


def _mean_field(logit: Tensor, photo: Tensor) -> Tensor:
    """Coherent probabilities (B,H,W) from unary logits (B,H,W) and the photo (B,3,H,W)."""
    weights = [
        ((neighbour - photo).pow(2).sum(1) / (-2 * EDGE_DEVIATION**2 * 3)).exp() / dilation
        for dilation in DILATIONS
        for neighbour in _neighbours(photo, dilation)
    ]
    coupling = COUPLING / (sum(weights) + 1e-6)
    probability = torch.sigmoid(logit)
    for _ in range(MEAN_FIELD_ITERATIONS):
        signed = 2 * probability - 1
        message = torch.zeros_like(signed)
        neighbours = [neighbour for dilation in DILATIONS for neighbour in _neighbours(signed, dilation)]
        for weight, neighbour in zip(weights, neighbours, strict=True):
            message.addcmul_(weight, neighbour)
        probability = torch.sigmoid(logit + coupling * message)
    return probability


def _colour_histogram_ratio(colour: Tensor, occluder: Tensor, inside: Tensor) -> Tensor:
    """Log ratio (B,H,W) of how common each pixel's colour is under the occluder and on the rest of the face.

    colour (B,3,H,W) log opponent; occluder (B,H,W) probabilities; inside (B,H,W) bool.
    """
    batch = len(colour)
    low = colour.new_tensor([-4.5, -0.8, -0.8])[:, None, None]
    high = colour.new_tensor([0.1, 0.8, 0.8])[:, None, None]
    bins = ((colour - low) / (high - low) * HISTOGRAM_BINS).long().clamp(0, HISTOGRAM_BINS - 1)
    index = (bins[:, 0] * HISTOGRAM_BINS + bins[:, 1]) * HISTOGRAM_BINS + bins[:, 2]
    ratio = 0.0
    for sign, weight in ((1, occluder * inside), (-1, (1 - occluder) * inside)):
        counts = colour.new_zeros(batch, HISTOGRAM_BINS**3).scatter_add_(1, index.flatten(1), weight.flatten(1))
        cube = counts.reshape(batch, 1, HISTOGRAM_BINS, HISTOGRAM_BINS, HISTOGRAM_BINS)
        counts = F.avg_pool3d(cube, 3, stride=1, padding=1).flatten(1)
        # Additive smoothing by an evenly spread 60 pixels: a small set cannot be sure of its colours.
        density = (counts + 60 / HISTOGRAM_BINS**3) / (counts.sum(1, keepdim=True) + 60)
        ratio = ratio + sign * density.log().gather(1, index.flatten(1)).reshape(index.shape)
    return ratio


def _occluder_log_odds(residual: Tensor) -> Tensor:
    """Log odds (B,H,W) of an occluder from log opponent residuals (B,3,H,W)."""
    deviation = residual.new_tensor([LUMINANCE_DEVIATION, CHROMA_DEVIATION, CHROMA_DEVIATION])[:, None, None]
    distance = (residual / deviation).pow(2).sum(1)
    freedom = STUDENT_FREEDOM
    constant = math.lgamma((freedom + 3) / 2) - math.lgamma(freedom / 2) - 1.5 * math.log(freedom * math.pi)
    face = constant - deviation.log().sum() - (freedom + 3) / 2 * (1 + distance / freedom).log()
    prior = math.log(OCCLUDER_PRIOR / (1 - OCCLUDER_PRIOR))
    return prior + math.log(OCCLUDER_DENSITY) - face


def _tidied(mask: Tensor) -> Tensor:
    """(B,H,W) bool -> bool: without hairs, pinholes and specks; larger parts keep their shape."""
    mask = erode(dilate(dilate(erode(mask, OPENING), OPENING), OPENING), OPENING)
    kept = mask & (count_around(mask, NEIGHBOURHOOD) > SMALLEST_PART)
    # The ends of long parts have few neighbours of their own: they grow back.
    for _ in range(3):
        kept = dilate(kept, REGROWTH) & mask
    return kept


class OccluderDetector:
    """Finds what covers the face; keeps the face model's region labels.

    Args:
        model: the face model whose guidance is compared.
    """

    def __init__(self, model: MorphableModel):
        self.triangles = model.triangles
        evidence = torch.ones(len(model.region))
        for name, value in REGION_EVIDENCE.items():
            if name in model.region_names:
                evidence[model.region.cpu() == model.region_names.index(name)] = value
        self.evidence = evidence.to(model.mean_shape.device)

    def detect(self, photo: Tensor, guidance: Tensor, gbuffer: GBuffer) -> Tensor:
        """Mask of what covers the face, (B,H,W) bool, False outside the mesh.

        Args:
            photo, guidance: (B,3,H,W) float32 RGB 0..1.
            gbuffer: of the fitted mesh in the photo.
        """
        inside = gbuffer.covered
        vertex_evidence = self.evidence[None, :, None].expand(len(photo), -1, -1)
        evidence = interpolate(gbuffer, vertex_evidence, self.triangles)[:, 0]
        opponent = OPPONENT.to(photo)
        smooth = F.avg_pool2d(photo, 3, stride=1, padding=1, count_include_pad=False)
        log_photo = torch.einsum("oc,bchw->bohw", opponent, (smooth.clamp(min=DARKEST) + NOISE_FLOOR).log())
        log_guidance = torch.einsum("oc,bchw->bohw", opponent, (guidance.clamp(min=DARKEST) + NOISE_FLOOR).log())
        logit = _occluder_log_odds(log_photo - log_guidance) * evidence
        logit = torch.where(inside, logit, -4.0)
        small = F.avg_pool2d(photo, 2)
        small_logit = F.avg_pool2d(logit[:, None], 2)[:, 0]
        small_inside = F.avg_pool2d(inside[:, None].float(), 2)[:, 0] > 0.5
        probability = _mean_field(small_logit, small)
        ratio = _colour_histogram_ratio(F.avg_pool2d(log_photo, 2), probability, small_inside)
        refined = torch.where(small_inside, small_logit + 0.7 * ratio.clamp(-3, 3), -4.0)
        probability = _mean_field(refined, small)
        full = F.interpolate(probability[:, None], scale_factor=2, mode="bilinear", align_corners=False)
        return _tidied(full[:, 0] > 0.5) & inside
