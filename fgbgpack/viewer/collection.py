"""One dataset of a page: what it says of itself, its samples as numbers, and as pictures."""

from __future__ import annotations

import dataclasses
import math
import shlex
import threading
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset.batch import Batch
from fgbgpack.dataset.dataset import Dataset
from fgbgpack.document import DEPTH, IMAGE, INSTANCE, MASK, VISIBLE
from fgbgpack.errors import SpecError, redacted
from fgbgpack.scene_spec import BLENDS
from fgbgpack.source_info import PictureCredit, SourceInfo
from fgbgpack.viewer.columns import PlacedColumns
from fgbgpack.viewer.layers import (
    LAYERS,
    SOURCE_OF,
    DepthScale,
    Picture,
    layer_of,
    reduced,
    sheet,
    tile_size,
)
from fgbgpack.viewer.query import SORTS
from fgbgpack.viewer.search import MOST_SORTED, Searches
from fgbgpack.visual.colours import depth_limits

#: Bytes of pictures that are read at a time for a sheet.
_READ_BYTES = 24 << 20
#: Tiles in a row of a sheet.
SHEET_COLUMNS = 8
#: The side of a block of values.
BLOCK = 64
#: Of so many runs of so many samples, the scale of depth for all is found.
_SCALE_RUNS, _SCALE_SAMPLES = 16, 1024
#: The share of samples that may lie below, and above, that scale.
_OUTLIERS = 0.01
#: Beyond so many samples nothing is counted that nobody has asked for.
_COUNTED = 5_000_000


