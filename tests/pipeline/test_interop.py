"""Layouts of other tools that `cfr ingest` takes: webdataset tars and img2dataset's folders."""

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
