"""The gate: what is let through, and which reason is named for what."""

import dataclasses

import pytest
import torch

from cfr.model.frontalization.gate import REASONS, Evidence, judge, turn

GOOD = Evidence(
    pose=torch.tensor([[30.0, 5.0, 10.0]]),
    wanted=torch.zeros(1, 3),
    fit_error=torch.tensor([0.01]),
    landmark_score=torch.tensor([0.95]),
    occluded=torch.tensor([0.05]),
    own=torch.tensor([0.6]),
    mirrored=torch.tensor([0.3]),
    sharp=torch.tensor([0.6]),
    enlargement=torch.tensor([0.8]),
)


def test_a_clear_half_turned_face_is_let_through():
    verdict = judge(GOOD)
    assert verdict.apply.tolist() == [True]
    assert 0.5 < verdict.quality.item() <= 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pose": [[4.0, 2.0, 30.0]]}, "small_turn"),
        ({"pose": [[85.0, 0.0, 0.0]]}, "large_turn"),
        ({"fit_error": [0.06]}, "poor_fit"),
        ({"landmark_score": [0.2]}, "unsure_landmarks"),
        ({"occluded": [0.8]}, "occluded"),
        ({"own": [0.2], "mirrored": [0.1]}, "little_seen"),
        ({"enlargement": [9.0]}, "low_resolution"),
        ({"similarity": [0.0]}, "identity_changed"),
    ],
)
def test_every_reason(changes, reason):
    evidence = dataclasses.replace(GOOD, **{name: torch.tensor(value) for name, value in changes.items()})
    verdict = judge(evidence)
    assert [name for name, against in zip(REASONS, verdict.rejections[0].tolist(), strict=True) if against] == [reason]
    assert not verdict.apply.any()


def test_quality_falls_with_everything_that_is_worse():
    best = judge(GOOD).quality
    for changes in ({"fit_error": 0.03}, {"occluded": 0.3}, {"own": 0.3}, {"sharp": 0.1}, {"landmark_score": 0.6}):
        evidence = dataclasses.replace(GOOD, **{name: torch.tensor([value]) for name, value in changes.items()})
        assert judge(evidence).quality < best


def test_turn_is_the_angle_that_the_face_moves_through_and_ignores_roll():
    pose = torch.tensor([[30.0, 0.0, 0.0], [0.0, 20.0, 0.0], [0.0, 0.0, 80.0], [-40.0, 0.0, 0.0]])
    wanted = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [40.0, 0.0, 25.0]])
    assert turn(pose, wanted).tolist() == pytest.approx([30, 20, 0, 80], abs=0.05)
