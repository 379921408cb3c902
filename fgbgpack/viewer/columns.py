"""What samples are filtered and sorted by, as compact arrays, a part of the samples at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.dataset.geometry import Outlines, mask_boxes
from fgbgpack.document import (
    BOXES,
    CATEGORIES,
    DEPTH_MAX,
    DEPTH_MIN,
    FOREGROUND_SIZE,
    MASK,
    NAME,
    OBJECTS,
    SCENE_PLACEMENTS,
    SOURCE_ARRAYS,
    VISIBLE,
)
from fgbgpack.storage.reading import ArrayReader

#: Samples of a part: what is derived at a time.
PART = 1 << 14
#: Bytes of parts that are kept.
_KEPT_BYTES = 48 << 20
#: Parts of which depth is read at a time, and kept.
_DEPTHS, _KEPT_DEPTHS = 8, 128
#: Imported masks that are measured at a time.
_MASKS_AT_ONCE = 256
#: What is kept of scenes, by the names of their arrays.
_BACKGROUND = SCENE_PLACEMENTS[0]
_OF_OBJECTS = ("foreground", "category", "flip", "blend", "height", "visible", "box")
#: Stands where there is no object, and where nothing of one is seen.
NONE = -1


@dataclass(frozen=True, eq=False)
class Columns:
    """Of n samples with up to K objects each, -1 where there is none; K is 1 where none are told apart.

    Attributes:
        background: (n,) int32, -1 of imported samples.
        foreground: (n, K) int32, -1 of imported samples, as flip and blend.
        category: (n, K) int32, the number of a category; -1 where nothing tells objects apart.
        flip: (n, K) int8.
        blend: (n, K) int8.
        height: (n, K) int16, in pixels; of imported samples that of the box of the object or the mask.
        visible: (n, K) float32, the share that is seen; 1 where it is not known.
        row: (n, K) int16, twice the row of the middle of what is seen; -1 where nothing is.
        column: (n, K) int16, the same of the column.
    """

    background: NDArray[np.int32]
    foreground: NDArray[np.int32]
    category: NDArray[np.int32]
    flip: NDArray[np.int8]
    blend: NDArray[np.int8]
    height: NDArray[np.int16]
    visible: NDArray[np.float32]
    row: NDArray[np.int16]
    column: NDArray[np.int16]

    @property
    def there(self) -> NDArray[np.bool_]:
        """(n, K) whether there is an object."""
        return self.height >= 0

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (getattr(self, field.name) for field in fields(self))
        return sum(int(array.nbytes) for array in arrays)


@dataclass(frozen=True, eq=False)
class PlacedColumns:
    """Columns, and (n, K, 4) int16 boxes: top, left, bottom and right of what is seen, 0 where nothing is."""

    columns: Columns
    box: NDArray[np.int16]

    @classmethod
    def of(cls, box: NDArray[np.int16], **columns: NDArray[Any]) -> PlacedColumns:
        """Those of boxes, and of all columns but those that follow from the boxes."""
        is_seen = box[..., 2] > box[..., 0]
        row, column = (np.where(is_seen, box[..., k] + box[..., k + 2], np.int16(NONE)) for k in (0, 1))
        return cls(Columns(**columns, row=row, column=column), box)


class ColumnSource:
    """The columns of a dataset, derived in parts when they are first asked for; some are kept.

    It may be used from several threads.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._kept: OrderedDict[int, Columns] = OrderedDict()
        self._depths: OrderedDict[int, tuple[NDArray[np.float16], NDArray[np.float16]]] = OrderedDict()
        self._readers: dict[str, ArrayReader] = {}
        self._lock = threading.Lock()

    def parts(self) -> Iterator[range]:
        """The samples of each part."""
        count = len(self._dataset)
        return (range(start, min(start + PART, count)) for start in range(0, count, PART))

    def part(self, samples: range, *, measured: bool = True) -> Columns:
        """The columns of one of ``parts``; unless they are ``measured``, masks stay unread where nothing else
        tells of objects, and their heights and boxes are 0.
        """
        if not (measured or self._dataset.has_recipe or self._dataset.has_objects):
            return _unplaced(np.zeros((len(samples), 4), np.int16)).columns
        with self._lock:
            if (kept := self._kept.get(samples.start)) is not None:
                self._kept.move_to_end(samples.start)
                return kept
            found = self._kept[samples.start] = self._derived(samples)
            while len(self._kept) > 1 and sum(one.nbytes for one in self._kept.values()) > _KEPT_BYTES:
                self._kept.popitem(last=False)
        return found

    def _derived(self, samples: range) -> Columns:
        """The columns of samples that follow one another."""
        if self._dataset.document.imported is not None and self._dataset.has_objects:
            return self._imported(samples).columns
        if not self._dataset.document.is_scene:
            return self.of(np.arange(samples.start, samples.stop)).columns
        # Read without what the dataset keeps of what it has read, which is three times as much as is needed.
        return _of_objects(
            self._stored(_BACKGROUND).read(samples),
            *(self._stored(f"{OBJECTS}/{name}").read(samples) for name in _OF_OBJECTS),
        ).columns

    def of(self, samples: NDArray[np.int64]) -> PlacedColumns:
        """The columns of some samples. Masks are read where nothing else tells of objects, else nothing of
        pictures.
        """
        dataset = self._dataset
        if not dataset.has_recipe:
            return self._imported(samples) if dataset.has_objects else self._of_masks(samples)
        batch = dataset.read(samples, fields=())
        if dataset.document.is_scene:
            objects = batch.objects
            return _of_objects(batch.background, *(getattr(objects, name) for name in _OF_OBJECTS))
        outlines, size, category = self._foregrounds
        one = batch.foreground[:, None]
        box = outlines.box[batch.flip.astype(np.intp), batch.foreground].astype(np.int16)
        corner = np.stack([batch.y, batch.x] * 2, axis=1).astype(np.int16)
        box = np.where((box[:, 2] > 0)[:, None], box + corner, np.int16(0))
        return PlacedColumns.of(
            box[:, None],
            background=batch.background,
            foreground=one,
            category=category[one],
            flip=batch.flip.astype(np.int8)[:, None],
            blend=np.zeros(one.shape, np.int8),
            height=size[:, 0][one].astype(np.int16),
            visible=outlines.visible[one],
        )

    def depths(self, samples: range) -> tuple[NDArray[Any], NDArray[Any]]:
        """(n,) each: the least and the greatest depth of samples that follow one another; NaN where it is not
        filled.
        """
        if not self._dataset.has_depth:
            nothing = np.full(len(samples), np.nan, np.float16)
            return nothing, nothing
        low, high = (self._stored(path).read(samples) for path in (DEPTH_MIN, DEPTH_MAX))
        return low, high

    def part_depths(self, samples: range) -> tuple[NDArray[Any], NDArray[Any]]:
        """The same of one of ``parts``; some are kept."""
        with self._lock:
            if samples.start not in self._depths:
                # A chunk holds several parts: those that follow are mostly asked for next.
                several = range(samples.start, min(samples.start + _DEPTHS * PART, len(self._dataset)))
                low, high = self.depths(several)
                for start in range(0, len(several), PART):
                    # Copies, so that a part that is kept does not keep the others.
                    some = slice(start, start + PART)
                    self._depths[several.start + start] = low[some].copy(), high[some].copy()
                while len(self._depths) > _KEPT_DEPTHS:
                    self._depths.popitem(last=False)
            return self._depths[samples.start]

    def names(self, samples: NDArray[np.int64]) -> list[str]:
        """The names of some imported samples."""
        stored = self._stored(NAME).read(samples)
        return [bytes(name).rstrip(b"\0").decode() for name in stored]

    def named(self, samples: range, word: str) -> NDArray[np.bool_]:
        """(n,) whether the names of imported samples hold a word, in lower case; all of them follow one
        another.
        """
        names = self._stored(NAME).read(samples)
        width = names.shape[1]
        sought, found = word.encode(), np.zeros(len(samples), np.bool_)
        # Letters beyond ASCII are compared as they are written.
        text = names.tobytes().lower()
        at = text.find(sought)
        while at >= 0:
            row, column = divmod(at, width)
            if column + len(sought) <= width:
                found[row] = True
                at = text.find(sought, (row + 1) * width)
            else:
                at = text.find(sought, at + 1)
        return found

    def _stored(self, path: str) -> ArrayReader:
        if path not in self._readers:
            self._readers[path] = self._dataset.store.reader(path)
        return self._readers[path]

    @cached_property
    def _foregrounds(self) -> tuple[Outlines, NDArray[np.int32], NDArray[np.int32]]:
        """Outlines, sizes and categories of the foregrounds."""
        pictures, size = self._dataset.store.read(SOURCE_ARRAYS[1], FOREGROUND_SIZE)
        sources = self._dataset.document.sources
        category = np.array(() if sources is None else sources.category_numbers, np.int32)
        return Outlines.of(pictures, size), size, category

    def _imported(self, samples: range | NDArray[np.int64]) -> PlacedColumns:
        """The columns of imported samples whose objects are told apart."""
        category, box = (self._stored(path).read(samples) for path in (CATEGORIES, BOXES))
        has_shares = VISIBLE in self._dataset.document.object_arrays
        there = category >= 0
        share = self._stored(VISIBLE).read(samples) if has_shares else np.ones(there.shape, np.float32)
        return _of_imported(category, np.where(there[..., None], box, np.int16(0)), share)

    def _of_masks(self, samples: NDArray[np.int64]) -> PlacedColumns:
        box = np.zeros((len(samples), 4), np.int16)
        for start in range(0, len(samples), _MASKS_AT_ONCE):
            some = slice(start, start + _MASKS_AT_ONCE)
            box[some] = mask_boxes(self._dataset.read(samples[some], fields=MASK).mask)
        return _unplaced(box)


