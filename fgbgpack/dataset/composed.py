"""Pixels made from the recipe where they would be read from a store: the same bytes, without any disk."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.compositor import Composites
from fgbgpack.errors import SpecError
from fgbgpack.storage.indices import sample_indices
from fgbgpack.storage.layout import Layout
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
    """Image or mask of a dataset, made from its sources and placements whenever samples are read.

    It reads as ``reading.ArrayReader`` does, gives the bytes of a dataset that stores its pixels, and can be
    pickled, forked and shared by threads.

    Args:
        composites: The composites of all samples.
        layout: How the array would be cut, were it stored.
        array: Which of the two it is.

    Attributes:
        layout: The same.
        dtype: uint8.
        attributes: None, as of the stored array.
        keep: Unused here: nothing is decoded, so nothing is kept.
        chunks_decoded: 0, always.
    """

    chunks_decoded = 0
    dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __init__(self, composites: Composites, layout: Layout, array: Literal["image", "mask"]) -> None:
        self.layout = layout
        self.attributes: dict[str, Any] = {}
        self.keep = 0
        self._composites = composites
        self._array = array

    def read(
        self,
        samples: Samples,
        out: Pixels | None = None,
        *,
        rows: slice = _ALL,
        columns: slice = _ALL,
        threads: int | None = None,
    ) -> Pixels:
        """Some samples, in the order given; the same may come twice.

        Args:
            samples: (n,) integers; negative ones count from the end.
            out: (n, rows, columns[, 3]) uint8, which is filled; ``None`` for a new one.
            rows: Which rows of each, with a positive step. Only those from the first to the last are made.
            columns: Which columns of each, with a positive step.
            threads: How many composite, this one and helpers that all readers of a process share; ``None``:
                one for each processor, and little on this one alone.

        Returns:
            ``out``, or a new array like it.

        Raises:
            IndexError: There is no such sample.
            SpecError: ``out`` has another shape or type.
        """
        index = sample_indices(samples, self.layout.shape[0])
        shape = self.layout.shape
        down, across = range(shape[1])[rows], range(shape[2])[columns]
        out = _checked(out, (len(index), len(down), len(across), *shape[3:]))
        if rows == _ALL and columns == _ALL and out.flags.c_contiguous:
            work = partial(self._fill, index, out)
            _in_blocks(work, len(index), math.prod(shape[1:]), threads)
        elif out.size:
            band = (down[-1] + 1 - down[0], *shape[2:])
            corner = (_ALL, slice(None, None, down.step), slice(across.start, across.stop, across.step))
            work = partial(self._fill_part, index, out, band, down[0], corner)
            _in_blocks(work, len(index), math.prod(band), threads)
        return out

    def _fill(self, index: NDArray[np.int64], out: Pixels, block: slice) -> None:
        """Fill a block of ``out`` with whole pictures, in their place."""
        self._compose(index[block], out[block], 0)

    def _fill_part(
        self,
        index: NDArray[np.int64],
        out: Pixels,
        band: tuple[int, ...],
        top: int,
        corner: tuple[slice, ...],
        block: slice,
    ) -> None:
        """Fill a block of ``out`` from a band of rows as wide as the picture."""
        some = index[block]
        whole = _scratch.of("band", (len(some), *band))
        self._compose(some, whole, top)
        out[block] = whole[corner]

    def _compose(self, samples: NDArray[np.int64], out: Pixels, top: int) -> None:
        if self._array == "image":
            self._composites.compose(samples, out, _scratch.of("mask", out.shape[:3]), top=top)
        else:
            self._composites.compose_mask(samples, out, top=top)


def compose_together(
    image: ComposedArray,
    mask: ComposedArray,
    samples: Samples,
    image_out: Pixels | None,
    mask_out: Pixels | None,
    threads: int | None = None,
) -> None:
    """Image and mask of some samples in one pass: half the work of reading one after the other.

    Args:
        image: The images of a dataset.
        mask: The masks of the same dataset.
        samples: As for :meth:`ComposedArray.read`.
        image_out: (n, h, w, 3) uint8, which is filled; ``None`` for no images.
        mask_out: (n, h, w) uint8, the same.
        threads: As for :meth:`ComposedArray.read`.

    Raises:
        IndexError: There is no such sample.
        SpecError: An array has another shape or type, or is not contiguous.
    """
    if image_out is None or mask_out is None:
        for one, out in ((image, image_out), (mask, mask_out)):
            if out is not None:
                one.read(samples, out, threads=threads)
        return
    index = sample_indices(samples, image.layout.shape[0])
    images = _checked(image_out, (len(index), *image.layout.shape[1:]))
    masks = _checked(mask_out, (len(index), *mask.layout.shape[1:]))

    def work(block: slice) -> None:
        image._composites.compose(index[block], images[block], masks[block])

    _in_blocks(work, len(index), 4 * math.prod(mask.layout.shape[1:]), threads)


def _checked(out: Pixels | None, shape: tuple[int, ...]) -> Pixels:
    if out is None:
        return np.empty(shape, np.uint8)
    if out.shape != shape or out.dtype != np.uint8:
        raise SpecError(
            f"out is {out.dtype} of shape {out.shape}: it must be uint8 of shape {shape}.",
            code="array-misfit",
        )
    return out


def _in_blocks(work: Callable[[slice], None], count: int, sample_bytes: int, threads: int | None) -> None:
    size = max(1, _BLOCK_BYTES // sample_bytes)
    if count <= size:
        work(slice(0, count))
        return
    if threads is None:
        threads = 1 if count * sample_bytes < _THREADED_BYTES else usable_cores()
    blocks = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    if threads == 1:
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
