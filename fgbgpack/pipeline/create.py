"""Making a dataset of a spec, and filling the depth of one that is there."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zarr.abc.store import Store

from fgbgpack.composition.placement import Plan
from fgbgpack.dataset.dataset import Dataset, open_dataset
from fgbgpack.depth import Device
from fgbgpack.depth.strategies import Networks, StoredPictures
from fgbgpack.document import SourceInfo
from fgbgpack.errors import DatasetError, RecipeMismatchError, SpecError
from fgbgpack.pipeline.conflicts import (
    clear,
    clear_depth,
    depth_differences,
    differences,
    layout_differences,
    renew_credits,
)
from fgbgpack.pipeline.depth import DepthFilling
from fgbgpack.pipeline.depth_modes import DepthJob, PerSampleMode, Recipe, mode_of
from fgbgpack.pipeline.executor import Notice, OnEvent, Progress, check_workers, silent, worker_count
from fgbgpack.pipeline.pixels import PixelFilling
from fgbgpack.pipeline.staging import workplace
from fgbgpack.sources.catalog import Catalog, load_catalog
from fgbgpack.sources.listing import find_sources
from fgbgpack.spec import DatasetSpec, DepthSpec
from fgbgpack.storage import store as disk
from fgbgpack.storage.layout import Extent, Layout, depth_layout
from fgbgpack.storage.store import Keys
from fgbgpack.version import software


@dataclass(frozen=True)
class Report:
    """What a run did.

    Attributes:
        path: Where the dataset is.
        samples: Samples in the dataset.
        created: Samples that this run composited, or of a virtual dataset, placed.
        depth_filled: Samples whose depth this run filled.
        seconds: What the whole run took.
        sample_seconds: What compositing and writing those samples took.
        depth_seconds: What filling and writing that depth took.
        stored_bytes: Bytes in the store, by array.
        virtual: Whether image and mask are not stored.
        depth_mode: ``"guided"`` or ``"per-sample"``; ``None`` where depth is not filled.
        depth_model: The name of the model that saw the samples or, where guided, the backgrounds.
        depth_guide: The name of the guided network; ``None`` where there is none.
        provider: The ONNX Runtime execution provider that ran the network on the samples.
        complete: Whether all that was ever asked for is there.
    """

    path: str
    samples: int
    created: int
    depth_filled: int
    seconds: float
    sample_seconds: float
    depth_seconds: float
    stored_bytes: dict[str, int]
    virtual: bool
    depth_mode: str | None
    depth_model: str | None
    depth_guide: str | None
    provider: str | None
    complete: bool

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        return dataclasses.asdict(self)


def create(
    out: str | Path | Store,
    spec: DatasetSpec,
    *,
    device: Device = "auto",
    workers: int | None = None,
    overwrite: bool = False,
    virtual: bool = False,
    on_event: OnEvent | None = None,
) -> Report:
    """Make a dataset, or finish one that the same spec began.

    Args:
        out: A local folder, an HDF5 file (``.h5``), a URL that fsspec opens, or a Zarr store. A file is made
            of a folder beside it, which takes as much room until then.
        spec: What to make.
        device: What runs the depth model: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"tensorrt"``.
        workers: Threads, each on a shard of its own; ``None`` takes one for each processor. The bytes
            do not depend on it.
        overwrite: Replace a dataset made with other options. Nothing but a dataset is ever replaced.
        virtual: Store sources, placements and depth, but neither image nor mask: they are made of these when
            they are read, with the same bytes.
        on_event: Called in this thread with progress and notices.

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
    tell = silent if on_event is None else on_event
    check_workers(workers)
    with workplace(out, workers, tell) as place:
        return _create(place, spec, device, workers, overwrite=overwrite, virtual=virtual, tell=tell)