def _of_objects(
    background: NDArray[np.int32],
    foreground: NDArray[np.int32],
    category: NDArray[np.int32],
    flip: NDArray[np.int8],
    blend: NDArray[np.int8],
    height: NDArray[np.int16],
    visible: NDArray[np.float32],
    box: NDArray[np.int16],
) -> PlacedColumns:
    """The columns of scenes, of what is stored of their objects."""
    return PlacedColumns.of(
        np.where((foreground >= 0)[..., None], box, np.int16(0)),
        background=background,
        foreground=foreground,
        category=category.astype(np.int32),
        flip=flip,
        blend=blend,
        height=height,
        visible=visible,
    )


def _unplaced(box: NDArray[np.int16]) -> PlacedColumns:
    """The columns of imported samples, of which the boxes (n, 4) of their masks are known."""
    nothing = np.full((len(box), 1), NONE, np.int32)
    height = (box[:, 2] - box[:, 0])[:, None]
    return _of_imported(nothing, box[:, None], np.ones(nothing.shape, np.float32), height)


def _of_imported(
    category: NDArray[Any],
    box: NDArray[np.int16],
    visible: NDArray[np.float32],
    height: NDArray[np.int16] | None = None,
) -> PlacedColumns:
    """The columns of imported samples, of the categories (n, K), boxes (n, K, 4) and shares of their objects;
    ``height`` is that of their boxes, or says which are there where no category does.
    """
    if height is None:
        height = np.where(category >= 0, box[..., 2] - box[..., 0], np.int16(NONE))
    nothing = np.full(category.shape, NONE, np.int8)
    return PlacedColumns.of(
        box,
        background=np.full(len(box), NONE, np.int32),
        foreground=nothing.astype(np.int32),
        category=category.astype(np.int32),
        flip=nothing,
        blend=nothing,
        height=height,
        visible=visible,
    )
