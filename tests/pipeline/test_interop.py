"""Other tools: webdataset tars and img2dataset's folders as input, outputs in Hugging Face `datasets`."""

import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cfr.pipeline.cli import main


@pytest.fixture
def jpeg(photos_dir) -> bytes:
    return (photos_dir / "grace_hopper.jpg").read_bytes()


def ingested(folder) -> dict[str, bytes]:
    rows = pq.read_table(folder).to_pylist()
    return {row["image_id"]: row["image"]["bytes"] for row in rows}


def test_webdataset_tars(tmp_path, jpeg, capsys):
    """A sample is the members with one stem; only its picture is a photo."""
    for shard in range(2):
        with tarfile.open(tmp_path / f"faces-{shard:06d}.tar", "w") as archive:
            for number in range(3):
                members = {
                    "jpg": jpeg,
                    "json": json.dumps({"caption": "a face"}).encode(),
                    "cls": b"7",
                    "txt": b"a face",
                }
                for suffix, data in members.items():
                    member = tarfile.TarInfo(f"{shard}{number:05d}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    tars = [str(path) for path in sorted(tmp_path.glob("*.tar"))]
    assert main(["ingest", *tars, "--output", str(tmp_path / "shards"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["photos"] == 6 and len(summary["skipped"]) == 18
    rows = ingested(tmp_path / "shards")
    assert list(rows)[:2] == ["faces-000000.tar/000000.jpg", "faces-000000.tar/000001.jpg"]
    assert set(rows.values()) == {jpeg}


def test_img2dataset_folders(tmp_path, jpeg, capsys):
    """`--output_format files`: numbered folders of pictures with their JSON and text, a table and statistics beside."""
    root = tmp_path / "downloaded"
    for shard in range(2):
        folder = root / f"{shard:05d}"
        folder.mkdir(parents=True)
        for number in range(2):
            stem = folder / f"{shard:05d}{number:04d}"
            stem.with_suffix(".jpg").write_bytes(jpeg)
            stem.with_suffix(".json").write_text(json.dumps({"key": stem.name, "status": "success"}))
            stem.with_suffix(".txt").write_text("a face")
        pq.write_table(pa.table({"key": ["a"], "status": ["success"]}), root / f"{shard:05d}.parquet")
        (root / f"{shard:05d}_stats.json").write_text("{}")
    assert main(["ingest", str(root), "--output", str(tmp_path / "shards"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["photos"] == 4
    assert next(iter(ingested(tmp_path / "shards"))) == "00000/000000000.jpg"


def test_img2dataset_parquet_is_an_input_as_it_is(tmp_path, jpeg, capsys):
    """`--output_format parquet`: key and jpg among other columns; a row whose download failed has no picture."""
    columns = {
        "key": ["000000000", "000000001"],
        "jpg": [jpeg, None],
        "caption": ["a face", None],
        "width": [512, None],
    }
    pq.write_table(pa.table(columns), tmp_path / "00000.parquet")
    output = tmp_path / "pairs"
    assert (
        main(
            ["pairs", "--input", str(tmp_path / "00000.parquet"), "--output", str(output), "--keep-columns", "caption"]
        )
        == 0
    )
    rows = pq.read_table(output / "pairs").to_pylist()
    assert [(row["image_id"], row["caption"]) for row in rows] == [("000000000", "a face")]
    failures = pq.read_table(output / "failures").to_pylist()
    assert [(row["image_id"], row["reason"]) for row in failures] == [("000000001", "empty_image")]


def test_datasets_shows_the_pictures(tmp_path, photos_dir, monkeypatch):
    """`load_dataset("parquet")` gives pictures, not bytes, from image shards and from pairs."""
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    datasets.disable_progress_bars()
    assert main(["ingest", str(photos_dir / "astronaut.png"), "--output", str(tmp_path / "shards")]) == 0
    files = str(tmp_path / "shards" / "*.parquet")
    assert main(["pairs", "--input", files, "--output", str(tmp_path / "pairs")]) == 0

    def loaded(pattern: str) -> datasets.Dataset:
        return datasets.load_dataset("parquet", data_files=pattern, split="train", cache_dir=str(tmp_path / "cache"))

    photos = loaded(files)
    assert photos[0]["image"].size == (512, 512)
    pairs = loaded(str(tmp_path / "pairs" / "pairs" / "*.parquet"))
    pictures = ("target", "rotated", "guidance", "occlusion_mask", "occluder_mask", "face_mask")
    for name in pictures:
        assert isinstance(pairs.features[name], datasets.Image)
        assert pairs[0][name].size == (224, 224)
        assert pairs[0][name].mode == ("L" if name.endswith("mask") else "RGB")
    assert pairs[0]["image_id"] == "astronaut.png" and abs(pairs[0]["yaw"]) < 15
