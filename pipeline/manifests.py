"""Manifests: the record that a unit was done. A unit without a manifest did not happen."""

import dataclasses
import json
from dataclasses import dataclass, field

from cfr.pipeline import storage
from cfr.transforms.batches import WorkUnit


@dataclass(frozen=True)
class Layout:
    """Where things are below a job's output folder.

    Attributes:
        output: the folder or URL.
        product: name of the shards' folder.
    """

    output: str
    product: str = "pairs"

    @property
    def shards(self) -> str:
        """Folder of the shards."""
        return storage.join(self.output, self.product)

    @property
    def failures(self) -> str:
        """Folder of the failures' shards."""
        return storage.join(self.output, "failures")

    @property
    def manifests(self) -> str:
        """Folder of the manifests."""
        return storage.join(self.output, "_manifest")

    @property
    def progress(self) -> str:
        """Folder of the workers' heartbeats and of the marks of started units."""
        return storage.join(self.output, "_progress")

    @property
    def scratch(self) -> str:
        """Folder of files that are being written."""
        return storage.join(self.output, "_tmp")

    @property
    def stats(self) -> str:
        """File with the totals, written when all units are done."""
        return storage.join(self.output, "_stats.json")

    @property
    def success(self) -> str:
        """File that says that all units are done."""
        return storage.join(self.output, "_SUCCESS")

    @property
    def deleted(self) -> str:
        """File with digests of the photos that must not come back; see `cfr.pipeline.deletions`."""
        return storage.join(self.output, "_deleted.json")

    def shard(self, unit_id: str) -> str:
        """File of a unit's output."""
        return storage.join(self.shards, f"{unit_id}.parquet")

    def failure_shard(self, unit_id: str) -> str:
        """File of a unit's failures."""
        return storage.join(self.failures, f"{unit_id}.parquet")

    def manifest(self, unit_id: str) -> str:
        """File of a unit's manifest."""
        return storage.join(self.manifests, f"{unit_id}.json")


@dataclass(frozen=True)
class Manifest:
    """What a finished unit was and became.

    Attributes:
        unit_id, path, first_row, rows, input_identity: the unit.
        job_hash: of the job that did it.
        shard_bytes, shard_sha256: of the output as it read back.
        failures_bytes, failures_sha256: of the failures' shard; 0 and "" if there are none.
        rows_with_output, rows_failed, rows_filtered: their sum is `rows`.
        outputs: rows of the shard.
        faces_failed: failures of single faces or pairs.
        failures: count by reason.
        seconds: wall time by stage; not reproducible.
    """

    unit_id: str
    path: str
    first_row: int
    rows: int
    input_identity: str
    job_hash: str
    shard_bytes: int
    shard_sha256: str
    failures_bytes: int
    failures_sha256: str
    rows_with_output: int
    rows_failed: int
    rows_filtered: int
    outputs: int
    faces_failed: int
    failures: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """The manifest file's content."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """Read a manifest file's content; ValueError if it is none."""
        try:
            return cls(**json.loads(data))
        except TypeError as error:
            raise ValueError(str(error)) from error

    def belongs_to(self, unit: WorkUnit, job_hash: str) -> bool:
        """Whether this is the record of that unit of that job, with that input."""
        return (self.unit_id, self.input_identity, self.job_hash) == (unit.unit_id, unit.input_identity, job_hash)


@dataclass(frozen=True)
class DoneUnits:
    """What an output folder holds.

    Attributes:
        manifests: {unit id: manifest} of every unit whose shard is there with the right size.
        broken: ids of units whose shard or failures are missing or differ from the manifest.
    """

    manifests: dict[str, Manifest]
    broken: list[str]


def read_done(layout: Layout, verify: bool = False) -> DoneUnits:
    """Read all manifests and compare the shards with them: by size, with `verify` by sha256 too."""
    names = sorted(storage.list_folder(layout.manifests, "*.json"))
    # Threads help where storage makes one wait; on a local disk they get in each other's way.
    threads = 1 if storage.is_local(layout.output) else 64
    read = storage.in_parallel(lambda name: _read(storage.join(layout.manifests, name)), names, threads)
    shards = storage.list_folder(layout.shards, "*.parquet")
    failures = storage.list_folder(layout.failures, "*.parquet")
    manifests, broken = {}, []
    for name, manifest in zip(names, read, strict=True):
        unit_id = name.removesuffix(".json")
        if (
            manifest is not None
            and manifest.unit_id == unit_id
            and shards.get(f"{unit_id}.parquet") == manifest.shard_bytes
            and failures.get(f"{unit_id}.parquet", 0) == manifest.failures_bytes
        ):
            manifests[unit_id] = manifest
        else:
            broken.append(unit_id)
    if verify:
        intact = storage.in_parallel(lambda manifest: _is_intact(layout, manifest), list(manifests.values()))
        damaged = [unit_id for unit_id, good in zip(manifests, intact, strict=True) if not good]
        broken += damaged
        manifests = {unit_id: manifest for unit_id, manifest in manifests.items() if unit_id not in set(damaged)}
    return DoneUnits(manifests, broken)


def is_done(layout: Layout, unit: WorkUnit, job_hash: str) -> bool:
    """Whether a unit's manifest and shard are there; for a worker whose bundle is retried."""
    path = layout.manifest(unit.unit_id)
    manifest = _read(path) if storage.exists(path) else None
    if manifest is None or not manifest.belongs_to(unit, job_hash):
        return False
    shard = layout.shard(unit.unit_id)
    return storage.exists(shard) and storage.digest(shard) == (manifest.shard_bytes, manifest.shard_sha256)


def forget(layout: Layout, unit_ids: list[str]) -> None:
    """Make units not done. Manifests go first: what has no manifest did not happen."""
    storage.delete([layout.manifest(unit_id) for unit_id in unit_ids])


def remove(layout: Layout, unit_ids: list[str]) -> None:
    """Delete all files of units."""
    forget(layout, unit_ids)
    storage.delete([layout.shard(unit_id) for unit_id in unit_ids])
    storage.delete([layout.failure_shard(unit_id) for unit_id in unit_ids])


def remove_everything(layout: Layout) -> None:
    """Delete what a job wrote to its output folder, and nothing else."""
    storage.delete([layout.success, layout.stats])
    for folder, pattern in (
        (layout.manifests, "*.json"),
        (layout.shards, "*.parquet"),
        (layout.failures, "*.parquet"),
        (layout.progress, "*"),
        (layout.scratch, "*"),
    ):
        storage.delete([storage.join(folder, name) for name in storage.list_folder(folder, pattern)])


def _read(path: str) -> Manifest | None:
    try:
        return Manifest.from_json(storage.read_bytes(path))
    except (OSError, ValueError):
        return None


def _is_intact(layout: Layout, manifest: Manifest) -> bool:
    expected = [(layout.shard(manifest.unit_id), manifest.shard_bytes, manifest.shard_sha256)]
    if manifest.failures_bytes:
        expected.append((layout.failure_shard(manifest.unit_id), manifest.failures_bytes, manifest.failures_sha256))
    return all(storage.digest(path) == (size, sha256) for path, size, sha256 in expected)
