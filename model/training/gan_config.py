"""Settings of `cfr train`; the defaults are the paper's."""

from dataclasses import dataclass
from typing import Any

from cfr.model.lpips import LEAST_SIDE
from cfr.model.training.config import ConfigError, EngineConfig, check_pieces, check_shares, setting

# Weights of the losses by the network of the perceptual one: occlusion mask, reconstruction, perceptual, identity.
_PAPER_WEIGHTS = {
    "resnet": {"mask_weight": 2.0, "reconstruction_weight": 0.07, "perceptual_weight": 3.0, "identity_weight": 1.0},
    "vgg": {"mask_weight": 3.0, "reconstruction_weight": 0.3, "perceptual_weight": 0.9, "identity_weight": 2.5},
}


@dataclass(frozen=True)
class TrainConfig(EngineConfig):
    """Settings of the loop, of the networks and of their losses.

    A loss weight that is not set is the paper's for the chosen perceptual network.
    """

    size: int = setting(224, "side of the pictures in pixels; smaller ones train faster", least=16)
    width: int = setting(64, "channels of the generator at full resolution", least=1)
    residual_blocks: int = setting(9, "of the generator", least=0)
    blended: bool = setting(
        False, "the generator corrects a blend of `rotated` and guidance instead of painting anew; not in the paper"
    )
    critic_width: int = setting(64, "channels of the critic's first convolution", least=1)
    perceptual: str = setting("resnet", "network of the perceptual loss", choices=("resnet", "vgg"))
    perceptual_weights: str = setting("", "its file (torchvision's resnet50 or vgg19); without one the loss is off")
    identity_weights: str = setting("", "file of the IR-SE-50 identity encoder; without one the loss is off")
    adversarial_weight: float = setting(1.0, "of the critic's judgement in the generator's loss", least=0)
    mask_weight: float | None = setting(None, "of the squared error of the mask; paper: 2 (vgg: 3)", least=0)
    reconstruction_weight: float | None = setting(
        None, "of the absolute error within the predicted mask; paper: 0.07 (vgg: 0.3)", least=0
    )
    perceptual_weight: float | None = setting(None, "of the perceptual loss; paper: 3 (vgg: 0.9)", least=0)
    identity_weight: float | None = setting(None, "of the identity loss; paper: 1 (vgg: 2.5)", least=0)
    face_weight: float = setting(0.0, "of the absolute error over the whole face; not in the paper", least=0)
    hole_weight: float = setting(0.0, "of the absolute error within the pair's own mask; not in the paper", least=0)
    flip: float = setting(0.5, "chance that a pair is mirrored", least=0)
    low_resolution: float = setting(0.25, "chance that `rotated` is halved in resolution", least=0)
    erase: float = setting(0.4, "chance that a part of `rotated` is erased", least=0)
    initial_generator: str = setting("", "file of a CFRNet to start from, the authors' or one of `cfr train`")
    distances: bool = setting(False, "measure Fréchet and kernel distance with the perceptual network's features, too")
    lpips_weights: str = setting("", "measure LPIPS, too: file of its classifier (torchvision's AlexNet or VGG-16)")
    freeze_batch_norm: bool = setting(False, "batch norms use their running statistics and don't change them")


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "tiny": {
        "size": 64,
        "width": 32,
        "residual_blocks": 1,
        "blended": True,
        "critic_width": 16,
        "batch_size": 4,
        "epochs": 12,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "adversarial_weight": 0.01,
        "reconstruction_weight": 0.0,
        "face_weight": 1.0,
        "hole_weight": 2.0,
        "ema_decay": 0.995,
        "channels_last": False,
        "workers": 0,
        "checkpoint_every": 100,
        "validate_every": 200,
        "sample_every": 200,
    },
}
"""Settings by name: `paper` is the default, `tiny` learns something on one CPU core within an hour."""


def with_paper_weights(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings and, for loss weights that are not among them, the paper's."""
    network = settings.get("perceptual", "resnet")
    if network not in _PAPER_WEIGHTS:
        return settings  # the check of the types tells what it may be
    return {**_PAPER_WEIGHTS[network], **{name: value for name, value in settings.items() if value is not None}}


def check(config: TrainConfig, processes: int) -> None:
    """What settings must fulfil together.

    Raises:
        ConfigError: they don't.
    """
    if config.size % 4:
        raise ConfigError(f"size = {config.size}: must be a multiple of 4")
    if config.identity_weights and config.size != 224:
        raise ConfigError(f"size = {config.size}: the identity loss needs 224")
    if config.distances and not config.perceptual_weights:
        raise ConfigError("distances = True: needs the file of the perceptual network, perceptual_weights")
    if config.lpips_weights and config.size < LEAST_SIDE:
        raise ConfigError(f"size = {config.size}: LPIPS needs {LEAST_SIDE} or more")
    check_pieces(config, processes)
    check_shares(config, ("flip", "low_resolution", "erase", "ema_decay", "validation_fraction", "beta1", "beta2"))
