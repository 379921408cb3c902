"""One dataset made in parts: begun once, its shards written by any number of processes on any number of
machines, finished once.

A shard is a pure function of the recipe and its number. So a part needs nothing but the dataset itself: which
samples there are is in the document, what they are made of is in ``/sources``.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import compress
from typing import Any

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.depth import Device
from fgbgpack.depth.strategies import Networks
from fgbgpack.document import (
    DEPTH,
    DEPTH_PARTS,
    EXTREMES,
    IMAGE,
    DeviceInfo,
    Document,
    NetworkDepthInfo,
)
from fgbgpack.errors import DatasetError, IncompleteDatasetError, RecipeMismatchError, SpecError
from fgbgpack.pipeline.arrays import StoredLayouts
from fgbgpack.pipeline.conflicts import depth_differences
from fgbgpack.pipeline.create import Creation, Report
from fgbgpack.pipeline.depth import DepthFilling, DepthStage
from fgbgpack.pipeline.depth_modes import DepthJob
from fgbgpack.pipeline.devices import joined, makers_of, with_makers
from fgbgpack.pipeline.events import Progress, Reporting, reporting, silent
from fgbgpack.pipeline.executor import Threads
from fgbgpack.pipeline.part import Note, Notes, Part
from fgbgpack.pipeline.pixels import Pixels
from fgbgpack.pipeline.run import Result, Run
from fgbgpack.sources.names import counted
from fgbgpack.spec import DatasetSpec
from fgbgpack.storage import sealing
from fgbgpack.storage.hdf5 import is_hdf5
from fgbgpack.storage.layout import DEFAULT_POLICY, Layout, LayoutPolicy
from fgbgpack.storage.manifest import joined_paths
from fgbgpack.storage.store import DatasetStore
from fgbgpack.storage.targets import Target, located

_SHOWN = 20
#: Shards that a thread reads before it reports.
_READ_TOGETHER = 8


@dataclass(frozen=True)
class PartReport(Result):
    """What a part of a dataset of ``samples`` at ``path`` did in ``seconds``.

    Attributes:
        part: Which part it is, from 0.
        parts: How many there are.
        created: Samples that this run composited.
        depth_filled: Samples whose depth this run filled.
        sample_seconds: What compositing and writing those samples took.
        depth_seconds: What filling and writing that depth took.
        complete: Whether the dataset was complete already, and nothing was left to do.
    """

    part: int
    parts: int
    created: int
    depth_filled: int
    sample_seconds: float
    depth_seconds: float
    complete: bool


def begin_create(
    out: Target,
    spec: DatasetSpec,
    *,
    device: Device = "auto",
    workers: int | None = None,
    overwrite: bool = False,
    virtual: bool = False,
    layout: LayoutPolicy = DEFAULT_POLICY,
    storage_options: Mapping[str, Any] | None = None,
    on_event: Reporting = silent,
) -> Report:
    """Begin a dataset whose shards are then written by :func:`create_part`, by any number of processes.

    Writes the document, the placements and the sources, and where depth is asked for its step and, where that
    guides it, the depth of the backgrounds. Pictures are read here and nowhere else, unless depth is per
    sample and needs larger ones. A dataset that has begun with the same options stays as it is.

    Args:
        out: A local folder, a URL that fsspec opens, or a Zarr store.
        spec: What to make.
        device: What runs the depth model; parts need the same ONNX Runtime execution provider.
        workers: Threads; ``None`` takes one for each processor.
        overwrite: Replace a dataset made with other options, which is deleted at once.
        virtual: Store neither image nor mask, as with :func:`create`.
        layout: How large chunks and shards become.
        storage_options: What a URL is opened with, as for :func:`create`.
        on_event: Called in this thread with progress and notices; ``"progress"`` shows them.

    Raises:
        SpecError: ``out`` is an HDF5 file, which has one writer.
        SourceError: Pictures that cannot be used.
        DepthModelError: A depth model, or a device, that cannot be used.
        RecipeMismatchError: A dataset made with other options is there.
        DatasetError: Something else is there, another process is writing it, or the store is full.

    Example:
        >>> from fgbgpack import DatasetSpec, begin_create, create_part, finish_create
        >>> spec = DatasetSpec(backgrounds="bg", foregrounds="fg", placements=2)
        >>> begin_create("lobby.zarr", spec)  # doctest: +SKIP
        >>> for part in range(10):  # each on any machine, in any order, several at once
        ...     create_part("lobby.zarr", part, 10)  # doctest: +SKIP
        >>> finish_create("lobby.zarr").complete  # doctest: +SKIP
        True
    """
    threads = Threads(workers)
    with reporting(on_event) as notify:
        run = _run(located(out, storage_options), threads, notify)
        creation = Creation.of(run, spec, layout=layout, device=device, virtual=virtual)
        if creation.has_begun():
            document = run.store.existing_document()
            run.notify(f"{run.name} has begun already.")
        else:
            with run.exclusive():
                document = creation.begin(overwrite=overwrite)
        return Report.of(run, document)


def create_part(
    out: Target,
    part: int,
    parts: int,
    *,
    device: Device = "auto",
    workers: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    on_event: Reporting = silent,
) -> PartReport:
    """Write one of ``parts`` parts of the shards of a dataset that :func:`begin_create` has begun.

    Parts may run at once, on one machine or many, in any order, and again: what is there and whole is left as
    it is. They need neither pictures nor options, which are in the dataset.

    Args:
        out: The dataset: a local folder, a URL that fsspec opens, or a Zarr store.
        part: Which part, from 0 to ``parts - 1``.
        parts: How many parts there are.
        device: What runs the depth model, if depth is asked for.
        workers: Threads, each on a shard of its own; ``None`` takes one for each processor.
        storage_options: What a URL is opened with, as for :func:`create`.
        on_event: Called in this thread with progress and notices; ``"progress"`` shows them.

    Raises:
        SpecError: There is no such part, or ``out`` is an HDF5 file.
        SourceError: Depth per sample needs the original pictures, which are not where they were.
        DepthModelError: A depth model, or a device, that cannot be used.
        RecipeMismatchError: The depth networks on this machine are others than those that it was begun with,
            or what runs them is.
        DatasetError: The dataset is missing or has not begun (``parts-not-begun``), another process has
            replaced it or is finishing it, or the store is full.
    """
    chosen = Part(part, parts)
    threads = Threads(workers)
    with reporting(on_event) as notify:
        run = _run(located(out, storage_options), threads, notify)
        document = _begun(run.store)
        if document.complete:
            run.notify(f"{run.name} is complete already.")
        else:
            with run.shared():
                document = _begun(run.store)
                _PartWriting(run, Dataset(run.store, document), chosen, device).write()
        return PartReport(
            path=run.name,
            samples=document.samples,
            seconds=run.seconds,
            part=chosen.number,
            parts=chosen.count,
            created=run.written["samples"],
            depth_filled=run.written["depth"],
            sample_seconds=run.stage_seconds["samples"],
            depth_seconds=run.stage_seconds["depth"],
            complete=document.complete,
        )


def finish_create(
    out: Target,
    *,
    workers: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    on_event: Reporting = silent,
) -> Report:
    """Finish a dataset whose parts are written: check that every shard is there and whole, and complete it.

    It is then the dataset that one :func:`create` would have made, byte for byte. Shards that are damaged are
    deleted, so that the parts that wrote them write them again.

    Args:
        out: The dataset: a local folder, a URL that fsspec opens, or a Zarr store.
        workers: Threads; ``None`` takes one for each processor.
        storage_options: What a URL is opened with, as for :func:`create`.
        on_event: Called in this thread with progress and notices; ``"progress"`` shows them.

    Raises:
        SpecError: ``out`` is an HDF5 file.
        IncompleteDatasetError: Shards are missing (``parts-missing``); the message names the parts to run.
        DatasetError: The dataset is missing or has not begun (``parts-not-begun``), a part is still being
            written, or the store is full.
    """
    threads = Threads(workers)
    with reporting(on_event) as notify:
        run = _run(located(out, storage_options), threads, notify)
        _begun(run.store)
        with run.exclusive():
            document = _begun(run.store)
            if document.complete:
                run.notify(f"{run.name} is complete already.")
            else:
                document = _finish(run, document)
        return Report.of(run, document)


def _run(out: Target, threads: Threads, on_event: Callable[..., None]) -> Run:
    if is_hdf5(out):
        raise SpecError(
            f"{out}: an HDF5 file has one writer, and cannot be made in parts. Make a Zarr dataset in parts, "
            "and then the file of it with fgbgpack convert.",
            code="parts-of-hdf5",
        )
    return Run(DatasetStore.open(out, read_only=False), threads, on_event)


def _begun(store: DatasetStore) -> Document:
    """The document of a dataset that is complete, or of which only shards are missing."""
    document = store.existing_document()
    if not (document.complete or document.in_parts):
        raise DatasetError(
            f"{store.name} has not begun as a dataset that is made in parts: run fgbgpack create "
            f"{store.name} --begin with all its options first, or the command that made it to finish it.",
            code="parts-not-begun",
        )
    return document


def _pixel_layouts(store: DatasetStore, document: Document) -> dict[str, Layout]:
    """How the arrays of pixels are cut that parts write."""
    if document.is_virtual or document.pixels.complete:
        return {}
    return _layouts(store, *document.planes)


def _depth_layouts(store: DatasetStore, document: Document) -> dict[str, Layout]:
    """How depth is cut that parts write, and that of the backgrounds where it guides that."""
    if document.depth is None or document.depth.complete:
        return {}
    return _layouts(store, DEPTH, *document.depth_sources)


def _layouts(store: DatasetStore, *paths: str) -> dict[str, Layout]:
    return {path: form.layout for path, form in store.forms(paths, checked=False).items()}


class _PartWriting:
    """A part of a dataset, at work."""

    def __init__(self, run: Run, dataset: Dataset, part: Part, device: Device) -> None:
        self._run, self._part, self._device = run, part, device
        self._document = dataset.document
        self._recipe = dataset.recipe
        if self._recipe.info != self._document.recipe:
            raise DatasetError(
                f"The sources in {run.name} are damaged: they are not those of its recipe. Begin it again.",
                code="recipe-damaged",
            )
        self._pixels = _pixel_layouts(run.store, self._document)
        self._depth = _depth_layouts(run.store, self._document)
        self._policy = StoredLayouts(layouts=self._pixels | self._depth)

    def write(self) -> None:
        """Write the shards that are missing."""
        run, part = self._run, self._part
        job = self._depth_job()
        if self._pixels:
            pixels = Pixels(self._recipe, self._policy)
            pixels.restrict(part.of(self._pixels[IMAGE].shards))
            run.execute(pixels)
        note = Note(run.store, part)
        missing = []
        if job is not None:
            missing = sealing.missing_shards(run.store, {DEPTH: job.depth_layout}, job.shards)
        if not missing or job is None or not isinstance(self._document.depth, NetworkDepthInfo):
            note.add(None, [])
            return
        filling = DepthFilling.of(job, self._document.depth, run.store)
        # Before the first shard: what is killed later leaves nothing to be told.
        note.add(next(reversed(makers_of(filling.section)), None), missing)
        stage = DepthStage(job, filling.mode, run.store, self._document.depth.step)
        run.execute_depth(stage)

    def _depth_job(self) -> DepthJob | None:
        """What fills depth; ``None`` where all is there or none is asked for."""
        run, document = self._run, self._document
        spec = document.spec
        if not self._depth or spec is None or spec.depth is None or document.depth is None:
            return None
        networks = Networks.load(spec.depth)
        scale = spec.depth.resolved_scale(spec.height, spec.width, scenes=spec.is_scene)
        if lines := depth_differences(document.depth, spec.depth, networks, scale):
            raise RecipeMismatchError(
                f"The depth networks on this machine are not those that {run.name} was begun with:", lines
            )
        shards = self._part.of(self._depth[DEPTH].shards)
        return DepthJob(
            self._recipe,
            spec.depth,
            networks,
            self._device,
            run.threads,
            self._policy,
            run.on_event,
            shards=shards,
        )


def _finish(run: Run, document: Document) -> Document:
    """Complete a dataset whose shards are all there; return its document."""
    store, notes = run.store, Notes(run.store)
    pixels, depths = _pixel_layouts(store, document), _depth_layouts(store, document)
    _require_recipe(store)
    _require_whole(run, pixels | depths, notes.count)
    depth = document.depth
    if depths and isinstance(depth, NetworkDepthInfo):
        made = ((device, depths[DEPTH].samples_of(shard)) for shard, device in sorted(notes.makers.items()))
        document = document.with_depth(_made_by(depth, made, document.samples))
    document = store.commit(document.with_pixels_complete())
    return run.finish_depth(document, depths) if depths else document


def _made_by(
    depth: NetworkDepthInfo, made: Iterator[tuple[DeviceInfo, range]], samples: int
) -> NetworkDepthInfo:
    """The section with the devices that have filled the depth of which samples."""
    if depth.guide is None:
        return dataclasses.replace(depth, devices=with_makers(depth.devices, made, samples))
    guide = dataclasses.replace(depth.guide, devices=with_makers(depth.guide.devices, made, samples))
    return dataclasses.replace(depth, guide=guide)


def _require_recipe(store: DatasetStore) -> None:
    """See that all that the shards are made of is as it was begun with (DatasetError)."""
    wrong = sealing.faulty_objects(store)
    paths = store.manifest.arrays if store.manifest is not None else ()
    for path, form in store.forms(paths, checked=False).items():
        sound = sealing.whole_shards(store, path, form.layout, sharded=form.sharded, read_back=True)
        if len(sound) < form.layout.shards:
            wrong.setdefault(path, [])
    if wrong:
        raise DatasetError(
            f"What {store.name} was begun with is missing or damaged ({joined_paths(wrong, _SHOWN)}): run "
            "--begin again with the same options; shards that are whole stay.",
            code="recipe-damaged",
        )


def _require_whole(run: Run, layouts: Mapping[str, Layout], count: int | None) -> None:
    """See that all shards are there and whole, and delete those that are not, or raise
    IncompleteDatasetError.
    """
    store = run.store
    checked = {path: (layout, True) for path, layout in layouts.items() if path not in DEPTH_PARTS}
    if DEPTH in layouts:
        checked |= dict.fromkeys(EXTREMES, (layouts[DEPTH].vector, False))
    parts: defaultdict[Part, dict[str, list[int]]] = defaultdict(dict)
    damaged: dict[str, list[int]] = {}
    done, total = 0, sum(layout.shards for layout, _ in checked.values())
    for path, (layout, sharded) in checked.items():
        sound: set[int] = set()
        groups = [
            range(first, min(first + _READ_TOGETHER, layout.shards))
            for first in range(0, layout.shards, _READ_TOGETHER)
        ]
        # Before threads are at it: they would find the array declared anew.
        store.written.declare(path, layout, sharded=sharded)
        read = partial(_whole_among, store, path, layout, sharded)
        for group, found in run.threads.in_order(read, groups, ahead=run.threads.count):
            sound |= found
            done += len(group)
            run.on_event(Progress("checks", done, total))
        missing = sorted(set(range(layout.shards)) - sound)
        for shard in missing:
            part = Part.with_shard(shard, layout.shards, count or 1)
            parts[part].setdefault(path, []).append(shard)
        there = store.present(f"{path}/{layout.key(shard)}" for shard in missing)
        if there_but_not_whole := list(compress(missing, there)):
            damaged[path] = there_but_not_whole
    if not parts:
        return
    if damaged:
        sealing.discard(store, damaged)
    lines = [
        f"{part.name}: {'; '.join(_described(parts[part]))}"
        for part in sorted(parts, key=lambda part: part.number)
    ]
    if len(lines) > _SHOWN:
        lines[_SHOWN:] = [f"... {counted(len(lines), 'part')} in all"]
    first = min(parts, key=lambda part: part.number)
    raise IncompleteDatasetError(
        f"Shards of {run.name} are missing, or were damaged: run these parts (such as fgbgpack create "
        f"{run.name} --shards {first.name}), and then --finish again.",
        lines,
        code="parts-missing",
    )


def _whole_among(store: DatasetStore, path: str, layout: Layout, sharded: bool, among: range) -> set[int]:
    return sealing.whole_shards(store, path, layout, sharded=sharded, among=among, read_back=True)


def _described(missing: Mapping[str, list[int]]) -> Iterator[str]:
    """Which shards of which arrays are missing, those of arrays that miss the same ones together."""
    arrays: defaultdict[str, list[str]] = defaultdict(list)
    for path, shards in missing.items():
        arrays[_numbers(shards)].append(path)
    for numbers, paths in arrays.items():
        yield f"{numbers} of {joined_paths(paths, len(paths))}"


def _numbers(shards: list[int]) -> str:
    """Numbers in order, such as ``shards 3, 5 to 9``."""
    runs = joined(range(shard, shard + 1) for shard in shards)
    shown = [f"{start}" if stop - start == 1 else f"{start} to {stop - 1}" for start, stop in runs[:_SHOWN]]
    return f"shard{'s' if len(shards) > 1 else ''} {', '.join(shown)}{', ...' * (len(runs) > _SHOWN)}"
