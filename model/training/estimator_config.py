"""Settings of `cfr train-estimator`; the weights of the losses of stages 1 and 2 are the paper's."""

from dataclasses import dataclass
from typing import Any

from cfr.model.estimated_faces import DEFAULT_FACE_MODEL
from cfr.model.networks.coefficient_regressor import BLOCKS
from cfr.model.training.config import ConfigError, EngineConfig, check_pieces, check_shares, setting

# Weights of the losses by stage; 0: the stage has no such loss.
_WEIGHTS = {
    0: {"coefficient_weight": 1.0, "landmark_weight": 0.1},
    1: {
        "coefficient_weight": 1e-4,
        "landmark_weight": 0.007,
        "photometric_weight": 0.01,
        "skin_weight": 1e-5,
        "light_weight": 10.0,
        "identity_weight": 0.2,
    },
    2: {"coefficient_weight": 0.1, "landmark_weight": 0.01, "feature_weight": 1.0},
}
# What else is different from the defaults in stage 0, which starts from nothing.
_FROM_NOTHING = {"freeze_batch_norm": False, "learning_rate": 2e-3, "epochs": 8.0, "batch_size": 64}
NETWORKS = ("facemesh", "resnet")


@dataclass(frozen=True)
class EstimatorConfig(EngineConfig):
    """Settings of the loop, of the regressor and of its losses.

    A setting that is not given may have another default for the stage: see `with_defaults_of_stage`.
    """

    stage: int = setting(
        1, "0: on renderings of the face model; 1: on photos; 2: from a teacher, on covered faces", choices=(0, 1, 2)
    )
    face_model: str = setting(DEFAULT_FACE_MODEL, "default, BFM_model_80.mat, or a file of the default's layout")
    network: str = setting("resnet", "facemesh: small, on FaceMesh's layers; resnet: the paper's", choices=NETWORKS)
    width: int = setting(64, "channels of the regressor's first convolution; 64 is ResNet-50", least=1)
    depth: int = setting(50, "layers of the resnet: 50 is the paper's ResNet-50", choices=tuple(BLOCKS))
    renders: int = setting(8192, "stage 0 without shards: how many faces are rendered", least=1)
    occluded_share: float = setting(0.5, "stage 0: share of the faces that are shown covered", least=0)
    mirrored_share: float = setting(0.5, "stage 0: share of the faces that are shown mirrored", least=0)
    initial_regressor: str = setting("", "file of the regressor to start from; in stage 2 it is the teacher, too")
    parsing_weights: str = setting("", "file of a face parsing network; without one the fitted mask says what is face")
    identity_weights: str = setting("", "file of the IR-SE-50 identity encoder; without one the loss is off")
    freeze_batch_norm: bool = setting(True, "batch norms use their running statistics and don't change them")
    coefficient_weight: float | None = setting(
        None,
        "stage 0: of the coefficients' likelihood (1); 1: of their size (1e-4); 2: of their squared error (0.1)",
        least=0,
    )
    landmark_weight: float | None = setting(None, "of the 68 points' error; stage 0: 0.1, 1: 0.007, 2: 0.01", least=0)
    photometric_weight: float | None = setting(None, "stage 1: of the colour difference; paper: 0.01", least=0)
    skin_weight: float | None = setting(None, "stage 1: of the skin's uniformity; paper: 1e-5", least=0)
    light_weight: float | None = setting(None, "stage 1: of coloured light; paper: 10", least=0)
    identity_weight: float | None = setting(None, "stage 1: of the identity loss; paper: 0.2", least=0)
    feature_weight: float | None = setting(None, "stage 2: of the features' error; paper: 1", least=0)
    epochs: float = setting(20.0, "how often each row is seen", least=0)
    learning_rate: float = setting(1e-4, "of AdamW", least=0)
    beta1: float = setting(0.9, "of AdamW", least=0)
    beta2: float = setting(0.999, "of AdamW", least=0)
    schedule: str = setting(
        "cosine",
        "of the learning rate: cosine goes down once, cosine-cycles down and up again",
        choices=("cosine", "cosine-cycles", "constant"),
    )


def with_defaults_of_stage(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings and, for those that are not among them, the stage's defaults: loss weights, the paper's in stages 1
    and 2, and what stage 0 needs to start from nothing."""
    stage = settings.get("stage", 1)
    defaults = {**_WEIGHTS.get(stage, {}), **(_FROM_NOTHING if stage == 0 else {})}
    return {**defaults, **{name: value for name, value in settings.items() if value is not None}}


def check(config: EstimatorConfig, processes: int) -> None:
    """What settings must fulfil together.

    Raises:
        ConfigError: they don't.
    """
    every = {name for weights in _WEIGHTS.values() for name in weights}
    for name in sorted(every - set(_WEIGHTS[config.stage])):
        if getattr(config, name):
            raise ConfigError(f"{name} = {getattr(config, name)}: stage {config.stage} has no such loss")
    if config.stage == 2 and not config.initial_regressor:
        raise ConfigError("stage 2 needs a teacher: initial_regressor = the regressor of stage 1")
    if config.stage == 0 and config.network == "resnet" and config.face_model.endswith(".mat"):
        raise ConfigError(
            "stage 0 with BFM_model_80.mat: its renderings have this software's coefficients, which the paper's "
            "regressor has not; use network = facemesh"
        )
    check_pieces(config, processes)
    shares = ("ema_decay", "validation_fraction", "beta1", "beta2", "occluded_share", "mirrored_share")
    check_shares(config, shares)
