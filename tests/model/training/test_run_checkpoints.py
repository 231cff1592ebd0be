"""Checkpoints are whole or absent; damaged ones are passed over."""

import torch

from cfr.model.training.run_checkpoints import RunCheckpoints


def saved(folder, *steps: int, kept: int = 3) -> RunCheckpoints:
    checkpoints = RunCheckpoints(folder, kept)
    for step in steps:
        checkpoints.save(step, {"step": step, "weights": torch.full((50,), float(step)), "name": "a"})
    return checkpoints


def test_the_newest_comes_back(tmp_path):
    state = saved(tmp_path / "c", 3, 7, 11).load_latest(print)
    assert state["step"] == 11 and state["weights"].eq(11).all() and state["name"] == "a"
    assert RunCheckpoints(tmp_path / "none", 2).load_latest(print) is None


def test_only_the_latest_are_kept(tmp_path):
    checkpoints = saved(tmp_path, 1, 2, 3, 4, 5, kept=2)
    assert checkpoints.steps() == [4, 5]
    assert len(list(tmp_path.iterdir())) == 4


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_damaged_ones_are_passed_over_with_a_warning(tmp_path):
    checkpoints = saved(tmp_path, 1, 2, 3, 4, kept=4)
    flip_a_byte(tmp_path / "step-00000004.pt")
    torn = tmp_path / "step-00000003.pt"
    torn.write_bytes(torn.read_bytes()[:100])
    (tmp_path / "step-00000002.pt").unlink()
    warnings: list[str] = []
    assert checkpoints.load_latest(warnings.append)["step"] == 1
    assert [f"0000000{n}.pt is damaged" in text for n, text in zip((4, 3, 2), warnings, strict=True)] == [True] * 3
    (tmp_path / "step-00000001.json").write_text("{")
    assert checkpoints.load_latest(warnings.append) is None


def test_one_without_its_note_does_not_exist(tmp_path):
    checkpoints = saved(tmp_path, 1, 2)
    (tmp_path / "step-00000002.json").unlink()
    assert checkpoints.load_latest(print)["step"] == 1
    checkpoints.save(2, {"step": 2, "again": True})
    assert checkpoints.load_latest(print)["again"]
