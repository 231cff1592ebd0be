"""`cfr ingest`, through the command line: which photos it finds, what they are called, what the shards hold."""

import json
import os
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_photos import error_of, fill, ids, photo, rows, run, tar_of

from cfr.model.images import decode_image
from cfr.pipeline import ingest


def test_folder_recursively_ordered_by_path(tmp_path):
    source = fill(
        tmp_path / "photos", {"b/2.jpg": photo(2), "b/1.PNG": photo(1), "a.jpeg": photo(0), "b/c/d/3.webp": photo(3)}
    )
    assert run(source, "--output", tmp_path / "out") == 0
    assert rows(tmp_path / "out") == [
        ("a.jpeg", photo(0)),
        ("b/1.PNG", photo(1)),
        ("b/2.jpg", photo(2)),
        ("b/c/d/3.webp", photo(3)),
    ]


def test_stored_as_they_are_even_if_they_do_not_decode(tmp_path):
    files = {"empty.jpg": b"", "html.png": b"<html>", "cut.jpg": photo()[:20], "no_suffix": photo(5), "x.dat": photo(6)}
    source = fill(tmp_path / "photos", files)
    assert run(source, "--output", tmp_path / "out") == 0
    assert dict(rows(tmp_path / "out")) == files


def test_what_is_no_image_is_counted_and_listed(tmp_path, capsys):
    source = fill(tmp_path / "photos", {"a.jpg": photo(), "notes.txt": b"hello", ".keep": b"", "inner.zip": b"PK"})
    fill(source, {"._a.jpg": b"\0\5\x16\7macOS companion"})
    os.mkfifo(source / "pipe.jpg")
    (source / "broken.jpg").symlink_to("nowhere")
    assert run(source, "--output", tmp_path / "out", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["photos"] == 1
    reasons = {Path(skip["path"]).name: skip["reason"] for skip in summary["skipped"]}
    assert reasons == {
        "notes.txt": "not an image",
        ".keep": "not an image",
        "._a.jpg": "not an image",
        "inner.zip": "archive inside a folder: name it as a source to open it",
        "pipe.jpg": "unreadable: not a regular file",
        "broken.jpg": "unreadable: No such file or directory",
    }
    listed = [json.loads(line) for line in (tmp_path / "out" / ingest.SKIPPED_FILE).read_text().splitlines()]
    assert listed == summary["skipped"]


AWKWARD = [
    "with space.jpg",
    'it\'s "quoted" & <odd>.jpg',
    "ünïcødé 顔 🙂.jpg",
    "[brackets] *star* ?.jpg",
    "new\nline.jpg",
    "%20#;$(rm -rf).jpg",
    "-30.jpg",
    "back\\slash.jpg",
    "UPPER.JPG",
    ".hidden.jpg",
]


def test_awkward_names_in_folders_and_archives(tmp_path):
    files = {name: photo(number) for number, name in enumerate(AWKWARD)}
    source = fill(tmp_path / "a folder [1] 'x' é", files)
    with zipfile.ZipFile(tmp_path / "z (1).zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    with tarfile.open(tmp_path / "t.tar.gz", "w:gz") as archive:
        archive.add(source, arcname=".")
    for number, path in enumerate([source, tmp_path / "z (1).zip", tmp_path / "t.tar.gz"]):
        output = tmp_path / f"out [{number}] *"
        assert run(path, "--output", output) == 0
        assert dict(rows(output)) == files
        assert ids(output) == sorted(files)
        assert run(path, "--output", output, "--overwrite", "--rows-per-shard", 3) == 0
        assert dict(rows(output)) == files


def test_names_that_are_not_utf8(tmp_path):
    source = tmp_path / "photos"
    source.mkdir()
    for number, name in enumerate([b"caf\xe9.jpg", b"caf\xe8.jpg"]):
        (Path(os.fsdecode(os.fsencode(source) + b"/" + name))).write_bytes(photo(number))
    assert run(source, "--output", tmp_path / "out") == 0
    assert rows(tmp_path / "out") == [("caf\\xe8.jpg", photo(1)), ("caf\\xe9.jpg", photo(0))]


def test_globs_files_and_what_a_shell_expands(tmp_path, monkeypatch):
    work = tmp_path / "work"
    names = ["1.jpg", "2.png", "sub/3.jpg", "sub/deep/4.jpg"]
    fill(work / "photos", {name: photo(number) for number, name in enumerate(names)})
    monkeypatch.chdir(work)
    expected = {
        f"{work}/photos/*.jpg": ["1.jpg"],
        "photos/**/*.jpg": ["1.jpg", "sub/3.jpg", "sub/deep/4.jpg"],
        "photos/**": names,
        "photos/s*": ["sub/3.jpg", "sub/deep/4.jpg"],
        "photos/sub/3.jpg": ["3.jpg"],
        "photos/sub/": ["3.jpg", "deep/4.jpg"],
        ".": [f"photos/{name}" for name in names],
    }
    for number, (pattern, found) in enumerate(expected.items()):
        assert run(pattern, "--output", tmp_path / f"out{number}") == 0
        assert ids(tmp_path / f"out{number}") == found, pattern
    # Two files of one folder have one root: no prefix.
    assert run("photos/1.jpg", "photos/2.png", "--output", tmp_path / "files") == 0
    assert ids(tmp_path / "files") == ["1.jpg", "2.png"]


def test_several_roots_are_prefixes(tmp_path):
    fill(tmp_path / "one", {"x.jpg": photo(1)})
    fill(tmp_path / "two", {"x.jpg": photo(2)})
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        archive.writestr("x.jpg", photo(3))
    sources = [tmp_path / "one", tmp_path / "two" / "x.jpg", tmp_path / "faces.zip"]
    assert run(*sources, "--output", tmp_path / "out") == 0
    assert rows(tmp_path / "out") == [("faces.zip/x.jpg", photo(3)), ("one/x.jpg", photo(1)), ("two/x.jpg", photo(2))]


def test_the_same_photo_named_twice_is_one_row(tmp_path):
    source = fill(tmp_path / "photos", {"x.jpg": photo(1), "y.jpg": photo(2)})
    assert run(source, source / "x.jpg", f"{source}/*.jpg", "--output", tmp_path / "out") == 0
    assert ids(tmp_path / "out") == ["x.jpg", "y.jpg"]


def test_colliding_ids_are_an_error(tmp_path, capsys):
    fill(tmp_path / "one" / "photos", {"x.jpg": photo(1)})
    fill(tmp_path / "two" / "photos", {"x.jpg": photo(2)})
    line = error_of(capsys, tmp_path / "one" / "photos", tmp_path / "two" / "photos", "--output", tmp_path / "out")
    assert "photos/x.jpg" in line
    assert not (tmp_path / "out").exists()


def test_links_to_folders_are_followed_once(tmp_path):
    source = fill(tmp_path / "photos", {"a/x.jpg": photo(1)})
    fill(tmp_path / "elsewhere", {"y.jpg": photo(2)})
    (source / "linked").symlink_to(tmp_path / "elsewhere")
    (source / "a" / "loop").symlink_to(source)
    assert run(source, "--output", tmp_path / "out") == 0
    assert ids(tmp_path / "out") == ["a/x.jpg", "linked/y.jpg"]


def test_globs_in_a_folder_with_brackets(tmp_path):
    source = fill(tmp_path / "holiday [2019]", {"1.jpg": photo(1), "sub/2.png": photo(2)})
    assert run(f"{source}/*/*.png", source / "1.jpg", "--output", tmp_path / "out") == 0
    assert ids(tmp_path / "out") == ["1.jpg", "sub/2.png"]


# Object stores


class BucketFileSystem(LocalFileSystem):
    """An object store in a local folder: bucket://path is a file of `folder`; there is no rename."""

    folder = ""

    @classmethod
    def scheme(cls):
        return "bucket"

    def _local(self, path):
        return f"{self.folder}/{path.removeprefix('bucket://')}"

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix):
        for path in Path(self.folder).rglob("*"):
            name = f"bucket://{path.relative_to(self.folder)}"
            if path.is_file() and name.startswith(dir_or_prefix):
                yield FileMetadata(name, path.stat().st_size)

    def join(self, basepath, *paths):
        return "/".join([basepath, *paths])

    def split(self, path):
        return tuple(path.rsplit("/", 1))

    def exists(self, path):
        return os.path.isfile(self._local(path))

    def metadata(self, path):
        return FileMetadata(path, os.path.getsize(self._local(path)))

    def open(self, path, *arguments, **options):
        return super().open(self._local(path), *arguments, **options)

    def create(self, path, *arguments, **options):
        return super().create(self._local(path), *arguments, **options)

    def rename(self, *_):
        raise NotImplementedError

    def delete(self, paths):
        for path in paths:
            os.remove(self._local(path))


def test_from_and_to_an_object_store(tmp_path, monkeypatch):
    monkeypatch.setattr(BucketFileSystem, "folder", str(tmp_path))
    fill(tmp_path / "in", {"1.jpg": photo(1), "sub/2.png": photo(2), "sub/no_suffix": photo(3), "notes.txt": b"text"})
    tar_of(tmp_path / "faces.tar.gz", {"4.jpg": photo(4)}, "w:gz")
    for number, (sources, expected) in enumerate(
        {
            ("bucket://in",): ["1.jpg", "sub/2.png", "sub/no_suffix"],
            ("bucket://in/sub/*",): ["2.png", "no_suffix"],
            ("bucket://in/1.jpg",): ["1.jpg"],
            ("bucket://in/sub/", "bucket://faces.tar.gz"): ["faces.tar.gz/4.jpg", "sub/2.png", "sub/no_suffix"],
        }.items()
    ):
        output = f"out{number}"
        assert run(*sources, "--output", f"bucket://{output}") == 0
        assert ids(tmp_path / output) == expected
        assert run(*sources, "--output", f"bucket://{output}") == 2
        assert run(*sources, "--output", f"bucket://{output}", "--overwrite", "--rows-per-shard", 1) == 0
        assert ids(tmp_path / output) == expected
    assert run("bucket://nothing", "--output", tmp_path / "out") == 2
    assert run("nosuchscheme://x", "--output", tmp_path / "out") == 2


# Shards


def test_shards_are_numbered_deterministic_and_in_small_row_groups(tmp_path):
    source = fill(tmp_path / "photos", {f"{number:03}.png": photo(number) for number in range(150)})
    for output in ("first", "second"):
        assert run(source, "--output", tmp_path / output, "--rows-per-shard", 70) == 0
    names = [f"images-{index:05}-of-00003.parquet" for index in range(3)]
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == names
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    metadata = pq.ParquetFile(tmp_path / "first" / names[0]).metadata
    assert [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)] == [64, 6]
    assert ids(tmp_path / "first") == [f"{number:03}.png" for number in range(150)]


