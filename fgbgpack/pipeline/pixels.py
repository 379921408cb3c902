"""Fill /image and /mask."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.compositor import Composer
from fgbgpack.composition.placement import Plan
from fgbgpack.pipeline.executor import Advance, Check, OnEvent, fill_missing
from fgbgpack.sources.catalog import Catalog
from fgbgpack.storage import store as disk
from fgbgpack.storage.layout import pixel_layouts
from fgbgpack.storage.sharding import join
from fgbgpack.storage.store import Keys


class PixelFilling:
    """The composites and masks of a plan, a chunk at a time.

    Attributes:
        layouts: How image and mask are cut.
    """

    def __init__(self, plan: Plan, catalog: Catalog, chunk: int | None) -> None:
        self.layouts = pixel_layouts(plan, chunk)
        self._plan = plan
        self._composer = Composer(catalog.background, catalog.foreground, catalog.foreground_size)
        self._scratch = threading.local()

    def encode(self, run: range) -> Iterator[tuple[str, bytes]]:
        """The encoded chunks of image and mask for one run of samples, band by band from the top."""
        image, mask = self._buffers()
        placements = self._plan.placements_of(run)
        n, rows = len(run), image.shape[1]
        image[n:] = 0
        mask[n:] = 0
        for top in range(0, self._plan.height, rows):
            self._composer.compose(placements, image[:n], mask[:n], top=top)
            yield disk.IMAGE, disk.PIXEL_CODEC.encode(image)
            yield disk.MASK, disk.PIXEL_CODEC.encode(mask)

    def _buffers(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """A chunk of each array, every thread's own: reused, so that they stay in its processor's cache."""
        held: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = getattr(self._scratch, "held", None)
        if held is None:
            image, mask = (np.empty(layout.chunk, np.uint8) for layout in self.layouts)
            held = self._scratch.held = (image, mask)
        return held

    def fill(self, keys: Keys, workers: int | None, tell: OnEvent) -> int:
        """Write the shards that are missing; return how many samples that was."""
        image, mask = self.layouts

        def present() -> set[int]:
            return keys.sound_shards(disk.IMAGE, image) & keys.sound_shards(disk.MASK, mask)

        def write(shard: int, check: Check, advance: Advance) -> None:
            chunks: dict[str, list[bytes]] = {disk.IMAGE: [], disk.MASK: []}
            for run in image.chunk_runs(shard):
                check()
                for array, encoded in self.encode(run):
                    chunks[array].append(encoded)
                advance(len(run))
            keys.put(f"{disk.IMAGE}/{image.key(shard)}", join(chunks[disk.IMAGE], image.grid))
            keys.put(f"{disk.MASK}/{mask.key(shard)}", join(chunks[disk.MASK], mask.grid))

        return fill_missing(image, present, write, "samples", workers, tell)
