"""What it takes to decode chunks, kept from one read to the next."""

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

from fgbgpack.storage.codecs import ChunkCodec
from fgbgpack.storage.reading.chunks import Bytes, Chunk, Description, EncodedChunks, Room, encoded_chunks

Array: TypeAlias = NDArray[Any]


class Bench:
    """What it takes to decode a chunk: a decoder, room for the bytes, and where needed for the result.

    A bench that keeps its chunk goes on from where it was.
    """

    def __init__(self, codec: ChunkCodec) -> None:
        self.decoder = codec.decoder()
        self.room = Room()
        self.decoded: Array | None = None
        self.begun = False
        self.users = 0
        self.lock = threading.Lock()


class Benches:
    """The benches of one reader in one process. Those used last keep their chunks.

    Args:
        codec: How the chunks are encoded.
        keep: How many keep their chunks.

    Attributes:
        keep: How many keep their chunks, from the next release on.
        decoded: How many chunks were decoded so far.
    """

    def __init__(self, codec: ChunkCodec, keep: int) -> None:
        self.decoded = 0
        self._codec = codec
        self.keep = keep
        self._lock = threading.Lock()
        self._kept: OrderedDict[Chunk, Bench] = OrderedDict()
        self._spare: list[Bench] = []

    def __contains__(self, chunk: Chunk) -> bool:
        return chunk in self._kept

    def count(self) -> None:
        """One more chunk is decoded."""
        with self._lock:
            self.decoded += 1

    def borrow(self) -> Bench:
        """A bench without a chunk, to decode into other memory than its own."""
        with self._lock:
            return self._take()

    def give_back(self, bench: Bench) -> None:
        """What was borrowed; a bench that failed is better forgotten."""
        with self._lock:
            self._spare.append(bench)

    def hold(self, chunk: Chunk) -> Bench:
        """The bench that has a chunk, or one to begin it on, which keeps it until all have released it."""
        with self._lock:
            bench = self._kept.get(chunk)
            if bench is None:
                self._clear(self.keep - 1)
                bench = self._kept[chunk] = self._take()
                bench.begun = False
            else:
                self._kept.move_to_end(chunk)
            bench.users += 1
            return bench

    def release(self, bench: Bench) -> None:
        """What was held."""
        with self._lock:
            bench.users -= 1
            self._clear(self.keep)

    def forget(self, chunk: Chunk) -> None:
        """A chunk that failed: who asks next begins it anew."""
        with self._lock:
            self._kept.pop(chunk, None)

    def _take(self) -> Bench:
        return self._spare.pop() if self._spare else Bench(self._codec)

    def _clear(self, most: int) -> None:
        """Part benches that nobody holds from their chunks, the oldest first, until so many have one."""
        while len(self._kept) > most:
            free = next((chunk for chunk, bench in self._kept.items() if not bench.users), None)
            if free is None:
                break
            self._spare.append(self._kept.pop(free))


class Decoding:
    """What a reader holds in one process, and how it decodes there."""

    def __init__(
        self, store: Store, description: Description, codec: ChunkCodec, dtype: np.dtype[Any], keep: int
    ) -> None:
        self.process = os.getpid()
        self.benches = Benches(codec, keep)
        self.chunks: EncodedChunks = encoded_chunks(store, description)
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

    def decode_into(self, target: Array, chunk: Chunk, early: Mapping[Chunk, Bytes | None]) -> bool:
        """Decode a whole chunk; whether there is such a chunk."""
        bench = self.benches.borrow()
        written = self._begin(bench, target, chunk, early)
        if written:
            bench.decoder.reach(self.bytes)
        self.benches.give_back(bench)
        return written

    def decode(
        self, bench: Bench, last: int, chunk: Chunk, early: Mapping[Chunk, Bytes | None]
    ) -> Array | None:
        """A chunk on a bench that was held for it, decoded at least to a sample; ``None``: there is none."""
        with bench.lock:
            if bench.decoded is None:
                bench.decoded = np.empty(self.shape, self._stored_dtype)
            if not bench.begun:
                bench.begun = self._begin(bench, bench.decoded, chunk, early)
            if not bench.begun:
                return None
            bench.decoder.reach((last + 1) * (self.bytes // self.shape[0]))
            return bench.decoded

    def _begin(self, bench: Bench, target: Array, chunk: Chunk, early: Mapping[Chunk, Bytes | None]) -> bool:
        encoded = early[chunk] if chunk in early else self.chunks.read(chunk, bench.room)
        if encoded is None:
            return False
        bench.decoder.begin(encoded, target.reshape(-1).view(np.uint8), partial(self._name_of, chunk))
        self.benches.count()
        return True
