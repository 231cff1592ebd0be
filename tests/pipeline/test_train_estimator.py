"""`cfr train-estimator` as users run it, on renderings of a tiny face model."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_face import SIZES, rendered, write_face_model, write_occlusions

from cfr.model.checkpoints import load_checkpoint
from cfr.model.coefficients import Coefficients
from cfr.model.estimated_faces import load_face_estimator
from cfr.model.estimator_losses import normalised_errors
from cfr.model.networks.coefficient_regressor import CoefficientRegressor
from cfr.pipeline import cli

SMALL = ["--width", "8", "--depth", "14", "--batch-size", "4", "--workers", "0", "--log-every", "1", "--device", "cpu"]
SMALL += ["--no-channels-last", "--ema-decay", "0", "--sample-rows", "2"]


@pytest.fixture(scope="module")
def face_model(tmp_path_factory) -> Path:
    return write_face_model(tmp_path_factory.mktemp("face") / "tiny.npz")


@pytest.fixture(scope="module")
def shards(tmp_path_factory, face_model) -> Path:
    return write_occlusions(tmp_path_factory.mktemp("occluded"), face_model, rows=48)


def train(shards: Path, run: Path, face_model: Path, stage: int, *flags: str) -> int:
    command = ["train-estimator", "--stage", str(stage), "--occluded", str(shards), "--output", str(run)]
    return cli.main([*command, "--face-model", str(face_model), *SMALL, *flags])


def scores(run: Path) -> dict[str, float]:
    """The last measurement on held-out faces, by name."""
    line = [line for line in lines(run) if "validation/drift" in line][-1]
    return {name.removeprefix("validation/"): value for name, value in line.items() if name.startswith("validation/")}


def unfitted_error(face_model: Path, faces: dict) -> float:
    """Normalised error of the mean face, straight ahead: what a network that ignores the picture can do."""
    mean_face = load_face_estimator(face_model).landmarks(torch.zeros(1, 40))
    return normalised_errors(mean_face, torch.from_numpy(faces["landmarks"])).mean().item()


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def error(run: Path, face_model: Path, faces: dict) -> float:
    """Mean normalised error of a run's regressor on uncovered faces of `rendered`."""
    network = load_checkpoint(run / "regressor.safetensors", CoefficientRegressor(SIZES, 8, 14)).eval()
    pictures = torch.from_numpy(faces["original"]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        points = load_face_estimator(face_model).faces(network(pictures)).landmarks
    return normalised_errors(points, torch.from_numpy(faces["landmarks"])).mean().item()


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, face_model) -> Path:
    """A regressor of stage 1, from random weights, that saw eight faces again and again."""
    few = write_occlusions(tmp_path_factory.mktemp("few"), face_model, rows=8, seed=0)
    run = tmp_path_factory.mktemp("runs") / "stage1"
    flags = ["--batch-size", "8", "--max-steps", "60", "--epochs", "60", "--learning-rate", "1e-3"]
    flags += ["--no-freeze-batch-norm", "--validation-fraction", "0", "--validate-every", "1000"]
    assert train(few, run, face_model, 1, *flags) == 0
    return run


def test_stage_1_fits_the_faces_that_it_sees(teacher, face_model):
    """Far closer than the mean face, whose error is what the spread of poses and shapes makes it.

    A network that ignores the picture stays near the mean face: one answer cannot fit eight poses.
    """
    steps = [line for line in lines(teacher) if "train/landmarks" in line]
    assert steps[-1]["train/landmarks"] < 0.1 * steps[0]["train/landmarks"]
    assert {"train/coefficients", "train/photometric", "train/skin", "train/light"} <= set(steps[-1])
    faces = rendered(face_model, 8, 0)
    assert error(teacher, face_model, faces) < 0.5 * unfitted_error(face_model, faces)


# A small network on FaceMesh's features, which learns from a few hundred renderings in a minute.
QUICK = ["--network", "facemesh", "--width", "16", "--batch-size", "16", "--learning-rate", "2e-3"]
QUICK += ["--validation-fraction", "0.15", "--validate-every", "1000", "--sample-every", "1000"]


@pytest.fixture(scope="module")
def many(tmp_path_factory, face_model) -> Path:
    return write_occlusions(tmp_path_factory.mktemp("many"), face_model, rows=256)


@pytest.fixture(scope="module")
def taught_clean(tmp_path_factory, many, face_model) -> Path:
    """A regressor of stage 0 that has seen uncovered renderings only."""
    run = tmp_path_factory.mktemp("runs") / "stage0"
    flags = ["--epochs", "8", "--occluded-share", "0", "--mirrored-share", "0"]
    assert train(many, run, face_model, 0, *QUICK, *flags) == 0
    return run


def test_stage_0_knows_faces_that_it_has_not_seen(taught_clean, face_model):
    """Poses of the tiny faces are spread by 14 degrees, which is what ignoring the picture would leave."""
    found = scores(taught_clean)
    assert found["landmarks_clean"] < 0.6 * unfitted_error(face_model, rendered(face_model, 32, 5))
    assert found["rotation_clean"] < 9
    steps = [line for line in lines(taught_clean) if "train/landmarks" in line]
    assert {"train/coefficients", "train/landmarks"} <= set(steps[-1])


