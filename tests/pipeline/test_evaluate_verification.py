"""`cfr evaluate verification`: pairs lists, folders, embeddings from files and from pictures, the report."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from cfr.model.networks.identity_encoder import IdentityEncoder
from cfr.pipeline.cli import main
from cfr.pipeline.verification_pairs import folder_pairs, listed_pairs

PEOPLE, PHOTOS = 30, 4


@pytest.fixture
def embeddings(tmp_path, monkeypatch):
    """Photos 2 and 3 of a person are turned: raw embeddings hardly know them, frontalised ones do, one result fails."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    person = np.repeat(generator.normal(size=(PEOPLE, 64)), PHOTOS, 0)
    noise = generator.normal(size=person.shape)
    turned = np.tile(np.arange(PHOTOS) >= 2, PEOPLE)
    raw = person + noise * np.where(turned, 3.0, 0.5)[:, None]
    frontalised = person + noise * 0.6
    frontalised[2] = generator.normal(size=64)
    ids = [f"p{n:02d}/{k}.jpg" for n in range(PEOPLE) for k in range(PHOTOS)]
    for name, array in (("raw", raw), ("turned", frontalised), ("yaw", np.where(turned, 70.0, 5.0))):
        np.save(f"{name}.npy", array)
    apply = np.ones(len(ids), bool)
    apply[2] = False
    np.save("apply.npy", apply)
    (tmp_path / "ids.txt").write_text("\n".join(ids) + "\n")
    return ["evaluate", "verification", "--embeddings", "raw=raw.npy", "frontalised=turned.npy", "--ids", "ids.txt"]


