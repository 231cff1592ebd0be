"""Settings of `cfr train-estimator`; the weights of the losses are the paper's."""

from dataclasses import dataclass
from typing import Any

from cfr.model.estimated_faces import DEFAULT_FACE_MODEL
from cfr.model.networks.coefficient_regressor import BLOCKS
from cfr.model.training.config import ConfigError, EngineConfig, check_pieces, check_shares, setting

# Weights of the losses by stage; 0: the stage has no such loss.
_PAPER_WEIGHTS = {
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


@dataclass(frozen=True)
class EstimatorConfig(EngineConfig):
    """Settings of the loop, of the regressor and of its losses.

    A loss weight that is not set is the paper's for the stage.
    """

    stage: int = setting(
        1, "1: on faces as they are; 2: from a teacher, on covered faces (not yet shown to help)", choices=(1, 2)
    )
    face_model: str = setting(DEFAULT_FACE_MODEL, "default, BFM_model_80.mat, or a file of the default's layout")
    width: int = setting(64, "channels of the regressor's first convolution; 64 is ResNet-50", least=1)
    depth: int = setting(50, "layers of the regressor: 50 is the paper's ResNet-50", choices=tuple(BLOCKS))
    initial_regressor: str = setting("", "file of the regressor to start from; in stage 2 it is the teacher, too")
    parsing_weights: str = setting("", "file of a face parsing network; without one the fitted mask says what is face")
    identity_weights: str = setting("", "file of the IR-SE-50 identity encoder; without one the loss is off")
    freeze_batch_norm: bool = setting(True, "batch norms use their running statistics and don't change them")
    coefficient_weight: float | None = setting(
        None, "stage 1: of the size of the coefficients (1e-4); stage 2: of their squared error (0.1)", least=0
    )
    landmark_weight: float | None = setting(None, "of the 68 points' error; paper: 0.007, stage 2: 0.01", least=0)
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


def with_paper_weights(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings and, for loss weights that are not among them, the paper's for the stage."""
    weights = _PAPER_WEIGHTS.get(settings.get("stage", 1), {})
    return {**weights, **{name: value for name, value in settings.items() if value is not None}}


def check(config: EstimatorConfig, processes: int) -> None:
    """What settings must fulfil together.

    Raises:
        ConfigError: they don't.
    """
    every = {name for weights in _PAPER_WEIGHTS.values() for name in weights}
    for name in sorted(every - set(_PAPER_WEIGHTS[config.stage])):
        if getattr(config, name):
            raise ConfigError(f"{name} = {getattr(config, name)}: stage {config.stage} has no such loss")
    if config.stage == 2 and not config.initial_regressor:
        raise ConfigError("stage 2 needs a teacher: initial_regressor = the regressor of stage 1")
    check_pieces(config, processes)
    check_shares(config, ("ema_decay", "validation_fraction", "beta1", "beta2"))