def test_row_groups_are_bounded_in_bytes(tmp_path):
    source = fill(tmp_path / "photos", {f"{number}.jpg": bytes(20 << 20) for number in range(8)})
    assert run(source, "--output", tmp_path / "out") == 0
    metadata = pq.ParquetFile(tmp_path / "out" / "images-00000-of-00001.parquet").metadata
    assert [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)] == [4, 4]


def test_schema_shows_pictures_in_hugging_face_datasets(tmp_path):
    source = fill(tmp_path / "photos", {"sub/x.jpg": photo()})
    assert run(source, "--output", tmp_path / "out") == 0
    table = pq.read_table(tmp_path / "out" / "images-00000-of-00001.parquet")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {"image_id": {"dtype": "string", "_type": "Value"}, "image": {"_type": "Image"}}
    assert all(field.nullable for field in table.schema)  # `datasets` ignores its metadata for other fields
    assert table["image"].to_pylist() == [{"bytes": photo(), "path": "x.jpg"}]


def test_output_that_is_not_empty_is_refused_unless_overwritten(tmp_path, capsys):
    source = fill(tmp_path / "photos", {f"{number}.jpg": photo(number) for number in range(5)})
    assert run(source, "--output", tmp_path / "out", "--rows-per-shard", 1) == 0
    fill(tmp_path / "out", {"mine.txt": b"keep me"})
    assert "--overwrite" in error_of(capsys, source, "--output", tmp_path / "out")
    assert run(source, "--output", tmp_path / "out", "--overwrite") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["images-00000-of-00001.parquet", "mine.txt"]


