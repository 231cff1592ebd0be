"""What tasks of the engine have in common: optimiser, modes, precision, fixed networks of losses, means over pieces."""

import torch
from torch import Tensor, nn

from cfr.model.checkpoints import load_checkpoint
from cfr.model.training.config import EngineConfig


def adamw(network: nn.Module, config: EngineConfig, device: torch.device) -> torch.optim.AdamW:
    """The optimiser that the settings describe, of the parameters that are trained."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(
        parameters,
        config.learning_rate,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
        fused=device.type == "cuda",
    )


def set_training_mode(network: nn.Module, freeze_batch_norm: bool) -> None:
    """Training mode; with frozen batch norms these go on with their running statistics."""
    network.train()
    for module in network.modules():
        if freeze_batch_norm and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def wants_bfloat16(config: EngineConfig, device: torch.device) -> bool:
    """Whether the networks run in bfloat16."""
    if config.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return config.precision == "bfloat16"


def fixed_network(network: nn.Module, path: str, device: torch.device) -> nn.Module | None:
    """A network of a loss with the weights of a file, frozen; None without its file.

    Raises:
        CheckpointError, FileNotFoundError: a file of weights is none or doesn't fit.
    """
    if not path:
        return None
    load_checkpoint(path, network)
    return network.eval().requires_grad_(False).to(device)


def add_means(scalars: dict[str, Tensor], values: dict[str, Tensor], pieces: int) -> None:
    """Add a piece's part of the means."""
    for name, value in values.items():
        part = value.detach() / pieces
        scalars[name] = scalars[name] + part if name in scalars else part
