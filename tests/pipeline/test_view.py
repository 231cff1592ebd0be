"""`cfr view`: choosing rows, the contact sheet and the gallery."""

import io
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from cfr.model.face_model import MorphableModel
from cfr.pipeline import contact_sheet as layout
from cfr.pipeline.cli import main
from cfr.pipeline.pair_rows import find_shards, read_rows, select_rows

PICTURES = ("target", "rotated", "guidance", "occlusion_mask", "occluder_mask", "face_mask")


def png(array: np.ndarray) -> dict:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", compress_level=1)
    return {"bytes": buffer.getvalue(), "path": None}


def neutral_coefficients(yaw: float) -> list[float]:
    sizes = MorphableModel.load_default().sizes
    light = torch.zeros(9, 3)
    light[0] = 0.9
    parts = [torch.zeros(sum(sizes)), light.flatten(), torch.tensor([yaw, 0.0, 0.0]), torch.zeros(3)]
    return torch.cat(parts).tolist()


def pair_row(number: int, photo: np.ndarray, image_id: str | None = None) -> dict:
    """A row as `cfr pairs` writes it, with masks that can be told apart."""
    ys, xs = np.mgrid[:224, :224]
    face = (((xs - 112) / 72) ** 2 + ((ys - 116) / 92) ** 2 < 1).astype(np.uint8) * 255
    occluder = np.where((ys > 150) & (face > 0), 255, 0).astype(np.uint8)
    yaw = float(number * 10 - 40)
    return {
        "pair_id": f"{number}.jpg#0.0",
        "image_id": image_id or f"folder/{number}.jpg",
        "face_index": 0,
        "view_index": 0,
        "target": png(photo),
        "rotated": png(photo * (face[..., None] > 0)),
        "guidance": png(np.full_like(photo, (200, 150, 130)) * (face[..., None] > 0)),
        "occlusion_mask": png(np.where((xs < 112) & (face > 0), 255, 0).astype(np.uint8)),
        "occluder_mask": png(occluder),
        "face_mask": png(face),
        "yaw": yaw,
        "pitch": 1.0,
        "roll": -0.2,
        "view_yaw": -yaw,
        "view_pitch": 0.0,
        "view_roll": 5.0,
        "coefficients": neutral_coefficients(yaw),
        "fit_error": float("nan") if number == 3 else 0.02 + 0.001 * ((number * 7) % 10),
        "occluded_fraction": 0.25,
        "visible_fraction": 0.5,
        "sharpness": 0.7,
        "quality": 0.6,
    }


def write_shard(path, rows: list[dict], schema: pa.Schema | None = None) -> pa.Schema:
    table = pa.Table.from_pylist(rows, schema=schema)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=4)
    return table.schema


@pytest.fixture(scope="module")
def photo(photos_dir) -> np.ndarray:
    with Image.open(photos_dir / "astronaut.png") as picture:
        return np.array(picture.convert("RGB").crop((112, 0, 336, 224)))


@pytest.fixture
def output(tmp_path, photo):
    """An output of two shards with rows, one without, and failures."""
    out = tmp_path / "out püt"
    schema = write_shard(out / "pairs" / "a-00000000-0-5.parquet", [pair_row(n, photo) for n in range(5)])
    write_shard(out / "pairs" / "a-00000000-5-4.parquet", [pair_row(n, photo) for n in range(5, 9)], schema)
    write_shard(out / "pairs" / "b-11111111-0-4.parquet", [], schema)
    reasons = ["no_face", "no_face", "decode_error"]
    failures = [
        {"image_id": f"bad</script>{n}.jpg", "face_index": -1, "stage": "align", "reason": reason, "message": "Why."}
        for n, reason in enumerate(reasons)
    ]
    write_shard(out / "failures" / "b-11111111-0-4.parquet", failures)
    return out


def ids(references) -> list[int]:
    return [int(re.search(r"\d+", row.values["image_id"]).group()) for row in read_rows(references, ["image_id"])]


