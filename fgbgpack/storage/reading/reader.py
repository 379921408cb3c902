"""Any samples of an array: each chunk touched is decoded once, no further than needed, on threads, into the
caller's array.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store

from fgbgpack.errors import SpecError
from fgbgpack.storage.arrays import ArrayForm
from fgbgpack.storage.hdf5 import Hdf5Store
from fgbgpack.storage.indices import extremes, sample_indices
from fgbgpack.storage.reading.cache import DatasetCache
from fgbgpack.storage.reading.checks import Checks
from fgbgpack.storage.reading.chunks import ArrayDescription, ByteBuffer, Bytes, Chunk
from fgbgpack.storage.reading.decoding import DecodeState
from fgbgpack.storage.reading.threads import helpers, usable_cores

Array: TypeAlias = NDArray[Any]
Samples: TypeAlias = Sequence[int] | NDArray[np.integer[Any]]

_ALL = slice(None)
# Waking a thread takes about as long as decoding so much.
_THREADED_BYTES = 1 << 19
# Smaller parts of samples are copied by NumPy all at once, larger ones each on its own.
_SMALL_BYTES = 1 << 10
# Of a large read, as many times what is asked for together is read ahead at once, so that it lies together.
_AHEAD = 4


class ArrayReader:
    """Reads samples of one array that fgbgpack wrote. It may be used on threads, forked and pickled.

    Files are opened when they are first read, and few stay open; other stores are asked for ranges. ``keep``
    decoded chunks, at least 1, stay for reads that come back to them; a reader takes memory for as many, and
    for one more on each further thread. Raises DatasetError if the array is cut in a way that fgbgpack does
    not write.
    """

    def __init__(
        self,
        store: Store,
        path: str,
        name: str,
        form: ArrayForm,
        *,
        keep: int = 1,
        checks: Checks | None = None,
        cache: DatasetCache | None = None,
    ) -> None:
        self.layout, self.dtype, self.attributes = form.layout, form.dtype, form.attributes
        # In an HDF5 file chunks have other checksums, or are deflated.
        self.codec = store.file.arrays[path].codec if isinstance(store, Hdf5Store) else form.codec
        self._keep = keep
        self._description = ArrayDescription(
            path, name, form.layout, sharded=form.sharded, chunk_bytes=form.chunk_bytes
        )
        self._store = store
        self._fill = form.fill
        # Other checksums of an HDF5 file are not those of the manifest.
        self._checks = checks if self.codec.checksum == "crc32c" else None
        self._cache = cache
        self._state: DecodeState | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_state": None}

    def close(self) -> None:
        """Close files, and drop decoded chunks and indexes; a later read opens them again."""
        self._state = None

    def encoded(self, chunks: Sequence[Chunk]) -> Iterator[Bytes | None]:
        """Some chunks as they are stored; ``None`` for one that was never written.

        Each is good until the next one is asked for. What is looked at is whether it ends as the one that the
        manifest names (DatasetError), and not whether it is damaged.
        """
        state, buffer = self._process_state().chunks, ByteBuffer()
        for start in range(0, len(chunks), min(state.prefetch_limit, max(1, len(chunks)))):
            some = chunks[start : start + state.prefetch_limit]
            prefetched = state.prefetch(some)
            for chunk in some:
                encoded = prefetched[chunk] if chunk in prefetched else state.read(chunk, buffer)
                self._process_state().check(chunk, encoded)
                yield encoded

    def prefetch(self, chunks: Sequence[Chunk]) -> Mapping[Chunk, Bytes | None]:
        """Those of some chunks that are better got together, for :meth:`decode`; of files there are none.

        Raises DatasetError where one of them cannot be had.
        """
        chunked = self._process_state().chunks
        return chunked.prefetch(chunks[: chunked.prefetch_limit])

    def decode(
        self,
        chunk: Chunk,
        out: Array,
        prefetched: Mapping[Chunk, Bytes | None] = MappingProxyType({}),
        *,
        checked: bool = True,
    ) -> bool:
        """Decode the whole of a chunk, what lies beyond the array's end included; nothing is kept.

        Args:
            chunk: Its shard and its number in that.
            out: An array of the shape and type of a chunk, C-contiguous, which is filled.
            prefetched: What :meth:`prefetch` gave.
            checked: Whether it must be the one that the manifest names.

        Returns:
            Whether there is such a chunk; where the manifest has one, there must be.

        Raises:
            DatasetError: The chunk is missing, another one, or damaged.
        """
        return self._process_state().decode_into(out, chunk, prefetched, checked=checked)

    def ahead(self, stream: Hashable, samples: Samples) -> None:
        """Begins to read the chunks of some samples, which the next reads of a stream need; nothing waits.

        What the stream has begun to read before, and is not among them, is given up. Of files on this machine
        nothing is read.
        """
        if not self._process_state().chunks.reads_ahead:
            return
        down, bands = self._description.chunks_down, self._description.bands
        rows = sample_indices(samples, self.layout.shape[0]) // self.layout.chunk[0]
        _, first = np.unique(rows, return_index=True)
        places = [divmod(row, down) for row in rows[np.sort(first)].tolist()]
        self._process_state().chunks.ahead(
            stream, [(shard, row * bands + band) for shard, row in places for band in range(bands)]
        )

    @property
    def keep(self) -> int:
        """How many decoded chunks stay; it can be changed at any time."""
        return self._keep

    @keep.setter
    def keep(self, chunks: int) -> None:
        self._keep = chunks
        self._process_state().slots.keep = chunks

    @property
    def chunks_decoded(self) -> int:
        """How many chunks were decoded so far in this process, in whole or in part."""
        return self._process_state().slots.decoded

    def read(
        self,
        samples: Samples,
        out: Array | None = None,
        *,
        rows: slice = _ALL,
        columns: slice = _ALL,
        threads: int | None = None,
    ) -> Array:
        """Some samples, in the order given; the same may come twice.

        Args:
            samples: (n,) integers; negative ones count from the end.
            out: (n, rows, columns, ...) of the array's type, which is filled; ``None`` for a new one.
            rows: Which rows of each, with a positive step. Bands of which no row is asked for are not
                decoded.
            columns: Which columns of each, with a positive step.
            threads: How many decode, this one and helpers that all readers of a process share; ``None``:
                one for each processor, and little on this one alone.

        Returns:
            ``out``, or a new array like it.

        Raises:
            IndexError: There is no such sample.
            SpecError: ``out`` has another shape or type.
            DatasetError: The array is damaged or cannot be read.
        """
        task = self._task(samples, out, rows, columns)
        _run([task], threads)
        return task.out

    def _task(self, samples: Samples, out: Array | None, rows: slice, columns: slice) -> _Task:
        layout = self.layout
        whole = rows == _ALL and columns == _ALL
        cut = [] if whole else [range(n)[p] for n, p in zip(layout.shape[1:3], (rows, columns), strict=False)]
        index = sample_indices(samples, layout.shape[0])
        expected = (len(index), *map(len, cut), *layout.shape[1 + len(cut) :])
        out = output(out, expected, self.dtype)
        chunks = _by_chunk(index, layout.chunk[0])
        if not out.size:
            parts = []
        elif whole and self._description.bands == 1:
            down = self._description.chunks_down
            parts = [_ChunkPart(divmod(samples.row, down), samples, _ALL, out) for samples in chunks]
        else:
            parts = self._banded_parts(chunks, cut or [range(n) for n in layout.shape[1:3]], out)
        return _Task(self._process_state(), self._fill, out, parts)

    def _banded_parts(self, chunks: list[_ChunkSamples], cut: list[range], out: Array) -> list[_ChunkPart]:
        """What each chunk that is touched has to give, where it is not the whole of its samples."""
        down, bands = self._description.chunks_down, self._description.bands
        rows, height = cut[0], self.layout.chunk[1]
        columns = [slice(part.start, part.stop, part.step) for part in cut[1:]]
        parts = []
        for band in range(rows[0] // height, rows[-1] // height + 1):
            top = band * height
            # The first row asked for that is not above the band, and the first that is below it.
            first = max(0, -((rows.start - top) // rows.step))
            last = min(len(rows), -((rows.start - top - height) // rows.step))
            if first < last:
                inside = slice(rows[first] - top, rows[last - 1] + 1 - top, rows.step)
                corner = (_ALL, inside, *columns)
                for samples in chunks:
                    shard, row = divmod(samples.row, down)
                    parts.append(_ChunkPart((shard, row * bands + band), samples, corner, out[:, first:last]))
        return parts

    def _process_state(self) -> DecodeState:
        """The state of this reader in this process: a forked one begins with none."""
        state = self._state
        if state is None or state.process != os.getpid():
            state = self._state = DecodeState(
                self._store, self._description, self.codec, self.dtype, self._keep, self._checks, self._cache
            )
        return state


def output(out: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """The array that a read fills: ``out``, which must have that shape and type (SpecError), or a new one."""
    if out is None:
        return np.empty(shape, dtype)
    if out.shape != shape or out.dtype != dtype:
        raise SpecError(
            f"out is {out.dtype} of shape {out.shape}: it must be {dtype} of shape {shape}.",
            code="array-misfit",
        )
    return out


def read_together(
    requests: Sequence[tuple[ArrayReader, Samples, Array | None]], *, threads: int | None = None
) -> list[Array]:
    """Read samples of several arrays at once, so that threads wait for one another once and not for each.

    Requests are readers with ``samples`` and ``out`` as for :meth:`ArrayReader.read`.
    """
    tasks = [reader._task(samples, out, _ALL, _ALL) for reader, samples, out in requests]
    _run(tasks, threads)
    return [task.out for task in tasks]


# --- which samples -----------------------------------------------------------------------------


class _ChunkSamples:
    """The samples asked for of one chunk, or of one in every band of rows.

    ``row`` is the chunk's number along the samples of the array, ``last`` the last sample asked for, ``run``
    how many they are if they are consecutive in the chunk and in the result, else 0.
    """

    __slots__ = ("_from", "_to", "last", "row", "run")

    def __init__(self, row: int, within: NDArray[np.int64], to: NDArray[np.int64]) -> None:
        self.row, self._from, self._to = row, within, to
        self.last = extremes(within)[1]
        self.run = len(to) if _consecutive(within) and _consecutive(to) else 0

    def places(self, out: Array) -> Array:
        """Where they go, if they are consecutive."""
        start = int(self._to[0])
        return out[start : start + self.run]

    def copy(self, source: Array, out: Array) -> None:
        """From the decoded chunk to the caller's array."""
        if self.run:
            self.places(out)[...] = source[self.last + 1 - self.run : self.last + 1]
        elif source[:1].nbytes < _SMALL_BYTES:
            out[self._to] = source[self._from]
        else:
            for a, b in zip(self._from.tolist(), self._to.tolist(), strict=True):
                out[b] = source[a]

    def fill(self, value: Any, out: Array) -> None:
        out[self._to] = value


