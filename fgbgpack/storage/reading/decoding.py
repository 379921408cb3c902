"""Decoders and decoded chunks, kept from one read to the next."""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.storage import LocalStore

from fgbgpack.storage.codecs import ChunkCodec
from fgbgpack.storage.hdf5 import Hdf5Store
from fgbgpack.storage.manifest import is_within
from fgbgpack.storage.reading.cache import DatasetCache
from fgbgpack.storage.reading.checks import Checks
from fgbgpack.storage.reading.chunks import (
    ArrayDescription,
    ByteBuffer,
    Bytes,
    Chunk,
    EncodedChunks,
    FileChunks,
    Hdf5Chunks,
    ZipChunks,
)
from fgbgpack.storage.reading.remote import RemoteChunks
from fgbgpack.storage.zipped import LocalZipStore

Array: TypeAlias = NDArray[Any]
#: Encoded chunks that were read together; ``None`` for one that was never written.
Prefetched: TypeAlias = Mapping[Chunk, Bytes | None]


class DecodeSlot:
    """A decoder and its buffers for encoded and decoded bytes; one that keeps its chunk goes on where it
    stopped.
    """

    def __init__(self, codec: ChunkCodec) -> None:
        self.decoder = codec.decoder()
        self.buffer = ByteBuffer()
        self.decoded: Array | None = None
        self.started = False
        self.users = 0
        self.lock = threading.Lock()


class SlotCache:
    """The slots of one reader in one process. Those recently used keep their chunks, at most ``keep``."""

    def __init__(self, codec: ChunkCodec, keep: int) -> None:
        self.decoded, self.keep, self._codec = 0, keep, codec
        self._lock = threading.Lock()
        self._kept: OrderedDict[Chunk, DecodeSlot] = OrderedDict()
        self._spare: list[DecodeSlot] = []

    def __contains__(self, chunk: Chunk) -> bool:
        return chunk in self._kept

    def count(self) -> None:
        """One more chunk is decoded."""
        with self._lock:
            self.decoded += 1

    def borrow(self) -> DecodeSlot:
        """A slot without a chunk, to decode into the caller's memory."""
        with self._lock:
            return self._take()

    def release_borrowed(self, slot: DecodeSlot) -> None:
        """Return a borrowed slot; one that failed is not returned."""
        with self._lock:
            self._spare.append(slot)

    def acquire(self, chunk: Chunk) -> DecodeSlot:
        """The slot that has a chunk, or a new one for it, which keeps it until all users have released it."""
        with self._lock:
            slot = self._kept.get(chunk)
            if slot is None:
                self._clear(self.keep - 1)
                slot = self._kept[chunk] = self._take()
                slot.started = False
            else:
                self._kept.move_to_end(chunk)
            slot.users += 1
            return slot

    def release(self, slot: DecodeSlot) -> None:
        """Release a slot that was acquired."""
        with self._lock:
            slot.users -= 1
            self._clear(self.keep)

    def forget(self, chunk: Chunk) -> None:
        """Forgets a failed chunk so that the next reader retries."""
        with self._lock:
            self._kept.pop(chunk, None)

    def _take(self) -> DecodeSlot:
        return self._spare.pop() if self._spare else DecodeSlot(self._codec)

    def _clear(self, most: int) -> None:
        """Take the chunks of unused slots away, the oldest first, until at most so many keep one."""
        while len(self._kept) > most:
            free = next((chunk for chunk, slot in self._kept.items() if not slot.users), None)
            if free is None:
                break
            self._spare.append(self._kept.pop(free))


def _encoded_chunks(
    store: Store, description: ArrayDescription, codec: ChunkCodec, cache: DatasetCache | None
) -> EncodedChunks:
    """The encoded chunks of an array in a store, for one process."""
    if isinstance(store, Hdf5Store):
        return Hdf5Chunks(store, description)
    if isinstance(store, LocalZipStore):
        return ZipChunks(store, description)
    if isinstance(store, LocalStore) and hasattr(os, "preadv"):
        return FileChunks(str(store.root / description.path), description)
    shards = None if cache is None else cache.shards(description.path, description.index_bytes)
    return RemoteChunks(store, description, checksummed=codec.checksum == "crc32c", cache=shards)


class DecodeState:
    """The open files, indexes and slots of a reader in one process, and how it decodes with them."""

    def __init__(
        self,
        store: Store,
        description: ArrayDescription,
        codec: ChunkCodec,
        dtype: np.dtype[Any],
        keep: int,
        checks: Checks | None,
        cache: DatasetCache | None,
    ) -> None:
        self.process = os.getpid()
        self._checks = checks
        self._layout, self._in_shard = description.layout, description.chunks_down * description.bands
        self.slots = SlotCache(codec, keep)
        self.chunks = _encoded_chunks(store, description, codec, cache)
        self.shape = description.layout.chunk
        self.bytes = math.prod(self.shape) * dtype.itemsize
        self._name_of = description.name_of
        self._stored_dtype = dtype.newbyteorder("<")

    def fits(self, target: Array, samples: int) -> bool:
        """Whether a whole chunk can be decoded right into ``target``, which has so many samples."""
        return (
            samples == self.shape[0]
            and target.nbytes == self.bytes
            and target.flags.c_contiguous
            and target.dtype == self._stored_dtype
        )

    def decode_into(
        self, target: Array, chunk: Chunk, prefetched: Prefetched, *, checked: bool = True
    ) -> bool:
        """Decode a whole chunk into ``target``; returns whether there is such a chunk."""
        slot = self.slots.borrow()
        written = self._begin(slot, target, chunk, prefetched, checked=checked)
        if written:
            slot.decoder.decode_to(self.bytes)
        self.slots.release_borrowed(slot)
        return written

    def decode(self, slot: DecodeSlot, last: int, chunk: Chunk, prefetched: Prefetched) -> Array | None:
        """A chunk in the slot acquired for it, decoded at least to a sample; ``None`` if there is none."""
        with slot.lock:
            if slot.decoded is None:
                slot.decoded = np.empty(self.shape, self._stored_dtype)
            if not slot.started:
                slot.started = self._begin(slot, slot.decoded, chunk, prefetched)
            if not slot.started:
                return None
            slot.decoder.decode_to((last + 1) * (self.bytes // self.shape[0]))
            return slot.decoded

    def check(self, chunk: Chunk, encoded: Bytes | None) -> None:
        """Raises DatasetError where a chunk is not the one that the manifest names, if there is one."""
        if self._checks is None:
            return
        number = chunk[0] * self._in_shard + chunk[1]
        # Beyond the last sample nothing is ever written.
        if encoded is not None or is_within(self._layout, number):
            self._checks.check(number, encoded, partial(self._name_of, chunk))

    def _begin(
        self, slot: DecodeSlot, target: Array, chunk: Chunk, prefetched: Prefetched, *, checked: bool = True
    ) -> bool:
        encoded = prefetched[chunk] if chunk in prefetched else self.chunks.read(chunk, slot.buffer)
        if checked:
            self.check(chunk, encoded)
        if encoded is None:
            return False
        slot.decoder.begin(encoded, target.reshape(-1).view(np.uint8), partial(self._name_of, chunk))
        self.slots.count()
        return True