def _create(
    out: str | Path | Store,
    spec: DatasetSpec,
    device: Device,
    workers: int | None,
    *,
    overwrite: bool,
    virtual: bool,
    tell: OnEvent,
) -> Report:
    clock = _Clock()
    name = disk.name_of(out)
    keys = Keys(disk.store_of(out, read_only=False), name)
    disk.read_document(keys, name)  # What must not be overwritten is found before any work is done.
    networks = Networks.load(spec.depth) if spec.depth else None
    catalog, plan = load(spec, tell)
    pixels = PixelFilling(plan, catalog, spec.chunk)
    document = _new_document(spec, catalog, plan, virtual)

    with disk.exclusive(keys.store, name):
        existing = disk.read_document(keys, name)
        differs = differences(existing, document, spec, networks) if existing else []
        if existing is not None:
            differs += layout_differences(keys, _layouts_to_go_on_with(existing, pixels, plan, networks))
        if differs and not overwrite:
            raise RecipeMismatchError(
                f"{name} was made with other options: give another place, or --overwrite to replace it.",
                differs,
            )
        if existing is not None and not differs:
            if renew_credits(existing, document):
                disk.write_document(keys, existing)
                tell(Notice(f"The licences, authors and addresses of the pictures of {name} are new."))
            document = existing
            tell(Notice(f"{name} is complete already." if existing["complete"] else f"Resuming {name}."))
        begun = document["depth"]
        filling = None
        if spec.depth is not None and networks is not None and not (begun or {}).get("complete"):
            job = DepthJob(plan, spec.depth, networks, device, workers, tell)
            filling = DepthFilling(job, mode_of(job, Recipe(plan, spec, catalog), begun, keys), begun)
            document["depth"] = filling.section()
        if document is not existing:
            clear(keys, existing)
        if not document["pixels"]["complete"]:
            disk.write_document(keys, document)
            if not virtual:
                disk.write_pixel_arrays(keys, pixels.layouts)
            disk.write_static(keys, plan, catalog)
            disk.write_depth_arrays(keys, plan, document["depth"])
            if virtual:
                clock.created = plan.samples
            else:
                clock.fill_pixels(pixels, keys, workers, tell)
            document["pixels"]["complete"] = True
            document["complete"] = document["depth"] is None
            disk.write_document(keys, document)
        if filling is not None:
            clock.fill_depth(filling, keys, document)
        elif document["depth"] is None and not spec.depth:
            tell(
                Notice(
                    f"No depth was asked for, so /depth is not filled. Fill it with: fgbgpack depth {name}"
                )
            )
        elif not document["depth"]["complete"]:
            tell(Notice(f"The depth of {name} is unfinished: run fgbgpack depth to finish it."))
        keys.sweep()
    return clock.report(keys, name, document, plan)


def fill_depth(
    dataset: str | Path | Store,
    depth: DepthSpec = DepthSpec(),  # noqa: B008 (it is frozen)
    *,
    device: Device = "auto",
    workers: int | None = None,
    overwrite: bool = False,
    backgrounds: str | Path | None = None,
    foregrounds: str | Path | None = None,
    masks: str | Path | None = None,
    on_event: OnEvent | None = None,
) -> Report:
    """Fill the depth of a dataset whose images are there, or finish filling it.

    Args:
        dataset: A local folder, an HDF5 file, a URL that fsspec opens, or a Zarr store.
        depth: The model and how it is run; by default the two networks that come with fgbgpack, guided. On
            the samples of a dataset that was imported a network runs per sample, and sees them as they are
            stored: there are neither empty backgrounds nor originals.
        device: What runs it: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"tensorrt"``.
        workers: Threads, each on a shard of its own; ``None`` takes one for each processor.
        overwrite: Replace the depth of another model, or of other settings, or that was imported.
        backgrounds: The folder of the original backgrounds, for a scale above 1; ``None`` takes the one
            that the dataset's spec names.
        foregrounds: The same for the foregrounds, which only depth per sample looks at.
        masks: The same for the masks.
        on_event: Called in this thread with progress and notices.

    Raises:
        SpecError: A field of ``depth`` is out of range, or of no use for a dataset that was imported; all
            problems are named together.
        SourceError: The original pictures are not there, or not the ones the dataset was made of.
        DepthModelError: A depth model, or a device, that cannot be used.
        RecipeMismatchError: The dataset has depth of another model or other settings, or that was imported.
        DatasetError: There is no dataset, its images are not complete, or another process is writing it.
    """
    tell = silent if on_event is None else on_event
    check_workers(workers)
    folders = {"backgrounds": backgrounds, "foregrounds": foregrounds, "masks": masks}
    with workplace(dataset, workers, tell) as place:
        return _fill_depth(place, depth, device, workers, folders, overwrite=overwrite, tell=tell)


