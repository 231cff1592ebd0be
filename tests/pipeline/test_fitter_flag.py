"""`cfr pairs --fitter`: pose and shape from landmarks, from a regressor, or from both."""

import json

import pyarrow.parquet as pq
import pytest
from safetensors.torch import save_file

from cfr.model.networks.facemesh_regressor import FaceMeshRegressor
from cfr.pipeline import cli


@pytest.fixture(scope="module")
def regressor(tmp_path_factory) -> str:
    """One that has learnt nothing: the mean face, straight ahead, and very unsure of it."""
    network = FaceMeshRegressor()
    network.start_at_mean_face()
    path = tmp_path_factory.mktemp("weights") / "regressor.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    return str(path)


@pytest.fixture(scope="module")
def shards(photos_dir, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("shards")
    assert cli.main(["ingest", str(photos_dir / "astronaut.png"), "--output", str(folder / "shards")]) == 0
    return str(folder / "shards" / "*.parquet")


def pairs(shards: str, output, *flags: str):
    assert cli.main(["pairs", "--input", shards, "--output", str(output), "--columns", "guidance", *flags]) == 0
    (shard,) = (output / "pairs").glob("*.parquet")
    return pq.read_table(shard)


def test_the_fitter_decides_what_the_face_is_taken_from(shards, regressor, tmp_path, capsys):
    by_landmarks = pairs(shards, tmp_path / "landmarks")
    by_both = pairs(shards, tmp_path / "both", "--fitter", "regressor+landmarks", "--regressor", regressor)
    by_regressor = pairs(shards, tmp_path / "regressor", "--fitter", "regressor", "--regressor", regressor)
    # A regressor that knows nothing leaves everything to the landmarks, if they are asked: one degree.
    for angle in ("yaw", "pitch", "roll"):
        assert by_both[angle][0].as_py() == pytest.approx(by_landmarks[angle][0].as_py(), abs=1.0)
    # The mean face looks straight ahead, upright by the five points.
    assert by_regressor["yaw"][0].as_py() == pytest.approx(0, abs=0.1)
    assert by_regressor["pitch"][0].as_py() == pytest.approx(0, abs=0.1)
    assert by_regressor["roll"][0].as_py() == pytest.approx(by_landmarks["roll"][0].as_py(), abs=3)
    assert by_both["fit_error"][0].as_py() < 0.02 < by_regressor["fit_error"][0].as_py()
    metadata = by_both.schema.metadata
    assert metadata[b"fitter"] == b"regressor+landmarks"
    parts = {model["part"]: model for model in json.loads(metadata[b"models"])}
    assert len(parts["regressor"]["digest"]) == 64
    assert "regressor" not in {model["part"] for model in json.loads(by_landmarks.schema.metadata[b"models"])}
    capsys.readouterr()
    assert cli.main(["pairs", "--input", shards, "--output", str(tmp_path / "both"), "--columns", "guidance"]) == 2
    assert "was made with" in capsys.readouterr().err


def test_a_regressor_comes_with_the_package(shards, tmp_path, capsys):
    by_landmarks = pairs(shards, tmp_path / "landmarks")
    by_own = pairs(shards, tmp_path / "own", "--fitter", "regressor")
    # It knows the pose of an easy face nearly as well as the landmarks do.
    for angle in ("yaw", "pitch", "roll"):
        assert by_own[angle][0].as_py() == pytest.approx(by_landmarks[angle][0].as_py(), abs=8)
    assert by_own["fit_error"][0].as_py() < 0.06
    capsys.readouterr()
    assert cli.main(["models", "--json"]) == 0
    (listed,) = (row for row in json.loads(capsys.readouterr().out) if row["part"] == "regressor")
    parts = {model["part"]: model for model in json.loads(by_own.schema.metadata[b"models"])}
    assert (parts["regressor"]["name"], parts["regressor"]["digest"]) == (listed["active"], listed["sha256"])
    assert listed["asked_for"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--fitter", "regressor", "--face-model", __file__], "needs --regressor FILE"),
        (["--fitter", "regressor", "--regressor", "none.safetensors"], "none.safetensors: no such file"),
        (["--fitter", "regressor", "--regressor", __file__], "not a checkpoint"),
        (["--regressor", __file__], "goes with --recipe paper, or with --fitter"),
        (["--recipe", "paper", "--fitter", "regressor"], "goes with --recipe visible"),
        (["--fitter", "eyes"], "invalid choice"),
    ],
)
def test_mistakes_stop_the_job(shards, tmp_path, capsys, flags, message):
    assert cli.main(["pairs", "--input", shards, "--output", str(tmp_path / "out"), *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_evaluate_takes_the_same_flags(photos_dir, capsys):
    command = ["evaluate", "pose", str(photos_dir), "--fitter", "regressor", "--regressor", __file__]
    assert cli.main(command) == 2
    assert "not a checkpoint" in capsys.readouterr().err
