"""One dataset of several that are parts of it: their chunks are copied as they are wherever they fit."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.document import (
    BACKGROUND_DEPTH,
    DEPTH,
    EXTREMES,
    IMAGE,
    MASK,
    DeviceInfo,
    Document,
    NetworkDepthInfo,
    PixelsInfo,
    SourcesInfo,
)
from fgbgpack.errors import DatasetError, RecipeMismatchError, SpecError
from fgbgpack.pipeline.arrays import depth_arrays, depth_layouts, extent_of, pixel_arrays, write_recipe
from fgbgpack.pipeline.conflicts import differences, is_fed_differently, layout_differences
from fgbgpack.pipeline.depth import bands, encoded_extremes
from fgbgpack.pipeline.devices import with_makers
from fgbgpack.pipeline.events import Reporting, StageName, reporting, silent
from fgbgpack.pipeline.executor import Monitor, Threads
from fgbgpack.pipeline.pixels import Pixels
from fgbgpack.pipeline.run import Result, Run
from fgbgpack.pipeline.stage import LayoutStage
from fgbgpack.pipeline.staging import staged
from fgbgpack.pipeline.union import Union
from fgbgpack.sources.names import counted
from fgbgpack.storage.arrays import BACKGROUND_DEPTH_CODEC, DEPTH_CODEC, GUIDED_DEPTH_CODEC, PIXEL_CODEC
from fgbgpack.storage.codecs import ChunkCodec, recode
from fgbgpack.storage.layout import DEFAULT_POLICY, Layout, LayoutPolicy
from fgbgpack.storage.reading import ArrayReader
from fgbgpack.storage.store import DatasetStore
from fgbgpack.storage.targets import Target
from fgbgpack.version import software


@dataclass(frozen=True)
class Merged(Result):
    """What merging datasets into one of ``samples`` at ``path`` did in ``seconds``.

    Attributes:
        datasets: How many were merged.
        written: Samples whose pixels, or of virtual ones, placements this run wrote.
        backgrounds: How many backgrounds it has.
        foregrounds: How many foregrounds it has.
        virtual: Whether it is virtual, as it is if all of them are.
        depth_mode: ``"guided"`` or ``"per-sample"``; ``None`` where depth is not filled.
        total_bytes: Bytes of all that it stores.
    """

    datasets: int
    written: int
    backgrounds: int
    foregrounds: int
    virtual: bool
    depth_mode: str | None
    total_bytes: int


def merge(
    datasets: Sequence[Target],
    out: Target,
    *,
    with_depth: bool = True,
    workers: int | None = None,
    overwrite: bool = False,
    layout: LayoutPolicy = DEFAULT_POLICY,
    on_event: Reporting = silent,
) -> Merged:
    """Make one dataset of several that were made with the same options, of other pictures.

    Together they must have every foreground on every background. The result has all of their pictures, in
    the order of names, and is the dataset that one :func:`create` of them would have made: the same files,
    but for the folders that the document names, and for what it says of the merged ones. Encoded chunks are
    copied as they are, once their checksums are found right. Pixels of chunks that are cut otherwise are made
    again, and their depth is decoded and encoded again, which loses nothing. No network runs.

    Args:
        datasets: Two or more complete datasets: local folders, HDF5 files, URLs that fsspec opens, or Zarr
            stores. They stay as they are.
        out: Where to make the result.
        with_depth: Keep their depth, which must be of the same networks, options and step in all of them;
            ``False`` leaves it out.
        workers: Threads, each on a shard of its own; ``None`` takes one for each processor.
        overwrite: Replace another dataset at ``out``.
        layout: How large chunks and shards become.
        on_event: Called in this thread with progress and notices; ``"progress"`` shows them.

    Raises:
        SpecError: There are fewer than two datasets, or ``out`` is one of them.
        RecipeMismatchError: They were made with other options (``merge-differs``) or have other depth
            (``merge-depth-differs``), or another dataset is at ``out``.
        IncompleteDatasetError: One of them is not complete.
        DatasetError: Some foreground is not on some background (``merge-pairs-missing``), pictures of the
            same name differ (``merge-names-clash``), one was imported (``recipe-missing``) or is damaged,
            something else is at ``out``, another process is writing it, or the store is full.

    Example:
        >>> from fgbgpack.pipeline import merge
        >>> merge(["malls.zarr", "lobbies.zarr"], "all.zarr").samples  # doctest: +SKIP
        180480
    """
    if len(datasets) < 2:
        raise SpecError(
            f"Found {counted(len(datasets), 'dataset')}, expected two or more to merge.", code="merge-of-one"
        )
    threads = Threads(workers)
    with reporting(on_event) as notify, staged(out, threads, notify) as place:
        run = Run(DatasetStore.open(place, read_only=False), threads, notify)
        opened = [_opened(dataset, out, run) for dataset in datasets]
        union = Union.of(opened)
        for notice in union.notices:
            run.notify(notice)
        document = _Merging(run, union, with_depth=with_depth, policy=layout).make(overwrite=overwrite)
        plan = union.recipe.plan
        return Merged(
            path=run.name,
            samples=document.samples,
            seconds=run.seconds,
            datasets=len(opened),
            written=run.written["samples"],
            backgrounds=len(plan.background_words),
            foregrounds=len(plan.foreground_words),
            virtual=document.is_virtual,
            depth_mode=None if document.depth is None else document.depth.mode,
            total_bytes=sum(run.store.stored_bytes().values()),
        )


def _opened(dataset: Target, out: Target, run: Run) -> Dataset:
    store = DatasetStore.open(dataset, read_only=True)
    opened = Dataset(store, store.existing_document(complete=True))
    paths = [Path(one) for one in (dataset, out) if isinstance(one, str | os.PathLike)]
    is_same = len(paths) == 2 and all(map(os.path.lexists, paths)) and paths[0].samefile(paths[1])
    if is_same or store.same_place_as(run.store):
        raise SpecError(
            f"{run.name} is one of the datasets that are to be merged: give another place for the result.",
            code="target-is-source",
        )
    return opened


class _Merging:
    """A union of datasets that is to be written, or finished."""

    def __init__(self, run: Run, union: Union, *, with_depth: bool, policy: LayoutPolicy) -> None:
        self._run, self._union, self._policy = run, union, policy
        documents = [dataset.document for dataset in union.datasets]
        first, recipe = documents[0], union.recipe
        depth = _depth_of(union) if with_depth else None
        self._document = Document(
            complete=True,
            pixels=PixelsInfo(complete=True, stored=not all(one.is_virtual for one in documents)),
            depth=depth,
            software=software(),
            spec=dataclasses.replace(recipe.spec, depth=None if depth is None else recipe.spec.depth),
            recipe=recipe.info,
            sources=SourcesInfo(recipe.catalog.backgrounds, recipe.catalog.foregrounds),
            splits=self._splits(documents) if first.splits or len(documents) > 1 else {},
            merged=tuple(
                {"recipe": one.recipe.sha256, "samples": one.samples, "generation": one.generation}
                for one in documents
                if one.recipe is not None
            ),
        )
        self._layouts = depth_layouts(extent_of(recipe), depth, len(recipe.catalog.backgrounds), policy)

    def _splits(self, documents: Sequence[Document]) -> dict[str, Mapping[str, object]]:
        """The splits of all datasets; of those that differ under one name, the first."""
        found: dict[str, Mapping[str, object]] = {}
        for dataset, document in zip(self._union.datasets, documents, strict=True):
            for name, split in document.splits.items():
                if found.setdefault(name, split) != split:
                    self._run.notify(f"The split {name!r} of {dataset.path} is another one, and is left out.")
        return found

    def make(self, *, overwrite: bool) -> Document:
        """Write it, or finish it; return its document."""
        run, document = self._run, self._document
        with run.exclusive():
            existing = run.existing(self._differences, overwrite=overwrite)
            store = run.store
            if existing is not None and existing.complete:
                run.notify(f"{run.name} is complete already.")
                return existing
            if existing is None:
                run.begin(document.begun())
            else:
                run.notify(f"Resuming {run.name}.")
                store.commit(document.begun())
            self._write()
            return store.commit(document)

    def _differences(self, existing: Document) -> list[str]:
        document = self._document
        if document.spec is None:
            return []
        lines = differences(existing, document, document.spec, None)
        before, now = existing.begun(), document.begun()
        if before.depth != now.depth:
            lines.append("depth: the dataset has none, or another one")
        if before.merged != now.merged:
            lines.append("merged: the dataset was made of other ones")
        if not existing.complete:
            lines += layout_differences(self._run.store, self._layouts)
        return lines

    def _write(self) -> None:
        run, store, union, depth = self._run, self._run.store, self._union, self._document.depth
        pixels = _MergedPixels(union, self._policy)
        if not self._document.is_virtual:
            store.declare(*pixel_arrays(pixels.layouts))
        write_recipe(store, union.recipe, self._policy)
        store.declare(*depth_arrays(self._layouts, depth))
        if self._document.is_virtual:
            run.written["samples"] = len(union.recipe)
        else:
            run.execute(pixels)
        if depth is None:
            return
        if BACKGROUND_DEPTH in self._layouts:
            run.execute(_MergedBackgrounds(union, self._layouts[BACKGROUND_DEPTH]))
        run.execute(_MergedDepth(union, self._layouts[DEPTH], guided=depth.is_guided))
        run.declare_depth(depth, self._layouts)


# --- depth of all, as the document describes it ----------------------------------------------------


def _depth_of(union: Union) -> NetworkDepthInfo | None:
    """The depth section of the union; ``None`` where none of the datasets has depth."""
    found = [(dataset, dataset.document.depth) for dataset in union.datasets]
    if all(depth is None for _, depth in found):
        return None
    (first, depth), lines = found[0], []
    for dataset, other in found[1:]:
        lines += [
            f"{what}: {first.path} has {one}, {dataset.path} has {two}"
            for what, one, two in _compared(depth, other)
            if one != two
        ]
    if lines or not isinstance(depth, NetworkDepthInfo):
        raise RecipeMismatchError(
            "The depth of these datasets cannot be merged: --without-depth leaves it out, and fgbgpack "
            "depth then fills it.",
            lines,
            code="merge-depth-differs",
        )
    sections = [one for _, one in found if isinstance(one, NetworkDepthInfo)]
    if depth.guide is None:
        return dataclasses.replace(depth, devices=_devices(union, [one.devices for one in sections]))
    of_guide = [one.guide.devices for one in sections if one.guide is not None]
    guide = dataclasses.replace(depth.guide, devices=_devices(union, of_guide))
    devices = _background_devices(union, [one.devices for one in sections])
    return dataclasses.replace(depth, guide=guide, devices=devices)


def _compared(one: object, two: object) -> Iterator[tuple[str, object, object]]:
    if not (isinstance(one, NetworkDepthInfo) and isinstance(two, NetworkDepthInfo)):
        yield "depth", _kind(one), _kind(two)
        return
    for what in ("mode", "model_name", "sha256", "guide_name", "scale", "bits", "step", "precision"):
        yield f"depth {what.removesuffix('_name')}", getattr(one, what), getattr(two, what)
    yield "depth guide's file", one.guide and one.guide.sha256, two.guide and two.guide.sha256
    if is_fed_differently(one.model, two.model):
        yield "depth model's card", "one", "another"
    if one.guide and two.guide and is_fed_differently(one.guide.model, two.guide.model):
        yield "depth guide's card", "one", "another"


def _kind(depth: object) -> str:
    return (
        "none" if depth is None else "that of networks" if isinstance(depth, NetworkDepthInfo) else "files'"
    )


def _devices(union: Union, devices: Sequence[tuple[DeviceInfo, ...]]) -> tuple[DeviceInfo, ...]:
    """The devices that have seen the samples of the union."""
    if all(len(one) == 1 and one == devices[0] for one in devices):
        return devices[0]
    plan = union.recipe.plan

    def made() -> Iterator[tuple[DeviceInfo, range]]:
        per_background = plan.samples_per_background
        for start in range(0, plan.samples, per_background):
            samples = range(start, start + per_background)
            yield from _makers(samples, *union.located(samples), devices)

    return with_makers((devices[-1][-1],), made(), plan.samples)


def _background_devices(union: Union, devices: Sequence[tuple[DeviceInfo, ...]]) -> tuple[DeviceInfo, ...]:
    """The devices that have seen the backgrounds of the union."""
    if all(len(one) == 1 and one == devices[0] for one in devices):
        return devices[0]
    homes = np.array(union.backgrounds.homes())
    made = _makers(range(len(homes)), homes[:, 0], homes[:, 1], devices)
    return with_makers((devices[-1][-1],), made, len(homes))


def _makers(
    numbers: range,
    owner: NDArray[np.signedinteger],
    local: NDArray[np.int64],
    devices: Sequence[tuple[DeviceInfo, ...]],
) -> Iterator[tuple[DeviceInfo, range]]:
    """Runs of samples, or backgrounds, with the device that made them: what no range has is of the last."""
    maker = np.empty((len(numbers), 2), np.int64)
    for k in np.unique(owner).tolist():
        ours = owner == k
        found = np.full(ours.sum(), len(devices[k]) - 1)
        for i, device in enumerate(devices[k][:-1]):
            for start, stop in device.ranges or ():
                found[(local[ours] >= start) & (local[ours] < stop)] = i
        maker[ours] = np.stack([np.full_like(found, k), found], axis=1)
    cuts = [0, *(np.flatnonzero((maker[1:] != maker[:-1]).any(axis=1)) + 1).tolist(), len(numbers)]
    for first, last in pairwise(cuts):
        k, i = maker[first].tolist()
        yield devices[k][i], range(numbers[first], numbers[last - 1] + 1)


# --- stages ----------------------------------------------------------------------------------------


class _Chunks:
    """The encoded chunks of one array of all datasets, as a codec encodes them. It can be pickled."""

    def __init__(self, union: Union, path: str, codec: ChunkCodec) -> None:
        self._union, self._path, self._codec = union, path, codec
        self.readers: list[ArrayReader | None] = [
            None if dataset.document.is_virtual and path in (IMAGE, MASK) else dataset.store.reader(path)
            for dataset in union.datasets
        ]

    def of(self, run: range, layout: Layout) -> list[bytes] | None:
        """Those of a chunk's worth of samples, band by band; ``None`` where no dataset has them as such."""
        owner, local = self._union.located(run)
        first = int(local[0])
        if (owner != owner[0]).any() or (np.diff(local) != 1).any():
            return None
        return self.copied(int(owner[0]), first, len(run), layout)

    def copied(self, number: int, first: int, count: int, layout: Layout) -> list[bytes] | None:
        """Those of ``count`` rows of a dataset from a number on, if they are just a chunk there."""
        reader = self.readers[number]
        if reader is None or reader.layout.chunk != layout.chunk:
            return None
        cut = reader.layout
        if first % cut.chunk[0] or min(cut.chunk[0], cut.shape[0] - first) != count:
            return None
        shard, within = divmod(first, cut.shard[0])
        per_row = math.prod(cut.grid[1:])
        inner = within // cut.chunk[0] * per_row
        places = [(shard, inner + band) for band in range(per_row)]
        size = math.prod(cut.chunk) * reader.dtype.itemsize
        store = self._union.datasets[number].store
        where = partial(str, f"A chunk of shard {store.name}/{self._path}/{cut.key(shard)}")
        chunks = []
        for encoded in reader.encoded(places):
            if encoded is None:
                raise DatasetError(f"{where()} is missing.", code="chunk-missing")
            chunks.append(recode(encoded, reader.codec, self._codec, size, where))
        return chunks

    def read(self, run: range, out: NDArray[np.float16]) -> None:
        """Decode the rows of some samples."""
        owner, local = self._union.located(run)
        for number in np.unique(owner).tolist():
            reader, ours = self.readers[number], owner == number
            if reader is not None:
                out[ours] = reader.read(local[ours], threads=1)