def test_folders(embeddings, capsys):
    assert main([*embeddings, "--folders", "--yaw", "yaw.npy", "--apply", "apply.npy", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    groups = report["groups"]
    count = PEOPLE * PHOTOS
    assert (groups["all"]["pairs"], groups["all"]["same_person"]) == (count * (count - 1) // 2, PEOPLE * 6)
    assert groups["frontal-profile"]["same_person"] == PEOPLE * 4
    assert groups["frontal-frontal"]["same_person"] == groups["profile-profile"]["same_person"] == PEOPLE
    for group in ("all", "frontal-profile"):
        raw, frontalised, gated = (groups[group]["ways"][way] for way in ("raw", "frontalised", "gated"))
        assert raw["folds"] == 10
        assert raw["accuracy"] < frontalised["accuracy"]
        assert gated["equal_error_rate"] <= frontalised["equal_error_rate"] < raw["equal_error_rate"]
        assert gated["tar_at_far_0.01"] > raw["tar_at_far_0.01"]
    assert groups["frontal-frontal"]["ways"]["raw"]["accuracy"] > 0.98


def test_small_sets_claim_no_small_rates(embeddings, tmp_path, capsys):
    lines = ["p00/0 p00/1 1", "p01/0 p01/1 1", "p00/0 p01/0 0", "p02/0 p03/1 0", "p02/0 absent 0"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    assert main([*embeddings, "--pairs-list", "list.txt", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["pairs_left_out"] == 1
    assert report["groups"]["all"]["ways"]["raw"]["tar_at_far_0.01"] is None
    assert list(report["groups"]) == ["all"]


def test_report_has_the_curve(embeddings, tmp_path, capsys):
    assert main([*embeddings, "--folders", "--report", "deep/report"]) == 0
    assert "accuracy" in capsys.readouterr().out
    curve = np.asarray(Image.open(tmp_path / "deep/report/roc.png").convert("RGB"))
    assert curve.shape == (640, 640, 3)
    assert len(np.unique(curve.reshape(-1, 3), axis=0)) > 20
    page = (tmp_path / "deep/report/report.html").read_text()
    assert page.count("<polyline") == 2 and "frontalised" in page
    assert "| raw |" in (tmp_path / "deep/report/report.md").read_text()


def test_lists(tmp_path):
    ids = [f"faces/{name}/{name}_{number:04d}.jpg" for name in ("A_B", "C") for number in (1, 2, 3)]
    lfw = tmp_path / "pairs.txt"
    lfw.write_text("2\t1\nA_B\t1\t2\nA_B\t1\tC\t2\nC\t1\t3\nA_B\t3\tC\t3\n")
    pairs = listed_pairs(str(lfw), ids)
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([0, 0, 3, 2], [1, 4, 5, 5])
    assert pairs.same.tolist() == [True, False, True, False]
    assert pairs.folds.tolist() == [0, 0, 1, 1]
    table = tmp_path / "pairs.csv"
    table.write_text("first,second,same,fold\nC_0001.jpg,C_0002,1,7\nfaces/C/C_0001.jpg,A_B/A_B_0001,0,8\n")
    pairs = listed_pairs(str(table), ids)
    assert (pairs.first.tolist(), pairs.second.tolist(), pairs.folds.tolist()) == ([3, 3], [4, 0], [7, 8])


def test_folds_keep_people_together():
    ids = [f"{person}/{photo}" for person in range(20) for photo in range(3)]
    pairs = folder_pairs(ids)
    genuine = {
        (ids[a].split("/")[0], fold) for a, s, fold in zip(pairs.first, pairs.same, pairs.folds, strict=True) if s
    }
    assert len(genuine) == 20 and len({fold for _, fold in genuine}) == 10


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--folders"], "--embeddings"),
        (["nowhere", "--folders", "--identity", "none.pth"], "--identity"),
        (["--embeddings", "raw.npy", "--ids", "ids.txt", "--folders"], "--embeddings"),
        (["--embeddings", "raw=raw.npy", "--folders"], "--ids"),
        (["--embeddings", "raw=yaw.npy", "--ids", "ids.txt", "--folders"], "yaw.npy"),
        (["--embeddings", "raw=ids.txt", "--ids", "ids.txt", "--folders"], "ids.txt"),
        (["--embeddings", "raw=raw.npy", "--ids", "ids.txt", "--apply", "apply.npy", "--folders"], "--apply"),
        (["--embeddings", "raw=raw.npy", "--ids", "ids.txt", "--pairs-list", "none.txt"], "--pairs-list"),
        (["--embeddings", "raw=raw.npy", "--ids", "ids.txt", "--pairs-list", "ids.txt"], "line 1"),
        (["--embeddings", "raw=raw.npy", "--ids", "ids.txt"], "--pairs-list"),
    ],
)
def test_mistakes_are_one_line(embeddings, arguments, told, capsys):
    assert main(["evaluate", "verification", *arguments]) == 2
    message = capsys.readouterr().err
    assert told in message and message.count("\n") == 1


@pytest.fixture
def frontal(tmp_path, photos_dir):
    """Frontal shards of three people, and an encoder with random weights."""
    torch.manual_seed(0)
    torch.save(IdentityEncoder().state_dict(), tmp_path / "encoder.pth")
    with Image.open(photos_dir / "astronaut.png") as photo:
        face = np.asarray(photo.convert("RGB").crop((112, 0, 336, 224)))
    points = [75.0, 90.0, 150, 90, 112, 130, 85, 170, 140, 170]
    rows = []
    for number in range(6):
        picture = io.BytesIO()
        Image.fromarray(np.roll(face, number // 2, axis=2) // (1 + number % 2)).save(picture, "PNG")
        encoded = {"bytes": picture.getvalue(), "path": None}
        rows.append(
            {
                "image_id": f"p{number // 2}/{number}.png",
                "pose_index": 0,
                "yaw": 60.0 * (number % 2),
                "apply": number > 1,
            }
            | {
                "landmarks5": points,
                "frontal_landmarks5": points,
                "source": encoded,
                "frontal": encoded,
            }
        )
    (tmp_path / "out" / "frontal").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "out" / "frontal" / "0.parquet")
    return tmp_path


def test_pictures_are_embedded_and_shown(frontal, capsys):
    arguments = [
        "evaluate",
        "verification",
        str(frontal / "out"),
        "--identity",
        str(frontal / "encoder.pth"),
        "--folders",
    ]
    assert main([*arguments, "--json", "--report", str(frontal / "report")]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert groups["frontal-profile"]["pairs"] == 9
    assert set(groups["all"]["ways"]) == {"raw", "frontalised", "gated"}
    page = (frontal / "report" / "report.html").read_text()
    assert "Helped most" in page and page.count("data:image/jpeg") >= 8
