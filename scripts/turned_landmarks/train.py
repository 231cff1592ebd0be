"""Train the landmark head for turned faces on rendered samples.

python scripts/turned_landmarks/train.py samples/ --checkpoint head.pt

Goes on from the checkpoint if there is one. When the steps are done the weights are written to
model/data/turned_landmarks.safetensors. The recipe of the shipped weights is in docs/landmarks.md.
"""

import argparse
import io
import math
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from cfr.model.face_landmarks import FaceMesh
from cfr.model.turned_landmarks import WEIGHTS, TurnedLandmarkHead

OUTPUT = Path(__file__).resolve().parents[2] / "model/data" / WEIGHTS
BATCH, LEARNING_RATE, WEIGHT_DECAY, WARM_UP = 64, 2e-3, 1e-2, 200
LARGEST_GRADIENT = 5.0
# Depth cannot be seen as well as place: its share of the error.
DEPTH_SHARE = 0.5
# Noise on the features (in their own deviations) and the share of channels that are blanked: photos differ from
# renderings in ways that renderings do not show.
FEATURE_NOISE, CHANNEL_DROP = 0.15, 0.05
# Samples of the first shard that are never trained on.
HELD_OUT = 512


@torch.inference_mode()
def read_samples(folder: Path) -> tuple[Tensor, Tensor]:
    """FaceMesh's features (N,64,24,24) float16 of all pictures of a folder and the true landmarks (N,468,3)."""
    facemesh = FaceMesh.load_default()
    features, landmarks = [], []
    for path in sorted(folder.glob("samples-*.npz")):
        with np.load(path) as arrays:
            ends = arrays["jpeg_size"].cumsum()
            data = arrays["jpeg"].tobytes()
            landmarks.append(torch.from_numpy(arrays["landmarks"]))
        files = [data[end - size : end] for end, size in zip(ends, np.diff(ends, prepend=0), strict=True)]
        for first in range(0, len(files), 16):
            pictures = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files[first : first + 16]])
            picture = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
            features.append(facemesh.landmarks_and_features(picture)[2].half())
    return torch.cat(features).clone(), torch.cat(landmarks).clone()


def loss_of(head: TurnedLandmarkHead, features: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Laplace likelihood with the head's own deviations, and the mean error in px of the input (both scalars)."""
    landmarks, deviation = head(features)
    difference = (landmarks - truth) * landmarks.new_tensor([1.0, 1.0, DEPTH_SHARE])
    distance = (difference.pow(2).sum(-1) + 1e-2).sqrt()
    return (distance / deviation + 2 * deviation.log()).mean(), (landmarks - truth)[..., :2].norm(dim=-1).mean()


def spoiled(features: Tensor, generator: torch.Generator) -> Tensor:
    """Features with noise and missing channels."""
    spread = features.std((0, 2, 3), keepdim=True)
    noise = torch.randn(features.shape, generator=generator) * spread * FEATURE_NOISE
    kept = torch.rand(len(features), features.shape[1], 1, 1, generator=generator) >= CHANNEL_DROP
    return (features + noise) * kept


def main(words: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path, help="folder written by render_samples.py")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--steps", type=int, default=1800, help="length of the schedule (default: 1800)")
    parser.add_argument("--stop", type=int, help="stop after this step of the schedule")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    features, truth = read_samples(arguments.samples)
    held_out = min(HELD_OUT, len(features) // 2)
    head = TurnedLandmarkHead().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    generator = torch.Generator().manual_seed(arguments.seed)
    step, began = 0, time.monotonic()
    if arguments.checkpoint.exists():
        state = torch.load(arguments.checkpoint, weights_only=True)
        head.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        step = state["step"]
    last = arguments.steps if arguments.stop is None else arguments.stop
    while step < last:
        schedule = min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / arguments.steps))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * schedule
        chosen = torch.randint(held_out, len(features), (BATCH,), generator=generator)
        batch = spoiled(features[chosen].float().contiguous(memory_format=torch.channels_last), generator)
        loss, error = loss_of(head, batch, truth[chosen])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        step += 1
        if step % 100 == 0 or step == last:
            head.eval()
            with torch.inference_mode():
                held_loss, held_error = loss_of(head, features[:held_out].float(), truth[:held_out])
            head.train()
            print(
                f"step {step}: loss {loss:.3f}, error {error:.2f} px; held-out {held_loss:.3f}, {held_error:.2f} px; "
                f"{time.monotonic() - began:.0f} s",
                flush=True,
            )
            state = {"head": head.state_dict(), "optimizer": optimizer.state_dict()}
            unfinished = arguments.checkpoint.with_suffix(".tmp")
            torch.save(state | {"generator": generator.get_state(), "step": step}, unfinished)
            unfinished.replace(arguments.checkpoint)
    save(head, arguments.output)


def save(head: TurnedLandmarkHead, path: Path) -> None:
    """Write the weights as float16 safetensors."""
    state = head.state_dict().items()
    save_file(
        {name: (value.half() if value.is_floating_point() else value).contiguous() for name, value in state}, path
    )
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
