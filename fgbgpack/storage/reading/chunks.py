"""The encoded chunks of an array, from files and from other stores."""

from __future__ import annotations

import asyncio
import math
import os
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.sync import sync
from zarr.storage import LocalStore

from fgbgpack.errors import DatasetError
from fgbgpack.storage.answers import answer
from fgbgpack.storage.array_metadata import LARGEST_CHUNK
from fgbgpack.storage.codecs import REPAIR
from fgbgpack.storage.hdf5 import Hdf5Store
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.processes import usable
from fgbgpack.storage.reading.open_files import OpenFile, OpenFiles
from fgbgpack.storage.sharding import ABSENT, index_bytes, read_index

Bytes: TypeAlias = NDArray[np.uint8]
Index: TypeAlias = NDArray[np.uint64]
#: A shard, and the number of a chunk in it.
Chunk: TypeAlias = tuple[int, int]


_KEPT_INDEXES = 2048  # of one array, about 1 KB each
_CONCURRENT_REQUESTS = 32
_LEAST_LIMIT = 1 << 16  # bytes of the smallest chunks
# For an index whose shard's size is not known: a chunk that is not there shows when it is read.
_ANY_SIZE = 2**63


class ArrayDescription:
    """What is known of an array before any of its chunks is read.

    A shard has ``chunks_down`` chunks along the samples and ``bands`` along the rows. Raises DatasetError if
    the array is cut in a way that fgbgpack does not write.
    """

    def __init__(
        self, path: str, name: str, layout: Layout, *, sharded: bool, chunk_bytes: int = LARGEST_CHUNK
    ) -> None:
        self.path, self.name, self.layout, self.sharded = path, name, layout, sharded
        chunks = math.prod(layout.grid)
        self.index_bytes = index_bytes(chunks)
        self.chunks_down = layout.grid[0]
        self.bands = chunks // self.chunks_down
        # No codec needs so much more than what it encodes.
        self._most_bytes = 2 * chunk_bytes + _LEAST_LIMIT
        rows = zip(layout.shape[1:2], layout.chunk[1:2], layout.shard[1:2], strict=True)
        in_bands = all(band <= height and down == -(-height // band) * band for height, band, down in rows)
        if not in_bands or layout.chunk[2:] != layout.shape[2:]:
            raise DatasetError(
                f"{name}/{path} of shape {layout.shape} is cut into chunks of {layout.chunk} and shards of "
                f"{layout.shard}, as fgbgpack does not write it: use zarr.",
                code="array-foreign",
            )

    def key(self, shard: int) -> str:
        """The key of a shard in the store."""
        return f"{self.path}/{self.layout.key(shard)}"

    def name_of(self, chunk: Chunk) -> str:
        """What messages call a chunk."""
        return f"Chunk {chunk[1]} of shard {self.name}/{self.key(chunk[0])}"

    def check_size(self, chunk: Chunk, size: int) -> None:
        """Raises DatasetError where a chunk has far more bytes than it could have, before they are read."""
        if size > self._most_bytes:
            raise DatasetError(
                f"{self.name_of(chunk)} is damaged: it has {size:,} bytes, more than can be. {REPAIR}",
                code="chunk-damaged",
            )

    def index(self, shard: int, tail: Bytes, size: int) -> Index:
        """(chunks, 2) uint64: offset and size of each chunk of a shard, from the end of the shard."""
        where = f"Shard {self.name}/{self.key(shard)}"
        return read_index(tail.data, size, self.layout.grid, where).reshape(-1, 2)


class ByteBuffer:
    """Memory for encoded chunks that grows as needed and is reused."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def take(self, size: int) -> Bytes:
        """(size,) uint8 with arbitrary content."""
        if len(self._bytes) < size:
            self._bytes = np.empty(size + size // 4, np.uint8)
        return self._bytes[:size]


class EncodedChunks(Protocol):
    """The encoded chunks of an array; DatasetError where the store cannot be read, or an index is damaged."""

    prefetch_limit: int

    def prefetch(self, chunks: Sequence[Chunk]) -> Mapping[Chunk, Bytes | None]:
        """Reads those of some chunks together that are slow one by one; values as of ``read``."""

    def read(self, chunk: Chunk, buffer: ByteBuffer) -> Bytes | None:
        """The bytes of a chunk, perhaps in ``buffer``; ``None`` if it was never written."""


def encoded_chunks(store: Store, description: ArrayDescription) -> EncodedChunks:
    """The encoded chunks of an array in a store, for one process."""
    if isinstance(store, Hdf5Store):
        return _Hdf5Chunks(store, description)
    if isinstance(store, LocalStore) and hasattr(os, "preadv"):
        return _FileChunks(str(store.root / description.path), description)
    return _StoreChunks(store, description)


class _LocalChunks:
    """Chunks in files, which are as fast one by one."""

    prefetch_limit = sys.maxsize
    _description: ArrayDescription

    def prefetch(self, chunks: Sequence[Chunk]) -> Mapping[Chunk, Bytes | None]:
        return {}

    def _unreadable(self, chunk: Chunk, error: OSError) -> DatasetError:
        return DatasetError(f"{self._description.name_of(chunk)} cannot be read: {error}.", code="io-failed")


class _FileChunks(_LocalChunks):
    """Chunks in files. They are read, not mapped: a map crashes the process if the file shrinks."""

    def __init__(self, folder: str, description: ArrayDescription) -> None:
        self._description = description

        files = OpenFiles()

        # Neither refers to this object: files are closed with it, not when cycles are collected.
        def opened(shard: int) -> OpenFile:
            return files.get(shard, f"{folder}/{description.layout.key(shard)}")

        @lru_cache(_KEPT_INDEXES)
        def index(shard: int) -> Index:
            file = opened(shard)
            size = os.fstat(file.number).st_size
            if not description.sharded:
                return np.array([[0, size]], np.uint64)
            tail = np.empty(min(size, description.index_bytes), np.uint8)
            os.preadv(file.number, [tail.data], size - len(tail))
            return description.index(shard, tail, size)

        self._opened, self._index = opened, index

    def read(self, chunk: Chunk, buffer: ByteBuffer) -> Bytes | None:
        shard, inner = chunk
        try:
            file = self._opened(shard)
            offset, size = self._index(shard)[inner].tolist()
            if offset == ABSENT:
                return None
            self._description.check_size(chunk, size)
            encoded = buffer.take(size)
            return encoded[: os.preadv(file.number, [encoded.data], offset)]
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise self._unreadable(chunk, exc) from exc


class _Hdf5Chunks(_LocalChunks):
    """Chunks in an HDF5 file, as they are encoded there."""

    def __init__(self, store: Hdf5Store, description: ArrayDescription) -> None:
        self._file = store.file
        self._description = description
        self._in_shard = description.chunks_down * description.bands

    def read(self, chunk: Chunk, buffer: ByteBuffer) -> Bytes | None:
        shard, inner = chunk
        try:
            number = shard * self._in_shard + inner
            return self._file.read(self._description.path, number, buffer.take)
        except OSError as exc:
            raise self._unreadable(chunk, exc) from exc


class _StoreChunks:
    """Chunks in any Zarr store, requested as byte ranges, many at a time."""

    prefetch_limit = _CONCURRENT_REQUESTS

    def __init__(self, store: Store, description: ArrayDescription) -> None:
        self._store, self._description = usable(store), description
        self._indexes: dict[int, Index] = {}  # the one used last comes last; only Zarr's thread uses it

    def prefetch(self, chunks: Sequence[Chunk]) -> Mapping[Chunk, Bytes | None]:
        async def all_of_them() -> list[Bytes | None]:
            shards = list(dict.fromkeys(shard for shard, _ in chunks))
            indexes = await asyncio.gather(*(self._index(shard) for shard in shards))
            index_of = dict(zip(shards, indexes, strict=True))
            return await asyncio.gather(*(self._chunk(chunk, index_of[chunk[0]]) for chunk in chunks))

        try:
            return dict(zip(chunks, sync(all_of_them()), strict=True)) if chunks else {}
        except DatasetError:
            raise
        except Exception as exc:  # each kind of store has errors of its own
            more = f", or one of the {len(chunks) - 1} read with it," if len(chunks) > 1 else ""
            raise DatasetError(
                f"{self._description.name_of(chunks[0])}{more} cannot be read: {exc}.", code="io-failed"
            ) from exc

    def read(self, chunk: Chunk, buffer: ByteBuffer) -> Bytes | None:
        return self.prefetch([chunk])[chunk]

    async def _index(self, shard: int) -> Index | None:
        """The index of a shard; ``None`` where there is no shard, for which the next read asks again."""
        if not self._description.sharded:
            return np.array([[0, _ANY_SIZE]], np.uint64)
        index = self._indexes.pop(shard, None)
        if index is None:
            where = f"Shard {self._description.name}/{self._description.key(shard)}"
            tail = await self._get(shard, SuffixByteRequest(self._description.index_bytes), where)
            if tail is None:
                return None
            is_whole = len(tail) < self._description.index_bytes
            index = self._description.index(shard, tail, len(tail) if is_whole else _ANY_SIZE)
        self._indexes[shard] = index
        if len(self._indexes) > _KEPT_INDEXES:
            del self._indexes[next(iter(self._indexes))]
        return index

    async def _chunk(self, chunk: Chunk, index: Index | None) -> Bytes | None:
        offset, size = (ABSENT, 0) if index is None else index[chunk[1]].tolist()
        if offset == ABSENT:
            return None
        if self._description.sharded:
            self._description.check_size(chunk, size)
        part = RangeByteRequest(offset, offset + size) if self._description.sharded else None
        return await self._get(chunk[0], part, self._description.name_of(chunk))

    async def _get(self, shard: int, request: ByteRequest | None, where: str) -> Bytes | None:
        value = await answer(self._store, self._description.key(shard), request, where)
        return None if value is None else np.frombuffer(value, np.uint8)