class Collection:
    """A dataset that a page shows. It may be used from several threads."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        dataset.draw_objects()
        self.searches = Searches(dataset)
        self._lock = threading.Lock()
        self._last: tuple[int, Batch] | None = None

    # --- numbers -----------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """What the page needs to know beforehand, as JSON data."""
        dataset, sources = self.dataset, self.dataset.document.sources
        depth = dataset.document.depth
        has_recipe = dataset.has_recipe
        sorts = [
            *SORTS[:2],
            *(SORTS[2:4] if has_recipe else ()),
            "height",
            *(("visible",) if dataset.has_objects and self._knows_shares else ()),
            *(("objects",) if dataset.has_objects else ()),
            *(("depth_min", "depth_max") if dataset.has_depth else ()),
        ]
        return {
            "path": redacted(dataset.path),
            "samples": len(dataset),
            "width": dataset.width,
            "height": dataset.height,
            "complete": dataset.complete,
            "scenes": dataset.document.is_scene,
            "objects": has_recipe or dataset.has_objects,
            "shares": dataset.has_objects and self._knows_shares,
            "virtual": dataset.document.is_virtual,
            "imported": not has_recipe,
            "layers": list(self.layers),
            "fields": list(dataset.fields),
            "most_objects": max(1, dataset.document.most_objects),
            "backgrounds": [] if sources is None else [one.name for one in sources.backgrounds],
            "foregrounds": [] if sources is None else [one.name for one in sources.foregrounds],
            "categories": list(dataset.categories),
            "blends": [] if not dataset.document.is_scene else list(BLENDS),
            "splits": {name: list(split["parts"]) for name, split in dataset.splits.items()},
            "depth": None
            if depth is None
            else {"quantity": depth.quantity, "unit": depth.unit, "mode": depth.mode},
            "sorts": sorts,
            "most_sorted": MOST_SORTED,
            "counted": (has_recipe or dataset.has_objects) and len(dataset) <= _COUNTED,
            "sheet_columns": SHEET_COLUMNS,
            "block": BLOCK,
        }

    def statistics(self) -> dict[str, Any]:
        """The statistics that the dataset keeps, ``None`` where it keeps none, and the command that counts
        them, as JSON data.
        """
        stats = self.dataset.saved_stats
        return {
            "stats": None if stats is None else stats.to_dict(),
            "command": f"fgbgpack stats {shlex.quote(redacted(self.dataset.path))}",
        }

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that its samples have."""
        absent = {"depth"} if not self.dataset.has_depth else set()
        absent |= set() if self.dataset.has_recipe else {"background"}
        return tuple(name for name in LAYERS if name not in absent)

    def rows(self, samples: NDArray[np.int64], *, boxes: bool) -> list[dict[str, Any]]:
        """What cells say of some samples, as JSON data; ``boxes`` read masks where nothing else tells of
        objects.
        """
        columns = self.searches.columns
        names = None if self.dataset.has_recipe else columns.names(samples)
        if names is not None and not (boxes or self.dataset.has_objects):
            return [{"i": i, "name": name} for i, name in zip(samples.tolist(), names, strict=True)]
        placed = columns.of(samples)
        there = placed.columns.there
        return [
            {
                "i": number,
                "name": None if names is None else names[k],
                "bg": int(placed.columns.background[k]),
                "objects": [self._object(placed, k, one) for one in np.flatnonzero(there[k]).tolist()],
            }
            for k, number in enumerate(samples.tolist())
        ]

    def sample(self, number: int) -> dict[str, Any]:
        """Everything about one sample but its pixels, as JSON data."""
        dataset = self.dataset
        samples = np.array([number])
        found = self.rows(samples, boxes=True)[0]
        sources = dataset.document.sources
        batch = dataset.read(samples, fields=())
        if sources is not None:
            found["background"] = _credits(sources.backgrounds[found["bg"]])
            placed = batch.objects if dataset.document.is_scene else batch
            for one in found["objects"]:
                k = one["k"]
                one["foreground"] = _credits(sources.foregrounds[one["fg"]])
                for name in ("y", "x"):
                    value = getattr(placed, name)[0]
                    one[name] = int(value[k] if dataset.document.is_scene else value)
                if dataset.document.is_scene:
                    one["blend"] = BLENDS[one["blend"]]
                    one["width"] = int(batch.objects.width[0, k])
                    one["rotation"] = int(batch.objects.rotation[0, k]) / 10
                    one["gain"] = (batch.objects.gain[0, k] / 256).tolist()
                    one["shadow"] = int(batch.objects.shadow[0, k])
            found["replica"] = int(batch.replica[0])
        if dataset.names is not None:
            credit = PictureCredit() if dataset.credits is None else dataset.credits[number]
            found["picture"] = {"name": dataset.names[number], **dataclasses.asdict(credit)}
        low, high = (values[0] for values in self.searches.columns.depths(range(number, number + 1)))
        found["depth"] = [_finite(low), _finite(high)] if dataset.has_depth else None
        path = redacted(dataset.path)
        found["python"] = f"fgbgpack.open_dataset({path!r})[{number}]"
        found["command"] = f"fgbgpack preview {shlex.quote(path)} -o sample-{number}.png --samples {number}"
        return found

    def values(self, number: int, row: int, column: int) -> bytes:
        """The values of the block of one sample whose corner is ``BLOCK`` times ``row`` and ``column``, as
        bytes one after the other: depth as float32 (little-endian) where there is some, image, mask, and
        instances where there are some. At the borders it is smaller.

        Raises:
            SpecError: There is no such block.
        """
        top, left = row * BLOCK, column * BLOCK
        if top >= self.dataset.height or left >= self.dataset.width:
            raise SpecError("There is no such block of values.", code="view-invalid")
        with self._lock:
            if self._last is None or self._last[0] != number:
                self._last = number, self.dataset.read(np.array([number]))
            batch = self._last[1]
        parts = []
        for name, kind in ((DEPTH, "<f4"), (IMAGE, "u1"), (MASK, "u1"), (INSTANCE, "u1")):
            if name in batch.arrays:
                plane = batch.arrays[name][0, top : top + BLOCK, left : left + BLOCK]
                parts.append(plane.astype(kind).tobytes())
        return b"".join(parts)

    @property
    def _knows_shares(self) -> bool:
        """Whether it is known how much of objects is seen."""
        return self.dataset.has_recipe or VISIBLE in self.dataset.document.object_arrays

    def _object(self, placed: PlacedColumns, k: int, one: int) -> dict[str, Any]:
        """What is said of an object of a sample, as JSON data."""
        columns = placed.columns
        category = int(columns.category[k, one])
        return {
            "k": one,
            "fg": int(columns.foreground[k, one]),
            "category": self.dataset.categories[category] if category >= 0 else "",
            "flip": int(columns.flip[k, one]),
            "blend": int(columns.blend[k, one]),
            "height": int(columns.height[k, one]),
            "visible": round(float(columns.visible[k, one]), 4) if self._knows_shares else None,
            "box": placed.box[k, one].tolist(),
        }

    # --- pictures ----------------------------------------------------------------------------------

    def sheet(self, layer: str, samples: NDArray[np.int64], cell: int, *, one_scale: bool) -> Picture:
        """Some samples, at least one, as tiles of one picture, ``SHEET_COLUMNS`` in a row."""
        tiles, colours = self._tiles(layer, samples, cell, one_scale=one_scale)
        return Picture(sheet(tiles, min(SHEET_COLUMNS, len(samples))), colours)

    def plane(self, layer: str, number: int, *, one_scale: bool) -> Picture:
        """One sample in its own size."""
        tiles, colours = self._tiles(layer, np.array([number]), None, one_scale=one_scale)
        return Picture(tiles[0], colours)

    def scale_of(self, number: int) -> DepthScale:
        """The scale of depth of one sample on its own."""
        depth = self.dataset.read(np.array([number]), fields=DEPTH).arrays[DEPTH][0]
        low, high = depth_limits(depth) if np.isfinite(depth).any() else (math.nan, math.nan)
        return DepthScale(low, high, self._larger_is_nearer)

    @cached_property
    def scale(self) -> DepthScale | None:
        """The scale of depth of all samples, found in some of them; ``None`` where nothing is filled."""
        if not self.dataset.has_depth:
            return None
        count = len(self.dataset)
        starts = np.linspace(0, max(0, count - _SCALE_SAMPLES), _SCALE_RUNS).astype(np.int64)
        ends = [
            self.searches.columns.depths(range(start, min(start + _SCALE_SAMPLES, count)))
            for start in np.unique(starts).tolist()
        ]
        low, high = (np.concatenate([pair[which] for pair in ends]) for which in (0, 1))
        low, high = low[np.isfinite(low)], high[np.isfinite(high)]
        if not len(low):
            return None
        first, last = float(np.quantile(low, _OUTLIERS)), float(np.quantile(high, 1 - _OUTLIERS))
        return DepthScale(first, last, self._larger_is_nearer)

    @property
    def _larger_is_nearer(self) -> bool:
        """Where it is not known what values mean, large ones are bright, too."""
        depth = self.dataset.document.depth
        return depth is not None and depth.quantity != "depth"

    def _tiles(
        self, layer: str, samples: NDArray[np.int64], cell: int | None, *, one_scale: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Tiles (n, h, w) or (n, h, w, 3) of some samples, and the colours of their numbers."""
        dataset = self.dataset
        if layer not in self.layers:
            raise SpecError(f"{redacted(dataset.path)} has no {layer[:80]!r} to show.", code="view-invalid")
        field = SOURCE_OF[layer]
        if field == INSTANCE and not dataset.has_objects:
            field = MASK
        size = tile_size(dataset.height, dataset.width, cell)
        scale = self.scale if one_scale and layer == DEPTH else None
        at_once = max(1, _READ_BYTES // dataset.sample_bytes)
        found = []
        for start in range(0, len(samples), at_once):
            plane = dataset.read(samples[start : start + at_once], fields=field).arrays[field]
            if layer == "instances" and field == MASK:
                plane = (plane > 127).astype(np.uint8)
            plane = reduced(plane, size, smooth=layer not in ("depth", "instances"))
            tiles, colours = layer_of(layer, plane, scale, self._larger_is_nearer)
            found.append(tiles)
        return np.concatenate(found), colours


def _credits(source: SourceInfo) -> dict[str, Any]:
    return {
        "name": source.name,
        "sha256": source.sha256,
        "license": source.license,
        "author": source.author,
        "url": source.url,
    }


def _finite(value: np.floating[Any]) -> float | None:
    return float(value) if math.isfinite(value) else None
