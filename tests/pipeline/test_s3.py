"""Input and output on an object store: S3 as moto serves it, through the file systems that Beam has."""

import itertools
import json
import threading

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stand_in_models as stand_in
from job_process import shard_bytes
from moto.server import ThreadedMotoServer
from stand_in_models import write_photos

from cfr.pipeline import cli, lease, manifests, storage
from cfr.pipeline.commit import commit_unit
from cfr.pipeline.errors import UserError
from cfr.pipeline.manifests import Layout, Manifest


@pytest.fixture(scope="module")
def server():
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


class Bucket:
    """An empty bucket and the Beam flags that lead to it."""

    def __init__(self, server: str, name: str):
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        self.name, self.client = name, boto3.client("s3", endpoint_url=server, **keys)
        self.client.create_bucket(Bucket=name)
        self.flags = [
            f"--s3_endpoint_url={server}",
            "--s3_access_key_id=test",
            "--s3_secret_access_key=test",
            "--s3_region_name=us-east-1",
        ]

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def keys(self, prefix: str = "") -> list[str]:
        listed = self.client.list_objects_v2(Bucket=self.name, Prefix=prefix)
        return [entry["Key"] for entry in listed.get("Contents", [])]

    def versions(self, prefix: str) -> list[str]:
        """Keys of every object ever created, also of those that were deleted."""
        listed = self.client.list_object_versions(Bucket=self.name, Prefix=prefix)
        return [entry["Key"] for entry in listed.get("Versions", [])]


@pytest.fixture
def bucket(server, request, monkeypatch):
    monkeypatch.setattr(lease, "_REMOTE", lease._Pace(renew=1.0, patience=3.0, settle=0.05))
    monkeypatch.setattr(storage.FileSystems, "_pipeline_options", None)
    return Bucket(server, f"b{abs(hash(request.node.name)):x}"[:40])


@pytest.fixture
def local(tmp_path):
    """Shards of 10 photos, and what a job makes of them on the local disk."""
    write_photos(tmp_path / "in" / "a.parquet", [stand_in.GOOD] * 6 + [stand_in.NO_FACE])
    write_photos(tmp_path / "in" / "b.parquet", [stand_in.GOOD] * 3)
    arguments = ("--input", tmp_path / "in" / "*.parquet", "--output", tmp_path / "out", "--unit-rows", "4")
    assert stand_in.run(*arguments) == 0
    return tmp_path


def job(bucket: Bucket, *arguments: str) -> int:
    shards, output = (f"s3://{bucket.name}/{name}" for name in ("shards/*.parquet", "out"))
    return stand_in.run("--input", shards, "--output", output, "--unit-rows", "4", *bucket.flags, *arguments)


def upload(bucket: Bucket, folder) -> None:
    for path in sorted(folder.glob("*.parquet")):
        bucket.put(f"shards/{path.name}", path.read_bytes())


def shards(bucket: Bucket) -> dict[str, bytes]:
    keys = [key for key in bucket.keys("out/") if key.endswith(".parquet")]
    return {key.removeprefix("out/"): bucket.get(key) for key in keys}


def test_the_same_bytes_as_on_the_local_disk_and_nothing_to_do_the_second_time(bucket, local, capsys):
    upload(bucket, local / "in")
    assert job(bucket) == 0
    assert shards(bucket) == shard_bytes(local / "out")
    assert {"out/_SUCCESS", "out/_stats.json", "out/_job.json"} <= set(bucket.keys("out/_"))
    assert not [key for key in bucket.keys("out/") if "_tmp" in key or "_launch" in key or "started-" in key]
    capsys.readouterr()
    assert job(bucket, "--verify") == 0
    assert "3 units, 3 done, 0 to do" in capsys.readouterr().out


