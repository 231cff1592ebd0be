"""Settings from layers, with wrong ones named."""

import dataclasses
import tomllib

import pytest

from cfr.model.training.config import ConfigError, config_text, first_difference, read_config, resolve
from cfr.model.training.engine import learning_rate, total_steps
from cfr.model.training.gan_config import PRESETS, TrainConfig, check, with_paper_weights


def test_defaults_are_the_papers():
    config = resolve(TrainConfig, with_paper_weights({}))
    assert (config.batch_size, config.epochs, config.learning_rate, config.beta1, config.beta2) == (
        32,
        80,
        2e-4,
        0.5,
        0.99,
    )
    assert (config.adversarial_weight, config.mask_weight, config.reconstruction_weight) == (1, 2, 0.07)
    assert (config.perceptual_weight, config.identity_weight) == (3, 1)
    assert (config.face_weight, config.hole_weight) == (0, 0)
    vgg = resolve(TrainConfig, with_paper_weights({"perceptual": "vgg", "identity_weight": 9}))
    assert (vgg.mask_weight, vgg.reconstruction_weight, vgg.perceptual_weight, vgg.identity_weight) == (3, 0.3, 0.9, 9)


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        (({"batchsize": 3},), "no setting 'batchsize'"),
        (({"batch_size": 3.5},), "batch_size = 3.5: must be a whole number"),
        (({"batch_size": True},), "must be a whole number"),
        (({"epochs": "many"},), "must be a number"),
        (({"compile": 1},), "must be true or false"),
        (({"learning_rate": -1},), "must be 0 or more"),
        (({"learning_rate": float("nan")},), "must be 0 or more"),
        (({"schedule": "linear"},), "must be one of cosine-cycles, cosine, constant"),
        (({"max_steps": 0},), "must be 1 or more"),
    ],
)
def test_wrong_settings_are_named(layers, told):
    with pytest.raises(ConfigError, match=told):
        resolve(TrainConfig, *layers)


@pytest.mark.parametrize(
    ("settings", "processes", "told"),
    [
        ({"size": 30}, 1, "multiple of 4"),
        ({"batch_size": 6, "accumulate": 2}, 2, "accumulate x processes = 2 x 2"),
        ({"flip": 1.5}, 1, "between 0 and 1"),
        ({"size": 112, "identity_weights": "x"}, 1, "needs 224"),
    ],
)
def test_settings_that_do_not_go_together(settings, processes, told):
    with pytest.raises(ConfigError, match=told):
        check(resolve(TrainConfig, settings), processes)


def test_later_layers_win_and_the_text_reads_back():
    config = resolve(TrainConfig, PRESETS["tiny"], {"seed": 3, "where": 'a = "b\\"'}, {"seed": 4, "max_steps": 7})
    assert (config.seed, config.width) == (4, PRESETS["tiny"]["width"])
    assert resolve(TrainConfig, tomllib.loads(config_text(config))) == config


def test_files(tmp_path):
    (tmp_path / "good.toml").write_text("epochs = 2\n")
    assert read_config(tmp_path / "good.toml") == {"epochs": 2}
    (tmp_path / "bad.toml").write_text("epochs = \n")
    for name in ("bad.toml", "none.toml"):
        with pytest.raises(ConfigError, match=name):
            read_config(tmp_path / name)


def test_what_may_change_when_a_run_goes_on():
    before = resolve(TrainConfig, {"max_steps": 5, "workers": 1})
    assert first_difference(resolve(TrainConfig, {}), dataclasses.asdict(before)) is None
    assert first_difference(resolve(TrainConfig, {"seed": 2}), dataclasses.asdict(before)) == "seed was 0 and is 2 now"


def test_learning_rates():
    rows = 320
    cycles = resolve(TrainConfig, {"epochs": 20, "lowest_rate": 0.0})
    assert total_steps(cycles, rows) == 200
    assert learning_rate(cycles, 0, rows) == pytest.approx(2e-4)
    assert learning_rate(cycles, 25, rows) == pytest.approx(1e-4)  # half of five epochs
    assert learning_rate(cycles, 50, rows) == pytest.approx(0)
    assert learning_rate(cycles, 100, rows) == pytest.approx(2e-4)  # up again, as in the authors' code
    once = resolve(TrainConfig, {"epochs": 20, "schedule": "cosine", "lowest_rate": 1e-6})
    rates = [learning_rate(once, step, rows) for step in range(201)]
    assert rates == sorted(rates, reverse=True) and rates[-1] == pytest.approx(1e-6)
    assert learning_rate(resolve(TrainConfig, {"schedule": "constant"}), 99, rows) == 2e-4
