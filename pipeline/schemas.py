"""Schemas of the shards, and their serialisation: the same rows give the same bytes."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from cfr.transforms.batches import FailureRecord

SCHEMA_VERSION = 1
ROW_GROUP_ROWS = 64
PICTURES = ("target", "rotated", "guidance")
MASKS = ("occlusion_mask", "occluder_mask", "face_mask")

IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])

FRONTAL_PICTURES = ("frontal", "source")
FRONTAL_MASKS = ("mask",)

OCCLUSION_PICTURES = ("occluded", "original")
OCCLUSION_MASKS = ("occluder_mask", "face_mask")

_KEYS = [("pair_id", pa.string()), ("image_id", pa.string()), ("face_index", pa.int32()), ("view_index", pa.int32())]
_FRONTAL_KEYS = [
    ("frontal_id", pa.string()),
    ("image_id", pa.string()),
    ("face_index", pa.int32()),
    ("pose_index", pa.int32()),
]
_OCCLUSION_KEYS = [
    ("occlusion_id", pa.string()),
    ("image_id", pa.string()),
    ("face_index", pa.int32()),
    ("copy_index", pa.int32()),
]
_NUMBERS = [
    ("yaw", pa.float32()),
    ("pitch", pa.float32()),
    ("roll", pa.float32()),
    ("view_yaw", pa.float32()),
    ("view_pitch", pa.float32()),
    ("view_roll", pa.float32()),
    ("coefficients", pa.list_(pa.float32())),
    ("crop", pa.list_(pa.float32(), 6)),
    ("box", pa.list_(pa.float32(), 4)),
    ("landmarks5", pa.list_(pa.float32(), 10)),
    ("detection_score", pa.float32()),
    ("fit_error", pa.float32()),
    ("occluded_fraction", pa.float32()),
    ("visible_fraction", pa.float32()),
    ("sharpness", pa.float32()),
    ("quality", pa.float32()),
]
_FRONTAL_NUMBERS = [
    ("apply", pa.bool_()),
    ("quality", pa.float32()),
    ("reasons", pa.list_(pa.string())),
    ("kept_source", pa.bool_()),
    ("identity_similarity", pa.float32()),
    ("yaw", pa.float32()),
    ("pitch", pa.float32()),
    ("roll", pa.float32()),
    ("pose_yaw", pa.float32()),
    ("pose_pitch", pa.float32()),
    ("pose_roll", pa.float32()),
    ("own_fraction", pa.float32()),
    ("mirrored_fraction", pa.float32()),
    ("occluded_fraction", pa.float32()),
    ("sharpness", pa.float32()),
    ("fit_error", pa.float32()),
    ("detection_score", pa.float32()),
    ("frontal_landmarks5", pa.list_(pa.float32(), 10)),
    ("coefficients", pa.list_(pa.float32())),
    ("crop", pa.list_(pa.float32(), 6)),
    ("box", pa.list_(pa.float32(), 4)),
    ("landmarks5", pa.list_(pa.float32(), 10)),
]
_OCCLUSION_NUMBERS = [
    ("landmarks68", pa.list_(pa.float32(), 136)),
    ("occluder", pa.string()),
    ("occluder_kind", pa.string()),
    ("colour_matched", pa.bool_()),
    ("shadow", pa.bool_()),
    ("occluded_fraction", pa.float32()),
    ("yaw", pa.float32()),
    ("pitch", pa.float32()),
    ("roll", pa.float32()),
    ("coefficients", pa.list_(pa.float32())),
    ("crop", pa.list_(pa.float32(), 6)),
    ("box", pa.list_(pa.float32(), 4)),
    ("landmarks5", pa.list_(pa.float32(), 10)),
    ("detection_score", pa.float32()),
    ("fit_error", pa.float32()),
]
FAILURES_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("face_index", pa.int32()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
    ]
)


def pair_columns() -> list[str]:
    """Names of all columns of a pair shard, kept ones apart."""
    return [name for name, _ in _KEYS] + [*PICTURES, *MASKS] + [name for name, _ in _NUMBERS]


def pair_schema(pictures: tuple[str, ...], kept: pa.Schema, metadata: dict[str, str]) -> pa.Schema:
    """Schema of a pair shard.

    Args:
        pictures: which of PICTURES and MASKS are written.
        kept: the input's columns that are carried along.
        metadata: {key: text}; the `huggingface` features (so that datasets shows the pictures) are added.
    """
    images = [(name, IMAGE) for name in (*PICTURES, *MASKS) if name in pictures]
    return _schema([*_KEYS, *images, *_NUMBERS], kept, metadata)


def frontal_columns() -> list[str]:
    """Names of all columns of a frontal shard, kept ones apart."""
    return [name for name, _ in _FRONTAL_KEYS] + [*FRONTAL_PICTURES, *FRONTAL_MASKS] + [n for n, _ in _FRONTAL_NUMBERS]


def frontal_schema(pictures: tuple[str, ...], identity: bool, kept: pa.Schema, metadata: dict[str, str]) -> pa.Schema:
    """Schema of a frontal shard.

    Args:
        pictures: which of FRONTAL_PICTURES and FRONTAL_MASKS are written.
        identity: with the column identity_similarity.
        kept, metadata: as for `pair_schema`.
    """
    images = [(name, IMAGE) for name in pictures]
    numbers = [column for column in _FRONTAL_NUMBERS if identity or column[0] != "identity_similarity"]
    return _schema([*_FRONTAL_KEYS, *images, *numbers], kept, metadata)


def occlusion_columns() -> list[str]:
    """Names of all columns of a shard of occluded faces, kept ones apart."""
    pictures = [*OCCLUSION_PICTURES, *OCCLUSION_MASKS]
    return [name for name, _ in _OCCLUSION_KEYS] + pictures + [name for name, _ in _OCCLUSION_NUMBERS]


def occlusion_schema(pictures: tuple[str, ...], kept: pa.Schema, metadata: dict[str, str]) -> pa.Schema:
    """Schema of a shard of occluded faces; pictures: which of OCCLUSION_PICTURES and OCCLUSION_MASKS are written.

    kept, metadata: as for `pair_schema`.
    """
    return _schema([*_OCCLUSION_KEYS, *((name, IMAGE) for name in pictures), *_OCCLUSION_NUMBERS], kept, metadata)


def _schema(columns: list[tuple[str, pa.DataType]], kept: pa.Schema, metadata: dict[str, str]) -> pa.Schema:
    schema = pa.schema([pa.field(name, type_) for name, type_ in columns] + list(kept))
    features = {field.name: _feature(field.type) for field in schema}
    huggingface = {"huggingface": json.dumps({"info": {"features": features}})} if None not in features.values() else {}
    return schema.with_metadata({"schema_version": str(SCHEMA_VERSION), **metadata, **huggingface})


def serialize(table: pa.Table, pictures: tuple[str, ...] = ()) -> bytes:
    """A Parquet file; encoded pictures are not compressed again."""
    sink = pa.BufferOutputStream()
    columns = _leaf_columns(table.schema)
    compression = {path: "none" if path.split(".")[0] in pictures else "zstd" for path in columns}
    pq.write_table(
        table, sink, row_group_size=ROW_GROUP_ROWS, compression=compression, use_dictionary=False, write_statistics=True
    )
    return sink.getvalue().to_pybytes()


def serialize_failures(failures: list[FailureRecord]) -> bytes:
    """A failures shard."""
    columns = {field.name: [getattr(failure, field.name) for failure in failures] for field in FAILURES_SCHEMA}
    return serialize(pa.table(columns, schema=FAILURES_SCHEMA))


def _leaf_columns(schema: pa.Schema) -> list[str]:
    """Parquet's dotted paths of all leaves."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    parquet = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return [parquet.column(index).path for index in range(len(parquet.names))]


def _feature(type_: pa.DataType):
    """Hugging Face's description of a column, None if it has none that is sure to be right."""
    if type_ == IMAGE:
        return {"_type": "Image"}
    if pa.types.is_fixed_size_list(type_) or pa.types.is_list(type_):
        inner = _feature(type_.value_type)
        length = type_.list_size if pa.types.is_fixed_size_list(type_) else -1
        return None if inner is None else {"feature": inner, "length": length, "_type": "Sequence"}
    if pa.types.is_struct(type_):
        parts = {type_.field(index).name: _feature(type_.field(index).type) for index in range(type_.num_fields)}
        return None if None in parts.values() else parts
    simple = {"float": "float32", "double": "float64", "halffloat": "float16"}
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_boolean(type_):
        return {"dtype": str(type_), "_type": "Value"}
    if pa.types.is_integer(type_) or pa.types.is_floating(type_):
        return {"dtype": simple.get(str(type_), str(type_)), "_type": "Value"}
    return None
