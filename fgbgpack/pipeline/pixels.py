"""The stage that fills ``/image`` and ``/mask`` and, of scenes, ``/instance``."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.recipe import Recipe
from fgbgpack.document import IMAGE
from fgbgpack.pipeline.arrays import extent_of, plane_layouts
from fgbgpack.pipeline.events import StageName
from fgbgpack.pipeline.executor import Monitor
from fgbgpack.pipeline.stage import LayoutStage, Product
from fgbgpack.storage.arrays import PIXEL_CODEC
from fgbgpack.storage.layout import LayoutPolicy


class Pixels(LayoutStage):
    """The samples of a recipe, a chunk at a time; ``layouts`` are how each plane of them is cut."""

    name: ClassVar[StageName] = "samples"

    def __init__(self, recipe: Recipe, policy: LayoutPolicy) -> None:
        self.layouts = plane_layouts(recipe.planes, policy.pixels(extent_of(recipe), recipe.spec.chunk))
        super().__init__(self.layouts)
        self._recipe, self._buffers = recipe, threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_buffers": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_buffers": threading.local()}

    def produce(self, shard: int, monitor: Monitor) -> Product:
        """The shards of all planes with that number."""
        chunks: dict[str, list[bytes]] = {plane: [] for plane in self.layouts}
        for run in self.layouts[IMAGE].chunk_runs(shard):
            monitor.check()
            for array, encoded in self.encode(run):
                chunks[array].append(encoded)
            monitor.advance(len(run))
        return Product(self.joined(shard, chunks))

    def encode(self, run: range) -> Iterator[tuple[str, bytes]]:
        """The encoded chunks of each plane for one run of samples, band by band from the top."""
        buffers = self._thread_buffers()
        placed = self._recipe.place(run)
        n, rows = len(run), buffers[IMAGE].shape[1]
        for buffer in buffers.values():
            buffer[n:] = 0
        filled = {plane: buffer[:n] for plane, buffer in buffers.items()}
        for top in range(0, self._recipe.height, rows):
            placed.compose(slice(None), filled, top=top)
            for plane, buffer in buffers.items():
                yield plane, PIXEL_CODEC.encode(buffer)

    def _thread_buffers(self) -> dict[str, NDArray[np.uint8]]:
        """A chunk of each plane for each thread: reused, so that they stay in its processor's cache."""
        if not hasattr(self._buffers, "chunks"):
            self._buffers.chunks = {
                plane: np.empty(layout.chunk, np.uint8) for plane, layout in self.layouts.items()
            }
        chunks: dict[str, NDArray[np.uint8]] = self._buffers.chunks
        return chunks