class _MergedPixels(Pixels):
    """The pixels of the union: copied where a chunk is just a chunk of one of the datasets, else composed."""

    def __init__(self, union: Union, policy: LayoutPolicy) -> None:
        super().__init__(union.recipe, policy)
        self._chunks = {path: _Chunks(union, path, PIXEL_CODEC) for path in (IMAGE, MASK)}

    def encode(self, run: range) -> Iterator[tuple[str, bytes]]:
        """The encoded chunks of image and mask for one run of samples, those of each array from the top."""
        copied = {
            path: self._chunks[path].of(run, layout)
            for path, layout in zip((IMAGE, MASK), self.layouts, strict=True)
        }
        if any(chunks is None for chunks in copied.values()):
            yield from super().encode(run)
            return
        for path, chunks in copied.items():
            for encoded in chunks or ():
                yield path, encoded


class _MergedBackgrounds(LayoutStage):
    """The depth of the backgrounds of the union, each copied from the first dataset that has it."""

    name: ClassVar[StageName] = "backgrounds"

    def __init__(self, union: Union, layout: Layout) -> None:
        super().__init__({BACKGROUND_DEPTH: layout})
        self._layout, self._homes = layout, union.backgrounds.homes()
        self._chunks = _Chunks(union, BACKGROUND_DEPTH, BACKGROUND_DEPTH_CODEC)

    def produce(self, shard: int, monitor: Monitor) -> Mapping[str, bytes]:
        """The shard with that number."""
        chunks: list[bytes] = []
        for background in self._layout.samples_of(shard):
            monitor.check()
            number, local = self._homes[background]
            copied = self._chunks.copied(number, local, 1, self._layout)
            if copied is None:
                reader = self._chunks.readers[number]
                copied = [] if reader is None else [BACKGROUND_DEPTH_CODEC.encode(reader.read([local])[0])]
            chunks += copied
            monitor.advance(1)
        return self.joined(shard, {BACKGROUND_DEPTH: chunks})