def test_dry_run_writes_nothing(tmp_path, capsys):
    source = fill(tmp_path / "photos", {"x.jpg": photo(), "y.txt": b""})
    assert run(source, "--output", tmp_path / "out", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "1 photos" in out
    assert "1 files skipped" in out
    assert not (tmp_path / "out").exists()


def test_bad_sources_and_outputs_are_one_line(tmp_path, capsys, monkeypatch):
    source = fill(tmp_path / "photos", {"x.jpg": photo()})
    empty = fill(tmp_path / "empty", {"y.txt": b""})
    out = tmp_path / "out"
    assert "nowhere" in error_of(capsys, tmp_path / "nowhere", "--output", out)
    assert "no file matches" in error_of(capsys, tmp_path / "*.nothing", "--output", out)
    assert "no photo found" in error_of(capsys, empty, "--output", out)
    assert "is a file" in error_of(capsys, source, "--output", source / "x.jpg")
    assert "cannot write" in error_of(capsys, source, "--output", source / "x.jpg" / "deeper")
    assert "--rows-per-shard" in error_of(capsys, source, "--output", out, "--rows-per-shard", "0")
    assert "--runner" in error_of(capsys, source, "--output", out, "--runner=DirectRunner")
    usage = type("usage", (), {"free": 10})
    monkeypatch.setattr(ingest.shutil, "disk_usage", lambda _: usage)
    assert "free" in error_of(capsys, source, "--output", out)
    assert not out.exists()


def test_a_full_disk_leaves_no_half_shard(tmp_path, capsys, monkeypatch):
    source = fill(tmp_path / "photos", {"x.jpg": photo()})

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.write_table", full)
    assert "No space left" in error_of(capsys, source, "--output", tmp_path / "out")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


file_names = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 100)


