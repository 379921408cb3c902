"""How a Zarr array is cut and encoded, and what HDF5 calls that."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from fgbgpack.errors import DatasetError
from fgbgpack.storage.codecs import BloscChunk, Checksum, ChunkCodec, DeflateChunk, ZstdChunk, codec_of
from fgbgpack.storage.layout import Layout

#: The attribute of the root that holds the document, and that of all groups and arrays with their metadata.
DOCUMENT, ZARR = "fgbgpack", "zarr"
#: The attribute of the root with the paths of all of them, in the order in which the Zarr lists them.
ORDER = "zarr_order"

#: What the folder beside a file is called in which it is made.
UNFINISHED = ".unfinished"

_SUFFIXES = (".h5", ".hdf5")

# The registered numbers of HDF5 filters.
_DEFLATE, _SHUFFLE, _FLETCHER32, _BLOSC, _ZSTD = 1, 2, 3, 32001, 32015
# What the blosc filter is told: its own revision, the format's, and the compressors by number.
_BLOSC_REVISION, _BLOSC_FORMAT, _BYTE_SHUFFLE = 2, 2, 1
_BLOSC_COMPRESSORS = {"lz4hc": 2, "zstd": 5}

#: The metadata of a Zarr array or group, as its ``zarr.json`` has them.
Node: TypeAlias = Mapping[str, Any]


def is_hdf5(target: object) -> bool:
    """Whether a dataset there is an HDF5 file, or would be one, by its name; a URL or a store is none."""
    return isinstance(target, (str, os.PathLike)) and (
        "://" not in str(target) and str(target).lower().endswith(_SUFFIXES)
    )


def h5py_for(name: str) -> ModuleType:
    """The module h5py; ``name`` is what it is needed for.

    Raises:
        DatasetError: It is not installed.
    """
    try:
        import h5py
    except ImportError as exc:
        raise DatasetError(f'{name} is an HDF5 file, which needs h5py: pip install "fgbgpack[hdf5]"') from exc
    module: ModuleType = h5py
    return module


def register_filters(name: str) -> None:
    """Make the filters known to the HDF5 library, which writes their names into the file ``name``.

    Raises:
        DatasetError: hdf5plugin is not installed.
    """
    try:
        import hdf5plugin  # noqa: F401
    except ImportError as exc:
        raise DatasetError(
            f'Writing {name} needs hdf5plugin: pip install "fgbgpack[hdf5]", or write it with --portable.'
        ) from exc


def as_text(value: object) -> str:
    """A value as the text of an attribute."""
    return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True)
class Form:
    """How a Zarr array is cut and encoded.

    Attributes:
        layout: How it is cut.
        sharded: Whether its chunks lie in shards; else each is an object of its own.
        codec: How its chunks are encoded.
        dtype: The type of its elements, little-endian.
    """

    layout: Layout
    sharded: bool
    codec: ChunkCodec
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, node: Node, where: str) -> Form:
        """The form that metadata describe.

        Raises:
            DatasetError: They are not as fgbgpack writes them.
        """
        try:
            dtype = np.dtype(node["data_type"]).newbyteorder("<")
            shape, shard = tuple(node["shape"]), tuple(node["chunk_grid"]["configuration"]["chunk_shape"])
            chunk, codecs = shard, node["codecs"]
            sharded = codecs[0]["name"] == "sharding_indexed"
            if sharded:
                chunk = tuple(codecs[0]["configuration"]["chunk_shape"])
                codecs = codecs[0]["configuration"]["codecs"]
            codec = codec_of(codecs, dtype.itemsize)
        except (KeyError, TypeError, ValueError, IndexError) as exc:
            raise DatasetError(f"The Zarr metadata of {where} are damaged: {exc!r}.") from exc
        if codec is None:
            names = ", ".join(codec["name"] for codec in codecs)
            raise DatasetError(f"{where} is encoded with {names}, as fgbgpack does not write it: use zarr.")
        return cls(Layout(shape, chunk, shard), sharded, codec, dtype)

    @property
    def chunk_bytes(self) -> int:
        """The bytes of a decoded chunk."""
        return math.prod(self.layout.chunk) * self.dtype.itemsize

    @property
    def grid(self) -> tuple[int, ...]:
        """Chunks of the whole array, along each axis."""
        return tuple(-(-n // c) for n, c in zip(self.layout.shape, self.layout.chunk, strict=True))

    @property
    def in_shard(self) -> int:
        """Chunks of a shard."""
        return math.prod(self.layout.grid)


def filters_of(codec: ChunkCodec, form: Form) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The numbers of the filters that encode chunks, less the checksum, and what each is told."""
    match codec:
        case ZstdChunk():
            yield _ZSTD, (codec.level,)
        case BloscChunk():
            compressor = _BLOSC_COMPRESSORS[codec.compressor]
            told = (codec.itemsize, form.chunk_bytes, codec.level, _BYTE_SHUFFLE, compressor)
            yield _BLOSC, (_BLOSC_REVISION, _BLOSC_FORMAT, *told)
        case DeflateChunk():
            if codec.itemsize > 1:
                yield _SHUFFLE, (codec.itemsize,)
            yield _DEFLATE, (codec.level,)


def codec_in(array: Any, form: Form, where: str) -> ChunkCodec:
    """How the chunks of an HDF5 array are encoded.

    Raises:
        DatasetError: In another way than those that are known, or they are cut otherwise.
    """
    if array.chunks != form.layout.chunk or array.shape != form.layout.shape or array.dtype != form.dtype:
        raise DatasetError(
            f"{where} is {array.dtype} of shape {array.shape} in chunks of {array.chunks}, but its attribute "
            f"{ZARR!r} says {form.dtype} of shape {form.layout.shape} in chunks of {form.layout.chunk}."
        )
    creation = array.id.get_create_plist()
    numbers = [creation.get_filter(i)[0] for i in range(creation.get_nfilters())]
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
        f"({_BLOSC}), or gzip ({_DEFLATE}), with or without shuffle ({_SHUFFLE}) before it."
    )
