"""The three things that users ask for: make a dataset, fill its depth, estimate what that would take."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from zarr.abc.store import Store

from fgbgpack import dataset as disk
from fgbgpack.build.depth import DepthFilling
from fgbgpack.build.existing import clear, clear_depth, depth_differences, differences, layout_differences
from fgbgpack.build.pixels import PixelFilling
from fgbgpack.build.work import Notice, OnEvent, Progress, check_workers, measure, silent
from fgbgpack.dataset import Keys
from fgbgpack.depth import DepthModel, Device, load_model
from fgbgpack.errors import DatasetError, RecipeMismatchError
from fgbgpack.plan import Layout, Plan, depth_layout
from fgbgpack.sources import Catalog, Source, find_sources, load_catalog
from fgbgpack.spec import DatasetSpec, DepthSpec

_MEASURED_SHARDS = 97
_SOFTWARE = ("fgbgpack", "zarr", "numcodecs", "numpy", "numba", "pillow")


@dataclass(frozen=True)
class Report:
    """What a run did.

    Attributes:
        path: Where the dataset is.
        samples: Samples in the dataset.
        created: Samples that this run composited.
        depth_filled: Samples whose depth this run filled.
        seconds: What the whole run took.
        sample_seconds: What compositing and writing those samples took.
        depth_seconds: What filling and writing that depth took.
        stored_bytes: Bytes in the store, by array.
        depth_model: The name of the model that filled depth; ``None`` where depth is not filled.
        provider: The ONNX Runtime execution provider that ran it.
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
    depth_model: str | None
    provider: str | None
    complete: bool

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Estimate:
    """What ``create`` would make, from a short measurement.

    Attributes:
        backgrounds: Backgrounds found.
        foregrounds: Foregrounds found.
        samples: Samples that the dataset would hold.
        chunk: Samples in a chunk of image and mask.
        shards: Shards of image, mask and depth together: so many files.
        bytes: Estimated bytes of each of them.
        seconds: Estimated time for all.
        sample_rate: Measured composites a second, compressed.
        depth_rate: Measured depth maps a second; ``None`` without a depth model.
        provider: The execution provider that would run the depth model.
    """

    backgrounds: int
    foregrounds: int
    samples: int
    chunk: int
    shards: int
    bytes: dict[str, int]
    seconds: float
    sample_rate: float
    depth_rate: float | None
    provider: str | None

    def to_dict(self) -> dict[str, Any]:
        """The estimate as JSON."""
        return dataclasses.asdict(self)


