"""The chunks of a dataset's shards decoded and compared, with what is found collected by shard."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.recipe import Recipe
from fgbgpack.document import DEPTH, Document
from fgbgpack.errors import DatasetError
from fgbgpack.pipeline.chunk_checks import Chunk, ChunkDecoder, DepthChecks, PixelChecks
from fgbgpack.pipeline.executor import Monitor
from fgbgpack.pipeline.faults import Findings
from fgbgpack.pipeline.ticket import Work
from fgbgpack.storage.arrays import ArrayForm
from fgbgpack.storage.hdf5 import Hdf5Store
from fgbgpack.storage.reading import ArrayReader
from fgbgpack.storage.store import DatasetStore

#: Arrays that are looked at together, and the number of a shard of theirs.
Check: TypeAlias = tuple[tuple[str, ...], int]


class Reports:
    """What decoders report, as faults; each thread collects those of the shard that it is at.

    ``covered`` are the arrays whose missing chunks the manifest tells of.
    """

    def __init__(
        self, store: DatasetStore, document: Document, forms: Mapping[str, ArrayForm], covered: frozenset[str]
    ) -> None:
        self._name, self._forms = store.name, forms
        self._whole, self._covered = frozenset(document.whole_arrays), covered
        self._is_hdf5 = isinstance(store.store, Hdf5Store)
        self._here = _Here()

    @contextmanager
    def collected(self) -> Iterator[Findings]:
        """What this thread finds in the block."""
        findings = self._here.findings = Findings()
        yield findings

    def decoder(self, readers: Mapping[str, ArrayReader]) -> ChunkDecoder:
        """What decodes the chunks of some arrays, and reports here."""
        return ChunkDecoder(readers, self._damaged, self._absent)

    def _damaged(self, array: str, chunk: Chunk, samples: range, error: DatasetError) -> None:
        self._here.findings.of_chunk(array, self._forms[array].layout, chunk, samples, error)

    def _absent(self, array: str, chunk: Chunk, samples: range) -> None:
        if array in self._whole:
            key = f"{self._name}/{array}/{self._forms[array].layout.key(chunk[0])}"
            error = DatasetError(f"Chunk {chunk[1]} of {key} is missing.", code="chunk-missing")
            # HDF5 files and datasets whose manifest is lost: nothing else than this tells.
            if array not in self._covered or self._is_hdf5:
                self._damaged(array, chunk, samples, error)
        else:
            self._here.findings.unwritten_object(array, chunk[0])

    def pixels_differ(self, array: str, sample: int, line: str) -> None:
        """A sample is not that of the recipe."""
        self._differs("pixels-differ", array, sample, f"Not the pixels of the recipe: {line}.")

    def extremes_differ(self, array: str, sample: int, line: str) -> None:
        """The extremes of a sample are not those of its depth."""
        self._differs("extremes-differ", array, sample, f"Not the extremes of the depth: {line}.")

    def _differs(self, code: str, array: str, sample: int, message: str) -> None:
        self._here.findings.of_sample(code, array, self._forms[array].layout, sample, message)


class _Here(threading.local):
    """What the thread that asks has found."""

    def __init__(self) -> None:
        self.findings = Findings()

    def __reduce__(self) -> tuple[type[_Here], tuple[()]]:
        return _Here, ()


class ShardChecks(Work[Check, Findings]):
    """Compares the shards of pixels and of depth with the manifest, the recipe and the stored extremes.

    ``extremes`` are those that are there as a whole, by the paths of their arrays; other processes read them.
    """

    def __init__(
        self,
        store: DatasetStore,
        reports: Reports,
        forms: Mapping[str, ArrayForm],
        covered: frozenset[str],
        recipe: Recipe | None,
        extremes: Mapping[str, NDArray[np.float16]],
    ) -> None:
        self._store, self._reports, self._forms, self._covered = store, reports, forms, covered
        self._recipe = recipe
        self._extremes: Mapping[str, NDArray[np.float16] | None] = dict(extremes)

    def __getstate__(self) -> dict[str, Any]:
        opened = ("readers", "_extremes_readers", "_pixels", "_depth")
        state = {name: value for name, value in self.__dict__.items() if name not in opened}
        return state | {"_extremes": dict.fromkeys(self._extremes)}

    @property
    def recipe_store(self) -> DatasetStore | None:
        """The dataset itself, unless its sources are not those of the recipe."""
        return None if self._recipe is None else self._store

    @cached_property
    def readers(self) -> Mapping[str, ArrayReader]:
        """What reads the arrays."""
        return {
            path: self._store.reader(path, form, checked=path in self._covered)
            for path, form in self._forms.items()
        }

    @cached_property
    def _extremes_readers(self) -> Mapping[str, ArrayReader]:
        # What is another one than the manifest says was found already.
        return {name: self._store.reader(name, checked=False) for name in self._extremes}

    @cached_property
    def _pixels(self) -> PixelChecks:
        pixels = {path: reader for path, reader in self.readers.items() if path != DEPTH}
        return PixelChecks(self._reports.decoder(pixels), self._recipe, self._reports.pixels_differ)

    @cached_property
    def _depth(self) -> DepthChecks:
        decoder = self._reports.decoder({DEPTH: self.readers[DEPTH]})
        return DepthChecks(decoder, DEPTH, self._stored_extremes, self._reports.extremes_differ)

    def checks(self) -> list[Check]:
        """All that is to be looked at."""
        groups = list(self._pixels.groups) if set(self._forms) - {DEPTH} else []
        groups += [(DEPTH,)] if DEPTH in self._forms else []
        return [(group, n) for group in groups for n in range(self._forms[group[0]].layout.shards)]

    def __call__(self, item: Check, monitor: Monitor) -> Findings:
        """What is found in a shard."""
        group, shard = item
        with self._reports.collected() as findings:
            if group == (DEPTH,):
                self._depth.check(shard, monitor)
            else:
                self._pixels.check(group, shard, monitor)
        return findings

    def measure(self, shard: int, monitor: Monitor) -> NDArray[np.float32]:
        """The extremes of the stored depth of a shard, as :meth:`DepthChecks.measure`."""
        return self._depth.measure(shard, monitor)

    def _stored_extremes(self, name: str, samples: range) -> NDArray[np.float16] | None:
        if name not in self._extremes:
            return None
        values = self._extremes[name]
        if values is not None:
            return values[samples.start : samples.stop]
        reader = self._extremes_readers[name]
        return np.asarray(reader.read(np.arange(samples.start, samples.stop), threads=1))
