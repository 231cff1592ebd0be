"""Image shards: Parquet files with one row per photo, `image_id` and the encoded `image` as it is on disk.

The image column is the Hugging Face struct<bytes, path>, and the schema's metadata names it as a picture, so that
`datasets.load_dataset("parquet", ...)` shows it.
"""

import json
import posixpath
import shutil
import tempfile
import uuid
from collections.abc import Iterable
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from cfr.pipeline import storage

ROW_GROUP_ROWS = 64
ROW_GROUP_BYTES = 64 << 20
"""A row group ends at so many rows or bytes of pictures, whichever comes first: it is what has to fit into memory."""

# Pages of a few photos: a reader that streams holds one page, not a whole row group.
_PAGE_ROWS = 4

# The fields stay nullable: `datasets` ignores the metadata of fields that are not.
SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string()),
        pa.field("image", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])),
    ],
    metadata={
        "huggingface": json.dumps(
            {"info": {"features": {"image_id": {"dtype": "string", "_type": "Value"}, "image": {"_type": "Image"}}}}
        )
    },
)


def shard_name(index: int, count: int) -> str:
    """File name of shard `index` of `count`, for example images-00000-of-00012.parquet."""
    return f"images-{index:05d}-of-{count:05d}.parquet"


def write_image_shard(path: str, rows: Iterable[tuple[str, bytes]], scratch_folder: str) -> int:
    """Write one shard; the final name appears only when it is whole. The same rows give the same bytes.

    Args:
        path: final name; an existing file is replaced.
        rows: (image_id, encoded photo); at most one row group of them is held in memory.
        scratch_folder: folder for the temporary file, on the same file system.

    Returns:
        Number of rows.

    Raises:
        OSError: the shard cannot be written.
    """
    with _whole_or_absent(path, scratch_folder) as stream:
        # Pictures are compressed already: compression and dictionaries would only cost time.
        with pq.ParquetWriter(
            stream, SCHEMA, compression="none", use_dictionary=False, write_batch_size=_PAGE_ROWS
        ) as writer:
            written = 0
            for group in _row_groups(rows):
                writer.write_table(group, row_group_size=group.num_rows)
                written += group.num_rows
        return written


def _row_groups(rows: Iterable[tuple[str, bytes]]) -> Iterable[pa.Table]:
    ids: list[str] = []
    photos: list[bytes] = []
    size = 0
    for image_id, photo in rows:
        ids.append(image_id)
        photos.append(photo)
        size += len(photo)
        if len(ids) == ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
            yield _table(ids, photos)
            ids, photos, size = [], [], 0
    if ids:
        yield _table(ids, photos)


def _table(ids: list[str], photos: list[bytes]) -> pa.Table:
    names = pa.array([posixpath.basename(image_id) for image_id in ids], pa.string())
    images = pa.StructArray.from_arrays([pa.array(photos, pa.binary()), names], names=["bytes", "path"])
    return pa.table([pa.array(ids, pa.string()), images], schema=SCHEMA)


@contextmanager
def _whole_or_absent(path: str, scratch_folder: str):
    """Stream whose content becomes the file at `path` if the block ends without an exception, and else vanishes."""
    if storage.is_local(path):
        temporary = storage.join(scratch_folder, f"{posixpath.basename(path)}.{uuid.uuid4().hex}")
        try:
            with FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
                yield stream
            FileSystems.rename([temporary], [path])
        except BaseException:
            storage.delete([temporary])
            raise
    else:
        # An object store publishes what was written when the stream closes, even after an exception.
        with tempfile.TemporaryFile() as spool:
            yield spool
            spool.seek(0)
            with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
                shutil.copyfileobj(spool, stream, 1 << 22)
