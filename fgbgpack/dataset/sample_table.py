"""What samples are made of, as it is stored: read by parts, of which memory keeps some."""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.storage.reading import ArrayReader
from fgbgpack.storage.store import DatasetStore

Array: TypeAlias = NDArray[Any]
Part: TypeAlias = dict[str, Array]

#: What is kept of all parts that were read.
KEPT_BYTES = 64 << 20


class SampleTable:
    """Arrays of one row a sample, by their paths, which are read in parts of so many rows as chunks have.

    It may be used from several threads, forked and pickled.
    """

    def __init__(self, store: DatasetStore, paths: Sequence[str]) -> None:
        self._store, self._paths = store, tuple(paths)
        self._start()

    def _start(self) -> None:
        self._kept: OrderedDict[int, Part] = OrderedDict()
        self._lock, self._process = threading.Lock(), os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"_store": self._store, "_paths": self._paths}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = dict(state)
        self._start()

    @cached_property
    def _readers(self) -> dict[str, ArrayReader]:
        forms = self._store.forms(self._paths, copied=True)
        return {path: self._store.reader(path, form) for path, form in forms.items()}

    @cached_property
    def rows(self) -> int:
        """The rows of a part: those of the largest chunk."""
        return max(reader.layout.chunk[0] for reader in self._readers.values())

    @property
    def samples(self) -> int:
        """The rows of all parts."""
        return next(iter(self._readers.values())).layout.shape[0]

    @cached_property
    def bytes(self) -> int:
        """Bytes of the whole in memory."""
        readers = self._readers.values()
        return sum(math.prod(reader.layout.shape) * reader.dtype.itemsize for reader in readers)

    @property
    def fits(self) -> bool:
        """Whether all of it can be kept in memory."""
        return self.bytes <= KEPT_BYTES

    def of(self, samples: NDArray[np.int64], out: Mapping[str, Array]) -> Part:
        """The rows of n samples, from 0 on, in ``out`` where it has an array, else in new ones."""
        first = samples[0] // self.rows if len(samples) else 0
        parts = samples // self.rows
        if (parts == first).all():
            part = self._part(int(first))
            within = samples - first * self.rows
            return {path: self._taken(array, within, out.get(path)) for path, array in part.items()}
        found: Part = {}
        for path, reader in self._readers.items():
            shape = (len(samples), *reader.layout.shape[1:])
            found[path] = out[path] if path in out else np.empty(shape, reader.dtype)
        for number in np.unique(parts).tolist():
            chosen = np.flatnonzero(parts == number)
            within = samples[chosen] - number * self.rows
            for path, array in self._part(number).items():
                found[path][chosen] = array[within]
        return found

    @staticmethod
    def _taken(array: Array, within: NDArray[np.int64], out: Array | None) -> Array:
        return array.take(within, axis=0) if out is None else array.take(within, axis=0, out=out, mode="clip")

    def parts(self) -> Iterator[tuple[slice, Part]]:
        """All parts one after the other, with the rows that they are."""
        for start in range(0, self.samples, self.rows):
            rows = slice(start, min(start + self.rows, self.samples))
            yield rows, self._part(start // self.rows)

    def prepare(self) -> None:
        """Read all parts, where they can be kept."""
        if self.fits:
            for _ in self.parts():
                pass

    def _part(self, number: int) -> Part:
        if self._process != os.getpid():
            # A thread of the parent may have had the lock when this process was forked; parts stay.
            self._lock, self._process = threading.Lock(), os.getpid()
        with self._lock:
            part = self._kept.get(number)
            if part is None:
                part = self._kept[number] = self._read(number)
            self._kept.move_to_end(number)
            most = max(1, KEPT_BYTES * self.samples // max(1, self.bytes * self.rows))
            while len(self._kept) > most and not self.fits:
                self._kept.popitem(last=False)
            return part

    def _read(self, number: int) -> Part:
        rows = range(number * self.rows, min((number + 1) * self.rows, self.samples))
        for reader in self._readers.values():
            reader.ahead(self, rows)
        return {path: reader.read(rows) for path, reader in self._readers.items()}
