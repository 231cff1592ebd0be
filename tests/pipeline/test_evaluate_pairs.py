"""`cfr evaluate pairs`: the data card's figures and page, from shards whose contents are known."""

import json
import re

import numpy as np
import pyarrow as pa
import pytest
import torch
from pair_shards import pair_table, write_shard

from cfr.model.face_model import MorphableModel
from cfr.pipeline.cli import main
from cfr.pipeline.schemas import FAILURES_SCHEMA

ROWS = 6


@pytest.fixture
def pairs(tmp_path):
    """Two shards; row 5 of the second shows the photo of row 0 of the first; one row's fit failed to give a number."""
    model = MorphableModel.load_default()
    light = torch.zeros(9, 3)
    light[0], light[3] = 0.9, -0.2  # from image right
    parts = [torch.zeros(sum(model.sizes)), light.flatten(), torch.zeros(6)]
    coefficients = [torch.cat(parts).tolist()] * ROWS
    for shard in range(2):
        numbers = {
            "yaw": np.linspace(-60, 60, ROWS, dtype=np.float32).tolist(),
            "fit_error": [0.01] * (ROWS - 1) + [float("nan")],
            "occluded_fraction": [0.25] * ROWS,
        }
        table = pair_table(ROWS, 64, shard * ROWS, coefficients=coefficients, **numbers)
        for name in ("face_index", "view_index"):
            table = table.append_column(name, pa.array([0] * ROWS, pa.int32()))
        if shard == 1:
            targets = [*table["target"].to_pylist()[:-1], pair_table(1, 64)["target"].to_pylist()[0]]
            table = table.set_column(
                table.schema.get_field_index("target"), "target", pa.array(targets, table.schema.field("target").type)
            )
        write_shard(tmp_path / "out" / "pairs" / f"{shard}.parquet", table)
    failure = {"image_id": "<b>.png", "face_index": -1, "stage": "AlignFaces", "reason": "no_face", "message": "none"}
    write_shard(tmp_path / "out" / "failures" / "0.parquet", pa.Table.from_pylist([failure], schema=FAILURES_SCHEMA))
    return tmp_path / "out"


def test_figures(pairs, capsys):
    assert main(["evaluate", "pairs", str(pairs), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["pairs"], card["photos"], card["faces"], card["shards"]) == (12, 12, 12, 2)
    assert card["failures"] == {"rows": 1, "reasons": {"no_face": 1}, "stages": {"AlignFaces": 1}}
    assert card["numbers"]["yaw"]["quantiles"]["50%"] == pytest.approx(0, abs=1e-4)
    assert sum(card["numbers"]["yaw"]["histogram"]["counts"]) == 12
    assert (card["numbers"]["fit_error"]["n"], card["numbers"]["fit_error"]["missing"]) == (10, 2)
    assert card["numbers"]["sharpness"] == {"n": 0, "missing": 12}
    assert card["numbers"]["light_azimuth"]["mean"] == pytest.approx(90, abs=0.1)
    assert sum(card["skin_tone_groups"].values()) == 12
    assert any({"photo-0.png#0", "photo-11.png#0"} <= set(group) for group in card["duplicates"]["listed"])


def test_page_opens_without_anything_from_outside(pairs, tmp_path, capsys):
    page = tmp_path / "deep" / "card.html"
    assert main(["evaluate", "pairs", str(pairs), "--html", str(page)]) == 0
    assert "12 pairs of 12 faces" in capsys.readouterr().out
    text = page.read_text()
    assert text.count("<svg") >= 6 and text.count("data:image/jpeg") >= 12
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert "no_face" in text and "photo-11.png" in text


def test_without_photos(pairs, capsys):
    assert main(["evaluate", "pairs", str(pairs), "--json", "--no-duplicates"]) == 0
    assert json.loads(capsys.readouterr().out)["duplicates"] is None


def test_mistakes(pairs, tmp_path, capsys):
    assert main(["evaluate", "pairs", str(tmp_path / "nothing")]) == 2
    (tmp_path / "file").write_text("")
    assert main(["evaluate", "pairs", str(pairs), "--html", str(tmp_path / "file" / "card.html")]) == 2
    assert "--html" in capsys.readouterr().err