def test_the_student_of_stage_2_beats_its_teacher_on_covered_faces(tmp_path, taught_clean, many, face_model):
    """Held-out ones, by a twelfth: nearer to the truth, and nearer to what the teacher says of the same face uncovered.

    And what it says of uncovered faces has not become worse.
    """
    flags = ["--epochs", "8", "--initial-regressor", str(taught_clean / "regressor.safetensors")]
    assert train(many, tmp_path / "run", face_model, 2, *QUICK, *flags, "--learning-rate", "1e-3") == 0
    found = scores(tmp_path / "run")
    assert found["drift"] < 0.92 * found["teacher_drift"]
    assert found["landmarks_occluded"] < 0.92 * found["teacher_landmarks_occluded"]
    assert found["landmarks_clean"] < 1.05 * found["teacher_landmarks_clean"]


def test_stage_1_gets_better_on_faces_that_it_has_not_seen(tmp_path, many, face_model):
    """From FaceMesh's features and the mean face, with landmarks, colours and regularisers only: by a quarter."""
    flags = ["--epochs", "4", "--no-freeze-batch-norm"]
    assert train(many, tmp_path / "run", face_model, 1, *QUICK, *flags) == 0
    assert scores(tmp_path / "run")["landmarks_clean"] < 0.75 * unfitted_error(face_model, rendered(face_model, 32, 5))


def test_stage_0_renders_its_faces_once(tmp_path, face_model, capsys):
    command = ["train-estimator", "--stage", "0", "--output", str(tmp_path / "run"), "--face-model", str(face_model)]
    command += [*SMALL, "--network", "facemesh", "--renders", "64", "--max-steps"]
    assert cli.main([*command, "1"]) == 0
    assert "rendering 64 faces" in capsys.readouterr().err
    (shard,) = (tmp_path / "run" / "renders").glob("*.parquet")
    before = shard.stat().st_mtime_ns
    assert cli.main([*command, "2"]) == 0
    assert "rendering" not in capsys.readouterr().err
    assert shard.stat().st_mtime_ns == before
    table = pq.read_table(shard)
    assert table.num_rows == 64
    truth = Coefficients.split(torch.tensor(table["coefficients"].to_pylist()), SIZES)
    assert truth.pose[:, 0].min() < -60 and truth.pose[:, 0].max() > 60
    assert cli.main(["view", str(shard), "--output", str(tmp_path / "sheet.png"), "--rows", "3"]) == 0
    other = write_face_model(tmp_path / "other.npz", nose=0.3)
    assert cli.main([*command, "3", "--face-model", str(other)]) == 2
    assert "another face model" in capsys.readouterr().err


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_resumed_run_is_the_same_to_the_bit(tmp_path, teacher, shards, face_model, stage):
    flags = ["--epochs", "1", "--checkpoint-every", "2"]
    if stage == 2:
        flags += ["--initial-regressor", str(teacher / "regressor.safetensors")]
    assert train(shards, tmp_path / "whole", face_model, stage, *flags, "--max-steps", "5") == 0
    assert train(shards, tmp_path / "parts", face_model, stage, *flags, "--max-steps", "3") == 0
    (tmp_path / "parts" / "checkpoints" / "step-00000003.pt").unlink()
    assert train(shards, tmp_path / "parts", face_model, stage, *flags, "--max-steps", "5") == 0
    whole, parts = (load_file(tmp_path / run / "regressor.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert lines(tmp_path / "whole") == lines(tmp_path / "parts")


def test_what_a_run_writes(teacher):
    card = (teacher / "model_card.md").read_text()
    assert "3D face regressor" in card
    assert "photometric_weight = 0.01" in card
    assert "skin_weight = 1e-05" in card
    with Image.open(next((teacher / "samples").glob("*.png"))) as grid:
        assert grid.width > 4 * 224


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--stage", "2"], "needs a teacher"),
        (["--stage", "0", "--feature-weight", "1"], "stage 0 has no such loss"),
        (["--stage", "0", "--face-model", "BFM_model_80.mat"], "use network = facemesh"),
        (["--stage", "0", "--occluded-share", "1.5"], "occluded_share"),
        (["--stage", "2", "--photometric-weight", "1", "--initial-regressor", "x"], "stage 2 has no such loss"),
        (["--stage", "3"], "invalid choice"),
        (["--face-model", "nothing.mat"], "no such file"),
        (["--face-model", __file__], "not a face model"),
        (["--initial-regressor", __file__], "not a checkpoint"),
        (["--batch-size", "3", "--accumulate", "2"], "multiple of accumulate"),
    ],
    ids=lambda value: " ".join(map(str, value))[:30] if isinstance(value, list) else "",
)
def test_mistakes_are_one_line(tmp_path, shards, face_model, capsys, flags, message):
    assert train(shards, tmp_path / "run", face_model, 1, *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_stage_1_without_shards_is_refused(tmp_path, face_model, capsys):
    command = ["train-estimator", "--output", str(tmp_path / "run"), "--face-model", str(face_model), *SMALL]
    assert cli.main(command) == 2
    assert "stage 1 needs --occluded" in capsys.readouterr().err


def test_shards_of_another_job_are_refused(tmp_path, face_model, capsys):
    from pair_shards import write_pairs

    assert train(write_pairs(tmp_path / "pairs", 1, 2), tmp_path / "run", face_model, 1) == 2
    assert "make it with `cfr occlude`" in capsys.readouterr().err