def load(path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def tile(sheet: Image.Image, column: int, line: int = 0) -> np.ndarray:
    """A picture of the sheet; its place follows from the sheet's constants."""
    left = layout.MARGIN + layout.PANEL + column * (layout.TILE + layout.GAP)
    top = layout.HEADER + line * layout.ROW_STEP + 5
    return np.asarray(sheet.crop((left, top, left + layout.TILE, top + layout.TILE)))


def test_rows_come_in_the_order_of_the_shards_and_stop_at_the_limit(output):
    shards = find_shards(str(output))
    assert len(shards.rows) == 3
    assert ids(select_rows(shards.rows, 7)) == [0, 1, 2, 3, 4, 5, 6]
    assert ids(select_rows(shards.rows, 99)) == list(range(9))


def test_sorting_spans_shards_and_puts_missing_values_last(output):
    pairs = find_shards(str(output)).rows
    errors = {n: 0.02 + 0.001 * ((n * 7) % 10) for n in range(9) if n != 3}
    ascending = sorted(errors, key=errors.get)
    assert ids(select_rows(pairs, 99, sort="fit_error")) == [*ascending, 3]
    assert ids(select_rows(pairs, 99, sort="-fit_error")) == [*ascending[::-1], 3]
    assert ids(select_rows(pairs, 2, sort="-fit_error")) == ascending[::-1][:2]
    assert ids(select_rows(pairs, 2, where="abs(yaw) <= 10", sort="-yaw")) == [5, 4]


@pytest.mark.parametrize("source", ["", "pairs", "pairs/a-00000000-0-5.parquet"])
def test_an_output_its_pairs_folder_or_a_shard_can_be_shown(output, source):
    shards = find_shards(str(output / source))
    assert ids(select_rows(shards.rows, 2)) == [0, 1]
    assert len(shards.failures) == (0 if source.endswith("parquet") else 1)


def test_a_glob_of_shards_can_be_shown(output):
    (output.parent / "plain").symlink_to(output)
    shards = find_shards(str(output.parent / "plain" / "pairs" / "a-*-5-*.parquet"))
    assert ids(select_rows(shards.rows, 99)) == [5, 6, 7, 8]


def test_the_sheet_shows_the_stored_and_the_repeated_pictures(output, photo, tmp_path, capsys):
    path = tmp_path / "sheet.png"
    assert main(["view", str(output), "--output", str(path), "--where", "yaw = 0"]) == 0
    assert str(path) in capsys.readouterr().out
    sheet = load(path)
    shown = np.asarray(Image.fromarray(photo).resize((192, 192), Image.Resampling.LANCZOS))
    assert np.array_equal(tile(sheet, 0), shown)
    mesh, clean, occluder, once = (tile(sheet, column).astype(int) for column in range(1, 5))
    assert np.abs(mesh - shown)[60:130, 60:130].mean() > 10, "no mesh on the face"
    assert np.abs(mesh - shown)[:, :10].mean() < 2, "the mesh covers the background"
    assert clean[96, 96].min() > 60
    assert clean[2, 2].max() < 3
    assert (occluder[160, 96].min(), occluder[2, 2].max()) == (255, 0), "occluder mask"
    assert 40 < occluder[60, 96].max() < 110, "the mesh below the mask is grey"
    assert once[96, 96].max() > 20, "nothing was rotated"
    # Behind the mask the de-occluded photo has the guidance, which is smooth.
    assert tile(sheet, 7)[96, 60].min() == 255


def test_more_rows_than_a_sheet_holds_continue_on_the_next(output, tmp_path, monkeypatch):
    monkeypatch.setattr("cfr.pipeline.view.PAGE_ROWS", 4)
    path = tmp_path / "deep" / "sheet.png"
    assert main(["view", str(output), "--output", str(path), "--rows", "9"]) == 0
    sheets = sorted(entry.name for entry in path.parent.iterdir())
    assert sheets == ["sheet-2.png", "sheet-3.png", "sheet.png"]
    assert load(path).height > load(path.with_name("sheet-3.png")).height


def test_pictures_that_were_not_stored_leave_hollow_tiles(tmp_path, photo):
    row = {name: value for name, value in pair_row(1, photo).items() if name not in (*PICTURES[1:], "coefficients")}
    write_shard(tmp_path / "few.parquet", [row])
    assert main(["view", str(tmp_path / "few.parquet"), "--output", str(tmp_path / "s.png")]) == 0
    sheet = load(tmp_path / "s.png")
    assert tile(sheet, 0).std() > 20
    assert all(tile(sheet, column)[5, 5].tolist() == [240, 242, 245] for column in range(1, 8))


@pytest.mark.parametrize("known_by", ["length", "digest"])
def test_coefficients_of_another_face_model_are_not_drawn(tmp_path, photo, known_by):
    row = pair_row(1, photo) | ({"coefficients": [0.0] * 11} if known_by == "length" else {})
    schema = pa.Table.from_pylist([row]).schema
    if known_by == "digest":
        schema = schema.with_metadata({"models": json.dumps([{"part": "face_model", "digest": "abc"}])})
    write_shard(tmp_path / "other.parquet", [row], schema)
    assert main(["view", str(tmp_path / "other.parquet"), "--output", str(tmp_path / "s.png")]) == 0
    assert tile(load(tmp_path / "s.png"), 1)[5, 5].tolist() == [240, 242, 245]


def page_data(page) -> dict:
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text("utf-8"), re.S)
    return json.loads(text.group(1))