def create(
    out: str | Path | Store,
    spec: DatasetSpec,
    *,
    device: Device = "auto",
    workers: int | None = None,
    overwrite: bool = False,
    on_event: OnEvent | None = None,
) -> Report:
    """Make a dataset, or finish one that the same spec began.

    Args:
        out: A local folder, a URL that fsspec opens, or a Zarr store.
        spec: What to make.
        device: What runs the depth model: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"tensorrt"``.
        workers: Threads, each on a shard of its own; ``None`` takes one for each processor. The bytes
            do not depend on it.
        overwrite: Replace a dataset made with other options. Nothing but a dataset is ever replaced.
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
    clock = _Clock()
    tell = silent if on_event is None else on_event
    name = disk.name_of(out)
    check_workers(workers)
    keys = Keys(disk.store_of(out, read_only=False), name)
    disk.read_document(keys, name)  # What must not be overwritten is found before any work is done.
    model = load_model(spec.depth.model) if spec.depth else None
    catalog, plan = _load(spec, tell)
    pixels = PixelFilling(plan, catalog, spec.chunk)
    document = _new_document(spec, catalog, plan)

    with disk.exclusive(keys.store, name):
        existing = disk.read_document(keys, name)
        differs = differences(existing, document, spec, model) if existing else []
        if existing is not None:
            differs += layout_differences(keys, _layouts_to_go_on_with(existing, pixels, plan, model))
        if differs and not overwrite:
            raise RecipeMismatchError(
                f"{name} was made with other options: give another place, or --overwrite to replace it.",
                differs,
            )
        if existing is not None and not differs:
            document = existing
            tell(Notice(f"{name} is complete already." if existing["complete"] else f"Resuming {name}."))
        wants_depth = model is not None and not (document["depth"] or {}).get("complete")
        filling = None
        if spec.depth is not None and model is not None and wants_depth:
            begun = document["depth"]
            filling = DepthFilling(plan, spec, spec.depth, catalog, model, device, begun, workers, tell)
            document["depth"] = filling.section()
        if document is not existing:
            clear(keys, existing)
        if not document["pixels"]["complete"]:
            disk.write_document(keys, document)
            disk.write_static(keys, plan, catalog, pixels.layouts)
            disk.write_depth_array(keys, depth_layout(plan), disk.depth_attributes(document["depth"]))
            clock.fill_pixels(pixels, keys, workers, tell)
            document["pixels"]["complete"] = True
            document["complete"] = document["depth"] is None
            disk.write_document(keys, document)
        if filling is not None:
            clock.fill_depth(filling, keys, document)
        elif document["depth"] is None and not spec.depth:
            tell(
                Notice(
                    "No depth model was given and none is built in, so /depth is not filled. Fill it "
                    f"with: fgbgpack depth {name} --depth-model FILE.onnx"
                )
            )
        elif not document["depth"]["complete"]:
            tell(Notice(f"The depth of {name} is unfinished: run fgbgpack depth to finish it."))
        keys.sweep()
    return clock.report(keys, name, document, plan)


def fill_depth(
    dataset: str | Path | Store,
    depth: DepthSpec,
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
        dataset: A local folder, a URL that fsspec opens, or a Zarr store.
        depth: The model and how it is run.
        device: What runs it: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"tensorrt"``.
        workers: Threads, each on a shard of its own; ``None`` takes one for each processor.
        overwrite: Replace the depth of another model, or of other settings.
        backgrounds: The folder of the original backgrounds, for a scale above 1; ``None`` takes the one
            that the dataset's spec names.
        foregrounds: The same for the foregrounds.
        masks: The same for the masks.
        on_event: Called in this thread with progress and notices.

    Raises:
        SourceError: The original pictures are not there, or not the ones the dataset was made of.
        DepthModelError: A depth model, or a device, that cannot be used.
        RecipeMismatchError: The dataset has depth of another model or other settings.
        DatasetError: There is no dataset, its images are not complete, or another process is writing it.
    """
    clock = _Clock()
    tell = silent if on_event is None else on_event
    name = disk.name_of(dataset)
    check_workers(workers)
    held = disk.open_dataset(dataset, allow_incomplete=True)
    if not held.document["pixels"]["complete"]:
        raise DatasetError(
            f"The images of {name} are not complete: run fgbgpack create again to finish them."
        )
    model = load_model(depth.model)
    spec = _spec_with_folders(held.document["spec"], backgrounds, foregrounds, masks)
    keys = Keys(disk.store_of(dataset, read_only=False), name)
    catalog = held.catalog()
    plan = disk.plan_of(held.document["spec"], catalog)

    with disk.exclusive(keys.store, name):
        document = disk.read_document(keys, name)
        if document is None:
            raise DatasetError(f"{name} has gone.")
        begun = document["depth"]
        differs = depth_differences(begun, depth, model, (plan.height, plan.width)) if begun else []
        if begun is not None and not begun["complete"]:
            differs += layout_differences(keys, {disk.DEPTH: depth_layout(plan)})
        if differs and not overwrite:
            raise RecipeMismatchError(f"{name} has other depth; --overwrite replaces it:", differs)
        if differs:
            begun = None
        if begun is not None and begun["complete"]:
            tell(Notice(f"The depth of {name} is complete already."))
        else:
            if begun is not None:
                tell(Notice(f"Resuming the depth of {name}."))
            filling = DepthFilling(plan, spec, depth, catalog, model, device, begun, workers, tell)
            if begun is None:
                clear_depth(keys, document)
            document["depth"] = filling.section()
            document["spec"]["depth"] = dataclasses.asdict(depth)
            document["complete"] = False
            disk.write_document(keys, document)
            clock.fill_depth(filling, keys, document)
            keys.sweep()
    return clock.report(keys, name, document, plan)


