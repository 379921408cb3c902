"""Make a dataset of a spec."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from fgbgpack.composition.originals import sources_of
from fgbgpack.composition.recipe import Recipe, heights_of
from fgbgpack.depth import Device
from fgbgpack.depth.strategies import Networks, SeenBackgrounds
from fgbgpack.document import DEPTH, Document, NetworkDepthInfo, PixelsInfo
from fgbgpack.errors import RecipeMismatchError
from fgbgpack.pipeline.arrays import (
    contradicts_recipe,
    depth_arrays,
    depth_layouts,
    extent_of,
    pixel_arrays,
    write_recipe,
)
from fgbgpack.pipeline.conflicts import differences, layout_differences, with_new_credits
from fgbgpack.pipeline.depth import DepthFilling
from fgbgpack.pipeline.depth_modes import DepthJob
from fgbgpack.pipeline.events import Notice, OnEvent, Progress, Reporting, reporting, silent
from fgbgpack.pipeline.floors import with_floors
from fgbgpack.pipeline.pixels import Pixels
from fgbgpack.pipeline.run import Result, Run
from fgbgpack.pipeline.staging import staged
from fgbgpack.pipeline.workers import engine_of
from fgbgpack.source_info import SourcesInfo
from fgbgpack.sources.background_depth import MetricValues
from fgbgpack.sources.catalog import load_catalog
from fgbgpack.sources.listing import Sources
from fgbgpack.sources.names import counted
from fgbgpack.spec import DatasetSpec
from fgbgpack.storage import sealing
from fgbgpack.storage.layout import DEFAULT_POLICY, Layout, LayoutPolicy
from fgbgpack.storage.store import DatasetStore
from fgbgpack.storage.targets import Target, located
from fgbgpack.version import software

_SHOWN = 5


@dataclass(frozen=True)
class Report(Result):
    """What making a dataset of ``samples`` at ``path``, or filling its depth, did in ``seconds``.

    Attributes:
        created: Samples that this run composited, or of a virtual dataset, placed.
        depth_filled: Samples whose depth this run filled.
        sample_seconds: What compositing and writing those samples took.
        depth_seconds: What filling and writing that depth took.
        stored_bytes: Bytes in the store, by array.
        virtual: Whether image and mask are not stored.
        objects: The most objects that a scene has; 0 where samples are no scenes.
        depth_mode: ``"guided"`` or ``"per-sample"``; ``None`` where depth is not filled.
        depth_model: The name of the model that saw the samples or, where guided, the backgrounds.
        depth_guide: The name of the guided network; ``None`` where there is none.
        provider: The ONNX Runtime execution provider that ran the network on the samples; ``None`` where
            none ran.
        complete: Whether all that was ever asked for is there.
    """

    created: int
    depth_filled: int
    sample_seconds: float
    depth_seconds: float
    stored_bytes: dict[str, int]
    virtual: bool
    objects: int
    depth_mode: str | None
    depth_model: str | None
    depth_guide: str | None
    provider: str | None
    complete: bool

    @classmethod
    def of(cls, run: Run, document: Document) -> Report:
        """The report of a run that ends with this document."""
        depth = document.depth
        network = depth if isinstance(depth, NetworkDepthInfo) else None
        return cls(
            path=run.name,
            samples=document.samples,
            seconds=run.seconds,
            created=run.written["samples"],
            depth_filled=run.written["depth"],
            sample_seconds=run.stage_seconds["samples"],
            depth_seconds=run.stage_seconds["depth"],
            stored_bytes=run.store.stored_bytes(),
            virtual=document.is_virtual,
            objects=document.most_objects if document.has_objects else 0,
            complete=document.complete,
            depth_mode=depth.mode if depth else None,
            depth_model=network.model_name if network else None,
            depth_guide=network.guide_name if network else None,
            provider=network.sample_provider if network else None,
        )


def create(
    out: Target,
    spec: DatasetSpec,
    *,
    device: Device = "auto",
    workers: int | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    virtual: bool = False,
    layout: LayoutPolicy = DEFAULT_POLICY,
    storage_options: Mapping[str, Any] | None = None,
    on_event: Reporting = silent,
) -> Report:
    """Make a dataset, or finish one that the same spec began.

    Args:
        out: A local folder, an HDF5 file (``.h5``), a URL that fsspec opens, or a Zarr store. A file is made
            of a folder beside it, which takes as much room until then.
        spec: What to make.
        device: What runs the depth model: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"tensorrt"``.
        workers: Threads, each on a shard of its own; ``None`` takes one for each processor. The bytes
            do not depend on it.
        executor: What runs the work in place of threads: a ``concurrent.futures.Executor`` whose workers
            see the same files, such as ``distributed.Client(...).get_executor(retries=3)``. The bytes do not
            depend on it.
        overwrite: Replace a dataset made with other options. Nothing but a dataset is ever replaced.
        virtual: Store sources, placements and depth, but neither image nor mask: they are made of these when
            they are read, with the same bytes.
        layout: How large chunks and shards become.
        storage_options: What obstore or fsspec opens a URL with, such as ``{"region": "eu-west-1"}``, beside
            the environment; see :func:`fgbgpack.open_dataset`.
        on_event: Called in this thread with progress and notices; ``"progress"`` shows them.

    Raises:
        SourceError: Pictures that cannot be used.
        DepthModelError: A depth model, or a device, that cannot be used.
        RecipeMismatchError: A dataset made with other options is there.
        DatasetError: Something else is there, another process is writing it, or the store is full.

    Example:
        >>> from fgbgpack import DatasetSpec, create
        >>> spec = DatasetSpec(backgrounds="bg", foregrounds="fg", placements=2)
        >>> create("lobby.zarr", spec).samples  # doctest: +SKIP
        400
    """
    out = located(out, storage_options)
    engine = engine_of(workers, executor)
    with reporting(on_event) as notify, staged(out, engine, notify) as place:
        run = Run(DatasetStore.open(place, read_only=False), engine, notify)
        creation = Creation.of(run, spec, layout=layout, device=device, virtual=virtual)
        with run.exclusive():
            document = creation.run(overwrite=overwrite)
        return Report.of(run, document)


def load_recipe(
    spec: DatasetSpec,
    on_event: OnEvent,
    *,
    device: Device = "auto",
    store: DatasetStore | None = None,
    sources: Sources | None = None,
    seen: SeenBackgrounds | None = None,
) -> Recipe:
    """The recipe of a spec, with its pictures decoded; ignored files and missing licences are reported.
    ``sources`` are its pictures, if they are listed and hashed already.

    Where foregrounds stand on floors, these are those of ``store``, if a dataset of the same recipe is there;
    else the network of the spec's depth, or ``fgbgpack-scene``, finds them on ``device``, and what it says of
    backgrounds is kept in ``seen``.
    """
    sources = sources or sources_of(spec)
    if sources.ignored:
        shown = ", ".join(sources.ignored[:_SHOWN]) + (", ..." if len(sources.ignored) > _SHOWN else "")
        on_event(Notice(f"Ignored {counted(len(sources.ignored), 'file')}, not used as pictures: {shown}"))
    for notice in sources.notices:
        on_event(Notice(notice))
    catalog = load_catalog(
        sources,
        height=spec.height,
        width=spec.width,
        fit=spec.fit,
        foreground_height=heights_of(spec),
        depth_values=MetricValues(spec.depth_factor, spec.depth_invalid),
        on_picture=lambda done, total: on_event(Progress("sources", done, total)),
    )
    for notice in catalog.notices:
        on_event(Notice(notice))
    recipe = with_floors(Recipe.of(spec, catalog), device, on_event, store, seen)
    if recipe.has_copies:
        copies = [
            counted(len(sources) - len({(s.sha256, s.mask_sha256) for s in sources}), kind)
            for kind, sources in (("background", catalog.backgrounds), ("foreground", catalog.foregrounds))
        ]
        on_event(
            Notice(
                f"Copies of other pictures: {' and '.join(copies)}. They have the same placements: "
                f"{recipe.distinct_samples():,} of {len(recipe):,} samples are distinct. Remove them, or "
                "give them placements of their own with --vary-copies."
            )
        )
    return recipe


@dataclass(frozen=True)
class Creation:
    """A dataset that is to be made of a recipe, or finished."""

    _run: Run
    _recipe: Recipe
    _networks: Networks | None
    _policy: LayoutPolicy
    _device: Device
    _virtual: bool
    _pixels: Pixels
    _seen: SeenBackgrounds

    @classmethod
    def of(
        cls, run: Run, spec: DatasetSpec, *, layout: LayoutPolicy, device: Device, virtual: bool
    ) -> Creation:
        """That of a spec, with its networks found and its pictures decoded; DatasetError where something else
        than a dataset is there.
        """
        if not run.store.has_lost_document():
            run.store.document()  # What must not be overwritten is found before any work is done.
        networks = Networks.load(spec.depth) if spec.depth else None
        seen = SeenBackgrounds()
        recipe = load_recipe(spec, run.on_event, device=device, store=run.store, seen=seen)
        return cls(run, recipe, networks, layout, device, virtual, Pixels(recipe, layout), seen)

    def run(self, *, overwrite: bool) -> Document:
        """Make the dataset, or finish it; return its document."""
        run, spec, name = self._run, self._recipe.spec, self._run.name
        document, filling = self._open(overwrite=overwrite)
        if not document.pixels.complete:
            document = self._fill_pixels(document)
        if filling is not None:
            return run.fill_depth(filling, document)
        if document.depth is None and spec.depth is None:
            run.notify(
                f"No depth was asked for, so /depth is not filled. Fill it with: fgbgpack depth {name}"
            )
        elif document.depth is not None and not document.depth.complete:
            run.notify(f"The depth of {name} is unfinished: run fgbgpack depth to finish it.")
        return document

    def has_begun(self) -> bool:
        """Whether the dataset is there, and nothing is missing but shards, which parts of it write."""
        store = self._run.store
        document = None if store.has_lost_document() else store.document()
        if document is None or not document.in_parts or sealing.faulty_objects(store):
            return False
        return not self._differences(document, self._new_document())

    def begin(self, *, overwrite: bool) -> Document:
        """Write all but the shards, which parts of it write; return the document of what is then there."""
        run = self._run
        document, filling = self._open(overwrite=overwrite, at_once=True)
        if document.complete:
            return document
        if filling is None and document.depth is not None and not document.depth.complete:
            raise RecipeMismatchError(
                f"The depth of {run.name} is unfinished, and none is asked for: ask for the same depth, or "
                "finish it with fgbgpack depth."
            )
        if not document.pixels.complete:
            self._write_small(document)
        if filling is not None:
            if DEPTH in document.composed:
                # No part has shards of it.
                document = run.fill_depth(filling, document)
            else:
                document, _ = run.prepare_depth(filling, document)
        return run.store.commit(dataclasses.replace(document, in_parts=True))

    def _open(self, *, overwrite: bool, at_once: bool = False) -> tuple[Document, DepthFilling | None]:
        """The document of the dataset, now begun or resumed, and what is to fill its depth."""
        run, name = self._run, self._run.name
        new = self._new_document()
        if run.store.has_lost_document() and not contradicts_recipe(run.store, self._recipe, self._policy):
            run.notify(f"The document of {name} is empty, as after a power loss: all is written again.")
            existing = None
        else:
            existing = run.existing(
                lambda existing: self._differences(existing, new),
                overwrite=overwrite,
                other="was made with other options",
                at_once=at_once,
            )
        resumed = None if existing is None else self._resumed(existing, new)
        document = resumed or new
        filling = self._depth_filling(document)
        if filling is not None:
            document = dataclasses.replace(document, depth=filling.section, complete=False)
        if resumed is None:
            run.begin(document)
        elif document != resumed:
            run.store.commit(document)
        return document, filling

    def _new_document(self) -> Document:
        recipe, catalog = self._recipe, self._recipe.catalog
        return Document(
            complete=False,
            pixels=PixelsInfo(complete=False, stored=not self._virtual),
            depth=None,
            software=software(),
            spec=recipe.spec,
            recipe=recipe.info,
            sources=SourcesInfo(catalog.backgrounds, catalog.foregrounds),
        )

    def _differences(self, existing: Document, new: Document) -> list[str]:
        lines = differences(existing, new, self._recipe.spec, self._networks)
        layouts: dict[str, Layout] = {}
        if not existing.pixels.complete:
            layouts |= self._pixels.layouts
        if self._networks is not None and existing.depth is not None and not existing.depth.complete:
            layouts |= self._depth_layouts(existing)
        return lines + layout_differences(self._run.store, layouts)

    def _depth_layouts(self, document: Document) -> dict[str, Layout]:
        backgrounds = len(self._recipe.catalog.backgrounds)
        return depth_layouts(extent_of(self._recipe), document.depth, backgrounds, self._policy)

    def _resumed(self, existing: Document, new: Document) -> Document:
        """The document of a dataset that is to be finished, with what is now stated of its pictures."""
        run = self._run
        renewed = with_new_credits(existing, new)
        if renewed != existing:
            run.store.commit(renewed)
            run.notify(f"The licences, authors and addresses of the pictures of {run.name} are new.")
        run.notify(f"{run.name} is complete already." if existing.complete else f"Resuming {run.name}.")
        return renewed

    def _depth_filling(self, document: Document) -> DepthFilling | None:
        """What fills depth, ready to run; ``None`` where nothing is to be filled."""
        spec, previous = self._recipe.spec, document.depth
        if spec.depth is None or self._networks is None or (previous is not None and previous.complete):
            return None
        run = self._run
        job = DepthJob(
            self._recipe,
            spec.depth,
            self._networks,
            self._device,
            run.engine,
            self._policy,
            run.on_event,
            seen=self._seen,
        )
        begun = previous if isinstance(previous, NetworkDepthInfo) else None
        return DepthFilling.of(job, begun, run.store)

    def _write_small(self, document: Document) -> None:
        """Write placements and sources, and the metadata of what is cut into shards."""
        store = self._run.store
        if not self._virtual:
            store.declare(*pixel_arrays(self._pixels.layouts))
        write_recipe(store, self._recipe, self._policy)
        if document.depth is None or not document.depth.complete:
            store.declare(*depth_arrays(self._depth_layouts(document), document.depth, document.composed))

    def _fill_pixels(self, document: Document) -> Document:
        run, store, pixels = self._run, self._run.store, self._pixels
        self._write_small(document)
        if self._virtual:
            run.written["samples"] = document.samples
        else:
            run.execute(pixels)
        document = document.with_pixels_complete()
        store.commit(document)
        return document
