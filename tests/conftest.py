"""Fixtures that every test folder shares."""

import os
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder of the evaluation photographs and fixtures, which are not part of the repository."""
    path = Path(os.environ.get("CFR_SHARED", REPOSITORY.parent / "shared"))
    if not (path / "fixtures").is_dir():
        pytest.skip(f"evaluation data not found at {path} (research licences: not in the repository; set CFR_SHARED)")
    return path


@pytest.fixture(scope="session")
def photos_dir() -> Path:
    """Folder of the public-domain photographs that come with the package."""
    return REPOSITORY / "model" / "data" / "photos"
