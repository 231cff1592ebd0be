"""Damaged and hostile files at the three doors that let files in: a clear error or a result, never anything else.

Time-boxed: each test makes a fixed number of files by cutting, flipping and splicing bytes of good ones.
"""

import io
import os
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from cfr.model.checkpoints import CheckpointError, read_states
from cfr.model.images import FORMATS, ImageError, decode_image
from cfr.pipeline.work_units import InputFile, plan_units, read_footer
from cfr.transforms.read_images import read_photos, read_rows
from cfr.transforms.stage import UnitError

BOX = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
DAMAGE = st.lists(
    st.tuples(st.sampled_from(["cut", "flip", "splice", "zero"]), st.floats(0, 1), st.binary(min_size=1, max_size=12)),
    min_size=1,
    max_size=4,
)


def damaged(data: bytes, damage: list[tuple[str, float, bytes]]) -> bytes:
    for how, where, what in damage:
        place = int(where * len(data))
        if how == "cut":
            data = data[:place]
        elif how == "flip":
            data = (
                data[:place]
                + bytes(a ^ b for a, b in zip(data[place:], what, strict=False))
                + data[place + len(what) :]
            )
        elif how == "splice":
            data = data[:place] + what + data[place:]
        else:
            data = data[:place] + bytes(len(what)) + data[place + len(what) :]
    return data


def encoded() -> dict[str, bytes]:
    """A small picture in every format that Pillow can write."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8))
    found = {}
    for name in FORMATS:
        buffer = io.BytesIO()
        try:
            picture.save(buffer, name)
        except (OSError, KeyError, ValueError):
            continue
        found[name] = buffer.getvalue()
    return found


PICTURES = encoded()


@BOX
@given(st.sampled_from(sorted(PICTURES)), DAMAGE)
def test_the_decoder_returns_pixels_or_says_what_is_wrong(name, damage):
    try:
        pixels = decode_image(damaged(PICTURES[name], damage), max_pixels=10**6)
    except ImageError as error:
        assert error.reason in ("decode_error", "empty_image", "too_large", "too_small")
        assert error.message
    else:
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[0] * pixels.shape[1] <= 10**6


@pytest.fixture(scope="module")
def shard() -> bytes:
    images = [{"bytes": bytes([number]) * 50, "path": None} for number in range(40)]
    image = pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image_id": [f"id {number}" for number in range(40)], "image": image}), buffer, 16)
    return buffer.getvalue()


@BOX
@example([("flip", 0.46875, b"\x80")])  # a column name that is not UTF-8
@given(DAMAGE)
def test_an_input_file_is_read_or_refused(shard, tmp_path_factory, damage):
    path = tmp_path_factory.mktemp("shard") / "a.parquet"
    path.write_bytes(damaged(shard, damage))
    footer = read_footer(str(path), "a")
    if not isinstance(footer, InputFile):
        assert footer.message
        return
    for unit in plan_units([footer], 16, 64):
        try:
            names = set(footer.schema.names)
            if "image_id" in names:
                list(read_rows(unit, ["image_id"]))
            if "image" in names:
                list(read_photos(unit, "image"))
        except UnitError as error:
            assert str(error)


class _RunsCode:
    def __reduce__(self):
        return os.mkdir, ("this folder must not appear",)


def checkpoints(folder) -> dict[str, bytes]:
    state = {"layer.weight": torch.zeros(3, 4), "layer.bias": torch.zeros(3)}
    torch.save({"state_dict": state}, folder / "zip")
    torch.save(state, folder / "old", _use_new_zipfile_serialization=False)
    save_file(state, folder / "safe")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@BOX
@given(st.sampled_from(["zip", "old", "safe"]), DAMAGE)
def test_a_checkpoint_is_read_or_refused(tmp_path_factory, kind, damage):
    folder = tmp_path_factory.mktemp("checkpoints")
    path = folder / "damaged.pth"
    path.write_bytes(damaged(checkpoints(folder)[kind], damage))
    try:
        states = read_states(path)
    except CheckpointError as error:
        assert str(path) in str(error)
    else:
        assert all(isinstance(value, torch.Tensor) for state in states.values() for value in state.values())


@pytest.mark.parametrize(
    "save", [lambda value, path: torch.save(value, path), lambda value, path: path.write_bytes(pickle.dumps(value))]
)
def test_a_checkpoint_cannot_run_code(tmp_path, monkeypatch, save):
    monkeypatch.chdir(tmp_path)
    save({"state_dict": _RunsCode()}, tmp_path / "hostile.pth")
    with pytest.raises(CheckpointError, match="loading them can run code"):
        read_states(tmp_path / "hostile.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["hostile.pth"]
