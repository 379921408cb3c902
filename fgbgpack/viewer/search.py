"""The searches of a dataset, and the order of what they find."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.errors import SpecError
from fgbgpack.viewer.columns import ColumnSource
from fgbgpack.viewer.filters import Search
from fgbgpack.viewer.query import Query

#: Searches that are kept; each takes a bit a sample.
_KEPT = 12
#: Samples that can be sorted by values, which takes 20 bytes each meanwhile.
MOST_SORTED = 4_000_000
#: Orders that are kept.
_KEPT_ORDERS = 4
#: What spreads samples evenly: the golden section.
_GOLDEN = (5**0.5 - 1) / 2


class Searches:
    """The searches of a dataset: each is done once, in the background, and some are kept."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.columns = ColumnSource(dataset)
        self._kept: OrderedDict[tuple[Query, bool], Search] = OrderedDict()
        self._orders: OrderedDict[Query, NDArray[np.int64]] = OrderedDict()
        self._lock, self._sorting = threading.Lock(), threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fgbgpack-search")

    def search(self, query: Query, *, counting: bool = False) -> Search:
        """The search of a query, with counts or without, begun if need be; SpecError where the dataset has
        not what it names.
        """
        asked = dataclasses.replace(query, sort="number", descending=False)
        with self._lock:
            # One with counts is good for both.
            key = next((key for key in ((asked, True), (asked, counting)) if key in self._kept), None)
            if key is None or (counting and not key[1]) or not self._kept[key].is_of_use:
                key = asked, counting
                self._kept[key] = Search(self._dataset, self.columns, asked, counting=counting)
                self._thread.submit(self._kept[key].run)
            self._kept.move_to_end(key)
            found = self._kept[key]
            found.asked = time.monotonic()
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found

    def count(self, query: Query, seconds: float) -> int | None:
        """How many samples there are of a query; ``None`` where that is not known in so many seconds."""
        if query.is_all:
            return len(self._dataset)
        search = self.search(query)
        return search.found if search.wait(seconds) else None

    def samples(self, query: Query, places: range, seconds: float) -> NDArray[np.int64] | None:
        """The samples at some places of the order, within what there is; ``None`` where these are not known
        in so many seconds.

        Raises:
            SpecError: More samples than ``MOST_SORTED`` are to be sorted by their values.
        """
        count = self.count(query, seconds)
        if count is None:
            return None
        ranks = np.arange(min(places.start, count), min(places.stop, count))
        if query.needs_order:
            return self._order(query, count)[ranks]
        if query.descending:
            ranks = count - 1 - ranks
        if query.sort == "spread":
            # Of whole numbers of any size: there may be more samples than 64 bits hold the square of.
            step = _stride(count)
            ranks = np.array([rank * step % count for rank in ranks.tolist()], np.int64)
        return ranks if query.is_all else self.search(query).take(ranks)

    def _order(self, query: Query, count: int) -> NDArray[np.int64]:
        """All samples of a query in its order."""
        with self._sorting:
            if (kept := self._orders.get(query)) is not None:
                self._orders.move_to_end(query)
                return kept
            if count > MOST_SORTED:
                raise SpecError(
                    f"sort: {count:,} samples are more than the {MOST_SORTED:,} that can be sorted by their "
                    "values: filter them first.",
                    code="view-invalid",
                )
            numbers, keys = np.empty(count, np.int64), np.empty(count, np.float32)
            at = 0
            for some, key in self._keys(query):
                numbers[at : at + len(some)], keys[at : at + len(some)] = some, key
                at += len(some)
            if query.descending:
                np.negative(keys, out=keys)
            # What has no value, which is NaN, comes last.
            order = self._orders[query] = numbers[np.argsort(keys, kind="stable")]
            while len(self._orders) > _KEPT_ORDERS:
                self._orders.popitem(last=False)
            return order

    def _keys(self, query: Query) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """The samples of a query, part by part, with what they are sorted by."""
        search = None if query.is_all else self.search(query)
        for number, samples in enumerate(self.columns.parts()):
            some = np.arange(samples.start, samples.stop) if search is None else search.found_in(number)
            if len(some):
                yield some, self._sort_keys(query.sort, samples)[some - samples.start]

    def _sort_keys(self, sort: str, samples: range) -> NDArray[np.float32]:
        """(n,) float32, what samples are sorted by; NaN where there is nothing."""
        if sort in ("depth_min", "depth_max"):
            low, high = self.columns.part_depths(samples)
            return np.asarray(high if sort == "depth_max" else low, np.float32)
        columns = self.columns.part(samples)
        there = columns.there
        values: NDArray[Any]
        if sort == "objects":
            values = there.sum(axis=1)
        elif sort == "visible":
            values = np.where(there, columns.visible, np.inf).min(axis=1)
        elif sort == "height":
            values = columns.height.max(axis=1)
        else:
            values = columns.background if sort == "background" else columns.foreground[:, 0]
        keys: NDArray[np.float32] = values.astype(np.float32)
        keys[(keys < 0) | np.isinf(keys)] = np.nan
        return keys


def _stride(count: int) -> int:
    """A step that goes through all of ``count`` numbers, evenly spread at any time."""
    step = max(1, round(count * _GOLDEN))
    while math.gcd(step, count) > 1:
        step += 1
    return step
