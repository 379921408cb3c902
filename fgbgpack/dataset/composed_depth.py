"""Depth in layers, composed whenever samples are read."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.recipe import Recipe
from fgbgpack.dataset.composed import Samples, in_blocks
from fgbgpack.depth.attributes import depth_attributes
from fgbgpack.depth.card import Quantity
from fgbgpack.depth.graph import rounding_bound
from fgbgpack.depth.strategies import Layered
from fgbgpack.document import DEPTH_SOURCES, EXTREMES, Document, NetworkDepthInfo
from fgbgpack.storage.indices import sample_indices
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.reading import output
from fgbgpack.storage.store import DatasetStore

_ALL = slice(None)

Array: TypeAlias = NDArray[Any]


class ComposedDepth:
    """Depth of a dataset in layers, made from its sources and placements whenever samples are read.

    It reads as ``reading.ArrayReader`` does, gives the bytes of a dataset that stores its depth, and can be
    pickled, forked and shared by threads. ``layout`` is how the array would be cut, were it stored.
    """

    chunks_decoded = 0
    dtype: np.dtype[Any] = np.dtype(np.float16)

    def __init__(
        self, source: Layered | None, step: float, layout: Layout, attributes: dict[str, Any]
    ) -> None:
        self.layout, self.keep = layout, 0
        self.attributes = attributes
        self._source, self._step = source, step

    @classmethod
    def of(cls, store: DatasetStore, document: Document, recipe: Recipe, layout: Layout) -> ComposedDepth:
        """That of a dataset with layered depth; NaN until all is there that it is made of."""
        depth = document.depth
        if not isinstance(depth, NetworkDepthInfo) or depth.step is None or not depth.complete:
            return cls(None, 1.0, layout, depth_attributes(depth, None))
        low, high = (values.astype(np.float64) for values in store.read(*EXTREMES))
        largest = rounding_bound(float(low.min()), float(high.max()), depth.step)
        source = layered_source(store, recipe, depth)
        return cls(source, depth.step, layout, depth_attributes(depth, largest))

    def read(
        self,
        samples: Samples,
        out: Array | None = None,
        *,
        rows: slice = _ALL,
        columns: slice = _ALL,
        threads: int | None = None,
    ) -> Array:
        """As ``reading.ArrayReader.read``; whole maps are made."""
        shape = self.layout.shape
        index = sample_indices(samples, shape[0])
        down, across = range(shape[1])[rows], range(shape[2])[columns]
        result: Array = output(out, (len(index), len(down), len(across)), self.dtype)
        is_whole = rows == _ALL and columns == _ALL and result.flags.c_contiguous

        def fill(block: slice) -> None:
            some = index[block]
            maps = result[block] if is_whole else np.empty((len(some), *shape[1:]), np.float16)
            if self._source is None:
                maps[...] = np.nan
            else:
                self._source(some, maps, step=self._step)
            if not is_whole:
                result[block] = maps[:, rows, columns]

        if result.size:
            in_blocks(fill, len(index), 2 * shape[1] * shape[2], threads)
        return result


def layered_source(store: DatasetStore, recipe: Recipe, depth: NetworkDepthInfo) -> Layered:
    """What gives layered depth, from the arrays of a dataset; DatasetError where they are damaged."""
    background, figures = store.read(*DEPTH_SOURCES[depth.mode])
    return Layered(recipe, background, figures, Quantity(depth.quantity, depth.unit))
