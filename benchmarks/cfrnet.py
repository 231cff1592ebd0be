"""Images per second of CFRNet as it is, and prepared for inference.

    python benchmarks/cfrnet.py --batch 4 --rounds 5

The two are called in alternation and the best round of each counts, so that other work on the machine falls out.
"""

import argparse
import time

import torch

from cfr.model.checkpoints import load_generator
from cfr.model.networks.cfrnet import CFRNet
from cfr.model.networks.prepared_generator import PreparedGenerator


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", help="default: random weights, which take the same time")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    plain = load_generator(args.checkpoint) if args.checkpoint else CFRNet().eval().requires_grad_(False)
    copy = CFRNet(**CFRNet.sizes_of(plain.state_dict()))
    copy.load_state_dict(plain.state_dict())
    networks = {"plain": plain.to(args.device), "prepared": PreparedGenerator(copy, args.device)}
    inputs = torch.rand(2, args.batch, 3, 224, 224, device=args.device) * 2 - 1
    best = dict.fromkeys(networks, float("inf"))
    with torch.inference_mode():
        for _ in range(args.rounds + 1):  # the first one warms up
            for name, network in networks.items():
                best[name] = min(best[name], _seconds(network, inputs))
    for name, seconds in best.items():
        ratio = best["plain"] / seconds
        print(f"{name:9} {args.batch / seconds:7.2f} images/s  {ratio:5.2f} times the plain network")


def _seconds(network: torch.nn.Module, inputs: torch.Tensor) -> float:
    start = time.perf_counter()
    network(*inputs)
    if inputs.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
