"""The encoded chunks of an array, from files; what all kinds of them have in common."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.errors import DatasetError
from fgbgpack.files import why
from fgbgpack.storage.array_metadata import LARGEST_CHUNK
from fgbgpack.storage.codecs import REPAIR
from fgbgpack.storage.hdf5 import Hdf5Store
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.reading.open_files import OpenFile, OpenFiles
from fgbgpack.storage.sharding import ABSENT, index_bytes, read_index
from fgbgpack.storage.zipped import LocalZipStore

Bytes: TypeAlias = NDArray[np.uint8]
Index: TypeAlias = NDArray[np.uint64]
#: A shard, and the number of a chunk in it.
Chunk: TypeAlias = tuple[int, int]

#: Indexes of shards that stay in memory, of one array: about 1 KB each.
KEPT_INDEXES = 2048
_LEAST_LIMIT = 1 << 16  # bytes of the smallest chunks


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
        #: Bytes of a chunk, decoded: what one is taken for whose size is not known.
        self.chunk_bytes = chunk_bytes
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

    def shard_name(self, shard: int) -> str:
        """What messages call a shard."""
        return f"Shard {self.name}/{self.key(shard)}"

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
        return read_index(tail.data, size, self.layout.grid, self.shard_name(shard)).reshape(-1, 2)


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
    #: Whether chunks can be asked for before they are needed.
    reads_ahead: bool

    def prefetch(self, chunks: Sequence[Chunk]) -> Mapping[Chunk, Bytes | None]:
        """Asks for those of some chunks together that are slow one by one. A chunk that is not there yet is
        waited for when it is looked up; values as of ``read``.
        """

    def ahead(self, stream: Hashable, chunks: Iterable[Chunk]) -> None:
        """Asks for those of some chunks that are slow one by one; the next reads of a stream need them."""

    def read(self, chunk: Chunk, buffer: ByteBuffer) -> Bytes | None:
        """The bytes of a chunk, perhaps in ``buffer``; ``None`` if it was never written."""


class _LocalChunks:
    """Chunks in files, which are as fast one by one."""

    prefetch_limit = sys.maxsize
    reads_ahead = False
    _description: ArrayDescription

    def prefetch(self, chunks: Sequence[Chunk]) -> Mapping[Chunk, Bytes | None]:
        return {}

    def ahead(self, stream: Hashable, chunks: Iterable[Chunk]) -> None:
        pass

    def _unreadable(self, chunk: Chunk, error: OSError) -> DatasetError:
        reason = why(error, self._description.key(chunk[0]))
        return DatasetError(f"{self._description.name_of(chunk)} cannot be read: {reason}.", code="io-failed")


class FileChunks(_LocalChunks):
    """Chunks in files. They are read, not mapped: a map crashes the process if the file shrinks."""

    def __init__(self, folder: str, description: ArrayDescription) -> None:
        self._description = description
        files = OpenFiles()

        # Neither refers to this object: files are closed with it, not when cycles are collected.
        def opened(shard: int) -> OpenFile:
            return files.get(shard, f"{folder}/{description.layout.key(shard)}")

        @lru_cache(KEPT_INDEXES)
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
        """As :meth:`EncodedChunks.read`."""
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


class ZipChunks(_LocalChunks):
    """Chunks in shards that are files in a zip file."""

    def __init__(self, store: LocalZipStore, description: ArrayDescription) -> None:
        self._description, self._store = description, store

        @lru_cache(KEPT_INDEXES)
        def index(shard: int) -> tuple[int, Index] | None:
            if (span := store.span(description.key(shard))) is None:
                return None
            start, size = span
            if not description.sharded:
                return start, np.array([[0, size]], np.uint64)
            length = min(size, description.index_bytes)
            tail = np.frombuffer(store.read_at(start + size - length, length), np.uint8)
            return start, description.index(shard, tail, size)

        self._index = index

    def read(self, chunk: Chunk, buffer: ByteBuffer) -> Bytes | None:
        """As :meth:`EncodedChunks.read`."""
        shard, inner = chunk
        try:
            if (found := self._index(shard)) is None:
                return None
            start, index = found
            offset, size = index[inner].tolist()
            if offset == ABSENT:
                return None
            self._description.check_size(chunk, size)
            return np.frombuffer(self._store.read_at(start + offset, size), np.uint8)
        except OSError as exc:
            raise self._unreadable(chunk, exc) from exc


class Hdf5Chunks(_LocalChunks):
    """Chunks in an HDF5 file, as they are encoded there."""

    def __init__(self, store: Hdf5Store, description: ArrayDescription) -> None:
        self._file = store.file
        self._description = description
        self._in_shard = description.chunks_down * description.bands

    def read(self, chunk: Chunk, buffer: ByteBuffer) -> Bytes | None:
        """As :meth:`EncodedChunks.read`."""
        shard, inner = chunk
        try:
            number = shard * self._in_shard + inner
            return self._file.read(self._description.path, number, buffer.take)
        except OSError as exc:
            raise self._unreadable(chunk, exc) from exc
