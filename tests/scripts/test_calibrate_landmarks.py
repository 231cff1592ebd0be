"""Offsets between a label set's 68 points and the mesh's are found from what is left between labels and fits."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from cfr.model.camera import rotation_matrix

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts/face_model"


@pytest.fixture()
def calibration(monkeypatch):
    """The script as a module; it imports its neighbours by name."""
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("calibrate_landmarks")


def test_mirror_symmetric_offsets_are_found_again(calibration):
    random = np.random.default_rng(5)
    offsets = random.normal(0, 0.03, (68, 3))
    mirrored = offsets[calibration.MIRROR] * [-1, 1, 1]
    offsets = (offsets + mirrored) / 2
    poses = torch.from_numpy(random.normal(0, [40, 10, 10], (30, 3))).float()
    measured = [
        (offsets @ rotation.T + random.normal(0, 0.002, (68, 3)), rotation, np.ones(68))
        for rotation in rotation_matrix(poses).double().numpy()
    ]
    found = calibration.solve(measured)
    # Jaw: noise over 60 views. Others are pulled to zero by two photos' worth, of 60: a thirtieth of 0.1 dm, and noise.
    np.testing.assert_allclose(found[:17], offsets[:17], atol=0.004)
    np.testing.assert_allclose(found, offsets, atol=0.012)


def test_outlying_labels_count_less(calibration):
    rotation = np.eye(3)
    good = (np.full((68, 3), 0.02) * [0, 1, 0], rotation, np.ones(68))
    bad = (np.full((68, 3), 0.4) * [0, 1, 0], rotation, np.full(68, 0.01))
    found = calibration.solve([good] * 5 + [bad])
    assert np.abs(found[:17, 1] - 0.02).max() < 0.002
