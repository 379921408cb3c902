"""The stage that fills ``/image`` and ``/mask``."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.recipe import Recipe
from fgbgpack.document import IMAGE, MASK
from fgbgpack.pipeline.arrays import extent_of
from fgbgpack.pipeline.events import StageName
from fgbgpack.pipeline.executor import Monitor
from fgbgpack.pipeline.stage import LayoutStage, Product
from fgbgpack.storage.arrays import PIXEL_CODEC
from fgbgpack.storage.layout import Layout, LayoutPolicy


class Pixels(LayoutStage):
    """The composites and masks of a recipe, a chunk at a time; ``layouts`` are how image and mask are cut."""

    name: ClassVar[StageName] = "samples"

    def __init__(self, recipe: Recipe, policy: LayoutPolicy) -> None:
        self.layouts: tuple[Layout, Layout] = policy.pixels(extent_of(recipe), recipe.spec.chunk)
        super().__init__(dict(zip((IMAGE, MASK), self.layouts, strict=True)))
        self._recipe, self._buffers = recipe, threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_buffers": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_buffers": threading.local()}

    def produce(self, shard: int, monitor: Monitor) -> Product:
        """The shards of image and mask with that number."""
        chunks: dict[str, list[bytes]] = {IMAGE: [], MASK: []}
        for run in self.layouts[0].chunk_runs(shard):
            monitor.check()
            for array, encoded in self.encode(run):
                chunks[array].append(encoded)
            monitor.advance(len(run))
        return Product(self.joined(shard, chunks))

    def encode(self, run: range) -> Iterator[tuple[str, bytes]]:
        """The encoded chunks of image and mask for one run of samples, band by band from the top."""
        image, mask = self._thread_buffers()
        placements = self._recipe.placements(run)
        n, rows = len(run), image.shape[1]
        image[n:] = 0
        mask[n:] = 0
        for top in range(0, self._recipe.height, rows):
            self._recipe.compositor.compose(placements, image[:n], mask[:n], top=top)
            yield IMAGE, PIXEL_CODEC.encode(image)
            yield MASK, PIXEL_CODEC.encode(mask)

    def _thread_buffers(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """A chunk of each array for each thread: reused, so that they stay in its processor's cache."""
        if not hasattr(self._buffers, "chunks"):
            self._buffers.chunks = [np.empty(layout.chunk, np.uint8) for layout in self.layouts]
        image, mask = self._buffers.chunks
        return image, mask
