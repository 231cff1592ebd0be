"""The commit protocol: whole or absent, and nothing counts before its manifest."""

import dataclasses

import pytest

from cfr.pipeline import commit, manifests, storage
from cfr.pipeline.commit import CommitError, commit_unit
from cfr.pipeline.manifests import Layout, Manifest
from cfr.transforms.batches import WorkUnit

UNIT = WorkUnit("a-00000000-0-4", "/in/a.parquet", 0, 4, "100-abc")
MANIFEST = Manifest(
    **{**vars(UNIT), "job_hash": "h", "shard_bytes": 0, "shard_sha256": "", "failures_bytes": 0},
    failures_sha256="",
    rows_with_output=3,
    rows_failed=1,
    rows_filtered=0,
    outputs=3,
    faces_failed=0,
    failures={"no_face": 1},
)


@pytest.fixture
def layout(tmp_path) -> Layout:
    return Layout(str(tmp_path / "out [x]"))


def test_a_committed_unit_is_done(layout):
    written = commit_unit(layout, MANIFEST, b"shard", b"failures")
    assert (written.shard_bytes, written.failures_bytes) == (5, 8)
    assert manifests.read_done(layout, verify=True).manifests == {UNIT.unit_id: written}
    assert manifests.is_done(layout, UNIT, "h")
    assert not manifests.is_done(layout, UNIT, "other job")
    assert not manifests.is_done(layout, dataclasses.replace(UNIT, input_identity="100-abd"), "h")


def test_a_second_commit_replaces_the_first(layout):
    commit_unit(layout, MANIFEST, b"shard", b"failures")
    commit_unit(layout, MANIFEST, b"another", None)
    assert not storage.exists(layout.failure_shard(UNIT.unit_id))
    assert list(manifests.read_done(layout, verify=True).manifests) == [UNIT.unit_id]


@pytest.mark.parametrize("step", range(3))
def test_a_crash_at_any_step_leaves_not_done(layout, monkeypatch, step):
    commit_unit(layout, MANIFEST, b"before", None)
    publish, calls = storage.publish, []

    def crash(*arguments):
        calls.append(arguments)
        if len(calls) > step:
            raise OSError("no space left on device")
        publish(*arguments)

    monkeypatch.setattr(storage, "publish", crash)
    with pytest.raises(OSError, match="no space"):
        commit_unit(layout, MANIFEST, b"after", b"failures")
    assert manifests.read_done(layout).manifests == {}


def test_a_torn_write_is_never_published(layout, monkeypatch):
    def torn(path, data):
        with open(path, "wb") as stream:
            stream.write(data[:2])
        raise OSError("no space left on device")

    storage.make_folder(layout.scratch)
    monkeypatch.setattr(storage, "write_bytes", torn)
    with pytest.raises(OSError, match="no space"):
        storage.publish(layout.shard("a"), b"shard", layout.scratch)
    assert not storage.exists(layout.shard("a"))


def test_what_does_not_read_back_is_not_committed(layout, monkeypatch):
    monkeypatch.setattr(storage, "digest", lambda path: (5, "something else"))
    with pytest.raises(CommitError, match="does not read back"):
        commit.commit_unit(layout, MANIFEST, b"shard", None)
    assert not storage.exists(layout.manifest(UNIT.unit_id))


def test_object_stores_get_one_create_of_the_final_name(monkeypatch):
    created = {}

    class Stream:
        def __init__(self, path):
            self.path, self.data = path, b""

        def write(self, data):
            self.data += data

        def close(self):
            created[self.path] = self.data

    monkeypatch.setattr(storage.FileSystems, "create", lambda path, compression_type: Stream(path))
    storage.publish("gs://bucket/out/pairs/a.parquet", b"shard", "gs://bucket/out/_tmp")
    assert created == {"gs://bucket/out/pairs/a.parquet": b"shard"}

    def fail(self, data):
        raise OSError("connection lost")

    monkeypatch.setattr(Stream, "write", fail)
    with pytest.raises(OSError, match="connection lost"):
        storage.publish("gs://bucket/out/pairs/b.parquet", b"shard", "gs://bucket/out/_tmp")
    assert list(created) == ["gs://bucket/out/pairs/a.parquet"]  # closing would have published a torn object