def _fill_depth(
    dataset: str | Path | Store,
    depth: DepthSpec,
    device: Device,
    workers: int | None,
    folders: Mapping[str, str | Path | None],
    *,
    overwrite: bool,
    tell: OnEvent,
) -> Report:
    clock = _Clock()
    name = disk.name_of(dataset)
    held = open_dataset(dataset, allow_incomplete=True)
    if not held.document["pixels"]["complete"]:
        command = "create" if held.has_recipe else "import"
        raise DatasetError(
            f"The images of {name} are not complete: run fgbgpack {command} again to finish them."
        )
    recipe: Recipe | None = None
    plan: Plan | Extent
    if held.has_recipe:
        recipe = _recipe_of(held, depth, folders)
        plan = recipe.plan
    else:
        depth = _depth_of_stored(held, depth, folders, tell)
        plan = Extent(len(held), held.height, held.width)
    networks = Networks.load(depth)
    keys = Keys(disk.store_of(dataset, read_only=False), name)

    with disk.exclusive(keys.store, name):
        document = disk.read_document(keys, name)
        if document is None:
            raise DatasetError(f"{name} has gone.")
        begun = document["depth"]
        differs = depth_differences(begun, depth, networks, (plan.height, plan.width)) if begun else []
        if begun is not None and not begun["complete"]:
            differs += layout_differences(keys, _depth_layouts(begun, plan))
        if differs and not overwrite:
            raise RecipeMismatchError(f"{name} has other depth; --overwrite replaces it:", differs)
        if differs:
            begun = None
        if begun is not None and begun["complete"]:
            tell(Notice(f"The depth of {name} is complete already."))
        else:
            if begun is not None:
                tell(Notice(f"Resuming the depth of {name}."))
            job = DepthJob(plan, depth, networks, device, workers, tell)
            if recipe is None:
                # Each thread is within one chunk, or at the end of it and at the beginning of the next.
                pictures = StoredPictures(held.image, held.mask, chunks_kept=2 * worker_count(workers))
                filling = DepthFilling(job, PerSampleMode(job, pictures, begun), begun)
            else:
                filling = DepthFilling(job, mode_of(job, recipe, begun, keys), begun)
            if begun is None:
                clear_depth(keys, document)
            document["depth"] = filling.section()
            if recipe is not None:
                document["spec"]["depth"] = dataclasses.asdict(depth)
            document["complete"] = False
            # The document comes last: what it says is begun is found cut as that mode cuts it.
            disk.write_depth_arrays(keys, plan, document["depth"])
            disk.write_document(keys, document)
            clock.fill_depth(filling, keys, document)
            keys.sweep()
    return clock.report(keys, name, document, plan)


def load(spec: DatasetSpec, tell: OnEvent) -> tuple[Catalog, Plan]:
    """The pictures of a spec and the plan of its samples; what is ignored, or lacks a licence, is told.

    Raises:
        SourceError: Pictures that cannot be used.
    """
    sources = find_sources(
        Path(spec.backgrounds), Path(spec.foregrounds), Path(spec.masks) if spec.masks else None
    )
    if sources.ignored:
        shown = ", ".join(sources.ignored[:5]) + (", ..." if len(sources.ignored) > 5 else "")
        tell(Notice(f"Ignored {len(sources.ignored)} files that are not used as pictures: {shown}"))
    for notice in sources.notices:
        tell(Notice(notice))
    catalog = load_catalog(
        sources,
        height=spec.height,
        width=spec.width,
        fit=spec.fit,
        foreground_height=spec.foreground_height,
        on_picture=lambda done, total: tell(Progress("sources", done, total)),
    )
    return catalog, disk.plan_of(spec.to_dict(), catalog)


