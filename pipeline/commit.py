"""Commit of a unit: shard, failures, manifest last, each whole or absent and read back before it counts."""

import hashlib

from cfr.pipeline import storage
from cfr.pipeline.manifests import Layout, Manifest, forget


class CommitError(OSError):
    """What was written does not read back."""


def commit_unit(layout: Layout, manifest: Manifest, shard: bytes, failures: bytes | None) -> Manifest:
    """Publish a unit's files.

    An older manifest of the unit goes first, so that a crash in between leaves "not done" and never "done wrongly".

    Args:
        layout: the job's output.
        manifest: of the unit, with sizes and digests still empty.
        shard: the serialised output.
        failures: the serialised failures, None if there are none.

    Returns:
        The manifest as written, with sizes and digests of the files as they read back.

    Raises:
        CommitError: a file reads back differently (full disk, failing storage).
        OSError: it cannot be written.
    """
    unit_id = manifest.unit_id
    forget(layout, [unit_id])
    shard_bytes, shard_sha256 = _publish(layout, layout.shard(unit_id), shard)
    if failures is None:
        storage.delete([layout.failure_shard(unit_id)])
        failures_bytes, failures_sha256 = 0, ""
    else:
        failures_bytes, failures_sha256 = _publish(layout, layout.failure_shard(unit_id), failures)
    values = {**vars(manifest), "shard_bytes": shard_bytes, "shard_sha256": shard_sha256}
    done = Manifest(**{**values, "failures_bytes": failures_bytes, "failures_sha256": failures_sha256})
    storage.publish(layout.manifest(unit_id), done.to_json(), layout.scratch)
    return done


def _publish(layout: Layout, path: str, data: bytes) -> tuple[int, str]:
    storage.publish(path, data, layout.scratch)
    expected = (len(data), hashlib.sha256(data).hexdigest())
    if storage.digest(path) != expected:
        raise CommitError(f"{path} does not read back as it was written; check the storage")
    return expected
