"""Objects of datasets that are damaged in every way that disks, copies and other tools damage them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import zarr
from sealing import is_manifest

from fgbgpack.storage.hdf5 import Hdf5Store


def delete(object_: Path) -> None:
    object_.unlink()


def truncate(object_: Path) -> None:
    object_.write_bytes(object_.read_bytes()[:-7])


def flip(object_: Path) -> None:
    """A bit in the middle of the first chunk, before its checksum."""
    content = bytearray(object_.read_bytes())
    content[min(len(content) // 2, 9)] ^= 4
    object_.write_bytes(content)


def empty(object_: Path) -> None:
    object_.write_bytes(b"")


#: What can happen to any object, with the codes of the faults that it may be found by.
DAMAGES: dict[Callable[[Path], None], set[str]] = {
    delete: {"chunk-missing"},
    truncate: {"checksum-wrong", "shard-cut-short", "chunk-damaged", "shard-damaged"},
    flip: {"checksum-wrong"},
    empty: {"checksum-wrong", "shard-cut-short", "chunk-damaged"},
}


def arrays(dataset: Path) -> list[str]:
    """The paths of all arrays of a dataset that hold something."""
    paths = sorted(path.relative_to(dataset).parent.as_posix() for path in dataset.rglob("c"))
    return [path for path in paths if not is_manifest(path)]


def objects(dataset: Path, array: str) -> list[Path]:
    """The objects of an array in the order of their numbers."""
    found = [path for path in (dataset / array / "c").rglob("*") if path.is_file()]
    return sorted(
        found, key=lambda path: [int(part) for part in path.relative_to(dataset / array / "c").parts]
    )


def exchange(dataset: Path, array: str) -> None:
    """The first object of an array takes the place of the second, and that its."""
    first, second, *_ = objects(dataset, array)
    content = first.read_bytes()
    shutil.copyfile(second, first)
    second.write_bytes(content)


def change_value(dataset: Path, array: str) -> None:
    """Another tool changes the first value of an array: all is sound, and not what the manifest says."""
    opened = zarr.open_array(dataset / array, mode="r+")
    first = (0,) * opened.ndim
    value = opened[first]
    opened[first] = not value if opened.dtype == bool else value + 1 if value < 200 else value - 1


def change_metadata(dataset: Path, array: str) -> None:
    """Another tool adds an attribute to an array."""
    path = dataset / array / "zarr.json"
    node = json.loads(path.read_text(encoding="utf-8"))
    node.setdefault("attributes", {})["mine"] = 1
    path.write_text(json.dumps(node), encoding="utf-8")


def change_copy(dataset: Path, array: str) -> None:
    """The copy of an array's metadata in the root is another one."""
    path = dataset / "zarr.json"
    node = json.loads(path.read_text(encoding="utf-8"))
    node["consolidated_metadata"]["metadata"][array]["attributes"] = {"mine": 1}
    path.write_text(json.dumps(node, indent=2, ensure_ascii=False), encoding="utf-8")


def manifest_folder(dataset: Path) -> Path:
    """The folder of the manifest's array."""
    (found,) = (path for path in (dataset / "manifest").iterdir() if path.is_dir())
    return found


def copies(dataset: Path, folder: Path) -> Iterator[Path]:
    """Any number of copies of a dataset, one after the other."""
    while True:
        path = folder / "copy.zarr"
        shutil.rmtree(path, ignore_errors=True)
        yield Path(shutil.copytree(dataset, path))


def put_bytes(file: Path, offset: int, content: bytes) -> None:
    """Write over some bytes of a file."""
    with file.open("r+b") as opened:
        opened.seek(offset)
        opened.write(content)


def flip_hdf5_chunk(file: Path, array: str, number: int = 0) -> None:
    """A bit of a chunk of an array in an HDF5 file."""
    offset, _ = Hdf5Store(file).file.arrays[array].span(number)
    put_bytes(file, offset + 5, bytes([file.read_bytes()[offset + 5] ^ 4]))
