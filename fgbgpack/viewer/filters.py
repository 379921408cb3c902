"""A search: filters over all samples of a dataset, a part at a time, and counts of what is found."""

from __future__ import annotations

import dataclasses
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.dataset.listed_split import ListedSplit
from fgbgpack.dataset.selection import saved_split
from fgbgpack.dataset.splits import Split
from fgbgpack.errors import SpecError
from fgbgpack.scene_spec import BLENDS
from fgbgpack.viewer.columns import PART, Columns, ColumnSource
from fgbgpack.viewer.query import Query

#: A search that nobody asks about any more is given up after so many seconds.
_GIVEN_UP = 5.0
#: Samples of which the part of a split is found all at once, where it cannot be found part by part.
_MOST_DEALT = 20_000_000
#: Bins of histograms, and the most cells of the longer side of the map of placements.
_BINS, _CELLS = 32, 64


@dataclass
class Counts:
    """How often what comes, among the samples that are found. Each filter is left out of the counts of what
    it chooses among, so that they say what another choice would find.

    ``placed`` counts objects by the cell of the map that their middle is in, (rows, columns).
    """

    background: NDArray[np.int64]
    foreground: NDArray[np.int64]
    category: NDArray[np.int64]
    blend: NDArray[np.int64]
    flip: NDArray[np.int64]
    height: NDArray[np.int64]
    visible: NDArray[np.int64]
    placed: NDArray[np.int64]
    depth: list[float]

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON data."""
        found: dict[str, Any] = {
            one.name: getattr(self, one.name).tolist()
            for one in dataclasses.fields(self)
            if one.name != "depth"
        }
        return found | {"depth": self.depth if np.isfinite(self.depth).all() else None}


class Search:
    """The samples that a query finds, whatever their order: a bit for each sample, filled part by part.

    ``found`` is how many there are so far, and ``done`` the share of all samples that was looked at. What
    comes how often is counted only if asked for. It is given up where nobody asks about it any more.
    """

    def __init__(self, dataset: Dataset, columns: ColumnSource, query: Query, *, counting: bool) -> None:
        self._counting = counting
        self._measures = counting or query.height is not None or query.region is not None
        self._dataset, self._columns, self._query = dataset, columns, query
        self._bits = np.zeros(-(-len(dataset) // 8), np.uint8)
        self._found_before = [0]
        self._error: Exception | None = None
        self.counts = self._no_counts()
        self.asked = time.monotonic()
        self.over, self.is_given_up = threading.Event(), False
        self._tables = _Tables.of(dataset, query)

    @property
    def found(self) -> int:
        """How many samples were found so far."""
        return self._found_before[-1]

    @property
    def is_of_use(self) -> bool:
        """Whether it will tell, or has told, what is found: it has neither failed nor been given up."""
        return self._error is None and not self.is_given_up

    @property
    def done(self) -> float:
        """The share of the samples that was looked at."""
        parts = len(self._found_before) - 1
        return 1.0 if self.over.is_set() else min(1.0, parts * PART / len(self._dataset))

    def run(self) -> None:
        """Look at all samples, for as long as anybody asks about it."""
        try:
            for samples in self._columns.parts():
                if time.monotonic() - self.asked > _GIVEN_UP:
                    self.is_given_up = True
                    return
                self._look_at(samples)
        except Exception as error:
            self._error = error
        self.over.set()

    def wait(self, seconds: float) -> bool:
        """Wait for the end, for so long at most; whether it has come. Raises what the search has raised."""
        self.asked = time.monotonic()
        is_over = self.over.wait(seconds)
        self.asked = time.monotonic()
        if self._error is not None:
            raise self._error
        return is_over

    def take(self, ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers of those of the samples found that have these ranks, in ascending order of samples."""
        before = np.array(self._found_before)
        part = np.searchsorted(before, ranks, side="right") - 1
        taken = np.empty(len(ranks), np.int64)
        for number in np.unique(part).tolist():
            which = part == number
            taken[which] = self.found_in(number)[ranks[which] - before[number]]
        return taken

    def found_in(self, part: int) -> NDArray[np.int64]:
        """The numbers of the samples found in a part."""
        start = part * PART
        bits = self._bits[start // 8 : (start + PART) // 8]
        return np.flatnonzero(np.unpackbits(bits, bitorder="little")) + start

    # --- a part ------------------------------------------------------------------------------------

    def _look_at(self, samples: range) -> None:
        query = self._query
        columns = self._columns.part(samples, measured=self._measures)
        low = high = np.full(0, np.nan, np.float16)
        if self._counting or query.depth_min or query.depth_max:
            low, high = self._columns.part_depths(samples)
        of_samples: dict[str, NDArray[np.bool_]] = {}
        of_objects: dict[str, NDArray[np.bool_]] = {}
        if query.backgrounds:
            of_samples["background"] = self._tables.backgrounds[columns.background]
        for name, limits, values in (
            ("depth_min", query.depth_min, low),
            ("depth_max", query.depth_max, high),
        ):
            if limits is not None:
                of_samples[name] = _within(values, limits)
        if query.objects is not None:
            of_samples["objects"] = _within(columns.there.sum(axis=1), query.objects)
        for word, (backgrounds, foregrounds) in self._tables.words.items():
            of_samples[f"text {word}"] = (
                backgrounds[columns.background] | foregrounds[columns.foreground].any(axis=1)
                if self._dataset.has_recipe
                else self._columns.named(samples, word)
            )
        if query.split is not None:
            of_samples["split"] = self._tables.in_part(samples, columns)
        for name, table in self._tables.of_objects.items():
            of_objects[name] = table[getattr(columns, name)]
        if query.height is not None:
            of_objects["height"] = _within(columns.height, query.height)
        if query.visible is not None:
            of_objects["visible"] = _within(columns.visible, query.visible)
        if query.region is not None:
            # Middles are counted in half pixels.
            left, top, right, bottom = (2 * edge for edge in query.region)
            y, x = columns.row, columns.column
            of_objects["placed"] = (y >= max(0, top)) & (y < bottom) & (x >= max(0, left)) & (x < right)
        view = _View(columns, of_samples, of_objects)
        found = view.samples()
        self._bits[samples.start // 8 : samples.start // 8 + -(-len(samples) // 8)] = np.packbits(
            found, bitorder="little"
        )
        if self._counting:
            self._count(view, low, high, found)
        self._found_before.append(self.found + int(np.count_nonzero(found)))

    def _count(
        self,
        view: _View,
        low: NDArray[Any],
        high: NDArray[Any],
        found: NDArray[np.bool_],
    ) -> None:
        counts, columns = self.counts, view.columns
        if len(counts.background):
            counts.background += _bincount(columns.background[view.samples("background")], counts.background)
        for name in self._counted:
            total = getattr(counts, name)
            total += _bincount(getattr(columns, name)[view.objects(name)], total)
        height = columns.height[view.objects("height")].astype(np.int32)
        counts.height += _bincount(height * _BINS // (self._dataset.height + 1), counts.height)
        share = columns.visible[view.objects("visible")]
        counts.visible += _bincount(np.minimum(share * _BINS, _BINS - 1).astype(np.int32), counts.visible)
        placed = view.objects("placed") & (columns.row >= 0)
        y, x = (values[placed] // (2 * self._cell) for values in (columns.row, columns.column))
        rows, across = counts.placed.shape
        numbers = y.astype(np.int32) * across + x
        counts.placed += _bincount(numbers, counts.placed.reshape(-1)).reshape(rows, across)
        for values, which, where in ((low, 0, np.fmin), (high, 1, np.fmax)):
            some = values[found & np.isfinite(values)]
            if len(some):
                counts.depth[which] = float(where(counts.depth[which], where.reduce(some)))

    @property
    def _counted(self) -> tuple[str, ...]:
        """What objects have numbers of."""
        if self._dataset.has_recipe:
            return ("foreground", "category", "blend", "flip")
        return ("category",) if self._dataset.has_objects else ()

    @property
    def _cell(self) -> int:
        """The side of a cell of the map of placements, in pixels."""
        return -(-max(self._dataset.height, self._dataset.width) // _CELLS)

    def _no_counts(self) -> Counts:
        dataset, sources = self._dataset, self._dataset.document.sources
        backgrounds, foregrounds = (
            (0, 0) if sources is None else (len(sources.backgrounds), len(sources.foregrounds))
        )
        sizes = (backgrounds, foregrounds, len(dataset.categories), len(BLENDS), 2, _BINS, _BINS)
        grid = -(-dataset.height // self._cell), -(-dataset.width // self._cell)
        numbers = [np.zeros(size, np.int64) for size in sizes]
        background, foreground, category, blend, flip, height, visible = numbers
        return Counts(
            background,
            foreground,
            category,
            blend,
            flip,
            height,
            visible,
            placed=np.zeros(grid, np.int64),
            depth=[np.inf, -np.inf],
        )


class _View:
    """Which samples of a part, and which of their objects, fulfil all conditions but one."""

    def __init__(
        self,
        columns: Columns,
        of_samples: dict[str, NDArray[np.bool_]],
        of_objects: dict[str, NDArray[np.bool_]],
    ) -> None:
        self.columns, self._of_samples, self._of_objects = columns, of_samples, of_objects
        self._whole: dict[tuple[str, str], NDArray[np.bool_]] = {}

    def samples(self, but: str = "") -> NDArray[np.bool_]:
        """(n,) which samples."""
        key = self._key("samples", but)
        if key not in self._whole:
            found = np.ones(len(self.columns.background), np.bool_)
            for name, holds in self._of_samples.items():
                if name != but:
                    found &= holds
            if any(name != but for name in self._of_objects):
                found &= self._all(but).any(axis=1)
            self._whole[key] = found
        return self._whole[key]

    def objects(self, but: str = "") -> NDArray[np.bool_]:
        """(n, K) which objects, of these samples."""
        key = self._key("objects", but)
        if key not in self._whole:
            self._whole[key] = self._all(but) & self.samples(but)[:, None]
        return self._whole[key]

    def _key(self, of: str, but: str) -> tuple[str, str]:
        """What is the same whether a condition is left out or there is no such condition."""
        return of, but if but in self._of_samples or but in self._of_objects else ""

    def _all(self, but: str) -> NDArray[np.bool_]:
        """(n, K) which objects fulfil the conditions of objects."""
        found = self.columns.there
        for name, holds in self._of_objects.items():
            if name != but:
                found = found & holds
        return found


@dataclass(frozen=True, eq=False)
class _Tables:
    """What a query says of sources and categories, by their numbers, -1 being none of them."""

    backgrounds: NDArray[np.bool_]
    of_objects: dict[str, NDArray[np.bool_]]
    words: dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]
    split: Split | None
    part: str
    dealt: NDArray[np.bool_] | None
    digests: tuple[list[str], list[str]]

    @classmethod
    def of(cls, dataset: Dataset, query: Query) -> _Tables:
        """Those of a dataset; SpecError where it has not what the query names."""
        sources = dataset.document.sources
        backgrounds, foregrounds = ((), ()) if sources is None else (sources.backgrounds, sources.foregrounds)
        chosen = {
            "background": (query.backgrounds, len(backgrounds)),
            "foreground": (query.foregrounds, len(foregrounds)),
            "category": (query.categories, len(dataset.categories)),
            "blend": (query.blends, len(BLENDS) if dataset.has_recipe else 0),
            "flip": (() if query.flip is None else (int(query.flip),), 2 if dataset.has_recipe else 0),
        }
        problems = [
            f"{name}: there is no {max(numbers)}, expected below {count}"
            for name, (numbers, count) in chosen.items()
            if numbers and max(numbers) >= count
        ]
        saved = None
        if query.split is not None:
            name, part = query.split
            if name not in dataset.splits:
                problems.append(f"split: there is no {name!r}")
            elif part and part not in dataset.splits[name]["parts"]:
                problems.append(f"part: the split {name!r} has no part {part!r}")
            else:
                saved = saved_split(dataset, name)
        if problems:
            raise SpecError("This view cannot be shown:", problems, code="view-invalid")
        tables = {}
        for name, (numbers, count) in chosen.items():
            table = np.zeros(count + 1, np.bool_)  # what is not there has the number -1
            table[list(numbers)] = True
            tables[name] = table
        words = {
            word: (
                np.array([word in one.name.lower() for one in backgrounds] + [False]),
                np.array([word in one.name.lower() for one in foregrounds] + [False]),
            )
            for word in query.text
        }
        dealt = None
        if saved is not None and not _is_dealt_by_parts(dataset, saved):
            dealt = _dealt(dataset, *(query.split or ("", "")))
        return cls(
            tables["background"],
            {name: tables[name] for name in ("foreground", "category", "blend", "flip") if chosen[name][0]},
            words,
            None if isinstance(saved, ListedSplit) else saved,
            query.split[1] if query.split else "",
            dealt,
            ([one.sha256 for one in backgrounds], [one.sha256 for one in foregrounds]),
        )

    def in_part(self, samples: range, columns: Columns) -> NDArray[np.bool_]:
        """(n,) which samples are in the part of the split that is asked for."""
        if self.dealt is not None:
            return np.asarray(self.dealt[samples.start : samples.stop] == bool(self.part))
        if self.split is None:
            raise ValueError("no split is asked for")
        made_of = {"background": columns.background, "foreground": columns.foreground}
        parts = self.split.samples(lambda: iter([made_of]), *self.digests)
        found = np.zeros(len(samples), np.bool_)
        for name, some in parts.items():
            if not self.part or name == self.part:
                found[some] = True
        return found if self.part else ~found


def _is_dealt_by_parts(dataset: Dataset, split: Split | ListedSplit) -> bool:
    """Whether the part of a sample follows from its sources, and needs no other samples."""
    return (
        isinstance(split, Split)
        and dataset.has_recipe
        and (
            split.by in ("background", "both") or (split.by == "foreground" and not dataset.document.is_scene)
        )
    )


def _dealt(dataset: Dataset, name: str, part: str) -> NDArray[np.bool_]:
    """(n,) which samples are in a part of a split; or in any, where ``part`` is empty."""
    if len(dataset) > _MOST_DEALT:
        raise SpecError(
            f"split: {name!r} deals out samples one by one, and there are more than {_MOST_DEALT:,}.",
            code="view-invalid",
        )
    found = np.zeros(len(dataset), np.bool_)
    for one, samples in dataset.split(name).items():
        if not part or one == part:
            found[samples] = True
    return found


def _within(values: NDArray[Any], limits: tuple[float, float]) -> NDArray[np.bool_]:
    return np.asarray((values >= limits[0]) & (values <= limits[1]))


def _bincount(numbers: NDArray[Any], like: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each number below the length of an array comes."""
    return np.bincount(numbers, minlength=len(like))[: len(like)]