_FIRST = np.zeros(1, np.int64)


def _consecutive(numbers: NDArray[np.int64]) -> bool:
    return len(numbers) == 1 or bool((numbers[1:] - numbers[:-1] == 1).all())


def _by_chunk(index: NDArray[np.int64], size: int) -> list[_ChunkSamples]:
    """The samples of each chunk of ``size``."""
    if not len(index):
        return []
    if len(index) == 1:
        row, only = divmod(int(index[0]), size)
        return [_ChunkSamples(row, np.array([only]), _FIRST)]
    chunks = index // size
    order = np.argsort(chunks, kind="stable")
    chunks = chunks[order]
    within = index[order] - chunks * size
    ends = [*(np.flatnonzero(chunks[1:] != chunks[:-1]) + 1).tolist(), len(index)]
    return [
        _ChunkSamples(int(chunks[a]), within[a:b], order[a:b]) for a, b in zip([0, *ends], ends, strict=False)
    ]


# --- reading them ----------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _ChunkPart:
    """What one chunk gives: the ``corner`` of it goes to ``out``."""

    chunk: Chunk
    samples: _ChunkSamples
    corner: slice | tuple[slice, ...]
    out: Array


@dataclass(eq=False)
class _Task:
    """What is to be read of one array."""

    state: DecodeState
    fill: Any
    out: Array
    parts: list[_ChunkPart]
    prefetched: Mapping[Chunk, Bytes | None] = field(default_factory=dict)

    def prefetch(self, chunks: Sequence[Chunk]) -> None:
        """Ask for those of some chunks that are better got together, where they are not at hand."""
        slots = self.state.slots
        self.prefetched = self.state.chunks.prefetch([chunk for chunk in chunks if chunk not in slots])

    def read(self, part: _ChunkPart) -> None:
        state, samples, chunk, out = self.state, part.samples, part.chunk, part.out
        if samples.run and state.fits(places := samples.places(out), samples.run):
            if not state.decode_into(places, chunk, self.prefetched):
                places[...] = self.fill
            return
        slot = state.slots.acquire(chunk)
        try:
            decoded = state.decode(slot, samples.last, chunk, self.prefetched)
            if decoded is None:
                samples.fill(self.fill, out)
            else:
                samples.copy(decoded[part.corner], out)
        except BaseException:
            state.slots.forget(chunk)
            raise
        finally:
            state.slots.release(slot)


