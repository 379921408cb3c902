"""Pixels made from the recipe where they would be read from a store: the same bytes, without any disk."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.compositor import Composites
from fgbgpack.composition.scenes import Scenes
from fgbgpack.document import IMAGE, MASK
from fgbgpack.storage.indices import sample_indices
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.reading import output
from fgbgpack.storage.reading.threads import helpers, usable_cores

Pixels: TypeAlias = NDArray[np.uint8]
Samples: TypeAlias = Sequence[int] | NDArray[Any]

_ALL = slice(None)
# Composited at a time: enough to be worth a thread's while, little enough to stay in a processor's cache.
_BLOCK_BYTES = 1 << 20
# More than this, which a single large picture takes, is not kept from one block to the next.
_KEPT_BYTES = 4 << 20
# Less than this is composited sooner than other threads are woken.
_THREADED_BYTES = 4 << 20


class ComposedArray:
    """One plane of a dataset, made from its sources and placements whenever samples are read.

    It reads as ``reading.ArrayReader`` does, gives the bytes of a dataset that stores its pixels, and can be
    pickled, forked and shared by threads. ``layout`` is how the array would be cut, were it stored. Nothing
    is decoded, so nothing is kept.
    """

    chunks_decoded = 0
    dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __init__(self, composites: Composites | Scenes, layout: Layout, plane: str) -> None:
        self.layout, self.keep = layout, 0
        self.attributes: dict[str, Any] = {}
        self._composites, self._plane = composites, plane

    def read(
        self,
        samples: Samples,
        out: Pixels | None = None,
        *,
        rows: slice = _ALL,
        columns: slice = _ALL,
        threads: int | None = None,
    ) -> Pixels:
        """As ``reading.ArrayReader.read``: of rows, only those from the first to the last are made."""
        index = sample_indices(samples, self.layout.shape[0])
        shape = self.layout.shape
        down, across = range(shape[1])[rows], range(shape[2])[columns]
        result = output(out, (len(index), len(down), len(across), *shape[3:]), self.dtype)
        if rows == _ALL and columns == _ALL and result.flags.c_contiguous:

            def fill(block: slice) -> None:
                self._compose(index[block], result[block], 0)

            in_blocks(fill, len(index), math.prod(shape[1:]), threads)
        elif result.size:
            band = (down[-1] + 1 - down[0], *shape[2:])
            corner = (_ALL, slice(None, None, down.step), slice(across.start, across.stop, across.step))

            def fill_part(block: slice) -> None:
                some = index[block]
                whole = _scratch.of("band", (len(some), *band))
                self._compose(some, whole, down[0])
                result[block] = whole[corner]

            in_blocks(fill_part, len(index), math.prod(band), threads)
        return result

    def _compose(self, samples: NDArray[np.int64], out: Pixels, top: int) -> None:
        planes = {self._plane: out}
        if self._plane == IMAGE:
            planes[MASK] = _scratch.of("mask", out.shape[:3])
        self._composites.compose(samples, planes, top=top)


def compose_together(
    arrays: Mapping[str, ComposedArray],
    samples: Samples,
    out: Mapping[str, Pixels],
    threads: int | None = None,
) -> None:
    """Several planes of some samples in one pass: half the work of reading one after the other.

    Of ``arrays``, all of a dataset by the names of the planes, those are made that ``out`` has: (n, h, w,
    ...) uint8 each, which are filled. Raises what :meth:`ComposedArray.read` raises, and SpecError where an
    array is not contiguous.
    """
    if len(out) < 2:
        for plane, filled in out.items():
            arrays[plane].read(samples, filled, threads=threads)
        return
    one = arrays[IMAGE]
    index = sample_indices(samples, one.layout.shape[0])
    results = {
        plane: output(filled, (len(index), *arrays[plane].layout.shape[1:]), one.dtype)
        for plane, filled in out.items()
    }

    def work(block: slice) -> None:
        planes = {plane: result[block] for plane, result in results.items()}
        one._composites.compose(index[block], planes)

    sample_bytes = sum(math.prod(arrays[plane].layout.shape[1:]) for plane in out)
    in_blocks(work, len(index), sample_bytes, threads)


def in_blocks(work: Callable[[slice], None], count: int, sample_bytes: int, threads: int | None) -> None:
    """Do the work of ``count`` samples in blocks of a few, on so many threads; ``None`` chooses."""
    size = max(1, _BLOCK_BYTES // sample_bytes)
    blocks = [slice(start, min(start + size, count)) for start in range(0, max(1, count), size)]
    if threads is None:
        threads = 1 if count * sample_bytes < _THREADED_BYTES else usable_cores()
    if threads == 1 or len(blocks) == 1:
        for block in blocks:
            work(block)
    else:
        helpers.run(blocks, work, threads)


class _Scratch(threading.local):
    """Scratch arrays of each thread, for results that were not requested."""

    def __init__(self) -> None:
        self._arrays: dict[str, Pixels] = {}

    def of(self, name: str, shape: tuple[int, ...]) -> Pixels:
        size = math.prod(shape)
        if size > _KEPT_BYTES:
            return np.empty(shape, np.uint8)
        array = self._arrays.get(name)
        if array is None or len(array) < size:
            array = self._arrays[name] = np.empty(size, np.uint8)
        return array[:size].reshape(shape)


_scratch = _Scratch()
