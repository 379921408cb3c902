"""From Zarr to HDF5 as one does it by hand: what ``bench.py`` compares with in its part ``convert``.

Chunk after chunk is read by zarr-python and written by h5py, in the same chunks, with the same codecs and
checksum. Attributes and dimensions are left out, which takes no time to speak of.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

_READ_AT_ONCE = 4 << 20


def by_hand(source: str, target: str) -> None:
    """Make an HDF5 file of the arrays of a dataset."""
    import h5py

    with h5py.File(target, "w") as file:
        for name, array in _arrays(source):
            found = file.create_dataset(
                name,
                array.shape,
                array.dtype,
                chunks=array.chunks,
                fletcher32=True,
                track_times=False,
                **_filter(array),
            )
            for corner in _chunks(array):
                found[corner] = array[corner]


def _arrays(path: str) -> Iterator[tuple[str, Any]]:
    group: Any = zarr.open_group(path, mode="r")
    for name, member in group.members(max_depth=None):
        if isinstance(member, zarr.Array):
            yield name, member


def _chunks(array: Any) -> Iterator[tuple[slice, ...]]:
    """Where each chunk lies."""
    starts = (range(0, length, size) for length, size in zip(array.shape, array.chunks, strict=True))
    for corner in itertools.product(*starts):
        yield tuple(slice(start, start + size) for start, size in zip(corner, array.chunks, strict=True))


def _filter(array: Any) -> Any:
    """The HDF5 filter of an array's chunks."""
    import hdf5plugin

    (codec, *_) = array.metadata.to_dict()["codecs"]
    codecs = codec["configuration"]["codecs"] if array.shards else array.metadata.to_dict()["codecs"]
    given = codecs[1]["configuration"]
    if codecs[1]["name"] == "zstd":
        return hdf5plugin.Zstd(clevel=given["level"])
    return hdf5plugin.Blosc(cname=given["cname"], clevel=given["clevel"], shuffle=hdf5plugin.Blosc.SHUFFLE)


def require_same(source: str, *files: str) -> None:
    """The arrays in the files are those of the dataset, or comparing their speed means nothing."""
    import h5py
    import hdf5plugin  # noqa: F401 its filters are known once it is imported

    for path in files:
        with h5py.File(path) as file:
            for name, array in _arrays(source):
                for start in np.linspace(0, array.shape[0] - 1, 5).astype(int).tolist():
                    some = slice(start, start + 10)
                    if not np.array_equal(file[name][some], array[some], equal_nan=array.dtype.kind == "f"):
                        raise RuntimeError(f"{path}/{name} is not what {source} has")


def digest(folder: Path) -> str:
    """The SHA-256 of all files below a folder, and of their names."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while part := file.read(_READ_AT_ONCE):
                found.update(part)
    return found.hexdigest()
