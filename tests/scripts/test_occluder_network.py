"""The occluder network's training script: it goes on where it stopped, and what it writes is what the package loads."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from cfr.model.occluder_network import INPUTS, SIZE, WEIGHTS_FILE, OccluderNetwork

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/occluder_network/train.py"


def _write_shard(path: Path, seed: int) -> None:
    """Eight faces of one colour, half of each covered by another."""
    generator = np.random.default_rng(seed)
    count = 8
    face = generator.integers(80, 200, (count, 1, 1, 3))
    occluder = np.zeros((count, SIZE, SIZE), np.uint8)
    occluder[:, SIZE // 2 :] = 255
    photo = np.where(occluder[..., None] > 0, 255 - face, face).astype(np.uint8)
    np.savez(
        path,
        photo=photo,
        guidance=np.broadcast_to(face, photo.shape).astype(np.uint8),
        place=np.zeros((count, SIZE, SIZE, 3), np.int8),
        inside=np.full((count, SIZE, SIZE), 255, np.uint8),
        occluder=occluder,
        weight=np.full((count, SIZE, SIZE), 255, np.uint8),
    )


def _train(samples: Path, run: Path, steps: int) -> str:
    command = [sys.executable, str(SCRIPT), "--samples", str(samples), "--run", str(run), "--steps", str(steps)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def test_training_goes_on_from_its_checkpoint_and_writes_loadable_weights(tmp_path):
    samples, run = tmp_path / "samples", tmp_path / "run"
    samples.mkdir()
    for number in range(3):
        _write_shard(samples / f"samples-{number:05d}.npz", number)
    assert _train(samples, run, 4).startswith("4: loss")
    before = torch.load(run / "checkpoint.pt", weights_only=True)
    assert _train(samples, run, 4) == "", "a finished run has nothing left to do"
    after = torch.load(run / "checkpoint.pt", weights_only=True)
    assert before["step"] == after["step"] == 4
    network = OccluderNetwork()
    network.load_state_dict({name: value.float() for name, value in load_file(run / WEIGHTS_FILE).items()}, strict=True)
    with torch.inference_mode():
        assert network.eval()(torch.zeros(1, INPUTS, SIZE, SIZE)).shape == (1, SIZE, SIZE)
