"""`cfr evaluate distribution`: sets of pictures in folders and shards, against each other."""

import io
import json
import re
import sys

import pyarrow.parquet as pq
import pytest
import torch
from pair_shards import write_pairs
from PIL import Image

from cfr.model.networks.coefficient_regressor import CoefficientRegressor
from cfr.model.networks.perceptual import ResNet50Slices
from cfr.pipeline.cli import main

ROWS = 20


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(ResNet50Slices().state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Two shards of ten pairs, 32 px."""
    return write_pairs(tmp_path_factory.mktemp("pairs"), shards=2, rows=ROWS // 2)


@pytest.fixture(scope="module")
def folder(pairs, tmp_path_factory):
    """The pairs' targets as files, some of them in folders of their own."""
    root = tmp_path_factory.mktemp("files")
    (root / "more").mkdir()
    number = 0
    for shard in sorted((pairs / "pairs").glob("*.parquet")):
        for row in pq.read_table(shard, columns=["target"]).to_pylist():
            place = root / "more" if number % 2 else root
            Image.open(io.BytesIO(row["target"]["bytes"])).save(place / f"{number:03d}.png")
            number += 1
    return root


def measured(capsys, *arguments) -> dict:
    assert main(["evaluate", "distribution", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_folder_and_the_column_that_it_was_made_from(pairs, folder, weights, capsys):
    report = measured(capsys, folder, pairs, "--feature-weights", weights)
    assert (report["reference"]["pictures"], report["other"]["pictures"]) == (ROWS, ROWS)
    assert report["other"]["source"] == f"{pairs}:target"
    assert report["fid"]["value"] == pytest.approx(0, abs=1e-4 * report["fid_of_reference_halves"])
    assert report["features"]["network"] == "ResNet-50 for the perceptual loss"
    assert not report["features"]["comparable_with_published"]


def test_damaged_pictures_are_farther_than_chance(pairs, weights, capsys):
    report = measured(capsys, f"{pairs}:target", f"{pairs}:rotated", "--feature-weights", weights)
    assert report["fid"]["value"] > 2 * report["fid_of_reference_halves"]
    assert report["fid"]["interval"][0] > 0
    assert report["kid"]["interval"][0] < report["kid"]["value"] < report["kid"]["interval"][1]


def test_what_cannot_be_decoded_is_counted(folder, weights, tmp_path, capsys):
    (tmp_path / "a").mkdir()
    for path in sorted(folder.glob("*.png"))[:3]:
        (tmp_path / "a" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "a" / "broken.png").write_bytes(b"no picture")
    report = measured(capsys, folder, tmp_path / "a", "--feature-weights", weights)
    assert (report["other"]["pictures"], report["other"]["failed"]) == (3, 1)
    assert next(iter(report["other"]["failures"])).endswith("broken.png")
    assert report["fid"]["interval"] is None  # three pictures cannot be halved


def test_pictures_of_several_sizes(folder, weights, tmp_path, capsys):
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        size = (40, 60) if number % 2 else (48, 32)
        Image.open(path).resize(size).save(tmp_path / path.name)
    assert main(["evaluate", "distribution", str(folder), str(tmp_path), "--feature-weights", weights]) == 0
    assert "--size 32 cuts them all" in capsys.readouterr().err
    report = measured(capsys, folder, tmp_path, "--feature-weights", weights, "--size", 32, "--limit", 6)
    assert (report["size"], report["other"]["pictures"]) == (32, 6)


def test_report(pairs, weights, tmp_path, capsys):
    place = tmp_path / "deep" / "report"
    command = ["evaluate", "distribution", f"{pairs}:target", f"{pairs}:rotated", "--feature-weights", weights]
    assert main([*command, "--report", str(place)]) == 0
    told = capsys.readouterr()
    assert re.search(r"^FID +\d", told.out, re.MULTILINE) and "not comparable with published" in told.out
    assert str(place / "report.html") in told.err
    page = (place / "report.html").read_text()
    assert page.count("data:image/jpeg") == 2 * 16 + 2 * 2 * 8
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert re.search(r"^\| FID \| ", (place / "report.md").read_text(), re.MULTILINE)


def test_mistakes_are_one_line(pairs, folder, weights, tmp_path, capsys, monkeypatch):
    torch.save(CoefficientRegressor().state_dict(), tmp_path / "regressor.pth")
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    good = [str(folder), str(pairs), "--feature-weights", weights]
    mistakes = {
        "holds no network for features": [*good[:3], str(tmp_path / "regressor.pth")],
        "no such file": [*good[:3], str(tmp_path / "absent.pth")],
        "no column of pictures `quality`; it has target, rotated": [good[0], f"{pairs}:quality", *good[2:]],
        "neither a folder of pictures": [str(tmp_path / "absent"), *good[1:]],
        "no photo in": [str(tmp_path / "empty"), *good[1:]],
        "at least 2 are needed": [str(tmp_path / "one.png"), *good[1:]],
        "--size 3": [*good, "--size", "3"],
        "--limit 1": [*good, "--limit", "1"],
        "--report": [*good, "--limit", "4", "--report", str(tmp_path / "one.png" / "report")],
    }
    for message, arguments in mistakes.items():
        assert main(["evaluate", "distribution", *arguments, "-q"]) == 2, message
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    assert main(["evaluate", "distribution", *good]) == 2
    assert "pip install 'cfr[metrics]'" in capsys.readouterr().err
