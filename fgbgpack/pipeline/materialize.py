"""From a virtual dataset to one that stores its pixels, and back; all that is stored is compared with the
recipe.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.document import (
    DEPTH,
    DEPTH_PARTS,
    DEPTHS,
    EXTREMES,
    IMAGE,
    Document,
    PixelsInfo,
)
from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.pipeline.arrays import pixel_arrays, write_recipe
from fgbgpack.pipeline.chunk_checks import Chunk, ChunkDecoder, PixelChecks
from fgbgpack.pipeline.conflicts import differences, layout_differences
from fgbgpack.pipeline.events import Reporting, StageName, reporting, silent
from fgbgpack.pipeline.executor import Monitor
from fgbgpack.pipeline.layers import check_layers, copy_extremes, store_layers
from fgbgpack.pipeline.pixels import Pixels
from fgbgpack.pipeline.run import Result, Run
from fgbgpack.pipeline.stage import LayoutStage, Product
from fgbgpack.pipeline.staging import staged
from fgbgpack.pipeline.workers import engine_of
from fgbgpack.sources.names import counted
from fgbgpack.storage.arrays import METADATA
from fgbgpack.storage.codecs import REPAIR
from fgbgpack.storage.layout import DEFAULT_POLICY, Layout, LayoutPolicy
from fgbgpack.storage.reading import ArrayReader
from fgbgpack.storage.store import DatasetStore
from fgbgpack.storage.targets import Target, located, located_all

_SHOWN = 5
_PLACED_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Conversion(Result):
    """What storing pixels, or leaving them out, did in ``seconds``; the ``samples`` are at ``path``.

    Attributes:
        written: Samples whose pixels this run stored.
        checked: Samples whose stored pixels this run compared with those of the recipe.
        virtual: Whether the result is virtual.
        pixel_bytes: Bytes that the stored pixels take, or took in the dataset that the virtual one is of.
        total_bytes: Bytes of all that the result stores.
    """

    written: int
    checked: int
    virtual: bool
    pixel_bytes: int
    total_bytes: int

    @classmethod
    def of(cls, run: Run, document: Document, source: DatasetStore) -> Conversion:
        """The result of a run that ends with this document."""
        stored = run.store.stored_bytes()
        pixels = source.stored_bytes() if document.is_virtual else stored
        return cls(
            path=run.name,
            samples=document.samples,
            seconds=run.seconds,
            written=run.written["samples"],
            checked=run.written["checks"],
            virtual=document.is_virtual,
            pixel_bytes=sum(pixels.get(name, 0) for name in document.planes),
            total_bytes=sum(stored.values()),
        )


def materialize(
    dataset: Target,
    out: Target | None = None,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    layout: LayoutPolicy = DEFAULT_POLICY,
    storage_options: Mapping[str, Any] | None = None,
    on_event: Reporting = silent,
) -> Conversion:
    """Store the pixels of a virtual dataset, or finish that: the same files as if it had never been virtual.

    Until all pixels are there and compared with the recipe, ``dataset`` stays virtual, and whole.

    Args:
        dataset: A virtual dataset: a local folder, a URL that fsspec opens, or a Zarr store.
        out: Where to make one that stores its pixels; ``None`` stores them in ``dataset`` itself.
        workers: Threads, each on a shard of its own; ``None`` takes one for each processor.
        executor: What runs the work in place of threads, as for :func:`create`.
        overwrite: Replace another dataset at ``out``.
        layout: How large chunks and shards become.
        storage_options: What obstore or fsspec opens those of both with that are URLs, beside the
            environment; see :func:`fgbgpack.open_dataset`.
        on_event: Called in this thread with progress and notices; ``"progress"`` shows them.

    Raises:
        SpecError: ``out`` is ``dataset``.
        RecipeMismatchError: Another dataset is at ``out``.
        IncompleteDatasetError: ``dataset`` is not complete.
        DatasetError: ``dataset`` is not virtual or damaged, something else is at ``out``, another process is
            writing it, or the store is full.
    """
    if out is None:
        dataset = located(dataset, storage_options)
    else:
        dataset, out = located_all([dataset, out], storage_options)
    engine = engine_of(workers, executor)
    source = None if out is None else dataset
    with (
        reporting(on_event) as notify,
        staged(dataset if out is None else out, engine, notify, source=source) as place,
    ):
        original = _open_whole(place if out is None else dataset)
        run = Run(DatasetStore.open(place, read_only=False), engine, notify)
        pixels = Pixels(original.recipe, layout)
        if out is None:
            document = _store_in_place(run, original, pixels, layout)
        else:
            if not original.document.is_virtual:
                raise DatasetError(
                    f"{original.path} stores its pixels already: copy it as it is.", code="pixels-stored"
                )
            _check_apart(run, original)
            stored = dataclasses.replace(original.document, pixels=PixelsInfo(complete=True))
            document = _Copy(run, original, stored, layout).make(pixels, overwrite=overwrite)
        return Conversion.of(run, document, original.store)


def virtualize(
    dataset: Target,
    out: Target,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    on_event: Reporting = silent,
) -> Conversion:
    """Make a virtual dataset of one that stores its pixels, once all are found to be those of its recipe.

    ``dataset`` stays as it is.

    Args:
        dataset: A dataset that stores its pixels: a local folder, a URL that fsspec opens, or a Zarr store.
        out: Where to make the virtual one.
        workers: Threads; ``None`` takes one for each processor.
        executor: What runs the work in place of threads, as for :func:`create`.
        overwrite: Replace another dataset at ``out``.
        storage_options: What obstore or fsspec opens those of both with that are URLs, beside the
            environment; see :func:`fgbgpack.open_dataset`.
        on_event: Called in this thread with progress and notices; ``"progress"`` shows them.

    Raises:
        SpecError: ``out`` is ``dataset``.
        RecipeMismatchError: Another dataset is at ``out``.
        IncompleteDatasetError: ``dataset`` is not complete.
        DatasetError: Stored pixels are not those of the recipe, or damaged; ``dataset`` is virtual already;
            something else is at ``out``, or another process is writing it.
    """
    dataset, out = located_all([dataset, out], storage_options)
    engine = engine_of(workers, executor)
    with reporting(on_event) as notify, staged(out, engine, notify, source=dataset) as place:
        original = _open_whole(dataset)
        if original.document.is_virtual:
            raise DatasetError(
                f"{original.path} is virtual already: copy it as it is.", code="pixels-not-stored"
            )
        run = Run(DatasetStore.open(place, read_only=False), engine, notify)
        _check_apart(run, original)
        virtual = dataclasses.replace(original.document, pixels=PixelsInfo(complete=True, stored=False))
        copy = _Copy(run, original, virtual, DEFAULT_POLICY)
        existing = copy.existing(overwrite=overwrite)
        if existing is None or not existing.complete:
            message = (
                f"{original.path} holds pixels that are not those of its recipe, and a virtual dataset would "
                "not have them. Nothing was written."
            )
            stored = {path: original.store.reader(path) for path in original.document.planes}
            _check_pixels(run, original, stored, message)
            if DEPTH in virtual.composed:
                check_layers(run, original)
        document = copy.make(None, overwrite=overwrite)
        return Conversion.of(run, document, original.store)


def _open_whole(dataset: Target) -> Dataset:
    """A complete dataset whose sources and placements are those of its recipe; else a DatasetError."""
    store = DatasetStore.open(dataset, read_only=True)
    original = Dataset(store, store.existing_document(complete=True))
    recipe, document = original.recipe, original.document
    samples, stored = len(recipe), original.sample_arrays
    whole = all(len(array) == samples for array in stored.values()) and recipe.info == document.recipe
    for start in range(0, samples if whole else 0, _PLACED_AT_ONCE):
        rows = slice(start, min(start + _PLACED_AT_ONCE, samples))
        expected = recipe.sample_arrays(range(rows.start, rows.stop))
        whole &= all(np.array_equal(array, stored[path][rows]) for path, array in expected.items())
    if not whole:
        digest = document.recipe.sha256 if document.recipe else ""
        raise DatasetError(
            f"The sources or placements in {store.name} are damaged: they are not those of its recipe "
            f"({digest}). Restore it from a copy, or make it again.",
            code="recipe-damaged",
        )
    return original


def _check_apart(run: Run, original: Dataset) -> None:
    """Raise SpecError where the result would be the dataset itself."""
    if original.store.same_place_as(run.store):
        raise SpecError(
            f"{run.name} is the dataset itself: give another place for the result.", code="target-is-source"
        )


def _store_in_place(run: Run, original: Dataset, pixels: Pixels, policy: LayoutPolicy) -> Document:
    """Store the pixels of a virtual dataset in it; return its document."""
    store = run.store
    with run.exclusive():
        document = store.document()
        if document is None or document.recipe != original.document.recipe:
            raise DatasetError(
                f"{run.name} has been replaced meanwhile: run the same command again.",
                code="dataset-replaced",
            )
        if not document.is_virtual:
            run.notify(f"{run.name} stores its pixels already.")
            return document
        _store_pixels(run, original, pixels)
        if DEPTH in document.composed:
            store_layers(run, original, policy)
        store.declare(*pixel_arrays(pixels.layouts))
        document = dataclasses.replace(document, pixels=PixelsInfo(complete=True))
        store.commit(document)
    return document


def _store_pixels(run: Run, original: Dataset, pixels: Pixels) -> None:
    """Write the shards of pixels that are missing, and read all back."""
    run.execute(pixels)
    stored = {spec.path: run.store.reader(spec.path, spec.form) for spec in pixel_arrays(pixels.layouts)}
    message = (
        f"The pixels that are stored in {run.name} are not those of its recipe. Delete its folders "
        f"{' and '.join(f'{plane}/c' for plane in pixels.layouts)}, and run the same command again."
    )
    _check_pixels(run, original, stored, message)


def _check_pixels(run: Run, original: Dataset, stored: Mapping[str, ArrayReader], message: str) -> None:
    """Compare all stored pixels with those of the recipe; DatasetError names those that differ."""
    stage = _PixelCheck(stored, original)
    run.execute(stage)
    if lines := stage.lines():
        raise DatasetError(message, lines, code="pixels-differ")


class _PixelCheck(LayoutStage):
    """The stage that compares stored pixels with those of the recipe, composed, and writes nothing."""

    name: ClassVar[StageName] = "checks"

    def __init__(self, stored: Mapping[str, ArrayReader], original: Dataset) -> None:
        self._stored, self._recipe, self.recipe_store = stored, original.recipe, original.store
        self._layout = stored[IMAGE].layout
        super().__init__({IMAGE: self._layout})
        self._done: set[int] = set()
        self._found: dict[tuple[int, str], str] = {}
        self._here = _Differences()

    def __getstate__(self) -> dict[str, Any]:
        # What is compared already is known where the work is sent from.
        state = {name: value for name, value in self.__dict__.items() if name != "_checks"}
        return state | {"_done": set(), "_found": {}}

    @cached_property
    def _checks(self) -> PixelChecks:
        decoder = ChunkDecoder(self._stored, self._damaged, self._absent)
        return PixelChecks(decoder, self._recipe, self._differs)

    def missing(self, store: DatasetStore) -> list[int]:
        return [shard for shard in range(self._layout.shards) if shard not in self._done]

    def produce(self, shard: int, monitor: Monitor) -> Product:
        self._here.found = {}
        for group in self._checks.groups:
            self._checks.check(group, shard, monitor, by_sample=True)
        return Product(found=self._here.found)

    def take(self, shard: int, found: dict[tuple[int, str], str]) -> None:
        """Note that a shard is compared, and what differs."""
        self._done.add(shard)
        self._found |= found

    def lines(self) -> list[str]:
        """The first samples that differ, one line each, and how many do."""
        lines = [self._found[key] for key in sorted(self._found)]
        if len(lines) > _SHOWN:
            samples = len({sample for sample, _ in self._found})
            lines[_SHOWN:] = [f"... {samples:,} of {counted(self.total, 'sample')} in all"]
        return lines

    def _damaged(self, array: str, chunk: Chunk, samples: range, error: DatasetError) -> None:
        raise error

    def _absent(self, array: str, chunk: Chunk, samples: range) -> None:
        key = f"{array}/{self._stored[array].layout.key(chunk[0])}"
        raise DatasetError(f"A chunk of {key} is missing. {REPAIR}", code="chunk-missing")

    def _differs(self, array: str, sample: int, line: str) -> None:
        self._here.found.setdefault((sample, array), line)


class _Differences(threading.local):
    """The samples that differ in the shard that a thread is at: a line for each array."""

    def __init__(self) -> None:
        self.found: dict[tuple[int, str], str] = {}

    def __reduce__(self) -> tuple[type[_Differences], tuple[()]]:
        return _Differences, ()


class _Copy:
    """A copy of a dataset that stores its pixels, or does not; ``document`` is that of the complete copy."""

    def __init__(self, run: Run, original: Dataset, document: Document, policy: LayoutPolicy) -> None:
        self._run, self._original, self._document, self._policy = run, original, document, policy

    def existing(self, *, overwrite: bool) -> Document | None:
        """The document of what is there, if that is the same copy, complete or begun."""
        return self._run.existing(self._differences, overwrite=overwrite)

    def _differences(self, existing: Document) -> list[str]:
        document = self._document
        if document.spec is None:
            return []
        lines = differences(existing, document, document.spec, None)
        if existing.begun().depth != document.begun().depth:
            lines.append("depth: the dataset has none, or another one")
        if not existing.complete:
            lines += layout_differences(self._run.store, self._depth_layouts())
        return lines

    def make(self, pixels: Pixels | None, *, overwrite: bool) -> Document:
        """Make the copy, or finish it; ``pixels`` stores its pixels, unless it is virtual. Return its
        document.
        """
        run = self._run
        with run.exclusive():
            existing = self.existing(overwrite=overwrite)
            if (complete := run.begin_or_resume(existing, self._document)) is not None:
                return complete
            store = run.store
            if pixels is not None:
                store.declare(*pixel_arrays(pixels.layouts))
            write_recipe(store, self._original.recipe, self._policy)
            if pixels is not None:
                _store_pixels(run, self._original, pixels)
            self._copy_depth()
            store.commit(self._document)
        return self._document

    def _copy_depth(self) -> None:
        """Copy the arrays of depth, those that guide it included."""
        source, store = self._original.store, self._run.store
        for array in (*DEPTHS, *DEPTH_PARTS):
            metadata = source.get(f"{array}/{METADATA}")
            if metadata is not None and array not in self._document.composed:
                store.put(f"{array}/{METADATA}", metadata)
        if DEPTH in self._document.composed:
            copy_extremes(source, store)
        elif DEPTH in self._original.document.composed:
            store_layers(self._run, self._original, self._policy)
        for array, layout in self._depth_layouts().items():
            self._run.execute(_ShardCopy(source, array, layout))

    def _depth_layouts(self) -> dict[str, Layout]:
        """How the arrays of depth that are in shards are cut; that of the backgrounds comes first."""
        if self._document.depth is None:
            return {}
        source = self._original.store
        layouts = {array: source.layout(array) for array in (*DEPTH_PARTS, DEPTH)}
        composed = self._document.composed
        return {array: one for array, one in layouts.items() if one is not None and array not in composed}


class _ShardCopy(LayoutStage):
    """The stage that copies the shards of an array of depth."""

    def __init__(self, source: DatasetStore, array: str, layout: Layout) -> None:
        self.name: StageName = "depth" if array == DEPTH else "backgrounds"
        super().__init__({array: layout})
        self._source, self._array, self._layout = source, array, layout

    def missing(self, store: DatasetStore) -> list[int]:
        """The shards that are not there; DatasetError where one is not there to be copied."""
        missing = super().missing(store)
        if lost := sorted(set(missing).difference(self._source.sound_shards(self._array, self._layout))):
            raise DatasetError(
                f"Shard {self._source.name}/{self._array}/{self._layout.key(lost[0])} is missing or damaged: "
                "restore it from a copy, or fill depth again with fgbgpack depth --overwrite.",
                code="shard-damaged",
            )
        return missing

    def produce(self, shard: int, monitor: Monitor) -> Product:
        """The shard with that number, as it is; the extremes that belong to it come first."""
        monitor.check()
        key = f"{self._array}/{self._layout.key(shard)}"
        beside = EXTREMES if self._array == DEPTH else ()
        keys = (*(f"{name}/c/{shard}" for name in beside), key)
        values = dict(zip(keys, self._source.get_all(keys), strict=True))
        monitor.advance(self.size(shard))
        return Product({key: value for key, value in values.items() if value is not None})
