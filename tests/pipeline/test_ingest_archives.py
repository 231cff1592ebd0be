"""`cfr ingest` of tar and zip archives: formats, names that climb out, links, damage."""

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from ingest_photos import error_of, ids, photo, rows, run, tar_of


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip"])
def test_archives(tmp_path, suffix):
    files = {"z.jpg": photo(1), "a/b.png": photo(2), "a/no_suffix": photo(3), "labels.json": b"{}"}
    path = tmp_path / f"faces{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/", b"")
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        tar_of(path, files, {".tar": "w", ".tgz": "w:gz"}.get(suffix, f"w:{suffix[5:]}"))
    assert run(path, "--output", tmp_path / "out") == 0
    assert rows(tmp_path / "out") == [("a/b.png", photo(2)), ("a/no_suffix", photo(3)), ("z.jpg", photo(1))]


def test_a_tar_that_is_compressed_whatever_its_name(tmp_path):
    path = tar_of(tmp_path / "plain.tar", {"x.jpg": photo()})
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert run(path, "--output", tmp_path / "out") == 0
    assert ids(tmp_path / "out") == ["x.jpg"]


def test_names_that_climb_out_of_an_archive_are_only_ids(tmp_path):
    names = ["../../evil.jpg", "/etc/evil.jpg", "a/../../up.jpg"]
    (tmp_path / "in").mkdir()
    tar_of(tmp_path / "in" / "x.tar", dict.fromkeys(names, photo()))
    assert run(tmp_path / "in" / "x.tar", "--output", tmp_path / "out") == 0
    assert ids(tmp_path / "out") == sorted(names)
    assert sorted(path.name for path in tmp_path.rglob("*.jpg")) == []
    assert not Path("/etc/evil.jpg").exists()


def test_links_and_repeated_names_in_a_tar(tmp_path, capsys):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for data in (photo(1), photo(2)):
            info = tarfile.TarInfo("same.jpg")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for kind, name in (
            (tarfile.LNKTYPE, "hard.jpg"),
            (tarfile.SYMTYPE, "soft.jpg"),
            (tarfile.FIFOTYPE, "pipe.jpg"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "same.jpg"
            archive.addfile(info)
    assert run(tmp_path / "x.tar", "--output", tmp_path / "out", "--json") == 0
    assert rows(tmp_path / "out") == [("hard.jpg", photo(2)), ("same.jpg", photo(2))]
    reasons = {Path(skip["path"]).name: skip["reason"] for skip in json.loads(capsys.readouterr().out)["skipped"]}
    assert reasons == {
        "same.jpg": "replaced by a later member of the same name",
        "soft.jpg": "not a regular file",
        "pipe.jpg": "not a regular file",
    }


def test_damaged_archives_are_refused(tmp_path, capsys):
    whole = tar_of(tmp_path / "x.tar", {f"{number}.jpg": photo(number) for number in range(20)}).read_bytes()
    damaged = bytearray(whole)
    middle = 10 * 1024  # the header of the eleventh member, each of which has one block of header and one of data
    damaged[middle : middle + 512] = b"\xaa" * 512
    cases = {
        "cut.tar": whole[: 5 * 1024 + 300],
        "cut.tar.gz": gzip.compress(whole)[:-40],
        "header.tar": bytes(damaged),
        "text.tar": b"this is no archive" * 100,
        "text.zip": b"this is no archive",
        "empty.tar": b"",
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        assert name in error_of(capsys, tmp_path / name, "--output", tmp_path / "out"), name
        assert not (tmp_path / "out").exists()


def test_damaged_members_cost_only_themselves(tmp_path, capsys):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.jpg", photo(number))
    data = path.read_bytes()
    path.write_bytes(data.replace(photo(1), photo(1)[:-1] + b"\xff"))  # the checksum no longer fits
    assert run(path, "--output", tmp_path / "out", "--rows-per-shard", 1, "--json") == 1
    summary = json.loads(capsys.readouterr().out)
    assert (summary["photos"], summary["shards"]) == (2, 3)
    assert [skip["path"] for skip in summary["unreadable"]] == ["1.jpg"]
    assert ids(tmp_path / "out") == ["0.jpg", "2.jpg"]
