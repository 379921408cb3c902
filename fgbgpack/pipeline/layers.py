"""Layered depth that is stored, or no longer stored, without any network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset.composed import ComposedArray
from fgbgpack.dataset.composer import Composer
from fgbgpack.dataset.dataset import Dataset
from fgbgpack.document import DEPTH, DEPTH_MIN, EXTREMES
from fgbgpack.errors import DatasetError
from fgbgpack.pipeline.arrays import depth_arrays, extent_of, with_extremes
from fgbgpack.pipeline.depth import bands
from fgbgpack.pipeline.events import StageName
from fgbgpack.pipeline.executor import Monitor
from fgbgpack.pipeline.run import Run
from fgbgpack.pipeline.stage import LayoutStage, Product
from fgbgpack.storage.arrays import METADATA, PIXEL_CODEC
from fgbgpack.storage.layout import Layout, LayoutPolicy
from fgbgpack.storage.store import DatasetStore

#: Maps that are in memory at a time, for each thread.
_TOGETHER = 64


def store_layers(run: Run, original: Dataset, policy: LayoutPolicy) -> None:
    """Store the layered depth of a dataset where none is stored, with its extremes."""
    extremes = original.store.layout(DEPTH_MIN)
    if extremes is None:
        raise DatasetError(f"/{DEPTH_MIN} of {original.path} is missing.", code="array-missing")
    layout = with_extremes(policy.depth(extent_of(original.recipe), guided=True), extremes)
    rounding = original.depth.attrs["rounding"]
    copy_extremes(original.store, run.store)
    run.execute(_LayeredDepth(original, layout))
    layouts = {DEPTH: layout}
    for path in original.document.depth_sources:
        if (of_source := original.store.layout(path)) is not None:
            layouts[path] = of_source
    (spec, *_) = depth_arrays(layouts, original.document.depth, (), rounding["largest_error"])
    run.store.declare(spec)


def copy_extremes(source: DatasetStore, target: DatasetStore) -> None:
    """Copy the least and the greatest depth of all samples to another dataset."""
    for path in EXTREMES:
        layout = source.layout(path)
        if source is target or layout is None:
            continue
        keys = [f"{path}/{layout.key(shard)}" for shard in range(layout.shards)]
        for key, value in zip(keys, source.get_all(keys), strict=True):
            if value is not None:
                target.put(key, value)
        target.put(f"{path}/{METADATA}", source.get(f"{path}/{METADATA}") or b"")


def check_layers(run: Run, original: Dataset) -> None:
    """Raise DatasetError where the stored depth of a dataset is not that of its layers."""
    layout = original.store.layout(DEPTH)
    if layout is None:
        raise DatasetError(f"/{DEPTH} of {original.path} is missing.", code="array-missing")
    stage = _DepthCheck(original, layout)
    run.execute(stage)
    if stage.differing:
        first = ", ".join(f"/{DEPTH}[{sample}]" for sample in sorted(stage.differing)[:5])
        raise DatasetError(
            f"{original.path} holds depth that is not that of its layers, and a virtual dataset would not "
            f"have it. Nothing was written. It is that of {len(stage.differing):,} samples: {first}.",
            code="pixels-differ",
        )


def _composed(original: Dataset, layout: Layout) -> ComposedArray:
    composer = Composer(original.store, original.document, original.recipe, None)
    return ComposedArray(lambda: composer, layout, DEPTH)


class _LayeredDepth(LayoutStage):
    """The stage that stores layered depth."""

    name: ClassVar[StageName] = "depth"

    def __init__(self, original: Dataset, layout: Layout) -> None:
        super().__init__({DEPTH: layout})
        self._depth, self._layout = _composed(original, layout), layout

    def produce(self, shard: int, monitor: Monitor) -> Product:
        """The shard with that number."""
        chunks: list[bytes] = []
        for run in self._layout.chunk_runs(shard):
            monitor.check()
            maps = np.full((self._layout.chunk[0], *self._layout.shape[1:]), np.nan, np.float16)
            self._depth.read(run, maps[: len(run)], threads=1)
            chunks += [PIXEL_CODEC.encode(band) for band in bands(maps, self._layout, np.float16(np.nan))]
            monitor.advance(len(run))
        return Product(self.joined(shard, {DEPTH: chunks}))


class _DepthCheck(LayoutStage):
    """The stage that compares stored depth with its layers, and writes nothing."""

    name: ClassVar[StageName] = "depth-checks"

    def __init__(self, original: Dataset, layout: Layout) -> None:
        super().__init__({DEPTH: layout})
        self._stored, self._layout = original.store.reader(DEPTH), layout
        self._depth = _composed(original, layout)
        self._done: set[int] = set()
        self.differing: set[int] = set()

    def missing(self, store: DatasetStore) -> list[int]:
        return [shard for shard in range(self._layout.shards) if shard not in self._done]

    def produce(self, shard: int, monitor: Monitor) -> Product:
        differing: list[int] = []
        for some in _parts(self._layout.samples_of(shard)):
            monitor.check()
            found, expected = (one.read(some, threads=1) for one in (self._stored, self._depth))
            differs = (found.view(np.uint16) != expected.view(np.uint16)).any(axis=(1, 2))
            differing += some[differs].tolist()
            monitor.advance(len(some))
        return Product(found=differing)

    def take(self, shard: int, found: list[int]) -> None:
        """Note that a shard is compared, and which of its samples differ."""
        self._done.add(shard)
        self.differing.update(found)


def _parts(samples: range) -> Iterator[NDArray[np.int64]]:
    for first in range(0, len(samples), _TOGETHER):
        yield np.asarray(samples[first : first + _TOGETHER], np.int64)