@pytest.mark.parametrize(("place", "page"), [("gallery", "gallery/index.html"), ("päge 1.html", "päge 1.html")])
def test_the_gallery_holds_rows_pictures_and_failures(output, tmp_path, place, page):
    assert main(["view", str(output), "--html", str(tmp_path / place), "--rows", "99", "--sort", "-fit_error"]) == 0
    data = page_data(tmp_path / page)
    assert (data["count"], data["runs"]) == (9, [str(output)])
    assert data["values"][0]["fit_error"][-1] is None  # NaN is no JSON
    assert (data["sort"], data["descending"]) == ("fit_error", True)
    assert data["failures"]["reasons"] == [["no_face", 2], ["decode_error", 1]]
    assert data["failures"]["rows"][0][0] == "bad</script>0.jpg"
    assert data["shown"] == [[0b11111111] * 9]
    for row in range(9):
        for picture in data["pictures"]:
            file = f"{data['folder']}/{row:06d}-{picture['name']}.{picture['suffix']}"
            assert load((tmp_path / page).parent / unquote(file)).size == (224, 224)
    assert not re.search(r"https?://", (tmp_path / page).read_text("utf-8")), "the page must open without a network"


def test_a_gallery_is_replaced_without_stale_pictures_or_touching_other_files(output, tmp_path):
    place = tmp_path / "gallery"
    main(["view", str(output), "--html", str(place), "--rows", "9"])
    (place / "pictures" / "mine.txt").write_text("keep")
    main(["view", str(output), "--html", str(place), "--rows", "2"])
    names = [path.name for path in (place / "pictures").iterdir()]
    assert len(names) == 2 * 8 + 1
    assert "mine.txt" in names


def test_a_gallery_of_failures_alone_is_written(output, tmp_path):
    for path in (output / "pairs").glob("a-*"):
        path.unlink()
    assert main(["view", str(output), "--html", str(tmp_path / "gallery")]) == 0
    data = page_data(tmp_path / "gallery" / "index.html")
    assert (data["count"], data["failures"]["total"]) == (0, 3)


@pytest.fixture
def second_output(tmp_path, photo):
    """Another run: the views of photos 2 to 9, in another order and shard, whose quality is another one."""
    rows = [pair_row(n, photo) | {"quality": 0.1 * n} for n in (9, 5, 8, 2, 3, 4, 6, 7)]
    write_shard(tmp_path / "second" / "pairs" / "c.parquet", rows)
    return tmp_path / "second"


def test_two_runs_are_shown_side_by_side(output, second_output, tmp_path, capsys):
    place = tmp_path / "gallery"
    sheet = tmp_path / "sheet.png"
    command = ["view", str(output), "--compare", str(second_output), "--rows", "3", "--where", "yaw < 0"]
    assert main([*command, "--html", str(place), "--output", str(sheet)]) == 0
    assert f"1 of them in {second_output}, which has 8" in capsys.readouterr().out
    data = page_data(place / "index.html")
    assert data["runs"] == [str(output), str(second_output)]
    assert data["values"][0]["image_id"] == [f"folder/{n}.jpg" for n in range(3)]
    assert data["values"][1]["image_id"] == [None, None, "folder/2.jpg"]
    assert data["values"][1]["quality"][2] == pytest.approx(0.2)
    assert data["shown"] == [[255] * 3, [0, 0, 255]]
    assert (place / "pictures" / "000002-other_rotated.jpg").exists()
    assert not (place / "pictures" / "000001-other_rotated.jpg").exists()
    assert (load(sheet).height - layout.HEADER) // layout.ROW_STEP == 4


