"""Train the occluder network on the shards that make_samples.py writes; goes on from the last checkpoint.

python scripts/occluder_network/train.py --samples samples --run run --minutes 90
The weights that ship are the run's `occluder_network.safetensors` (moving average, half precision).
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from cfr.model.occluder_network import WEIGHTS_FILE, OccluderNetwork, occluder_features

BATCH = 16
RATE, DECAY = 3e-3, 1e-3
AVERAGE = 0.998
# Shards that are held out for the printed score.
HELD_OUT = 2
SEED = 7


class Samples:
    """All shards of a folder, in memory; `refresh` takes in new ones."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.known: set[Path] = set()
        self.shards: list[dict[str, np.ndarray]] = []
        self.held_out: list[dict[str, np.ndarray]] = []

    def refresh(self) -> None:
        for path in sorted(set(self.folder.glob("samples-*.npz")) - self.known):
            with np.load(path) as archive:
                target = self.held_out if len(self.held_out) < HELD_OUT else self.shards
                target.append(dict(archive))
            self.known.add(path)

    def draw(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """A random mini-batch."""
        shard = generator.integers(len(self.shards), size=BATCH)
        rows = [generator.integers(len(self.shards[one]["photo"])) for one in shard]
        return {
            name: np.stack([self.shards[one][name][row] for one, row in zip(shard, rows, strict=True)])
            for name in self.shards[0]
        }


def tensors(batch: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """photo, guidance, place (B,3,112,112) and inside, occluder, weight (B,112,112), float32."""
    values = {name: torch.from_numpy(array).float() for name, array in batch.items()}
    for name in ("photo", "guidance", "place"):
        values[name] = values[name].permute(0, 3, 1, 2)
    for name in ("photo", "guidance", "inside", "occluder", "weight"):
        values[name] = values[name] / 255
    values["place"] = values["place"] / 100
    return values


def augmented(values: dict[str, torch.Tensor], generator: np.random.Generator) -> dict[str, torch.Tensor]:
    """Mirrored, in other colours (photo and guidance alike), grey, dimmer, noisier."""
    batch = len(values["photo"])

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.from_numpy(generator.uniform(low, high, (batch, *shape))).float()

    if generator.random() < 0.5:
        values = {name: tensor.flip(-1) for name, tensor in values.items()}
        values["place"] = values["place"] * torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
    gain, power = uniform(0.8, 1.2, 3, 1, 1), uniform(0.8, 1.25, 1, 1, 1)
    order = torch.from_numpy(generator.permutation(3)) if generator.random() < 0.1 else torch.arange(3)
    grey = (uniform(0, 1, 1, 1, 1) < 0.07).float()
    for name in ("photo", "guidance"):
        picture = (values[name].clamp(min=1e-4) ** power * gain).clamp(0, 1)[:, order]
        values[name] = picture * (1 - grey) + picture.mean(1, keepdim=True) * grey
    # The fit misses a photo's colours by a little.
    values["guidance"] = (values["guidance"] * uniform(0.94, 1.06, 3, 1, 1) * uniform(0.9, 1.1, 1, 1, 1)).clamp(0, 1)
    noise = torch.from_numpy(generator.normal(size=values["photo"].shape)).float() * uniform(0, 0.02, 1, 1, 1)
    values["photo"] = (values["photo"] + noise).clamp(0, 1)
    return values


def loss_of(network: torch.nn.Module, values: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy inside the mesh (a little around it) plus the Dice loss of each picture."""
    features = occluder_features(values["photo"], values["guidance"], values["place"], values["inside"])
    logit = network(features.contiguous(memory_format=torch.channels_last))
    weight = values["weight"] * (0.1 + 0.9 * values["inside"])
    entropy = F.binary_cross_entropy_with_logits(logit, values["occluder"], reduction="none")
    inside = values["inside"] * values["weight"]
    found = torch.sigmoid(logit) * inside
    truth = values["occluder"] * inside
    common = (found * truth).sum((1, 2))
    dice = 1 - (2 * common + 20) / ((found + truth).sum((1, 2)) + 20)
    return (entropy * weight).sum() / weight.sum() + 0.5 * dice.mean()


@torch.inference_mode()
def score(network: OccluderNetwork, shards: list[dict[str, np.ndarray]]) -> str:
    """Mean overlap of covered faces and share of the uncovered face that is flagged, on held-out shards."""
    overlap, flagged = [], []
    for shard in shards:
        values = tensors(shard)
        features = occluder_features(values["photo"], values["guidance"], values["place"], values["inside"])
        inside = (values["inside"] > 0.5) & (values["weight"] > 0.5)
        found = (network(features) > 0) & inside
        truth = (values["occluder"] > 0.5) & inside
        covered = truth.sum((1, 2)) > 100
        union = (found | truth).sum((1, 2)).clamp(min=1)
        overlap.append(((found & truth).sum((1, 2)) / union)[covered])
        flagged.append((found & ~truth).sum((1, 2)) / (inside & ~truth).sum((1, 2)).clamp(min=1))
    return f"IoU {torch.cat(overlap).mean():.3f}, flagged {torch.cat(flagged).mean():.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="folder of the checkpoint and the weights")
    parser.add_argument("--minutes", type=float, default=90, help="how long to train in this call")
    parser.add_argument("--steps", type=int, default=8000, help="of the whole schedule")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    arguments.run.mkdir(parents=True, exist_ok=True)
    network = OccluderNetwork().to(memory_format=torch.channels_last)
    average = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=arguments.steps, pct_start=0.05)
    step, checkpoint = 0, arguments.run / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        step = state["step"]
        for module, name in (
            (network, "network"),
            (average, "average"),
            (optimiser, "optimiser"),
            (schedule, "schedule"),
        ):
            module.load_state_dict(state[name])
    samples = Samples(arguments.samples)
    samples.refresh()
    end, losses = time.monotonic() + 60 * arguments.minutes, []
    while step < arguments.steps and time.monotonic() < end:
        generator = np.random.default_rng([SEED, step])
        loss = loss_of(network.train(), augmented(tensors(samples.draw(generator)), generator))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        step += 1
        losses.append(loss.item())
        _follow(average, network, min(AVERAGE, step / (step + 10)))
        if step % 250 == 0 or step == arguments.steps:
            held_out = score(average.eval(), samples.held_out)
            print(f"{step}: loss {np.mean(losses):.4f}, {held_out}, {len(samples.shards)} shards", flush=True)
            losses = []
            samples.refresh()
            _save(arguments.run, checkpoint, step, network, average, optimiser, schedule)
    _save(arguments.run, checkpoint, step, network, average, optimiser, schedule)


@torch.no_grad()
def _follow(average: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)


def _save(run: Path, checkpoint: Path, step: int, network, average, optimiser, schedule) -> None:
    state = {
        "step": step,
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
    }
    unfinished = checkpoint.with_suffix(".part")
    torch.save(state, unfinished)
    unfinished.rename(checkpoint)
    weights = {
        name: value.half().contiguous()
        for name, value in average.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(weights, run / WEIGHTS_FILE)


if __name__ == "__main__":
    main()