@settings(deadline=None, max_examples=40)
@given(
    folders=st.lists(file_names, max_size=3),
    names=st.lists(file_names, min_size=1, max_size=12, unique=True),
    kinds=st.lists(st.sampled_from(["image", "damaged", "text"]), min_size=12, max_size=12),
    per_shard=st.integers(1, 15),
)
def test_every_file_is_a_row_or_skipped(folders, names, kinds, per_shard):
    """Any names: what goes in comes out under its own path, or is listed."""
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary, "source")
        expected, skipped = {}, set()
        for number, (name, kind) in enumerate(zip(names, kinds, strict=False)):
            path = "/".join([*(f"d{folder}" for folder in folders[: number % 4]), f"f{name}"])
            path += ".jpg" if kind == "damaged" else ".doc"
            data = {"image": photo(number), "damaged": b"damaged", "text": b"text"}[kind]
            fill(source, {path: data})
            if kind == "text":
                skipped.add(path)
            else:
                expected[path] = data
        output = Path(temporary, "output")
        code = run(source, "--output", output, "--rows-per-shard", per_shard)
        assert code == (0 if expected else 2)
        if expected:
            assert rows(output) == sorted(expected.items())
            assert len(list(output.glob("*.parquet"))) == -(-len(expected) // per_shard)
        if expected and skipped:
            lines = (output / ingest.SKIPPED_FILE).read_text().splitlines()
            assert {os.path.relpath(json.loads(line)["path"], source) for line in lines} == skipped


def test_bundled_photos_decode_from_the_shards(photos_dir, tmp_path):
    assert run(photos_dir, "--output", tmp_path / "out") == 0
    assert ids(tmp_path / "out") == ["astronaut.png", "grace_hopper.jpg"]
    for _, data in rows(tmp_path / "out"):
        assert np.ptp(decode_image(data)) == 255


def test_hostile_folder(shared_dir, tmp_path):
    source = shared_dir / "data" / "hostile"
    assert run(source, "--output", tmp_path / "out", "--rows-per-shard", 30) == 0
    files = {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()}
    assert dict(rows(tmp_path / "out")) == files