def test_only_what_is_missing_or_damaged_is_done_again(bucket, local, capsys):
    upload(bucket, local / "in")
    assert job(bucket, "--limit", "4") == 0
    assert job(bucket) == 0
    (first, second, third) = bucket.keys("out/pairs/")
    bucket.put(first, bucket.get(first)[:-7])
    bucket.delete(second)
    bucket.delete(third.replace("pairs/", "_manifest/").replace(".parquet", ".json"))
    capsys.readouterr()
    assert job(bucket) == 0
    assert "3 units, 0 done, 3 to do" in capsys.readouterr().out
    assert shards(bucket) == shard_bytes(local / "out")
    with pytest.raises(UserError, match="seed = 0, now it is 3"):
        job(bucket, "--seed", "3")


def test_a_shard_is_one_create_of_its_final_name(bucket, local):
    """Catches: a temporary name and a rename, which is a copy on an object store, or a stream that publishes half."""
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    upload(bucket, local / "in")
    assert job(bucket) == 0
    names = {key.removeprefix("out/") for key in bucket.versions("out/pairs/")}
    assert sorted(key.removeprefix("out/") for key in bucket.versions("out/pairs/")) == sorted(names)
    assert not bucket.versions("out/_tmp/")


def test_what_fails_while_it_is_written_is_not_there(bucket, monkeypatch):
    storage.use_options(storage.PipelineOptions(bucket.flags))
    layout = Layout(f"s3://{bucket.name}/out")
    create = storage.FileSystems.create

    def failing(path, **keywords):
        stream = create(path, **keywords)
        monkeypatch.setattr(stream, "write", _raise)
        return stream

    def _raise(data):
        raise ConnectionError("the line is cut")

    monkeypatch.setattr(storage.FileSystems, "create", failing)
    manifest = Manifest("u-0-4", "/in", 0, 4, "1-a", "h", 0, "", 0, "", 4, 0, 0, 4, 0)
    with pytest.raises(OSError, match="line is cut"):
        commit_unit(layout, manifest, b"shard", None)
    assert bucket.keys() == []


def test_large_and_empty_files(bucket):
    """Catches: Beam's S3 client cannot write an empty object, and sends more than 5 MB in parts."""
    storage.use_options(storage.PipelineOptions(bucket.flags))
    path = f"s3://{bucket.name}/large"
    data = bytes(range(256)) * 50_000
    storage.publish(path, data, "unused")
    assert storage.read_bytes(path) == data
    assert storage.digest(path)[0] == len(data)
    assert not storage.exists(path + "r")
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(path + "r")
    storage.delete([path, path + "r"])
    assert bucket.keys() == []


def test_a_bucket_that_is_not_there_is_an_error_of_one_line(bucket, local, capsys):
    arguments = ["--input", str(local / "in" / "*.parquet"), "--output", "s3://no-such-bucket/out", *bucket.flags]
    assert cli.main(["pairs", *arguments]) == 2
    err = capsys.readouterr().err.strip()
    assert "no-such-bucket" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_second_launch_is_refused(bucket, local):
    upload(bucket, local / "in")
    over = threading.Event()

    def renew():
        holder = {"token": "t", "host": "elsewhere", "pid": 1, "since": "today"}
        for number in itertools.count():
            bucket.put("out/_launch.json", json.dumps({**holder, "renewals": number}).encode())
            if over.wait(0.3):
                return

    holder = threading.Thread(target=renew)
    holder.start()
    with pytest.raises(UserError, match="another launch works on it"):
        job(bucket)
    over.set()
    holder.join()
    assert bucket.keys("out/") == ["out/_launch.json"]


def test_ingest_then_pairs_with_amazons_own_variables(bucket, server, photos_dir, monkeypatch):
    shards, output = f"s3://{bucket.name}/shards", f"s3://{bucket.name}/out"
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert cli.main(["ingest", str(photos_dir), "--output", shards]) == 0
    assert cli.main(["pairs", "--input", f"{shards}/*.parquet", "--output", output, "--limit", "1"]) == 0
    (key,) = bucket.keys("out/pairs/")
    assert pq.read_table(pa.BufferReader(bucket.get(key))).num_rows > 0
    assert manifests.read_done(Layout(output)).manifests
