"""Every chunk of an array decoded once, where it lies, and compared with what it must hold."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.compositor import Composites
from fgbgpack.composition.recipe import Recipe
from fgbgpack.composition.scenes import Scenes
from fgbgpack.depth.kernels import half_extent
from fgbgpack.document import EXTREMES
from fgbgpack.errors import DatasetError
from fgbgpack.pipeline.depth import known_extremes
from fgbgpack.pipeline.executor import Monitor
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.reading import ArrayReader

#: Chunks that are reported together: a report of each would wake another thread all the time.
_REPORTED = 16

#: The shard of a chunk, and its number in that.
Chunk: TypeAlias = tuple[int, int]
#: Gets the path of an array, a chunk, the samples in it, and what is wrong with it.
OnDamage: TypeAlias = Callable[[str, Chunk, range, DatasetError], None]
#: Gets the path of an array, a sample that is not what it must be, and a line that says so.
OnDifference: TypeAlias = Callable[[str, int, str], None]


class ChunkDecoder:
    """Decodes the chunks of some arrays whole, and reports those that are damaged.

    A chunk that is sound but not the one that the manifest names is reported and decoded all the same.
    ``on_absent`` gets the path, the chunk and its samples where one is not there that no manifest asks for.
    """

    def __init__(
        self,
        readers: Mapping[str, ArrayReader],
        on_damage: OnDamage,
        on_absent: Callable[[str, Chunk, range], None],
    ) -> None:
        self.readers, self._on_damage, self._on_absent = readers, on_damage, on_absent

    def prefetch(self, array: str, chunks: Sequence[Chunk]) -> Mapping[Chunk, Any]:
        """Those of some chunks that are better got together; none where one of them cannot be had."""
        try:
            return self.readers[array].prefetch(chunks)
        except DatasetError:
            return {}

    def __call__(
        self,
        array: str,
        chunk: Chunk,
        samples: range,
        out: NDArray[Any],
        prefetched: Mapping[Chunk, Any],
    ) -> bool:
        """Fill ``out`` with a chunk; whether it is there and holds what was once encoded."""
        reader = self.readers[array]
        try:
            there = reader.decode(chunk, out, prefetched)
        except DatasetError as exc:
            error = exc
            if exc.code == "chunk-foreign":
                try:
                    reader.decode(chunk, out, prefetched, checked=False)
                except DatasetError as damage:
                    error = damage
            self._on_damage(array, chunk, samples, error)
            return error.code == "chunk-foreign"
        if not there:
            self._on_absent(array, chunk, samples)
        return there


class _Buffers(threading.local):
    """Arrays of each thread, reused, so that they stay in its processor's cache."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[str, tuple[int, ...]], NDArray[Any]] = {}

    def of(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        key = name, shape
        if key not in self._arrays:
            self._arrays[key] = np.zeros(shape, dtype)
        return self._arrays[key]


def chunks_of(layout: Layout, shard: int) -> Iterator[tuple[Chunk, range, int]]:
    """Each chunk of a shard that holds samples, with these, and its first row."""
    bands = layout.grid[1] if len(layout.grid) > 1 else 1
    rows = layout.chunk[1] if len(layout.chunk) > 1 else 1
    for row, run in enumerate(layout.chunk_runs(shard)):
        for band in range(bands):
            yield (shard, row * bands + band), run, band * rows


def chunk_total(layout: Layout) -> int:
    """How many chunks of an array hold samples."""
    bands = layout.grid[1] if len(layout.grid) > 1 else 1
    return bands * -(-layout.shape[0] // layout.chunk[0])


class WholeArrays:
    """Decodes arrays that memory holds whole: placements, sources, names."""

    def __init__(self, decoder: ChunkDecoder) -> None:
        self._decoder, self._buffers = decoder, _Buffers()
        self._values: dict[str, NDArray[Any]] = {}
        self._lacking: set[str] = set()
        for path, reader in decoder.readers.items():
            self._values[path] = np.zeros(reader.layout.shape, reader.dtype)

    def check(self, array: str, shard: int, monitor: Monitor) -> None:
        """Decode the chunks of a shard."""
        layout = self._decoder.readers[array].layout
        out = self._buffers.of(array, layout.chunk, self._values[array].dtype)
        for chunk, run, top in chunks_of(layout, shard):
            monitor.check()
            prefetched = self._decoder.prefetch(array, [chunk])
            if self._decoder(array, chunk, run, out, prefetched):
                if len(layout.shape) == 1:
                    self._values[array][run.start : run.stop] = out[: len(run)]
                else:
                    place = self._values[array][run.start : run.stop, top : top + layout.chunk[1]]
                    place[...] = out[: len(run), : place.shape[1]]
            else:
                self._lacking.add(array)
            monitor.advance(1)

    def __getitem__(self, array: str) -> NDArray[Any]:
        """The values of an array; 0 where they could not be read."""
        return self._values[array]

    def __contains__(self, array: str) -> bool:
        """Whether an array is there as a whole."""
        return array in self._values and array not in self._lacking


class PixelChecks:
    """Compares the stored pixels with those of the recipe, composed; without one they are only decoded."""

    def __init__(self, decoder: ChunkDecoder, recipe: Recipe | None, on_difference: OnDifference) -> None:
        self._decoder, self._recipe, self._on_difference = decoder, recipe, on_difference
        self._buffers = _Buffers()
        layouts = {path: reader.layout for path, reader in decoder.readers.items()}
        together = len({(layout.chunk[:2], layout.shard[:2]) for layout in layouts.values()}) == 1
        #: The arrays that are compared together, as they are cut alike; else one by one.
        self.groups: list[tuple[str, ...]] = [tuple(layouts)] if together else [(path,) for path in layouts]

    def check(self, group: tuple[str, ...], shard: int, monitor: Monitor, *, by_sample: bool = False) -> None:
        """Decode and compare a shard of some arrays; chunks are counted, or samples."""
        layout = self._decoder.readers[group[0]].layout
        chunks, recipe = list(chunks_of(layout, shard)), self._recipe
        placed = None
        if recipe is not None:
            placed = recipe.place(layout.samples_of(shard))
        ahead: dict[str, Mapping[Chunk, Any]] = {array: {} for array in group}
        done = 0
        for number, (chunk, run, top) in enumerate(chunks):
            monitor.check()
            for array in group:
                if number == 0 or (ahead[array] and chunk not in ahead[array]):
                    ahead[array] = self._decoder.prefetch(array, [one for one, _, _ in chunks[number:]])
            found = {array: self._decode(array, chunk, run, ahead[array]) for array in group}
            if placed is not None:
                self._compare(placed, shard, run, top, found)
            done += (len(run) if top == 0 else 0) if by_sample else len(group)
            if number % _REPORTED == _REPORTED - 1:
                monitor.advance(done)
                done = 0
        monitor.advance(done)

    def _decode(
        self, array: str, chunk: Chunk, run: range, ahead: Mapping[Chunk, Any]
    ) -> NDArray[np.uint8] | None:
        shape = self._decoder.readers[array].layout.chunk
        out = self._buffers.of(f"found {array}", shape, np.uint8)
        return out if self._decoder(array, chunk, run, out, ahead) else None

    def _compare(
        self,
        placed: Composites | Scenes,
        shard: int,
        run: range,
        top: int,
        found: Mapping[str, NDArray[np.uint8] | None],
    ) -> None:
        """Compare the rows from ``top`` on of a run of a shard's samples, which were ``placed``."""
        layout = self._decoder.readers[next(iter(found))].layout
        first, n = run.start - layout.samples_of(shard).start, len(run)
        planes = {name: plane[:n] for name, plane in found.items() if plane is not None}
        if self._recipe is not None and planes.keys() == set(self._recipe.planes):
            differs = placed.differ(slice(first, first + n), planes, top=top)
            some = np.flatnonzero(differs)
        else:
            some = np.arange(n)
        if not len(some):
            return
        expected = {name: np.empty_like(plane[: len(some)]) for name, plane in planes.items()}
        if expected:
            placed.compose(some + first, expected, top=top)
        # Below the picture there may be anything.
        rows = min(layout.chunk[1], layout.shape[1] - top)
        for name, plane in planes.items():
            parts = plane[some, :rows], expected[name][:, :rows]
            for sample, line in _differing(name, some + run.start, top, *parts):
                self._on_difference(name, sample, line)


class DepthChecks:
    """Decodes the stored depth, and compares its extremes with those that are stored, where these are known.

    ``extremes`` gives the least or the greatest depth of each of some samples, (n,) float16, by the path of
    the array; ``None`` where it is not known.
    """

    def __init__(
        self,
        decoder: ChunkDecoder,
        array: str,
        extremes: Callable[[str, range], NDArray[np.float16] | None],
        on_difference: OnDifference,
    ) -> None:
        self._decoder, self._array, self._extremes = decoder, array, extremes
        self._on_difference = on_difference
        self._buffers = _Buffers()

    def check(self, shard: int, monitor: Monitor) -> None:
        """Decode and compare a shard."""
        found = self.measure(shard, monitor)
        samples = self._decoder.readers[self._array].layout.samples_of(shard)
        first = samples.start
        for values, name in zip(found, EXTREMES, strict=True):
            if (stored := self._extremes(name, samples)) is None:
                continue
            known = ~np.isinf(values)  # of samples that could be decoded
            expected = stored.astype(np.float32)
            differs = (values != expected) & ~(np.isnan(values) & np.isnan(expected)) & known
            for i in np.flatnonzero(differs).tolist():
                line = f"/{name}[{first + i}]: found {expected[i]:g}, the depth has {values[i]:g}"
                self._on_difference(name, first + i, line)

    def measure(self, shard: int, monitor: Monitor) -> NDArray[np.float32]:
        """The least and the greatest depth of a shard's samples, (2, n); infinite where it is not there."""
        layout = self._decoder.readers[self._array].layout
        samples = layout.samples_of(shard)
        # In one row for each band of rows, as one may be unknown and others known.
        bands = layout.grid[1]
        least = np.full((bands, len(samples)), np.nan, np.float32)
        greatest = least.copy()
        lacking = np.zeros(len(samples), np.bool_)
        chunks = list(chunks_of(layout, shard))
        out = self._buffers.of("depth", layout.chunk, np.float16)
        ahead: Mapping[Chunk, Any] = {}
        for number, (chunk, run, top) in enumerate(chunks):
            monitor.check()
            if number == 0 or (ahead and chunk not in ahead):
                ahead = self._decoder.prefetch(self._array, [one for one, _, _ in chunks[number:]])
            some = slice(run.start - samples.start, run.stop - samples.start)
            if self._decoder(self._array, chunk, run, out, ahead):
                rows = min(layout.chunk[1], layout.shape[1] - top)
                band = top // layout.chunk[1]
                least[band, some], greatest[band, some] = _extremes(out[: len(run), :rows])
            else:
                lacking[some] = True
            if number % _REPORTED == _REPORTED - 1:
                monitor.advance(_REPORTED)
        monitor.advance(len(chunks) % _REPORTED)
        found = np.stack([np.fmin.reduce(least), np.fmax.reduce(greatest)])
        found[:, lacking] = np.inf
        return found


def _extremes(maps: NDArray[np.float16]) -> NDArray[np.float16]:
    """The least and the greatest known depth of each map, (2, n)."""
    maps = np.ascontiguousarray(maps)
    found = np.empty((2, len(maps)), np.uint16)
    wrong = half_extent(maps.reshape(len(maps), -1).view(np.uint16), found[0], found[1])
    return known_extremes(maps) if wrong else found.view(np.float16)


def _differing(
    array: str, samples: NDArray[np.int64], top: int, found: NDArray[np.uint8], expected: NDArray[np.uint8]
) -> Iterator[tuple[int, str]]:
    """Each sample that differs, and a line on its first pixel that does."""
    differs = (found != expected).reshape(*found.shape[:3], -1).any(axis=3)
    for i in np.flatnonzero(differs.any(axis=(1, 2))).tolist():
        y, x = np.argwhere(differs[i])[0].tolist()
        line = (
            f"/{array}[{int(samples[i])}, {top + y}, {x}]: found {found[i, y, x].tolist()}, "
            f"expected {expected[i, y, x].tolist()}"
        )
        yield int(samples[i]), line
