"""Checkpoints in every layout that is published, and files that are none."""

import collections
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cfr.model.checkpoints import CheckpointError, load_checkpoint, read_states, recognise
from cfr.model.networks.discriminator import TwoScaleDiscriminator


def small_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return {name: value + 0.5 for name, value in small_network().state_dict().items()}


@pytest.fixture(scope="module")
def discriminator_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoints") / "discriminator.pth"
    torch.save({f"module.{name}": value for name, value in TwoScaleDiscriminator().state_dict().items()}, path)
    return path


def wrapped(state):
    return collections.OrderedDict((f"module.{name}", value) for name, value in state.items())


LAYOUTS = {
    "bare": lambda state: state,
    "data parallel": wrapped,
    "compiled data parallel": lambda state: {f"_orig_mod.{name}": value for name, value in wrapped(state).items()},
    "state_dict": lambda state: {"state_dict": wrapped(state)},
    "training": lambda state: {
        "epoch": 3,
        "D_state_dict": {"other.weight": torch.zeros(3)},
        "G_state_dict": wrapped(state),
        "G_optimizer": {"state": {0: {"exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 1e-4}]},
        "G_lr": [1e-4],
    },
    "nested": lambda state: {"model": {"generator": state}, "best": torch.tensor(0.5)},
    "old torch": lambda state: {name: value for name, value in state.items() if "num_batches" not in name},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_network(tmp_path, state, layout):
    path = tmp_path / "weights.pth"
    torch.save(LAYOUTS[layout](state), path)
    network = load_checkpoint(path, small_network())
    for name, value in network.state_dict().items():
        if "num_batches" not in name:
            assert torch.equal(value, state[name])


def test_safetensors_are_told_by_their_bytes(tmp_path, state):
    save_file(wrapped(state), tmp_path / "weights.bin")
    network = load_checkpoint(tmp_path / "weights.bin", small_network())
    assert torch.equal(network[0].weight, state["0.weight"])


def test_old_torch_files_are_read(tmp_path, state):
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(load_checkpoint(tmp_path / "old.pth", small_network())[0].weight, state["0.weight"])


def test_half_precision_is_widened(tmp_path, state):
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "half.pth")
    network = load_checkpoint(tmp_path / "half.pth", small_network())
    assert network[0].weight.dtype == torch.float32
    assert torch.allclose(network[0].weight, state["0.weight"], atol=1e-3)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state.pop("1.weight"), "'1.weight' is missing"),
        (
            lambda state: state.update({"0.weight": torch.zeros(4, 3, 5)}),
            "'0.weight' has the shape [4, 3, 5], expected",
        ),
        (lambda state: state.update({"2.bias": torch.zeros(4)}), "'2.bias' is not part of it"),
    ],
)
def test_a_difference_is_named(tmp_path, state, change, told):
    change(state)
    torch.save(state, tmp_path / "wrong.pth")
    network = small_network()
    before = network[0].bias.clone()
    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(tmp_path / "wrong.pth", network)
    assert told in str(raised.value) and str(tmp_path / "wrong.pth") in str(raised.value)
    assert torch.equal(network[0].bias, before)


def test_the_network_that_the_file_is_for_is_named(discriminator_file):
    with pytest.raises(CheckpointError, match=r"'0\.weight' is missing; the file looks like: two-scale discriminator"):
        load_checkpoint(discriminator_file, small_network())


def test_an_unknown_network_is_said_to_be_unknown(tmp_path, state):
    torch.save(state, tmp_path / "other.pth")
    assert recognise(read_states(tmp_path / "other.pth")[""]) is None
    with pytest.raises(CheckpointError, match="no network that is known here"):
        load_checkpoint(tmp_path / "other.pth", TwoScaleDiscriminator())


class RunsCode:
    """A pickle of it makes a folder when it is loaded."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("new_format", [True, False])
def test_code_in_a_file_is_not_run(tmp_path, state, new_format):
    trap = str(tmp_path / "executed")
    torch.save(
        {"state_dict": state, "args": RunsCode(trap)}, tmp_path / "evil.pth", _use_new_zipfile_serialization=new_format
    )
    with pytest.raises(CheckpointError, match="can run code"):
        load_checkpoint(tmp_path / "evil.pth", small_network())
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(RunsCode(trap)))
    with pytest.raises(CheckpointError, match="can run code"):
        load_checkpoint(tmp_path / "plain.pkl", small_network())
    assert not os.path.exists(trap)


def test_a_whole_pickled_network_is_refused(tmp_path):
    torch.save(small_network(), tmp_path / "network.pth")
    with pytest.raises(CheckpointError, match=r"state_dict\(\) alone"):
        load_checkpoint(tmp_path / "network.pth", small_network())


def damaged(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize("kind", ["empty", "text", "picture", "truncated", "truncated safetensors", "numbers"])
def test_other_files_are_refused(tmp_path, state, photos_dir, kind):
    path = tmp_path / "file.pth"
    if kind == "picture":
        path.write_bytes((photos_dir / "grace_hopper.jpg").read_bytes())
    elif kind == "text":
        path.write_text("<html>Sign in to download this file</html>\n")
    elif kind == "empty":
        path.touch()
    elif kind == "numbers":
        torch.save([1, 2, {"epoch": 3}], path)
    elif kind == "truncated":
        torch.save(state, path)
        path.write_bytes(damaged(path.read_bytes()))
    else:
        save_file(state, path)
        path.write_bytes(damaged(path.read_bytes()))
    with pytest.raises(CheckpointError, match=str(path)):
        load_checkpoint(path, small_network())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth"):
        load_checkpoint(tmp_path / "nothing.pth", small_network())
