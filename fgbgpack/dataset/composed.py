"""Arrays made from the recipe where they would be read from a store: the same bytes, without any disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset.blocks import in_blocks, scratch
from fgbgpack.dataset.composer import Composer
from fgbgpack.depth.attributes import depth_attributes
from fgbgpack.depth.graph import rounding_bound
from fgbgpack.document import DEPTH, EXTREMES, Document, NetworkDepthInfo
from fgbgpack.storage.indices import sample_indices
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.reading import output
from fgbgpack.storage.store import DatasetStore

Array: TypeAlias = NDArray[Any]
Samples: TypeAlias = Sequence[int] | NDArray[Any]

_ALL = slice(None)


class ComposedArray:
    """One plane of a dataset, or layered depth, made from its sources and placements when samples are read.

    It reads as ``reading.ArrayReader`` does, gives the bytes of a dataset that stores them, and can be
    pickled, forked and shared by threads. ``composer`` gives what makes samples when it is first needed, and
    ``attributes`` those of the array. ``layout`` is how the array would be cut, were it stored. Nothing is
    decoded, so nothing is kept.
    """

    chunks_decoded = 0

    def __init__(
        self,
        composer: Callable[[], Composer],
        layout: Layout,
        name: str,
        attributes: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.layout, self.keep = layout, 0
        self.dtype: np.dtype[Any] = np.dtype(np.float16 if name == DEPTH else np.uint8)
        self._composer, self._name, self._attributes = composer, name, attributes

    @cached_property
    def attributes(self) -> Mapping[str, Any]:
        """The attributes of the array."""
        return self._attributes()

    def read(
        self,
        samples: Samples,
        out: Array | None = None,
        *,
        rows: slice = _ALL,
        columns: slice = _ALL,
        threads: int | None = None,
    ) -> Array:
        """As ``reading.ArrayReader.read``: of rows, only those from the first to the last are made of planes;
        maps of depth are made whole.
        """
        shape = self.layout.shape
        index = sample_indices(samples, shape[0])
        down, across = range(shape[1])[rows], range(shape[2])[columns]
        result = output(out, (len(index), len(down), len(across), *shape[3:]), self.dtype)
        if not result.size:
            return result
        composer, name = self._composer(), self._name
        if rows == _ALL and columns == _ALL and result.flags.c_contiguous:
            composer.fill(index, {name: result}, threads)
            return result
        corner = (_ALL, rows, columns)

        def fill_part(block: slice) -> None:
            whole = np.empty((block.stop - block.start, *shape[1:]), self.dtype)
            composer.fill(index[block], {name: whole}, threads=1)
            result[block] = whole[corner]

        band = (down[-1] + 1 - down[0], *shape[2:])
        of_band = (_ALL, slice(None, None, down.step), slice(across.start, across.stop, across.step))

        def fill_band(block: slice) -> None:
            made = scratch.of("band", (block.stop - block.start, *band))
            composer.fill_band(index[block], name, made, down[0])
            result[block] = made[of_band]

        is_depth = name == DEPTH
        sample_bytes = math.prod(shape[1:] if is_depth else band) * self.dtype.itemsize
        in_blocks(fill_part if is_depth else fill_band, len(index), sample_bytes, threads)
        return result


def layered_attributes(store: DatasetStore, document: Document) -> dict[str, Any]:
    """The attributes of layered depth that is not stored: what they would be."""
    depth = document.depth
    if not isinstance(depth, NetworkDepthInfo) or depth.step is None or not depth.complete:
        return depth_attributes(depth, None)
    low, high = (store.reader(path) for path in EXTREMES)
    parts = list(low.layout.rows())
    lowest = min(float(low.read(range(rows.start, rows.stop)).min()) for rows in parts)
    highest = max(float(high.read(range(rows.start, rows.stop)).max()) for rows in parts)
    return depth_attributes(depth, rounding_bound(lowest, highest, depth.step))
