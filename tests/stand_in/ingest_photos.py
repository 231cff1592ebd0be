"""Small photos in folders and tars, `cfr ingest` run on them, and what its shards hold."""

import io
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from cfr.pipeline.cli import main


def photo(number: int = 0) -> bytes:
    """A small PNG, different for every number."""
    buffer = io.BytesIO()
    colour = (number % 256, number // 256 % 256, 7)
    Image.new("RGB", (16, 16), colour).save(buffer, "PNG")
    return buffer.getvalue()


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def rows(output: Path) -> list[tuple[str, bytes]]:
    """(image_id, bytes) of all shards, in order."""
    found = []
    for path in sorted(output.glob("images-*.parquet")):
        table = pq.read_table(path)
        images = table["image"].to_pylist()
        found += [
            (image_id, image["bytes"]) for image_id, image in zip(table["image_id"].to_pylist(), images, strict=True)
        ]
    return found


def ids(output: Path) -> list[str]:
    return [image_id for image_id, _ in rows(output)]


def run(*arguments: object) -> int:
    return main(["ingest", *map(str, arguments)])


def error_of(capsys, *arguments: object) -> str:
    """The one line that a refused command says, beside the note of what it was asked to do."""
    capsys.readouterr()
    assert run(*arguments, "--quiet") == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


def tar_of(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path