def _listed(source: SourceInfo) -> dict[str, str]:
    fields = {
        "name": source.name,
        "sha256": source.sha256,
        "mask_name": source.mask_name,
        "mask_sha256": source.mask_sha256,
        "license": source.license,
        "author": source.author,
        "url": source.url,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _new_document(spec: DatasetSpec, catalog: Catalog, plan: Plan, virtual: bool) -> dict[str, Any]:
    return {
        "schema": "dataset/1.0",
        "complete": False,
        "spec": spec.to_dict(),
        "recipe": {
            "sha256": plan.recipe_digest(catalog.background, catalog.foreground),
            "samples": plan.samples,
        },
        "sources": {
            "backgrounds": [_listed(source) for source in catalog.backgrounds],
            "foregrounds": [_listed(source) for source in catalog.foregrounds],
        },
        "pixels": {"complete": False, "stored": not virtual},
        "depth": None,
        "software": software(),
    }


def _layouts_to_go_on_with(
    existing: Mapping[str, Any], pixels: PixelFilling, plan: Plan, networks: Networks | None
) -> dict[str, Layout]:
    """The layouts of the arrays that are begun, not complete, and to be finished."""
    layouts: dict[str, Layout] = {}
    if not existing["pixels"]["complete"]:
        layouts[disk.IMAGE], layouts[disk.MASK] = pixels.layouts
    if networks is not None and existing["depth"] is not None and not existing["depth"]["complete"]:
        layouts |= _depth_layouts(existing["depth"], plan)
    return layouts


def _depth_layouts(section: Mapping[str, Any], plan: Plan | Extent) -> dict[str, Layout]:
    layouts = {disk.DEPTH: depth_layout(plan, guided=disk.is_guided(section))}
    if disk.is_guided(section) and isinstance(plan, Plan):
        layouts[disk.BACKGROUND_DEPTH] = disk.background_depth_layout(plan)
    return layouts


def _recipe_of(held: Dataset, depth: DepthSpec, folders: Mapping[str, str | Path | None]) -> Recipe:
    """The recipe of a dataset with other depth, and with where its pictures are now."""
    moved = {key: str(folder) for key, folder in folders.items() if folder is not None}
    spec = dataclasses.replace(DatasetSpec.from_dict({**held.document["spec"], **moved}), depth=depth)
    catalog = held.catalog()
    return Recipe(disk.plan_of(held.document["spec"], catalog), spec, catalog)


def _depth_of_stored(
    held: Dataset, depth: DepthSpec, folders: Mapping[str, str | Path | None], tell: OnEvent
) -> DepthSpec:
    """How the depth of samples that were imported is filled: a network sees each, as it is stored.

    Raises:
        SpecError: It cannot be filled as it is asked for; all problems are named together.
    """
    problems = []
    if depth.mode == "guided" or depth.guide is not None:
        option = "--depth-mode" if depth.mode == "guided" else "--depth-guide"
        problems.append(
            f"{option}: guided depth begins with that of the empty backgrounds, and there are none; expected "
            "--depth-mode per-sample"
        )
    if depth.scale not in (None, 1):
        problems.append(
            f"--depth-scale: found {depth.scale}, expected 1: there are no originals to draw larger pictures "
            "of, and networks bring those that are stored to their own size"
        )
    problems += [
        f"--{kind}: of no use, samples are seen as they are stored"
        for kind, folder in folders.items()
        if folder is not None
    ]
    if problems:
        raise SpecError(f"{held.path} was imported from pictures: its depth cannot be filled so.", problems)
    if depth.resolved_mode != "per-sample":
        tell(
            Notice(
                f"{held.path} was imported: there are no empty backgrounds whose depth could guide that of "
                f"its samples, so {depth.model} sees each of these (--depth-mode per-sample)."
            )
        )
    return dataclasses.replace(depth, mode="per-sample", scale=1)


class _Clock:
    """What a run has done, and how long that took."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.created = self.depth_filled = 0
        self._sample_seconds = self._depth_seconds = 0.0

    def fill_pixels(self, pixels: PixelFilling, keys: Keys, workers: int | None, tell: OnEvent) -> None:
        start = time.perf_counter()
        self.created = pixels.fill(keys, workers, tell)
        self._sample_seconds = time.perf_counter() - start

    def fill_depth(self, filling: DepthFilling, keys: Keys, document: dict[str, Any]) -> None:
        start = time.perf_counter()
        self.depth_filled = filling.fill(keys, document)
        self._depth_seconds = time.perf_counter() - start

    def report(self, keys: Keys, name: str, document: Mapping[str, Any], plan: Plan | Extent) -> Report:
        depth = document["depth"]
        guide = depth["guide"] if depth else None
        return Report(
            path=name,
            samples=plan.samples,
            created=self.created,
            depth_filled=self.depth_filled,
            seconds=time.perf_counter() - self._start,
            sample_seconds=self._sample_seconds,
            depth_seconds=self._depth_seconds,
            stored_bytes=disk.stored_bytes(keys),
            virtual=disk.is_virtual(document),
            depth_mode=depth["mode"] if depth else None,
            depth_model=depth["model"]["name"] if depth else None,
            depth_guide=guide["model"]["name"] if guide else None,
            provider=(guide or depth)["provider"] if depth else None,
            complete=document["complete"],
        )
