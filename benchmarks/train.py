"""What a step of `cfr train` costs: seconds per image and peak memory, beside a step without its savings.

    python benchmarks/train.py --threads 2
    python benchmarks/train.py --perceptual vgg --batch 8 --size 112 --width 16 --blocks 4

The networks and losses are the paper's in both cases, the weights are random, the pictures noise. `plain` does what a
straightforward step does: it runs the generator again for its own half, backpropagates the critic's loss into it,
collects gradients of the critic that nobody uses, keeps graphs of the target's features and embedding, and leaves every
convolution to torch. Every measurement is a process of its own, `cfr` and `plain` take turns, figures are medians.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from cfr.model import losses
from cfr.model.networks.identity_encoder import IdentityEncoder, identity_crop
from cfr.model.networks.perceptual import ResNet50Slices, VGG19Slices
from cfr.model.networks.winograd import TrainableWinogradConv2d
from cfr.model.training.config import resolve
from cfr.model.training.gan_config import TrainConfig, with_paper_weights
from cfr.model.training.gan_training import GanTraining, Pairs
from cfr.model.training.pair_dataset import PairBatch
from cfr.model.training.processes import Processes

VARIANTS = ("cfr", "plain")


def main() -> None:
    """Run the variants in turns and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--perceptual", choices=("resnet", "vgg"), default="resnet")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2, help="measured steps of a process, after one to warm up")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-channels-last", action="store_true")
    parser.add_argument("--only", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args)))
        return
    results: dict[str, list[dict]] = {variant: [] for variant in VARIANTS}
    for _ in range(args.rounds):
        for variant in VARIANTS:
            command = [sys.executable, __file__, *sys.argv[1:], "--only", variant]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            results[variant].append(json.loads(output.splitlines()[-1]))
    print(f"batch {args.batch}, {args.size} px, width {args.width}, {args.perceptual} features, {args.threads} threads")
    for variant, found in results.items():
        seconds, cpu, memory = (statistics.median(run[name] for run in found) for name in ("seconds", "cpu", "memory"))
        print(
            f"{variant:6} {seconds:6.2f} s per image, {cpu:6.2f} s of CPU time, {memory / 2**30:5.2f} GiB at the peak"
        )
    ours, plain = (statistics.median(run["cpu"] for run in results[variant]) for variant in VARIANTS)
    print(f"cfr takes {ours / plain:.2f} of the CPU time")


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Seconds and CPU seconds per image, peak memory in bytes, of one variant in this process."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        training = GanTraining(config_for(args, Path(name)), Processes.start("cpu"), lambda *_: None)
    if args.only == "plain":
        leave_convolutions_to_torch(training.generator)
    step = training.train_step if args.only == "cfr" else lambda batches: plain_step(training, batches[0])
    step([noise(args)])
    seconds, cpu = [], []
    for _ in range(args.steps):
        started, started_cpu = time.perf_counter(), time.process_time()
        step([noise(args)])
        seconds.append((time.perf_counter() - started) / args.batch)
        cpu.append((time.process_time() - started_cpu) / args.batch)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": statistics.median(seconds), "cpu": statistics.median(cpu), "memory": memory}


def leave_convolutions_to_torch(network: nn.Module) -> None:
    """No algorithm of ours in training."""
    for module in network.modules():
        if isinstance(module, TrainableWinogradConv2d):
            module.__class__ = nn.Conv2d


def config_for(args: argparse.Namespace, folder: Path) -> TrainConfig:
    """The paper's settings, with files of random weights for the fixed networks."""
    settings = {"batch_size": args.batch, "size": args.size, "width": args.width, "residual_blocks": args.blocks}
    settings |= {"perceptual": args.perceptual, "channels_last": not args.no_channels_last, "critic_width": args.width}
    networks = {"perceptual_weights": ResNet50Slices if args.perceptual == "resnet" else VGG19Slices}
    if args.size == 224:
        networks["identity_weights"] = IdentityEncoder
    for setting, network in networks.items():
        settings[setting] = str(folder / f"{setting}.safetensors")
        save_file(network().state_dict(), settings[setting])
    return resolve(TrainConfig, with_paper_weights(settings))


def noise(args: argparse.Namespace) -> PairBatch:
    """A batch of random pictures."""
    pictures = [torch.randint(0, 256, (args.batch, 3, args.size, args.size), dtype=torch.uint8) for _ in range(3)]
    mask = torch.randint(0, 2, (args.batch, 1, args.size, args.size), dtype=torch.uint8) * 255
    return PairBatch(("noise",) * args.batch, *pictures, mask)


def plain_step(training: GanTraining, batch: PairBatch) -> None:
    """One step of the same training without savings."""
    config = training.config
    pair = Pairs.on(training.processes.device, batch, config.channels_last)
    image, _ = training.generator(pair.rotated, pair.guidance)
    real = pair.target.clone().requires_grad_()
    real_scores, fake_scores = (torch.cat(training.critic(each), 1) for each in (real, image))
    training.critic_optimizer.zero_grad()
    losses.wgan_div_critic(real_scores, fake_scores, real).backward()
    training.critic_optimizer.step()

    image, mask = training.generator(pair.rotated, pair.guidance)
    training.generator_optimizer.zero_grad()
    loss = losses.adversarial(torch.cat(training.critic(image), 1))
    loss = loss + config.mask_weight * losses.occlusion_mask(mask, pair.mask)
    loss = loss + config.reconstruction_weight * losses.masked_reconstruction(image, pair.target, mask)
    target = pair.target.clone().requires_grad_()
    found, wanted = training.perceptual(image), training.perceptual(target)
    for weight, ours, theirs in zip(training.perceptual.slice_weights, found, wanted, strict=True):
        loss = loss + config.perceptual_weight * weight * torch.nn.functional.mse_loss(ours, theirs)
    if training.identity:
        embeddings = [training.identity(identity_crop(each)) for each in (image, target)]
        loss = loss + config.identity_weight * (1 - torch.nn.functional.cosine_similarity(*embeddings)).mean()
    loss.backward()
    training.generator_optimizer.step()


if __name__ == "__main__":
    main()