def test_runs_of_different_commands_are_not_compared(output, tmp_path, capsys):
    pq.write_table(pa.table({"image_id": ["a"], "face_index": [0], "pose_index": [0]}), tmp_path / "frontal.parquet")
    assert main(["view", str(output), "--compare", str(tmp_path / "frontal.parquet"), "--html", str(tmp_path)]) == 2
    assert "compare outputs of the same command" in capsys.readouterr().err
    assert main(["view", str(output), "--compare", str(tmp_path / "absent"), "--html", str(tmp_path)]) == 2
    assert "--compare: no shards at" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--where", "yaww > 3"], "did you mean `yaw`"),
        (["--where", "yaw > 1000"], "no row to draw"),
        (["--sort", "target"], "no such column `target`; known columns: pair_id"),
        (["--rows", "0"], "--rows must be at least 1"),
        (["--output", "sheet.txt"], "end its name with one of .png"),
        (["--output", "file.png/sheet.png"], "cannot write"),
        (["--wat"], "unknown argument '--wat'"),
    ],
)
def test_wrong_arguments_are_one_clear_line(output, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.png").write_text("a file")
    assert main(["view", str(output), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[0]
    assert "Traceback" not in error


@pytest.mark.parametrize("content", [None, b"no parquet", "ids only"])
def test_what_is_no_pair_shard_is_said_so(tmp_path, capsys, content):
    path = tmp_path / "x.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        pq.write_table(pa.table({"image_id": ["a"]}), path)
    assert main(["view", str(path)]) == 2
    error = capsys.readouterr().err
    known = ("no shards at", "not a readable Parquet file", "holds no pairs, frontal or occluded faces")
    assert any(text in error for text in known)


@pytest.fixture(scope="module")
def occluded(tmp_path_factory, photos_dir) -> Path:
    """An output of `cfr occlude`: two covered copies of a real face."""
    folder = tmp_path_factory.mktemp("occlude")
    (folder / "in").mkdir()
    shutil.copy(photos_dir / "astronaut.png", folder / "in")
    assert main(["ingest", str(folder / "in"), "--output", str(folder / "shards")]) == 0
    job = ["occlude", "--input", str(folder / "shards"), "--output", str(folder / "occluded"), "--copies", "2"]
    assert main(job) == 0
    return folder / "occluded"


def test_the_sheet_of_occluded_faces_shows_them_uncovered_their_occluder_and_their_landmarks(occluded, tmp_path):
    assert main(["view", str(occluded), "--output", str(tmp_path / "sheet.png")]) == 0
    table = pq.read_table(next((occluded / "occluded").glob("*.parquet")))
    sheet = load(tmp_path / "sheet.png")
    assert sheet.height == layout.HEADER + 2 * layout.ROW_STEP + layout.MARGIN // 2
    for line, row in enumerate(table.to_pylist()):
        shown = [tile(sheet, column, line).astype(int) for column in range(4)]
        for column, name in enumerate(("occluded", "original")):
            stored = load(io.BytesIO(row[name]["bytes"])).resize((layout.TILE,) * 2, Image.Resampling.LANCZOS)
            assert np.abs(shown[column] - np.asarray(stored)).max() <= 1
        mask = Image.open(io.BytesIO(row["occluder_mask"]["bytes"])).resize(
            (layout.TILE,) * 2, Image.Resampling.NEAREST
        )
        covered = np.asarray(mask) > 127
        # White on the occluder, but for its outline, which the enlargement blurs; elsewhere grey or black.
        assert (shown[2].min(-1) > 200)[covered].mean() > 0.9
        assert (shown[2].max(-1) < 200)[~covered].mean() > 0.95
        marked = np.abs(shown[3] - shown[1]).max(-1) > 60
        for x, y in np.reshape(row["landmarks68"], (68, 2)) * layout.TILE / 224:
            assert marked[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3].any()
        green, red = (shown[3][..., colour] - shown[3][..., 1 - colour] > 120 for colour in (1, 0))
        assert (green & marked)[~covered].sum() > 100
        assert not (green & marked)[covered].sum() > 20
        assert (red & marked).any() == any(
            np.asarray(Image.open(io.BytesIO(row["occluder_mask"]["bytes"])))[int(y), int(x)] > 127
            for x, y in np.reshape(row["landmarks68"], (68, 2))
        )


def test_the_gallery_of_occluded_faces_can_be_filtered(occluded, tmp_path):
    command = ["view", str(occluded), "--html", str(tmp_path / "gallery"), "--where", "copy_index = 1"]
    assert main(command) == 0
    page = (tmp_path / "gallery" / "index.html").read_text()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["values"][0]["copy_index"] == [1]
    assert data["index"] == "copy"
    assert [each["name"] for each in data["pictures"]] == ["occluded", "original", "occluder_mask", "landmarks"]
    assert data["shown"] == [[0b1111]]
    assert len(list((tmp_path / "gallery" / "pictures").iterdir())) == 4
