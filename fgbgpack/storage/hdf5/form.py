"""What HDF5 calls the ways in which Zarr arrays are cut and encoded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from types import ModuleType

from fgbgpack.errors import DatasetError
from fgbgpack.extras import require
from fgbgpack.storage.arrays import ArrayForm
from fgbgpack.storage.codecs import BloscChunk, Checksum, ChunkCodec, DeflateChunk, ZstdChunk

#: The attribute of groups and arrays that holds their Zarr metadata, where others wrote the file.
ZARR = "zarr"
#: The attribute of the root with the paths of all of them, in the order in which the Zarr lists them.
ORDER = "zarr_order"

#: What the folder beside a file is called in which it is made.
UNFINISHED = ".unfinished"

#: HDF5 keeps no larger attributes in the head of an object.
ATTRIBUTE_BYTES = 50_000

#: What names of HDF5 files end with.
SUFFIXES = (".h5", ".hdf5")

# The registered numbers of HDF5 filters.
_DEFLATE, _SHUFFLE, _FLETCHER32, _BLOSC, _ZSTD = 1, 2, 3, 32001, 32015
# Parameters of the blosc filter: its own revision, the format's, the shuffle and the compressor by numbers.
_BLOSC_REVISION, _BLOSC_FORMAT, _BYTE_SHUFFLE, _BLOSC_ZSTD = 2, 2, 1, 5


def is_hdf5(target: object) -> bool:
    """Whether a dataset there is an HDF5 file, or would be one, by its name; a URL or a store is none."""
    return isinstance(target, (str, os.PathLike)) and (
        "://" not in str(target) and str(target).lower().endswith(SUFFIXES)
    )


def h5py_for(name: str) -> ModuleType:
    """The module h5py, which ``name`` needs; MissingPackageError if it is not installed."""
    return require("h5py", extra="hdf5", needed_by=name)


def register_filters(name: str) -> None:
    """Make the filters known to the HDF5 library, which writes their names into the file ``name``."""
    portable = "Files that are written with --portable need no such package."
    require("hdf5plugin", extra="hdf5", needed_by=f"Writing {name}", otherwise=portable)


def as_text(value: object) -> str:
    """A value as the text of an attribute."""
    return json.dumps(value, ensure_ascii=False)


def filters_of(codec: ChunkCodec, form: ArrayForm) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The numbers and parameters of the filters that encode chunks, without the checksum."""
    match codec:
        case ZstdChunk():
            yield _ZSTD, (codec.level,)
        case BloscChunk():
            parameters = (codec.itemsize, form.chunk_bytes, codec.level, _BYTE_SHUFFLE, _BLOSC_ZSTD)
            yield _BLOSC, (_BLOSC_REVISION, _BLOSC_FORMAT, *parameters)
        case DeflateChunk():
            if codec.itemsize > 1:
                yield _SHUFFLE, (codec.itemsize,)
            yield _DEFLATE, (codec.level,)


def codec_of(filters: Sequence[int], form: ArrayForm, where: str) -> ChunkCodec:
    """How chunks are encoded, by the numbers of their filters; DatasetError if these are unknown."""
    numbers = list(filters)
    checksum: Checksum = None
    if numbers and numbers[-1] == _FLETCHER32:
        checksum = "fletcher32"
        numbers.pop()
    if numbers == [_ZSTD]:
        return ZstdChunk(checksum=checksum)
    if numbers == [_BLOSC]:
        return BloscChunk(form.dtype.itemsize, checksum=checksum)
    if numbers in ([_DEFLATE], [_SHUFFLE, _DEFLATE]):
        return DeflateChunk(form.dtype.itemsize if len(numbers) == 2 else 1, checksum=checksum)
    raise DatasetError(
        f"{where} is encoded with the HDF5 filters {numbers or 'none'}: expected zstd ({_ZSTD}), blosc "
        f"({_BLOSC}), or gzip ({_DEFLATE}), with or without shuffle ({_SHUFFLE}) before it.",
        code="array-foreign",
    )


def numbers_of(codec: ChunkCodec, form: ArrayForm) -> tuple[int, ...]:
    """The numbers of all filters that encode chunks, with that of the checksum."""
    return (*(number for number, _ in filters_of(codec, form)), _FLETCHER32)
