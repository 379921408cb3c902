"""What is found wrong with a dataset: one fault for each object and kind of error."""

from __future__ import annotations

import dataclasses
import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fgbgpack.errors import DatasetError
from fgbgpack.storage.codecs import REPAIR
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.reading.checks import CAUSES

#: Codes of what another tool may have meant: what is stored is whole, but not what the manifest says.
CHANGES = frozenset(
    {
        "chunk-foreign",
        "chunk-missing",
        "document-damaged",
        "extremes-differ",
        "manifest-foreign",
        "metadata-foreign",
        "pixels-differ",
        "placements-differ",
        "recipe-damaged",
    }
)


#: Codes of values that are whole, and where nothing else is wrong, those that the manifest names.
VALUES = frozenset(
    {
        "depth-differs",
        "extremes-differ",
        "name-damaged",
        "pixels-differ",
        "placement-outside",
        "placements-differ",
    }
)


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with one object of a dataset.

    Attributes:
        code: The kind of error, as of :class:`~fgbgpack.errors.FgbgError`.
        array: The path of the array, group or file.
        key: The key of the object in the store, such as ``image/c/3/0/0/0``.
        shard: The number of the object in its array; ``None`` where the array as a whole is concerned.
        chunks: How many of its chunks.
        samples: The first sample concerned and the one after the last; ``None`` where it is no array of
            samples. Of sources they are pictures.
        message: What is wrong, on one line.
    """

    code: str
    array: str
    key: str
    message: str
    shard: int | None = None
    chunks: int = 0
    samples: tuple[int, int] | None = None

    @property
    def shown_samples(self) -> str:
        """What is concerned, in words: ``"samples 3 to 7"``; empty where it is no array of samples."""
        if self.samples is None:
            return ""
        first, last = self.samples[0], self.samples[1] - 1
        what = "picture" if self.array.startswith("sources/") else "sample"
        return f"{what} {first:,}" if first == last else f"{what}s {first:,} to {last:,}"


class Findings:
    """The faults that are found; it may be used from any thread."""

    def __init__(self) -> None:
        self._faults: dict[tuple[str, str], Fault] = {}
        self._lock = threading.Lock()
        #: The numbers of objects that are not written yet, by the paths of their arrays.
        self.unwritten: defaultdict[str, set[int]] = defaultdict(set)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state | {"_lock": threading.Lock()}

    def update(self, other: Findings) -> None:
        """Note all that others are."""
        for fault in other.all():
            self.add(fault)
        for array, shards in other.unwritten.items():
            for shard in shards:
                self.unwritten_object(array, shard)

    def add(self, fault: Fault) -> None:
        """Note a fault; chunks and samples of the same kind in the same object are joined."""
        place = fault.key, fault.code
        with self._lock:
            known = self._faults.get(place)
            if known is not None:
                both = [one.samples for one in (known, fault) if one.samples is not None]
                samples = (min(a for a, _ in both), max(b for _, b in both)) if both else None
                fault = dataclasses.replace(known, chunks=known.chunks + fault.chunks, samples=samples)
            self._faults[place] = fault

    def of_chunk(
        self, array: str, layout: Layout, chunk: tuple[int, int], samples: range, error: DatasetError
    ) -> None:
        """Note what is wrong with a chunk."""
        shard, _ = chunk
        key = f"{array}/{layout.key(shard)}"
        what = _what(error)
        self.add(Fault(error.code, array, key, what, shard, 1, (samples.start, samples.stop)))

    def of_sample(self, code: str, array: str, layout: Layout, sample: int, message: str) -> None:
        """Note that a value of a sample is not what it must be."""
        shard = sample // layout.shard[0]
        key = f"{array}/{layout.key(shard)}"
        self.add(Fault(code, array, key, message, shard, 0, (sample, sample + 1)))

    def of_object(self, key: str, error: DatasetError) -> None:
        """Note what is wrong with the metadata of an array or a group, or with the root."""
        array = key.rpartition("/")[0]
        self.add(Fault(error.code, array, key, _what(error)))

    def unwritten_object(self, array: str, shard: int) -> None:
        """Note that an object is not there yet, of a dataset that is not complete."""
        with self._lock:
            self.unwritten[array].add(shard)

    def all(self, order: Iterable[str] = ()) -> list[Fault]:
        """All faults, by the order of their arrays and their shards; those of the root come first."""
        places = {path: place for place, path in enumerate(order)}

        def place(fault: Fault) -> tuple[int, str, int, str]:
            first = -1 if fault.array == "" else places.get(fault.array, len(places))
            return first, fault.array, -1 if fault.shard is None else fault.shard, fault.code

        with self._lock:
            return sorted(self._faults.values(), key=place)

    def shards(self, array: str) -> set[int]:
        """The numbers of the faulty objects of an array."""
        with self._lock:
            faults = list(self._faults.values())
        return {fault.shard for fault in faults if fault.array == array and fault.shard is not None}

    def in_array(self, array: str) -> bool:
        """Whether anything is wrong with an array."""
        with self._lock:
            return any(fault.array == array for fault in self._faults.values())


def _what(error: DatasetError) -> str:
    """What is wrong, on one line, without what to do, which is the same for all faults."""
    message = " ".join(error.message.split())
    for advice in (REPAIR, CAUSES):
        message = message.removesuffix(advice).rstrip()
    return message