def _run(tasks: Sequence[_Task], threads: int | None) -> None:
    todo = [(task, part) for task in tasks for part in task.parts]
    if threads is None:
        # One chunk of each array is what a single sample takes: others may have use for the processors.
        little = len(todo) <= len(tasks) or sum(task.state.bytes for task, _ in todo) < _THREADED_BYTES
        threads = 1 if little else usable_cores()
    together = min((task.state.chunks.prefetch_limit for task in tasks), default=1)
    if len(todo) <= together:
        _read_some(tasks, todo, threads)
        return
    stream = object()
    try:
        for number, start in enumerate(range(0, len(todo), together)):
            if number % _AHEAD == 0:
                _read_ahead(tasks, stream, todo[start : start + 2 * _AHEAD * together])
            _read_some(tasks, todo[start : start + together], threads)
    finally:
        _read_ahead(tasks, stream, [])


def _read_some(tasks: Sequence[_Task], some: list[tuple[_Task, _ChunkPart]], threads: int) -> None:
    for task in tasks:
        task.prefetch([part.chunk for its, part in some if its is task])
    if threads == 1:
        for task, part in some:
            task.read(part)
    else:
        helpers.run(some, lambda one: one[0].read(one[1]), threads)


def _read_ahead(tasks: Sequence[_Task], stream: object, some: list[tuple[_Task, _ChunkPart]]) -> None:
    for task in tasks:
        task.state.chunks.ahead(stream, [part.chunk for its, part in some if its is task])
