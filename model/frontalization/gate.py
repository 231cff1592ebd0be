"""The gate: whether a frontal picture is worth more to a recogniser than the photo it was made of, and why not.

Turning every face lowers recognition accuracy: a face that is frontal already only loses detail, and one whose fit is
off, or of which the photo shows too little, comes out as somebody else. The limits are measured; see docs/frontalize.md
and benchmarks/verification.py.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cfr.model.camera import rotation_matrix
from cfr.model.quality import quality

# Degrees between the photo's pose and the wanted one.
SMALLEST_TURN, LARGEST_TURN = 15.0, 75.0
LARGEST_FIT_ERROR = 0.03
LOWEST_LANDMARK_SCORE = 0.5
LARGEST_OCCLUDED = 0.4
# Share of the wanted view's mesh that the photo must show, directly or mirrored.
LEAST_SHOWN = 0.65
# Enlargement of the photo by the alignment: px of the crop per px of the photo.
LARGEST_ENLARGEMENT = 5.0
LOWEST_SIMILARITY = 0.25
REASONS = (
    "small_turn",
    "large_turn",
    "poor_fit",
    "unsure_landmarks",
    "occluded",
    "little_seen",
    "low_resolution",
    "identity_changed",
)
"""Why a row may be rejected, in the order of `Verdict.rejections`."""


@dataclass(frozen=True)
class Evidence:
    """What the gate judges a mini-batch by; all (B,) float32 but the poses.

    Attributes:
        pose, wanted: (B,3) yaw, pitch, roll of the photo and of the wanted view, degrees.
        fit_error: landmark error of the fit, a fraction of the face's size.
        landmark_score: 0..1.
        occluded: share of the face that something covers.
        own, mirrored: share of the wanted view's mesh with the photo's own and with mirrored texture.
        sharp: 0..1.
        enlargement: px of the crop per px of the photo.
        similarity: cosine between the identities of photo and result; None: nothing that could tell.
    """

    pose: Tensor
    wanted: Tensor
    fit_error: Tensor
    landmark_score: Tensor
    occluded: Tensor
    own: Tensor
    mirrored: Tensor
    sharp: Tensor
    enlargement: Tensor
    similarity: Tensor | None = None


@dataclass(frozen=True)
class Verdict:
    """Of a mini-batch.

    Attributes:
        rejections: (B,R) bool, which of REASONS speak against each row.
        quality: (B,) float32 0..1.
    """

    rejections: Tensor
    quality: Tensor

    @property
    def apply(self) -> Tensor:
        """(B,) bool: the frontal picture is the better one."""
        return ~self.rejections.any(1)


def turn(pose: Tensor, wanted: Tensor) -> Tensor:
    """Angle in degrees (B,) between two poses (B,3), without the roll, which the alignment of a recogniser undoes."""
    upright = torch.tensor([1.0, 1.0, 0.0], device=pose.device)
    first, second = (rotation_matrix(each * upright)[:, :, 2] for each in (pose, wanted))
    return torch.rad2deg(torch.acos((first * second).sum(1).clamp(-1, 1)))


def judge(evidence: Evidence) -> Verdict:
    """Apply the limits."""
    angle = turn(evidence.pose, evidence.wanted)
    shown = evidence.own + evidence.mirrored
    none = torch.zeros_like(angle, dtype=torch.bool)
    rejections = [
        angle < SMALLEST_TURN,
        angle > LARGEST_TURN,
        evidence.fit_error > LARGEST_FIT_ERROR,
        evidence.landmark_score < LOWEST_LANDMARK_SCORE,
        evidence.occluded > LARGEST_OCCLUDED,
        shown < LEAST_SHOWN,
        evidence.enlargement > LARGEST_ENLARGEMENT,
        none if evidence.similarity is None else evidence.similarity < LOWEST_SIMILARITY,
    ]
    trust = quality(
        fit_error=evidence.fit_error,
        landmark_score=evidence.landmark_score,
        occluded=evidence.occluded,
        # A mirrored half is half as good as the face's own.
        visible=evidence.own + 0.5 * evidence.mirrored,
        sharp=evidence.sharp,
    )
    return Verdict(torch.stack(rejections, 1), trust)
