"""`cfr evaluate` as a user runs it."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from cfr.pipeline.cli import main

# One of the bundled photos and its face, read off the picture (eyes, nose tip, mouth corners; px).
PHOTO = "astronaut.png"


def _square_points(side: float) -> np.ndarray:
    steps = np.linspace(0, side, 17)
    rim = [(x, 0) for x in steps] + [(x, side) for x in steps] + [(0, y) for y in steps] + [(side, y) for y in steps]
    return np.array(rim, np.float64)


def _json(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


def test_prediction_files_follow_the_aflw2000_protocol(tmp_path, capsys):
    """Errors of 2, 3 and 4 % in the bins, with unequal numbers of photos: the figure is 3 and not their mean."""
    yaw = np.array([0, 10, -29, 30, 45, -60, 61, -88])
    errors = np.array([2, 2, 2, 2, 3, 3, 4, 4])
    truth = np.repeat(_square_points(100)[None], 8, axis=0)
    predicted = truth + np.stack([errors, np.zeros(8)], -1)[:, None]
    # 3DDFA publishes (N,3,68).
    stored = np.concatenate([predicted, np.zeros((8, 68, 1))], -1).transpose(0, 2, 1)
    for name, array in (("predicted", stored), ("truth", truth), ("yaw", yaw)):
        np.save(tmp_path / f"{name}.npy", array)
    arguments = [f"--{flag}={tmp_path / name}.npy" for flag, name in (("predictions", "predicted"), ("truth", "truth"))]
    assert main(["evaluate", "landmarks", *arguments, f"--yaw={tmp_path}/yaw.npy", "--json"]) == 0
    report = _json(capsys)
    assert {name: (entry["nme"], entry["n"]) for name, entry in report["nme_by_yaw"].items()} == {
        "0-30": (pytest.approx(2), 4),
        "30-60": (pytest.approx(3), 2),
        "60-90": (pytest.approx(4), 2),
    }
    assert report["mean_of_bins"] == pytest.approx(3)
    assert report["failed"] == []


@pytest.fixture
def labelled(tmp_path, photos_dir):
    """The bundled photo with its own fit's points, shifted by 1 px, as ground truth: NME and yaw are known."""
    from cfr.model.photo_fits import Photo, PhotoFitter
    from cfr.pipeline.labelled_photos import read_photo

    folder = tmp_path / "labelled"
    folder.mkdir()
    shutil.copy(photos_dir / PHOTO, folder / "known.png")
    (fit,) = PhotoFitter().fit([Photo("known", read_photo(folder / "known.png"))])
    np.save(folder / "known.npy", (fit.landmarks68 - 0.5 + [1.0, 0.0]).astype(np.float32))
    (folder / "known.json").write_text(json.dumps({"Pose_Para": [0.0, np.deg2rad(-fit.yaw), 0.0, 0, 0, 0, 1]}))
    return folder, fit


def test_folder_of_labelled_photos(labelled, capsys):
    """Catches a lost half pixel: the truth counts pixel centres at whole numbers, the fit at +0.5."""
    folder, fit = labelled
    size = np.sqrt(np.prod(np.ptp(fit.landmarks68, axis=0)))
    # Without a yaw, with a truth that is no 68 points, without a face, without a truth.
    shutil.copy(folder / "known.png", folder / "unbinned.png")
    shutil.copy(folder / "known.npy", folder / "unbinned.npy")
    shutil.copy(folder / "known.png", folder / "five.png")
    np.save(folder / "five.npy", np.zeros((5, 2)))
    Image.new("RGB", (200, 200), (90, 120, 90)).save(folder / "lawn.png")
    shutil.copy(folder / "known.npy", folder / "lawn.npy")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff and then nothing")
    shutil.copy(folder / "known.npy", folder / "broken.npy")
    shutil.copy(folder / "known.png", folder / "untold.png")
    assert main(["evaluate", "landmarks", str(folder), "--json"]) == 0
    report = _json(capsys)
    near = report["nme_by_yaw"]["0-30"]
    assert (near["n"], near["nme"]) == (1, pytest.approx(100 / size, rel=0.02))
    assert report["unbinned"]["n"] == 1 and report["mean_of_bins"] is None
    assert {entry["photo"] for entry in report["failed"]} == {"lawn.png", "broken.jpg"}
    assert [entry["photo"] for entry in report["skipped"]] == ["five.png"]
    assert report["quality"]["n"] == 2


def test_the_face_that_is_meant_is_the_one_at_the_truth(labelled, capsys):
    """A larger face beside the labelled one must not be scored."""
    folder, _ = labelled
    small = Image.open(folder / "known.png")
    large = small.resize((2 * small.width, 2 * small.height))
    both = Image.new("RGB", (large.width + small.width, large.height))
    both.paste(large, (0, 0))
    both.paste(small, (large.width, 0))
    both.save(folder / "known.png")
    points = np.load(folder / "known.npy")
    np.save(folder / "known.npy", points + np.float32([large.width, 0]))
    assert main(["evaluate", "landmarks", str(folder), "--json"]) == 0
    assert _json(capsys)["nme_by_yaw"]["0-30"]["nme"] < 5