class _MergedDepth(LayoutStage):
    """The depth of the samples of the union: copied where a chunk is just one of the datasets', else encoded
    again.
    """

    name: ClassVar[StageName] = "depth"

    def __init__(self, union: Union, layout: Layout, *, guided: bool) -> None:
        super().__init__({DEPTH: layout})
        self._layout = layout
        self._codec = GUIDED_DEPTH_CODEC if guided else DEPTH_CODEC
        self._chunks = _Chunks(union, DEPTH, self._codec)
        self._extremes = [_Chunks(union, path, PIXEL_CODEC) for path in EXTREMES]

    def produce(self, shard: int, monitor: Monitor) -> Mapping[str, bytes]:
        """The shard with that number; the extremes that belong to it come first."""
        samples, chunks = self._layout.samples_of(shard), []
        for run in self._layout.chunk_runs(shard):
            monitor.check()
            chunks += self._chunks.of(run, self._layout) or list(self._encoded(run))
            monitor.advance(len(run))
        extremes = np.full((2, self._layout.shard[0]), np.nan, np.float16)
        for values, source in zip(extremes, self._extremes, strict=True):
            source.read(samples, values[: len(samples)])
        return encoded_extremes(shard, extremes) | self.joined(shard, {DEPTH: chunks})

    def _encoded(self, run: range) -> Iterator[bytes]:
        layout = self._layout
        depth = np.full((layout.chunk[0], *layout.shape[1:]), np.nan, np.float16)
        self._chunks.read(run, depth[: len(run)])
        for band in bands(depth, layout, np.float16(np.nan)):
            yield self._codec.encode(band)
