"""The processes of a training: one, or those that torchrun started, which average what they compute.

Gradients are averaged by hand, once per step, and not by DistributedDataParallel: the critic's penalty differentiates
twice and the networks run several times per step, which its hooks are not made for.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist

# Optimizers import this in their own time. Its functions have the group as a default argument: imported when there is
# one, they keep it, and gloo's threads with it, beyond `stop`; such a thread can abort the process as Python ends.
import torch.distributed.nn.functional
from torch import Tensor

_BUCKET_BYTES = 64 << 20


@dataclass(frozen=True)
class Processes:
    """This process among those of a training.

    Attributes:
        rank: 0 is the one that writes.
        world_size: how many there are.
        device: that this one computes on.
    """

    rank: int
    world_size: int
    device: torch.device

    @classmethod
    def start(cls, device: str) -> "Processes":
        """Join the others, as torchrun's environment variables say; alone without them.

        Args:
            device: `auto`, `cpu` or `cuda`.

        Raises:
            ValueError: `cuda` without a CUDA device.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device = 'cuda': torch finds no CUDA device here; use cpu or auto")
        cuda = device != "cpu" and torch.cuda.is_available()
        rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(chosen)
        if world_size > 1:
            dist.init_process_group("nccl" if cuda else "gloo", rank=rank, world_size=world_size)
        return cls(rank, world_size, chosen)

    def stop(self) -> None:
        """Leave the others; the threads that sent messages end."""
        if self.world_size > 1:
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the processes, without gradient; on one process the values themselves."""
        values = values.detach()
        if self.world_size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the processes, without gradient."""
        return self.sum(values) / self.world_size

    def ratio(self, numerator: Tensor, denominator: Tensor) -> Tensor:
        """Sum of the numerators of all processes over the sum of their denominators.

        Its gradients, averaged over the processes, are those of one process that had all the data.
        """
        if self.world_size == 1:
            return numerator / denominator
        whole = self.sum(denominator)
        ratio = self.sum(numerator) / whole
        part = (numerator - ratio * denominator) / whole  # zero in sum; its gradient is this process's share
        return ratio + self.world_size * (part - part.detach())

    def means(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Means over all processes of what each has the sum and the number of, (2,); not all need to have all names."""
        totals: dict[str, list[float]] = {}
        for part in self.gather({name: value.tolist() for name, value in sums.items()}):
            for name, (total, count) in part.items():
                before = totals.get(name, [0.0, 0.0])
                totals[name] = [before[0] + total, before[1] + count]
        return {name: total / count for name, (total, count) in totals.items() if count}

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace gradients by their mean over the processes, some 64 MB at a time."""
        if self.world_size == 1:
            return
        bucket: list[Tensor] = []
        size = 0
        for parameter in parameters:
            if parameter.grad is not None:
                bucket.append(parameter.grad)
                size += parameter.grad.numel() * parameter.grad.element_size()
                if size >= _BUCKET_BYTES:
                    self._average(bucket)
                    bucket, size = [], 0
        if bucket:
            self._average(bucket)

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by those of the first process."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def gather(self, value: object) -> list[object]:
        """Every process's value, by rank."""
        if self.world_size == 1:
            return [value]
        values: list[object] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def _average(self, gradients: list[Tensor]) -> None:
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.world_size
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()