def estimate(
    spec: DatasetSpec, *, device: Device = "auto", workers: int | None = None, on_event: OnEvent | None = None
) -> Estimate:
    """What ``create`` would make, measured on about a second's work; nothing is written.

    Args:
        spec: What to make.
        device: What would run the depth model.
        workers: Threads, as for :func:`create`.
        on_event: Called in this thread with progress and notices.

    Raises:
        SourceError: Pictures that cannot be used.
        DepthModelError: A depth model, or a device, that cannot be used.
    """
    tell = silent if on_event is None else on_event
    check_workers(workers)
    model = load_model(spec.depth.model) if spec.depth else None
    catalog, plan = _load(spec, tell)
    pixels = PixelFilling(plan, catalog, spec.chunk)
    sizes: dict[str, list[int]] = {disk.IMAGE: [], disk.MASK: [], disk.DEPTH: []}

    def encode_pixels(run: range) -> None:
        for array, encoded in pixels.encode(run):
            sizes[array].append(len(encoded))  # Appending to a list is safe on any thread.

    image, _ = pixels.layouts
    runs = [next(image.chunk_runs(shard)) for shard in _spread(image.shards)]
    encode_pixels(runs[0])  # Compiles the kernel, which is not to be measured.
    for measured in sizes.values():
        measured.clear()
    composed, sample_seconds = measure(encode_pixels, runs, workers)
    counts = {disk.IMAGE: composed, disk.MASK: composed}
    seconds = plan.samples * sample_seconds / composed
    shards = 2 * image.shards
    depth_rate = provider = None
    if spec.depth is not None and model is not None:
        filling = DepthFilling(plan, spec, spec.depth, catalog, model, device, None, workers, tell)
        provider = filling.session.provider

        def encode_depth(run: range) -> None:
            encoded = filling.encode(run, check=lambda: None, advance=lambda count: None)
            sizes[disk.DEPTH].extend(len(chunk) for chunk in encoded.chunks)

        runs = [filling.layout.samples_of(shard)[: filling.batch] for shard in _spread(filling.layout.shards)]
        filled, depth_seconds = measure(encode_depth, runs, workers)
        counts[disk.DEPTH] = filled
        depth_rate = filled / depth_seconds
        seconds += plan.samples / depth_rate
        shards += filling.layout.shards
    return Estimate(
        backgrounds=len(catalog.backgrounds),
        foregrounds=len(catalog.foregrounds),
        samples=plan.samples,
        chunk=image.chunk[0],
        shards=shards,
        bytes={array: round(plan.samples * sum(sizes[array]) / n) for array, n in counts.items()},
        seconds=seconds,
        sample_rate=composed / sample_seconds,
        depth_rate=depth_rate,
        provider=provider,
    )


def _load(spec: DatasetSpec, tell: OnEvent) -> tuple[Catalog, Plan]:
    sources = find_sources(
        Path(spec.backgrounds), Path(spec.foregrounds), Path(spec.masks) if spec.masks else None
    )
    if sources.ignored:
        shown = ", ".join(sources.ignored[:5]) + (", ..." if len(sources.ignored) > 5 else "")
        tell(Notice(f"Ignored {len(sources.ignored)} files that are not used as pictures: {shown}"))
    catalog = load_catalog(
        sources,
        height=spec.height,
        width=spec.width,
        fit=spec.fit,
        foreground_height=spec.foreground_height,
        on_picture=lambda done, total: tell(Progress("sources", done, total)),
    )
    return catalog, disk.plan_of(spec.to_dict(), catalog)


def _spread(count: int) -> range:
    """Some of ``count`` shards, from the first to the last: enough to measure, and few enough to list."""
    return range(0, count, max(1, count // _MEASURED_SHARDS))


def _listed(source: Source) -> dict[str, str]:
    fields = {
        "name": source.name,
        "sha256": source.sha256,
        "mask_name": source.mask_name,
        "mask_sha256": source.mask_sha256,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _new_document(spec: DatasetSpec, catalog: Catalog, plan: Plan) -> dict[str, Any]:
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
        "pixels": {"complete": False},
        "depth": None,
        "software": {package: version(package) for package in _SOFTWARE},
    }


def _layouts_to_go_on_with(
    existing: Mapping[str, Any], pixels: PixelFilling, plan: Plan, model: DepthModel | None
) -> dict[str, Layout]:
    """The layouts of the arrays that are begun, not complete, and to be finished."""
    layouts: dict[str, Layout] = {}
    if not existing["pixels"]["complete"]:
        layouts[disk.IMAGE], layouts[disk.MASK] = pixels.layouts
    if model is not None and existing["depth"] is not None and not existing["depth"]["complete"]:
        layouts[disk.DEPTH] = depth_layout(plan)
    return layouts


def _spec_with_folders(
    document: Mapping[str, Any],
    backgrounds: str | Path | None,
    foregrounds: str | Path | None,
    masks: str | Path | None,
) -> DatasetSpec:
    given = {"backgrounds": backgrounds, "foregrounds": foregrounds, "masks": masks}
    folders = {key: str(folder) for key, folder in given.items() if folder is not None}
    return DatasetSpec.from_dict({**document, **folders})


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

    def report(self, keys: Keys, name: str, document: Mapping[str, Any], plan: Plan) -> Report:
        depth = document["depth"]
        return Report(
            path=name,
            samples=plan.samples,
            created=self.created,
            depth_filled=self.depth_filled,
            seconds=time.perf_counter() - self._start,
            sample_seconds=self._sample_seconds,
            depth_seconds=self._depth_seconds,
            stored_bytes=disk.stored_bytes(keys),
            depth_model=depth["model"]["name"] if depth else None,
            provider=depth["provider"] if depth else None,
            complete=document["complete"],
        )
