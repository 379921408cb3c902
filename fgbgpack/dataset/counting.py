"""Counts of samples: whole numbers, which can be added up in any order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.objects import Objects
from fgbgpack.dataset.batch import Batch
from fgbgpack.dataset.geometry import mask_boxes
from fgbgpack.dataset.stats import (
    Counts,
    DepthStats,
    Histogram,
    ImageStats,
    MaskStats,
    Part,
    Sizes,
    quartiles,
)
from fgbgpack.dataset.stats_kernels import add_depths, add_images, add_masks
from fgbgpack.document import VISIBLE

if TYPE_CHECKING:
    from fgbgpack.dataset.dataset import Dataset

_CHANNELS, _WHITE = 3, 255
#: How many different values a float16 has.
_VALUES = 1 << 16
#: Parts that the longer side of the picture is cut into, to say where foregrounds are.
_PLACES = 16
_SHARE_BINS, _HEIGHT_BINS, _VISIBLE_BINS = 50, 32, 20
#: Batches whose samples are counted together, and the names of what was measured of each sample.
_TOGETHER, _PART, _AREA, _ALPHA = 32, "part", "area", "alpha"


class Counting:
    """Counts samples, each in one of some parts."""

    def __init__(self, dataset: Dataset, parts: int) -> None:
        self._dataset, self._parts = dataset, parts
        self._pixels = dataset.height * dataset.width
        self._total, self._squares = (np.zeros((parts, _CHANNELS), np.int64) for _ in range(2))
        self._seen = np.zeros(self._pixels, np.int64)
        self._depth = np.zeros((parts, _VALUES if dataset.has_depth else 0), np.int64)
        #: How many samples were counted in each part.
        self.samples = np.zeros(parts, np.int64)
        self._area, self._alpha, self._empty = (np.zeros(parts, np.int64) for _ in range(3))
        self._shares = np.zeros((parts, _SHARE_BINS + 1), np.int64)
        sources = dataset.document.sources
        pictures = () if sources is None else (sources.backgrounds, sources.foregrounds)
        #: Of each part, samples with each background, and objects of each foreground.
        self.sources = tuple(np.zeros((parts, len(kind)), np.int64) for kind in pictures)
        self._objects = np.zeros(max(1, dataset.document.most_objects) + 1, np.int64)
        #: How many objects were counted of each category, where they are told apart.
        self._categories = np.zeros(len(dataset.categories), np.int64)
        self._mirrored, self._hidden = np.zeros(1, np.int64), np.zeros(1, np.int64)
        self._heights = np.zeros(dataset.height + 1, np.int64)
        self._widths = np.zeros(dataset.width + 1, np.int64)
        self._visible = np.zeros(_VISIBLE_BINS, np.int64)
        #: Of batches whose pixels were counted, what samples are made of, and the parts and areas of these.
        self._measured: list[dict[str, NDArray[Any]]] = []

    def join(self, other: Counting) -> None:
        """Add what another one has counted."""
        other._add_measured()
        for name, counted in vars(self).items():
            if isinstance(counted, np.ndarray):
                counted += vars(other)[name]
        for mine, others in zip(self.sources, other.sources, strict=True):
            mine += others

    # --- counting ----------------------------------------------------------------------------------

    def add(self, batch: Batch, part: NDArray[np.int64]) -> None:
        """Count some samples, each in its part. The memory of the batch may be used again."""
        image, mask, depth = batch.image, batch.mask, batch.depth
        n, height, width = mask.shape
        area, alpha = np.empty(n, np.int64), np.empty(n, np.int64)
        add_images(image.reshape(n, height, -1), part, self._total, self._squares)
        add_masks(mask, self._seen.reshape(height, width), area, alpha)
        if depth is not None:
            add_depths(depth.view(np.uint16), part, self._depth)
        if not (self._dataset.has_recipe or self._dataset.has_objects):
            self._add_boxes(mask_boxes(mask), None, np.ones(n, np.int64))
        made_of = {name: batch.arrays[name].copy() for name in self._dataset.placed}
        self._measured.append({**made_of, _PART: part, _AREA: area, _ALPHA: alpha})
        if len(self._measured) == _TOGETHER:
            self._add_measured()

    def _add_measured(self) -> None:
        """Count what samples are made of, and how much of each is foreground: of many at once, as a call for
        few takes as long.
        """
        if not self._measured:
            return
        arrays = {name: np.concatenate([one[name] for one in self._measured]) for name in self._measured[0]}
        self._measured.clear()
        part, area, alpha = (arrays.pop(name) for name in (_PART, _AREA, _ALPHA))
        self.samples += np.bincount(part, minlength=self._parts)
        for counted, values in ((self._area, area), (self._alpha, alpha), (self._empty, area == 0)):
            np.add.at(counted, part, values)
        self._shares += self._pairs(part, area * _SHARE_BINS // self._pixels, _SHARE_BINS + 1)
        made_of = Batch(arrays)
        if self._dataset.has_recipe:
            self._add_sources(made_of, part)
        elif self._dataset.has_objects:
            self._add_objects(made_of.objects)

    def _pairs(self, part: NDArray[np.int64], number: NDArray[Any], count: int) -> NDArray[np.int64]:
        """(parts, count): how often each number below ``count`` occurs in each part."""
        pairs = np.bincount(part * count + number, minlength=self._parts * count)
        return pairs.reshape(self._parts, count)

    def _add_sources(self, batch: Batch, part: NDArray[np.int64]) -> None:
        backgrounds, foregrounds = self.sources
        backgrounds += self._pairs(part, batch.background, backgrounds.shape[1])
        if not self._dataset.has_objects:
            foregrounds += self._pairs(part, batch.foreground, foregrounds.shape[1])
            self._mirrored += int(batch.flip.sum())
            self._objects[1] += len(part)
            return
        objects = batch.objects
        there = objects.foreground >= 0
        in_part = np.broadcast_to(part[:, None], there.shape)[there]
        foregrounds += self._pairs(in_part, objects.foreground[there], foregrounds.shape[1])
        self._mirrored += int((objects.flip == 1).sum())
        self._add_objects(objects)

    def _add_objects(self, objects: Objects) -> None:
        """Count the objects of some samples, by their categories and sizes."""
        there = objects.category >= 0
        self._objects += np.bincount(objects.count, minlength=len(self._objects))
        self._categories += np.bincount(objects.category[there], minlength=len(self._categories))
        box = objects.box[there].astype(np.int32)
        visible = objects.visible[there] if VISIBLE in self._dataset.document.object_arrays else None
        self._add_boxes(box, visible, np.ones(len(box), np.int64))

    def _add_boxes(self, box: NDArray[Any], visible: NDArray[Any] | None, often: NDArray[np.int64]) -> None:
        """Sizes of objects with these boxes and visible shares, each so ``often``."""
        seen = box[:, 2] > box[:, 0]
        for counted, end in ((self._heights, 2), (self._widths, 3)):
            np.add.at(counted, (box[:, end] - box[:, end - 2])[seen], often[seen])
        if visible is not None:
            self._hidden += often[~seen].sum()
            bins = np.minimum(visible[seen] * _VISIBLE_BINS, _VISIBLE_BINS - 1).astype(np.int64)
            np.add.at(self._visible, bins, often[seen])

    # --- what was counted --------------------------------------------------------------------------

    def part(self, *parts: int, sources: Sequence[int | None]) -> Part:
        """Statistics of some of the parts together, which have so many different ``sources``."""
        some = list(parts)
        samples = int(self.samples[some].sum())
        pixels, area = samples * self._pixels, int(self._area[some].sum())
        shares = self._shares[some].sum(axis=0)
        # The last bin is that of whole pictures too.
        shares[-2] += shares[-1]
        depth = None
        if self._dataset.has_depth:
            depth = DepthStats.of(self._depth[some].sum(axis=0), self._dataset.depth.attrs)
        total, squares = (sums[some].sum(axis=0).tolist() for sums in (self._total, self._squares))
        mask = MaskStats(
            share=area / pixels,
            pixels=area,
            alpha=int(self._alpha[some].sum()) / (_WHITE * pixels),
            empty=int(self._empty[some].sum()),
            histogram=Histogram(0.0, 1.0, tuple(shares[:-1].tolist())),
        )
        return Part(samples, ImageStats.of(total, squares, pixels), mask, depth, *sources)

    def places(self) -> tuple[tuple[int, ...], ...]:
        """How many foreground pixels there are in each cell of a grid over the picture."""
        height, width = self._dataset.height, self._dataset.width
        longest = max(height, width)
        edges = []
        for side in (height, width):
            count = min(side, max(1, round(_PLACES * side / longest)))
            edges.append([i * side // count for i in range(count)])
        seen = self._seen.reshape(height, width)
        cells = np.add.reduceat(np.add.reduceat(seen, edges[0], axis=0), edges[1], axis=1)
        return tuple(map(tuple, cells.tolist()))

    def counts(self) -> Counts | None:
        """How often samples have each source, category and number of objects."""
        sources, named = self._dataset.document.sources, self._dataset.categories
        if sources is None:
            if not self._dataset.has_objects:
                return None
            counted = dict(zip(named, self._categories.tolist(), strict=True))
            return Counts((), (), counted, 0, tuple(self._objects.tolist()))
        backgrounds, foregrounds = (counted.sum(axis=0).tolist() for counted in self.sources)
        categories = dict.fromkeys(sources.categories, 0)
        for source, count in zip(sources.foregrounds, foregrounds, strict=True):
            categories[source.category] += count
        return Counts(
            tuple(backgrounds),
            tuple(foregrounds),
            categories,
            int(self._mirrored[0]),
            tuple(self._objects.tolist()),
        )

    def sizes(self) -> Sizes | None:
        """Sizes of the objects that can be seen."""
        if self._dataset.has_recipe and not self._dataset.has_objects:
            # What is pasted as a whole is of the same size wherever it lies.
            outlines = self._dataset._outlines
            self._add_boxes(outlines.box[0], outlines.visible, self.sources[1].sum(axis=0))
        if not (objects := int(self._heights.sum())):
            return None
        visible = None
        if self._dataset.has_recipe or VISIBLE in self._dataset.document.object_arrays:
            visible = Histogram(0.0, 1.0, tuple(self._visible.tolist()))
        return Sizes(
            objects=objects,
            hidden=int(self._hidden[0]),
            height=quartiles(self._heights),
            width=quartiles(self._widths),
            heights=_binned(self._heights),
            visible=visible,
        )


def _binned(counts: NDArray[np.int64]) -> Histogram:
    """A few bins of equal width for whole numbers, by how often each occurs, from 0 on."""
    there = np.flatnonzero(counts)
    first, last = int(there[0]), int(there[-1])
    step = math.ceil((last + 1 - first) / _HEIGHT_BINS)
    bins = math.ceil((last + 1 - first) / step)
    padded = np.zeros(bins * step, np.int64)
    padded[: last + 1 - first] = counts[first : last + 1]
    return Histogram(first, first + bins * step, tuple(padded.reshape(bins, step).sum(axis=1).tolist()))
