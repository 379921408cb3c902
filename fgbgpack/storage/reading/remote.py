"""The encoded chunks of an array in a store that is not a folder: in ranges of many chunks, asked for at once
and ahead of time.

What is needed now is asked for at once. What is needed soon is asked for as well, together where it lies
together, as long as all of it that is not yet used takes no more than ``AHEAD_BYTES`` in this process.
A reader waits only for the chunk that it decodes next.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np
from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.sync import _get_loop

from fgbgpack.errors import DatasetError
from fgbgpack.storage.answers import answer
from fgbgpack.storage.codecs import CRC_BYTES, is_whole
from fgbgpack.storage.failures import unreadable
from fgbgpack.storage.processes import usable
from fgbgpack.storage.reading.cache import CachedShards
from fgbgpack.storage.reading.chunks import (
    KEPT_INDEXES,
    ArrayDescription,
    ByteBuffer,
    Bytes,
    Chunk,
    Index,
)
from fgbgpack.storage.reading.ranges import Part, Span, joined
from fgbgpack.storage.sharding import ABSENT

#: Bytes that a process holds at most of what was read ahead and is not yet used, of all arrays together.
AHEAD_BYTES = 128 << 20
#: Requests of a process that are on their way at once: for what is needed now, and for what is read ahead.
REQUESTS, REQUESTS_AHEAD = 32, 16
# For an index whose shard's size is not known: a chunk that is not there shows when it is read.
_ANY_SIZE = 2**63


class _Requests:
    """The requests of a process that go on at once; each event loop has its own."""

    def __init__(self) -> None:
        self._of: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[asyncio.Semaphore, asyncio.Semaphore]
        ] = weakref.WeakKeyDictionary()

    def slot(self, *, ahead: bool) -> asyncio.Semaphore:
        """What a coroutine holds while it waits for an answer."""
        loop = asyncio.get_running_loop()
        if loop not in self._of:
            self._of[loop] = asyncio.Semaphore(REQUESTS), asyncio.Semaphore(REQUESTS_AHEAD)
        return self._of[loop][ahead]


_requests = _Requests()
#: The readers of this process, whose chunks are read ahead.
_readers: weakref.WeakSet[RemoteChunks] = weakref.WeakSet()


def _forget_readers() -> None:
    # Those of the parent hold nothing here.
    global _readers
    _readers = weakref.WeakSet()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_readers)


class _NoRoom(Exception):
    """A chunk that was to be read ahead, and was given up."""


class _Coming:
    """A chunk that was asked for, and the bytes that it holds of those for reading ahead."""

    __slots__ = ("future", "held")

    def __init__(self) -> None:
        self.future: Future[Bytes | None] = Future()
        self.held = 0

    def settle(self, value: Bytes | None) -> None:
        """The chunk is there; one that was given up stays so."""
        if not self.future.done():
            self.future.set_result(value)

    def fail(self, error: Exception) -> None:
        """The chunk cannot be had."""
        if not self.future.done():
            self.future.set_exception(error)


class Claimed(Mapping[Chunk, "Bytes | None"]):
    """Chunks that were asked for; each is waited for when it is looked up."""

    def __init__(self, reader: RemoteChunks, coming: dict[Chunk, _Coming]) -> None:
        self._reader, self._coming = reader, coming

    def __getitem__(self, chunk: Chunk) -> Bytes | None:
        return self._reader.wait(chunk, self._coming[chunk])

    def __contains__(self, chunk: object) -> bool:
        return chunk in self._coming

    def __iter__(self) -> Iterator[Chunk]:
        return iter(self._coming)

    def __len__(self) -> int:
        return len(self._coming)


class RemoteChunks:
    """Chunks in any Zarr store, asked for as byte ranges, many at a time. It may be used on threads.

    ``checksummed`` tells that each chunk ends with its CRC-32C: one that is wrong is asked for again. Only
    those of shards can be kept in a ``cache``.
    """

    prefetch_limit = 32
    reads_ahead = True

    def __init__(
        self,
        store: Store,
        description: ArrayDescription,
        *,
        checksummed: bool,
        cache: CachedShards | None = None,
    ) -> None:
        self._store, self._description = usable(store), description
        self._checksummed = checksummed
        self._cache = cache if checksummed and description.sharded else None
        self._lock = threading.RLock()
        #: What was read ahead, or is on its way, and by which stream.
        self._coming: dict[Chunk, _Coming] = {}
        self._streams: dict[Hashable, set[Chunk]] = {}
        self._indexes: dict[int, Index] = {}  # the one used last comes last
        self._index_tasks: dict[int, asyncio.Task[Index | None]] = {}  # only Zarr's thread uses it
        #: Bytes of ``_coming``, once their number is known.
        self.held = 0
        _readers.add(self)

    # --- for readers -------------------------------------------------------------------------------

    def prefetch(self, chunks: Sequence[Chunk]) -> Mapping[Chunk, Bytes | None]:
        """Asks for some chunks, without waiting; see :class:`Claimed`."""
        claimed: dict[Chunk, _Coming] = {}
        missing: dict[Chunk, _Coming] = {}
        for chunk in chunks:
            coming = self._take(chunk)
            if coming is None:
                coming = _Coming()
                if not self._take_cached(chunk, coming):
                    missing[chunk] = coming
            claimed[chunk] = coming
        if missing:
            self._start(self._fetch(missing))
        return Claimed(self, claimed)

    def read(self, chunk: Chunk, buffer: ByteBuffer) -> Bytes | None:
        """The bytes of a chunk; ``None`` if it was never written."""
        return self.prefetch([chunk])[chunk]

    def ahead(self, stream: Hashable, chunks: Iterable[Chunk]) -> None:
        """Asks for the chunks that a stream of reads needs next, as far as there is room for them. Those that
        it has asked for before and does not need any more are given up.
        """
        wanted = dict.fromkeys(chunks)
        with self._lock:
            before = self._streams.pop(stream, set())
            for chunk in before - wanted.keys():
                self._take(chunk)
            missing = {
                chunk: _Coming()
                for chunk in wanted
                if chunk not in self._coming and not self._seems_cached(chunk)
            }
            self._coming |= missing
            if mine := (before | missing.keys()) & wanted.keys() & self._coming.keys():
                self._streams[stream] = mine
        if missing:
            self._start(self._fetch(missing, ahead=True))

    def wait(self, chunk: Chunk, coming: _Coming) -> Bytes | None:
        """The bytes of a chunk that was asked for; DatasetError where they cannot be had."""
        try:
            return coming.future.result()
        except _NoRoom:
            return self.prefetch([chunk])[chunk]
        except DatasetError:
            raise
        except Exception as exc:  # each kind of store has errors of its own
            raise unreadable(exc, self._description.name_of(chunk), "GET") from exc

    def _take(self, chunk: Chunk) -> _Coming | None:
        """A chunk that was read ahead, which then holds no bytes any more."""
        with self._lock:
            coming = self._coming.pop(chunk, None)
            if coming is not None:
                self.held -= coming.held
                coming.held = 0
            return coming

    def _give_up(self, chunk: Chunk, coming: _Coming) -> bool:
        """Leaves a chunk to be asked for again when it is needed, unless it is already."""
        with self._lock:
            if self._coming.get(chunk) is not coming:
                return False
            self._take(chunk)
        coming.fail(_NoRoom())
        return True

    # --- what is kept on this machine --------------------------------------------------------------

    def _known_index(self, shard: int) -> Index | None:
        """The index of a shard, if it is known without asking the store."""
        with self._lock:
            index = self._indexes.pop(shard, None)
            if index is not None:
                self._indexes[shard] = index
        if index is None and self._cache is not None and (tail := self._cache.index(shard)) is not None:
            try:
                index = self._index_in(shard, tail)
            except DatasetError:
                return None
            self._note_index(shard, index)
        return index

    def _note_index(self, shard: int, index: Index) -> None:
        with self._lock:
            self._indexes[shard] = index
            if len(self._indexes) > KEPT_INDEXES:
                del self._indexes[next(iter(self._indexes))]

    def _place(self, chunk: Chunk) -> tuple[int, int] | None:
        """Where a chunk is in its shard, and its size, if that is known."""
        if self._cache is None or (index := self._known_index(chunk[0])) is None:
            return None
        offset, size = index[chunk[1]].tolist()
        if offset == ABSENT or size < CRC_BYTES:
            return None
        self._description.check_size(chunk, size)
        return offset, size

    def _take_cached(self, chunk: Chunk, coming: _Coming) -> bool:
        """Gives a chunk that is kept on this machine; whether there is one that is whole."""
        if self._cache is None or (place := self._place(chunk)) is None:
            return False
        data = self._cache.chunk(chunk[0], *place)
        if data is None or not is_whole(data, "crc32c"):
            return False
        coming.settle(data)
        return True

    def _seems_cached(self, chunk: Chunk) -> bool:
        """Whether a chunk ends on this machine with something."""
        if self._cache is None or (place := self._place(chunk)) is None:
            return False
        offset, size = place
        end = self._cache.chunk(chunk[0], offset + size - CRC_BYTES, CRC_BYTES)
        return end is not None and bool(end.any())

    # --- asking the store --------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, _get_loop())

    async def _fetch(self, chunks: Mapping[Chunk, _Coming], *, ahead: bool = False) -> None:
        """Asks for some chunks, those of each shard as soon as its index is known."""
        of_shards: dict[int, dict[Chunk, _Coming]] = {}
        for chunk, coming in chunks.items():
            of_shards.setdefault(chunk[0], {})[chunk] = coming
        try:
            await asyncio.gather(*(self._fetch_of(shard, some, ahead) for shard, some in of_shards.items()))
        finally:
            # Nobody waits for ever, not even where the loop is ended.
            for coming in chunks.values():
                coming.fail(RuntimeError("the request was given up"))

    async def _fetch_of(self, shard: int, chunks: Mapping[Chunk, _Coming], ahead: bool) -> None:
        try:
            index = await self._index(shard, ahead)
            parts: list[Part] = []
            for chunk, coming in chunks.items():
                offset, size = (ABSENT, 0) if index is None else index[chunk[1]].tolist()
                if offset == ABSENT:
                    coming.settle(None)
                    continue
                if self._description.sharded:
                    self._description.check_size(chunk, size)
                else:
                    size = self._description.chunk_bytes
                parts.append((chunk[1], offset, size))
        except Exception as exc:
            self._fail(chunks, exc, ahead)
            return
        await asyncio.gather(
            *(
                self._fetch_span(
                    shard, span, {(shard, inner): chunks[shard, inner] for inner, _, _ in span.parts}, ahead
                )
                for span in joined(parts)
            )
        )

    async def _fetch_span(self, shard: int, span: Span, chunks: Mapping[Chunk, _Coming], ahead: bool) -> None:
        if ahead and not self._has_room(chunks, span):
            return
        request = RangeByteRequest(span.start, span.stop) if self._description.sharded else None
        where = self._description.name_of((shard, span.parts[0][0]))
        if len(span.parts) > 1:
            where += f", or one of the {len(span.parts) - 1} read with it,"
        try:
            value = await self._get(shard, request, where, partial(self._is_right, span), ahead)
            data = self._parts_of(span, value)
            if self._cache is not None and value is not None:
                await asyncio.to_thread(self._keep, self._cache, shard, span, data)
        except Exception as exc:
            self._fail(chunks, exc, ahead)
            return
        for chunk, coming in chunks.items():
            coming.settle(data.get(chunk[1]))

    def _parts_of(self, span: Span, value: bytes | None) -> dict[int, Bytes]:
        """The chunks of a span, by their numbers in the shard."""
        if value is None:
            return {}
        data = np.frombuffer(value, np.uint8)
        if not self._description.sharded:
            return {span.parts[0][0]: data}
        return {inner: data[start - span.start :][:size] for inner, start, size in span.parts}

    def _is_right(self, span: Span, value: bytes) -> bool:
        """Whether every chunk of a span ends with its checksum."""
        if not self._checksummed:
            return True
        return all(is_whole(chunk, "crc32c") for chunk in self._parts_of(span, value).values())

    @staticmethod
    def _keep(cache: CachedShards, shard: int, span: Span, data: Mapping[int, Bytes]) -> None:
        for inner, start, _ in span.parts:
            if is_whole(data[inner], "crc32c"):
                cache.keep_chunk(shard, start, data[inner])

    def _has_room(self, chunks: Mapping[Chunk, _Coming], span: Span) -> bool:
        """Whether a span is to be asked for that is to be read ahead; else its chunks are given up."""
        with self._lock:
            # What is waited for by now is no longer among them.
            unclaimed = {
                chunk: coming for chunk, coming in chunks.items() if self._coming.get(chunk) is coming
            }
            if sum(reader.held for reader in list(_readers)) + span.size <= AHEAD_BYTES:
                for coming in unclaimed.values():
                    coming.held = span.size // len(chunks)
                    self.held += coming.held
                return True
            for chunk, coming in unclaimed.items():
                self._give_up(chunk, coming)
            return len(unclaimed) < len(chunks)

    def _fail(self, chunks: Mapping[Chunk, _Coming], error: Exception, ahead: bool) -> None:
        """Chunks cannot be had; what was read ahead is asked for again when it is needed."""
        for chunk, coming in chunks.items():
            if not (ahead and self._give_up(chunk, coming)):
                coming.fail(error)

    async def _index(self, shard: int, ahead: bool) -> Index | None:
        """The index of a shard; ``None`` where there is no shard, for which the next read asks again."""
        if not self._description.sharded:
            return _WHOLE
        if (index := self._known_index(shard)) is not None:
            return index
        task = self._index_tasks.get(shard)
        if task is None:
            task = self._index_tasks[shard] = asyncio.ensure_future(self._ask_index(shard, ahead))
            task.add_done_callback(lambda _: self._index_tasks.pop(shard, None))
        return await task

    async def _ask_index(self, shard: int, ahead: bool) -> Index | None:
        size = self._description.index_bytes
        where = self._description.shard_name(shard)
        tail = await self._get(shard, SuffixByteRequest(size), where, partial(self._is_index, shard), ahead)
        if tail is None:
            return None
        index = self._index_in(shard, tail)
        self._note_index(shard, index)
        if self._cache is not None:
            await asyncio.to_thread(self._cache.keep_index, shard, tail)
        return index

    def _index_in(self, shard: int, tail: bytes) -> Index:
        # A tail shorter than an index is the whole of its shard.
        size = len(tail) if len(tail) < self._description.index_bytes else _ANY_SIZE
        return self._description.index(shard, np.frombuffer(tail, np.uint8), size)

    def _is_index(self, shard: int, tail: bytes) -> bool:
        try:
            self._index_in(shard, tail)
        except DatasetError:
            return False
        return True

    async def _get(
        self,
        shard: int,
        request: ByteRequest | None,
        where: str,
        is_right: Callable[[bytes], bool],
        ahead: bool,
    ) -> bytes | None:
        async with _requests.slot(ahead=ahead):
            return await answer(self._store, self._description.key(shard), request, where, is_right=is_right)


_WHOLE: Index = np.array([[0, _ANY_SIZE]], np.uint64)
