"""One dataset of several that are parts of it: their chunks are copied as they are wherever they fit."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.dataset.listed_split import LIST
from fgbgpack.depth import Device
from fgbgpack.depth.strategies import Networks
from fgbgpack.document import (
    DEPTH,
    DEPTH_PARTS,
    DEPTH_SOURCES,
    IMAGE,
    MASK,
    DepthInfo,
    Document,
    NetworkDepthInfo,
    PixelsInfo,
)
from fgbgpack.errors import DatasetError, RecipeMismatchError, SpecError
from fgbgpack.pipeline.arrays import depth_arrays, depth_layouts, extent_of, pixel_arrays, write_recipe
from fgbgpack.pipeline.conflicts import depth_differences, differences, layout_differences
from fgbgpack.pipeline.depth import DepthFilling
from fgbgpack.pipeline.depth_modes import DepthJob
from fgbgpack.pipeline.devices import makers_of
from fgbgpack.pipeline.events import Reporting, reporting, silent
from fgbgpack.pipeline.executor import Threads
from fgbgpack.pipeline.merged_depth import Chunks, DepthOfUnion, MergedBackgrounds, MergedDepth, RefilledDepth
from fgbgpack.pipeline.pixels import Pixels
from fgbgpack.pipeline.run import Result, Run
from fgbgpack.pipeline.staging import staged
from fgbgpack.pipeline.union import Union
from fgbgpack.source_info import SourcesInfo
from fgbgpack.sources.names import counted
from fgbgpack.spec import DepthSpec
from fgbgpack.storage.arrays import PIXEL_CODEC
from fgbgpack.storage.layout import DEFAULT_POLICY, LayoutPolicy
from fgbgpack.storage.store import DatasetStore
from fgbgpack.storage.targets import Target, located_all
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
        depth_mode: ``"layered"``, ``"guided"`` or ``"per-sample"``; ``None`` where depth is not filled.
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
    device: Device = "auto",
    workers: int | None = None,
    overwrite: bool = False,
    layout: LayoutPolicy = DEFAULT_POLICY,
    storage_options: Mapping[str, Any] | None = None,
    on_event: Reporting = silent,
) -> Merged:
    """Make one dataset of several that were made with the same options, of other pictures.

    Together they must have every foreground on every background. The result has all of their pictures, in
    the order of names, and is the dataset that one :func:`create` of them would have made: the same files,
    but for the folders that the document names, and for what it says of the merged ones. Encoded chunks are
    copied as they are, once their checksums are found right. Pixels of chunks that are cut otherwise are made
    again, and their depth is decoded and encoded again, which loses nothing. Networks run only where the
    steps of depth differ: the largest is taken, and depth that has another one is inferred again.

    Args:
        datasets: Two or more complete datasets: local folders, HDF5 files, URLs that fsspec opens, or Zarr
            stores. They stay as they are.
        out: Where to make the result.
        with_depth: Keep their depth, which must be of the same networks and options in all of them;
            ``False`` leaves it out.
        device: What runs the networks, if they have to.
        workers: Threads, each on a shard of its own; ``None`` takes one for each processor.
        overwrite: Replace another dataset at ``out``.
        layout: How large chunks and shards become.
        storage_options: What those of them that are URLs are opened with, as for :func:`create`.
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
    *datasets, out = located_all([*datasets, out], storage_options)
    threads = Threads(workers)
    with reporting(on_event) as notify, staged(out, threads, notify) as place:
        run = Run(DatasetStore.open(place, read_only=False), threads, notify)
        opened = [_opened(dataset, out, run) for dataset in datasets]
        union = Union.of(opened)
        for notice in union.notices:
            run.notify(notice)
        document = _Merging(run, union, with_depth=with_depth, device=device, policy=layout).make(
            overwrite=overwrite
        )
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

    def __init__(
        self, run: Run, union: Union, *, with_depth: bool, device: Device, policy: LayoutPolicy
    ) -> None:
        self._run, self._union, self._policy = run, union, policy
        documents = [dataset.document for dataset in union.datasets]
        recipe = union.recipe
        self._depth = DepthOfUnion.of(union) if with_depth else None
        self._device = device
        depth = None if self._depth is None else self._depth.section()
        self._document = Document(
            complete=True,
            pixels=PixelsInfo(
                complete=True,
                stored=not all(one.is_virtual for one in documents),
                edited=any(one.pixels.edited for one in documents),
            ),
            depth=depth,
            software=software(),
            spec=dataclasses.replace(recipe.spec, depth=None if depth is None else recipe.spec.depth),
            recipe=recipe.info,
            sources=SourcesInfo(recipe.catalog.backgrounds, recipe.catalog.foregrounds),
            splits=self._splits(documents),
            merged=tuple(
                {"recipe": one.recipe.sha256, "samples": one.samples, "generation": one.generation}
                for one in documents
                if one.recipe is not None
            ),
        )
        self._layouts = depth_layouts(extent_of(recipe), depth, len(recipe.catalog.backgrounds), policy)

    def _splits(self, documents: Sequence[Document]) -> dict[str, Mapping[str, object]]:
        """The splits of all datasets; of those that differ under one name, the first. Lists of samples are
        left out: samples have other numbers here.
        """
        found: dict[str, Mapping[str, object]] = {}
        for dataset, document in zip(self._union.datasets, documents, strict=True):
            for name, split in document.splits.items():
                if split["by"] == LIST:
                    self._run.notify(f"The split {name!r} of {dataset.path} is a list, and is left out.")
                    continue
                if found.setdefault(name, split) != split:
                    self._run.notify(f"The split {name!r} of {dataset.path} is another one, and is left out.")
        return found

    def make(self, *, overwrite: bool) -> Document:
        """Write it, or finish it; return its document."""
        run = self._run
        with run.exclusive():
            existing = run.existing(self._differences, overwrite=overwrite)
            if (complete := run.begin_or_resume(existing, self._document)) is not None:
                return complete
            self._write()
            return run.store.commit(self._document)

    def _differences(self, existing: Document) -> list[str]:
        document = self._document
        if document.spec is None:
            return []
        lines = differences(existing, document, document.spec, None)
        before, now = existing.begun(), document.begun()
        if _without_devices(before.depth) != _without_devices(now.depth):
            lines.append("depth: the dataset has none, or another one")
        if before.merged != now.merged:
            lines.append("merged: the dataset was made of other ones")
        if not existing.complete:
            lines += layout_differences(self._run.store, self._layouts)
        return lines

    def _write(self) -> None:
        run, store, union = self._run, self._run.store, self._union
        if DEPTH in self._document.composed:
            raise DatasetError(
                "Virtual datasets with layered depth cannot be merged: it is not stored. Store them first "
                "with fgbgpack materialize.",
                code="pixels-not-stored",
            )
        pixels = _MergedPixels(union, self._policy)
        if not self._document.is_virtual:
            store.declare(*pixel_arrays(pixels.layouts))
        write_recipe(store, union.recipe, self._policy)
        store.declare(*depth_arrays(self._layouts, self._document.depth, ()))
        if self._document.is_virtual:
            run.written["samples"] = len(union.recipe)
        else:
            run.execute(pixels)
        if self._depth is not None:
            self._write_depth(self._depth)

    def _write_depth(self, depth: DepthOfUnion) -> None:
        run, union, layout = self._run, self._union, self._layouts[DEPTH]
        for path in DEPTH_PARTS:
            if path in self._layouts:
                run.execute(MergedBackgrounds(union, path, self._layouts[path]))
        section = depth.section()
        merged = MergedDepth(union, layout, guided=section.mode in DEPTH_SOURCES)
        if not depth.stale:
            run.execute(merged)
        else:
            names = ", ".join(union.datasets[number].path for number in sorted(depth.stale))
            run.notify(f"Depth of {names} has another step than {depth.step}, and is inferred again.")
            filling = self._filling(section)
            stage = RefilledDepth(filling, run.store, merged, depth)
            section = depth.section(next(reversed(makers_of(filling.section)), None))
            self._document = dataclasses.replace(self._document, depth=section)
            run.store.commit(self._document.begun())
            run.execute_depth(stage)
        run.declare_depth(section, self._layouts)

    def _filling(self, section: NetworkDepthInfo) -> DepthFilling:
        """What infers depth again, with the networks that have filled it."""
        run, recipe = self._run, self._union.recipe
        spec = recipe.spec.depth or DepthSpec()
        networks = Networks.load(spec)
        if lines := depth_differences(section, spec, networks, section.scale):
            raise RecipeMismatchError(
                f"Depth of {run.name} cannot be inferred again: the networks on this machine are others.",
                lines,
            )
        begun = dataclasses.replace(section, complete=False)
        job = DepthJob(recipe, spec, networks, self._device, run.threads, self._policy, run.on_event)
        return DepthFilling.of(job, begun, run.store)


def _without_devices(depth: DepthInfo | None) -> DepthInfo | None:
    """The section without what ran the networks, which another machine may finish."""
    if not isinstance(depth, NetworkDepthInfo):
        return depth
    guide = None if depth.guide is None else dataclasses.replace(depth.guide, devices=())
    return dataclasses.replace(depth, guide=guide, devices=())


class _MergedPixels(Pixels):
    """The pixels of the union: copied where a chunk is just a chunk of one of the datasets, else composed."""

    def __init__(self, union: Union, policy: LayoutPolicy) -> None:
        super().__init__(union.recipe, policy)
        self._chunks = {path: Chunks(union, path, PIXEL_CODEC) for path in (IMAGE, MASK)}

    def encode(self, run: range) -> Iterator[tuple[str, bytes]]:
        """The encoded chunks of image and mask for one run of samples, those of each array from the top."""
        copied = {path: self._chunks[path].of(run, layout) for path, layout in self.layouts.items()}
        if any(chunks is None for chunks in copied.values()):
            yield from super().encode(run)
            return
        for path, chunks in copied.items():
            for encoded in chunks or ():
                yield path, encoded