def test_composited_occluders_and_quality(labelled, cut_outs, capsys):
    folder, _ = labelled
    arguments = ["evaluate", "landmarks", str(folder), "--occluders", str(cut_outs), "--copies", "3", "--json"]
    assert main(arguments) == 0
    report = _json(capsys)
    occluded = report["occluded"]
    assert occluded["nme_by_yaw"]["0-30"]["n"] + len(occluded["failed"]) == 3
    assert report["nme_by_yaw"]["0-30"]["n"] == 1
    assert report["quality"]["n"] + len(occluded["failed"]) == 4


@pytest.fixture
def cut_outs(tmp_path):
    """Two opaque plates, a mask and a hand."""
    folder = tmp_path / "cutouts"
    folder.mkdir()
    for name, colour in (("mask_green", (30, 160, 60)), ("hand_blue", (40, 60, 200))):
        rgba = np.zeros((90, 120, 4), np.uint8)
        rgba[6:-6, 6:-6] = (*colour, 255)
        Image.fromarray(rgba).save(folder / f"{name}.png")
    return folder


def test_occlusion_of_composites_repeats(photos_dir, cut_outs, capsys):
    arguments = ["evaluate", "occlusion", "--photos", str(photos_dir / PHOTO), "--occluders", str(cut_outs), "--json"]
    assert main(arguments) == 0
    first = _json(capsys)
    assert first["composites"]["n"] + len(first["failed"]) == 2
    by_kind = first["composites"]["by_kind"]
    # A plain green mask over the mouth: whatever the state of the fit, most of it must be found.
    assert by_kind["mask"]["recall"] > 0.7 and by_kind["mask"]["iou"] > 0.5
    assert 0.1 < by_kind["mask"]["cover"] < 0.6
    psnr = by_kind["mask"]["guidance"]["covered"]["psnr"]
    assert set(psnr) == {"guidance", "mean_colour", "mirrored", "uncovered"}
    assert all(5 < value < 40 for value in psnr.values()) and psnr["uncovered"] > psnr["mean_colour"]
    assert first["untouched_photos"]["n"] == 1
    assert main(arguments) == 0
    assert _json(capsys) == first


def test_occlusion_of_pairs_and_drawn_masks(tmp_path, photos_dir, capsys):
    from cfr.pipeline.labelled_photos import read_photo

    folder = tmp_path / "real"
    folder.mkdir()
    photo = read_photo(photos_dir / PHOTO)
    # The face of this photo lies around (225, 115) px.
    mask = np.zeros(photo.shape[:2], np.uint8)
    mask[120:180, 190:265] = 255
    drawn = photo.copy()
    drawn[mask > 0] = (60, 180, 220)
    Image.fromarray(photo).save(folder / "a_clean.png")
    Image.fromarray(drawn).save(folder / "a_masked.png")
    Image.fromarray(drawn).save(folder / "b.png")
    Image.fromarray(mask).save(folder / "b_handmask.png")
    assert main(["evaluate", "occlusion", "--photos", str(folder), "--json"]) == 0
    report = _json(capsys)
    assert report["composites"]["n"] == 0
    kinds = report["real"]["by_kind"]
    assert {name: entry["n"] for name, entry in kinds.items()} == {"drawn-on pair": 1, "real hand": 1}
    # The same picture with the same truth, once found from the difference and once given; the reference face differs.
    assert kinds["drawn-on pair"]["recall"] > 0.7 and kinds["real hand"]["recall"] > 0.7
    assert kinds["drawn-on pair"]["cover"] == pytest.approx(kinds["real hand"]["cover"], abs=0.1)
    assert kinds["drawn-on pair"]["guidance"]["covered"]["n"] == 1
    assert kinds["real hand"]["guidance"]["covered"]["n"] == 0


def test_pose_of_frontal_and_profile_photos(tmp_path, photos_dir, capsys):
    person = tmp_path / "pairs" / "somebody"
    person.mkdir(parents=True)
    shutil.copy(photos_dir / PHOTO, person / "frontal_01.png")
    # The same photo called a profile: its error is what is missing to 90 degrees.
    shutil.copy(photos_dir / PHOTO, person / "profile_01.png")
    assert main(["evaluate", "pose", str(tmp_path / "pairs"), "--json"]) == 0
    report = _json(capsys)
    frontal, profile = (report[view]["median_error"] for view in ("frontal", "profile"))
    assert frontal < 25 and frontal + profile == pytest.approx(90, abs=0.1)
    assert report["frontal"]["worst"][0]["photo"] == "somebody/frontal_01.png"


def test_tables_are_printed_without_json(labelled, capsys):
    folder, _ = labelled
    assert main(["evaluate", "landmarks", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "0-30" in printed and "unbinned" in printed and "known.png" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which measurement"),
        (["landmarks"], "folder"),
        (["landmarks", "--predictions=a.npy"], "together"),
        (["landmarks", "/nowhere"], "/nowhere: no such file or folder"),
        (["occlusion", "--photos", "{photos}"], "nothing to measure"),
        (["occlusion", "--photos", "{photos}", "--occluders", "{photos}/none"], "no usable RGBA cut-out"),
        (["pose", "{photos}"], "no photo named frontal_*"),
        (["landmarks", "{photos}"], "no photo with 68 points"),
        (["landmarks", "{photos}", "--surprise"], "--surprise"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, message, photos_dir, capsys):
    code = main(["evaluate", *(argument.format(photos=photos_dir) for argument in arguments)])
    captured = capsys.readouterr()
    assert code == 2 and message in captured.err
    assert captured.err.count("\n") == 1 and not captured.out
