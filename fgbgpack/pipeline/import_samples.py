"""Make a dataset of pictures, masks and depth that are there as files, without a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, ClassVar, Self, get_args

import numpy as np

from fgbgpack.dataset.listed_split import ListedSplit
from fgbgpack.document import (
    DEPTH,
    IMAGE,
    INSTANCE,
    MASK,
    NAME,
    SOURCES,
    Document,
    ImportedDepthInfo,
    PixelsInfo,
)
from fgbgpack.import_info import ImportedObjects, ImportInfo, ImportLayout
from fgbgpack.pipeline.arrays import depth_arrays, pixel_arrays, plane_layouts, write_texts
from fgbgpack.pipeline.conflicts import layout_differences, said
from fgbgpack.pipeline.depth import bands, encoded_extremes, known_extremes
from fgbgpack.pipeline.events import Reporting, StageName, reporting, silent
from fgbgpack.pipeline.executor import Monitor, Threads
from fgbgpack.pipeline.import_files import SampleFiles
from fgbgpack.pipeline.import_objects import write_objects
from fgbgpack.pipeline.import_probe import Failures
from fgbgpack.pipeline.import_scan import ImportScan
from fgbgpack.pipeline.import_spec import ImportSpec
from fgbgpack.pipeline.run import Result, Run
from fgbgpack.pipeline.stage import LayoutStage, Product
from fgbgpack.pipeline.staging import staged
from fgbgpack.pipeline.ticket import require_folder
from fgbgpack.pipeline.workers import engine_of
from fgbgpack.sources.pairing import Kind
from fgbgpack.sources.problems import Remarks
from fgbgpack.spec import Reading
from fgbgpack.storage.arrays import DEPTH_CODEC, PIXEL_CODEC
from fgbgpack.storage.layout import DEFAULT_POLICY, Layout, LayoutPolicy
from fgbgpack.storage.store import DatasetStore
from fgbgpack.storage.targets import Target, located
from fgbgpack.version import software

#: Files compress less than what fgbgpack makes: so shards are smaller, which threads hold whole.
_SHARD_BYTES = 16 << 20
#: What the split is called that a folder has.
SPLIT = "imported"
#: What must be the same to go on with an import.
_COMPARED = (
    ("layout", "--from"),
    ("samples", "samples"),
    ("fit", "--fit"),
    ("chunk", "--chunk"),
    ("files", "files"),
)


@dataclass(frozen=True)
class ImportPlan:
    """What an import would make.

    Attributes:
        samples: Samples.
        height: Their height in pixels.
        width: Their width in pixels.
        chunk: Samples in a chunk.
        patterns: Where each kind of file was found; ``None`` for depth where there is none.
        examples: The files of some samples, by their kind, below the folder.
        left_out: Files that nothing pairs with.
        ignored: Files that are not imported.
        bytes: Estimated bytes of each array.
        seconds: Estimated time.
        layout: What the folder holds.
        objects: How many objects there are; ``None`` where nothing tells them apart.
        categories: How many objects there are of each category.
        parts: How many samples each part has, where the folder has parts.
    """

    samples: int
    height: int
    width: int
    chunk: int
    patterns: dict[Kind, str | None]
    examples: list[dict[Kind, str]]
    left_out: int
    ignored: int
    bytes: dict[str, int]
    seconds: float
    layout: ImportLayout
    objects: int | None
    categories: dict[str, int]
    parts: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Imported(Result):
    """What an import of ``samples`` to a dataset at ``path`` did in ``seconds``.

    Attributes:
        height: Their height in pixels.
        width: Their width in pixels.
        written: Samples whose image and mask this run wrote.
        depth_written: Samples whose depth this run wrote.
        left_out: Files without partners.
        stored_bytes: Bytes in the store, by array.
        depth: Whether there is depth.
        complete: Whether all is there.
        layout: What the folder holds.
        objects: How many objects there are; ``None`` where nothing tells them apart.
        parts: How many samples each part of the split ``imported`` has, where the folder has parts.
    """

    height: int
    width: int
    written: int
    depth_written: int
    left_out: int
    stored_bytes: dict[str, int]
    depth: bool
    complete: bool
    layout: ImportLayout
    objects: int | None
    parts: dict[str, int]


def scan(spec: ImportSpec, *, workers: int | None = None, on_event: Reporting = silent) -> ImportPlan:
    """What :func:`import_folder` would make; nothing is written.

    Raises:
        SpecError: Patterns that do not go together.
        SourceError: Files that cannot be used, or do not pair; all are named together.

    Example:
        >>> scan(ImportSpec("fgbg-2020")).samples  # doctest: +SKIP
        400000
    """
    threads = Threads(workers)
    with reporting(on_event) as notify:
        files = ImportScan(spec, threads, notify)
    total = files.extent.samples
    shown = sorted({0, total // 2, total - 1})
    return ImportPlan(
        samples=total,
        height=files.extent.height,
        width=files.extent.width,
        chunk=files.probe.chunk,
        patterns=files.pairs.patterns,
        examples=[{kind: paths[i] for kind, paths in files.pairs.files.items()} for i in shown],
        left_out=files.pairs.left_out,
        ignored=files.ignored.files,
        bytes=files.probe.bytes,
        seconds=files.estimated_seconds(),
        layout=files.layout,
        objects=_count(files),
        categories=_categories(files),
        parts=_parts(files),
    )


def import_folder(
    out: Target,
    spec: ImportSpec,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    layout: LayoutPolicy = DEFAULT_POLICY,
    storage_options: Mapping[str, Any] | None = None,
    on_event: Reporting = silent,
) -> Imported:
    """Make a dataset of pictures, masks and depth in a folder, or finish that.

    Samples are in the natural order of the names of their pictures. They are stored as those of all datasets,
    but without spec, recipe and sources; the names are there instead.

    Args:
        out: A local folder, an HDF5 file (``.h5``), a URL that fsspec opens, or a Zarr store. A file is made
            of a folder beside it, which takes as much room until then.
        spec: What to import.
        workers: Threads, each on a shard of its own; ``None`` takes one for each processor.
        executor: What runs the work in place of threads, as for :func:`create`.
        overwrite: Replace another dataset. Nothing but a dataset is ever replaced.
        layout: How large chunks and shards become.
        storage_options: What obstore or fsspec opens a URL with, such as ``{"region": "eu-west-1"}``, beside
            the environment; see :func:`fgbgpack.open_dataset`.
        on_event: Called in this thread with progress and notices; ``"progress"`` shows them.

    Raises:
        SpecError: Patterns that do not go together.
        SourceError: Files that cannot be used, or do not pair; all are named together.
        RecipeMismatchError: Another dataset is there.
        DatasetError: Something else is there, another process is writing it, or the store is full.

    Example:
        >>> from fgbgpack.pipeline import ImportSpec, import_folder
        >>> spec = ImportSpec("fgbg-2020", images="fgbg/{id}.jpg", masks="masks/{id}.png")
        >>> import_folder("fgbg.zarr", spec).samples  # doctest: +SKIP
        400000
    """
    out = located(out, storage_options)
    engine = engine_of(workers, executor)
    with reporting(on_event) as notify, staged(out, engine, notify) as place:
        run = Run(DatasetStore.open(place, read_only=False), engine, notify)
        run.store.document()  # What must not be overwritten is found before any work is done.
        files = ImportScan(spec, engine.threads, notify)
        with run.exclusive():
            document = _import(run, files, layout, overwrite=overwrite)
        return Imported(
            path=run.name,
            samples=document.samples,
            seconds=run.seconds,
            height=document.height,
            width=document.width,
            written=run.written["samples"],
            depth_written=run.written["depth"],
            left_out=files.pairs.left_out,
            stored_bytes=run.store.stored_bytes(),
            depth=document.depth is not None,
            complete=document.complete,
            layout=files.layout,
            objects=_count(files),
            parts=_parts(files),
        )


def _count(files: ImportScan) -> int | None:
    return None if files.objects is None else sum(map(len, files.objects))


def _categories(files: ImportScan) -> dict[str, int]:
    """How many objects there are of each category."""
    names = files.set.categories if files.set is not None and files.objects is not None else ()
    counts = np.zeros(len(names), np.int64)
    for one in files.objects or ():
        np.add.at(counts, np.array(one.categories, np.int64), 1)
    return dict(zip(names, counts.tolist(), strict=True))


def _parts(files: ImportScan) -> dict[str, int]:
    return {} if files.set is None else {name: len(some) for name, some in files.set.parts.items()}


def _import(run: Run, files: ImportScan, policy: LayoutPolicy, *, overwrite: bool) -> Document:
    """Import files into a dataset that nobody else writes; return its document."""
    name = run.name
    policy = dataclasses.replace(policy, pixel_shard_bytes=min(policy.pixel_shard_bytes, _SHARD_BYTES))
    new = _new_document(files)

    def differs(existing: Document) -> list[str]:
        lines = _differences(existing, new, files.spec)
        if not lines and not existing.pixels.complete:
            lines = layout_differences(run.store, _layouts(files, existing, policy))
        return lines

    existing = run.existing(differs, overwrite=overwrite)
    document = existing or new
    if existing is None:
        run.begin(document)
    elif not existing.pixels.complete:
        run.notify(f"Resuming {name}.")
    elif existing.complete:
        run.notify(f"{name} is complete already.")
    else:
        run.notify(f"The depth of {name} is unfinished: run fgbgpack depth to finish it.")
    return document if document.pixels.complete else _fill(run, files, document, policy)


def _fill(run: Run, files: ImportScan, document: Document, policy: LayoutPolicy) -> Document:
    """Write what is missing, and say that all is there.

    Raises SourceError with all files that cannot be decoded, once the others are written.
    """
    store, layouts, failures = run.store, _layouts(files, document, policy), Failures()
    store.declare(*pixel_arrays({plane: layouts[plane] for plane in document.planes}))
    write_texts(store, NAME, files.pairs.names, policy)
    for name in files.credits.stated:
        write_texts(
            store, f"{SOURCES}/{name}", [getattr(one, name) or "" for one in files.credits.of], policy
        )
    depth_layouts = {DEPTH: layouts[DEPTH]}
    store.declare(*depth_arrays(depth_layouts, document.depth, ()))
    run.execute(_PixelFiles(files.files, {plane: layouts[plane] for plane in document.planes}, failures))
    if document.depth is not None:
        run.execute(_DepthFiles(files.files, layouts, failures))
    for line in files.files.remarks.lines():
        run.notify(line)
    if failures.problems:
        raise files.error(failures.problems, unfinished=run.name)
    if document.depth is not None:
        document = run.finish_depth(document, depth_layouts)
    if files.objects is not None:
        write_objects(store, document, files.objects, policy, run.threads)
    document = document.with_pixels_complete()
    store.commit(document)
    return document


def _layouts(files: ImportScan, document: Document, policy: LayoutPolicy) -> dict[str, Layout]:
    """How the arrays of imported samples are cut."""
    planes = plane_layouts(document.planes, policy.pixels(files.extent, document.chunk))
    return planes | {DEPTH: policy.depth(files.extent, guided=False)}


def _new_document(files: ImportScan) -> Document:
    depth = ImportedDepthInfo(complete=False, **dataclasses.asdict(files.depth)) if files.has_depth else None
    return Document(
        complete=False,
        pixels=PixelsInfo(complete=False),
        depth=depth,
        software=software(),
        imported=ImportInfo(
            samples=files.extent.samples,
            height=files.extent.height,
            width=files.extent.width,
            fit=files.frame.fit,
            chunk=files.probe.chunk,
            patterns={str(kind): pattern for kind, pattern in files.pairs.patterns.items()},
            files=sum(map(len, files.pairs.files.values())),
            sha256=files.digest,
            left_out=files.pairs.left_out,
            reading=files.spec.reading,
            layout=files.layout,
            objects=_known_objects(files),
            credits=tuple(f"{SOURCES}/{name}" for name in files.credits.stated),
        ),
        splits=_splits(files),
    )


def _known_objects(files: ImportScan) -> ImportedObjects | None:
    if files.objects is None or files.set is None:
        return None
    most = max(1, max(map(len, files.objects)))
    return ImportedObjects(most, files.set.categories, all(one.visible is not None for one in files.objects))


def _splits(files: ImportScan) -> dict[str, Any]:
    """The split that the folder has, if it has parts."""
    if files.set is None or not files.set.parts:
        return {}
    parts = {name: np.array(some, np.int64) for name, some in files.set.parts.items()}
    return {SPLIT: ListedSplit.of(parts, files.extent.samples).to_dict()}


def _differences(existing: Document, new: Document, spec: ImportSpec) -> list[str]:
    """How a dataset that is there differs from the one that would be imported, one line each."""
    was, now = existing.imported, new.imported
    if was is None or now is None:
        return ["it was not imported, but made by fgbgpack create"]
    lines = [
        f"{what}: the dataset has {said(getattr(was, key))}, asked for {said(getattr(now, key))}"
        for key, what in _COMPARED
        if getattr(was, key) != getattr(now, key) and (key != "chunk" or spec.chunk is not None)
    ]
    sizes = [f"{found.width}x{found.height}" for found in (was, now)]
    if sizes[0] != sizes[1]:
        lines.append(f"--size: the dataset has {sizes[0]}, asked for {sizes[1]}")
    lines += [
        f"--{kind}: the dataset has {said(was.patterns.get(kind))}, asked for {said(now.patterns.get(kind))}"
        for kind in get_args(Kind)
        if was.patterns.get(kind) != now.patterns.get(kind)
    ]
    lines += [
        f"--{field.name.replace('_', '-')}: the dataset has {said(before)}, asked for {said(after)}"
        for field in dataclasses.fields(Reading)
        if (before := getattr(was.reading, field.name)) != (after := getattr(now.reading, field.name))
    ]
    if not lines and was.sha256 != now.sha256:
        lines.append(
            "files: their names or sizes, annotations or licences have changed since they were imported"
        )
    before, after = existing.depth, new.depth
    if after is None or was.patterns["depths"] is None:
        return lines  # Depth that a network has filled since then is no difference.
    if not isinstance(before, ImportedDepthInfo):
        return [*lines, "depth: that of the files was replaced since they were imported (fgbgpack depth)"]
    return lines + [
        f"depth {key}: the dataset has {said(getattr(before, key))}, asked for {said(getattr(after, key))}"
        for key in ("quantity", "unit", "factor", "offset", "invalid")
        if getattr(before, key) != getattr(after, key)
    ]


@dataclass(frozen=True)
class _Found:
    """What was found while the files of a shard were decoded: those that cannot be used and, by another
    process, remarks on others.
    """

    failures: Failures | None
    remarks: Remarks | None


class _FileStage(LayoutStage):
    """A stage that decodes files; shards with files that cannot be decoded are not written."""

    array: ClassVar[str]
    codec: ClassVar[Any]
    #: The arrays that are written together, by the kind of files that they come from.
    kinds: ClassVar[Mapping[Kind, str]]
    fill: ClassVar[Any]

    def __init__(
        self, files: SampleFiles, layouts: Mapping[str, Layout], failures: Failures, *, is_part: bool = False
    ) -> None:
        super().__init__({array: layouts[array] for array in self.kinds.values() if array in layouts})
        self._files, self._failures, self._is_part = files, failures, is_part

    def part(self, shard: int) -> Self:
        """The files of one shard."""
        files = self._files.of(self._first.samples_of(shard))
        return type(self)(files, self._layouts, Failures(), is_part=True)

    def is_needed(self, shard: int) -> bool:
        """Whether there are not too many files already that cannot be used."""
        if self._failures.is_enough:
            self._failures.take(Failures(), self.array, shard)
            return False
        return True

    def take(self, shard: int, found: _Found) -> None:
        """Note the files of a shard that cannot be used, and what is to be said of others."""
        if found.failures is not None:
            self._failures.take(found.failures, self.array, shard)
        if found.remarks is not None:
            self._files.remarks.update(found.remarks)

    def missing(self, store: DatasetStore) -> list[int]:
        """The shards that are not there, without those whose files cannot be decoded."""
        return [shard for shard in super().missing(store) if shard not in self._failures.shards[self.array]]

    def produce(self, shard: int, monitor: Monitor) -> Product:
        """The shards of all arrays with that number; none where a file of theirs cannot be decoded."""
        if self._is_part:
            require_folder(self._files.root)
        remarks = self._files.remarks if self._is_part else None
        failures = Failures()
        kinds = {kind: array for kind, array in self.kinds.items() if array in self._layouts}
        chunks: dict[str, list[bytes]] = {array: [] for array in kinds.values()}
        extremes = np.full((2, self._first.shard[0]), np.nan, np.float16)
        for run in self._first.chunk_runs(shard):
            monitor.check()
            if self._failures.is_enough:
                break
            into = {}
            for kind, array in kinds.items():
                layout = self._layouts[array]
                into[kind] = np.full((layout.chunk[0], *layout.shape[1:]), self.fill)
            self._files.fill(run, into, failures)
            for kind, array in kinds.items():
                layout, samples = self._layouts[array], into[kind]
                chunks[array] += [self.codec.encode(band) for band in bands(samples, layout, self.fill)]
                if array == DEPTH:
                    first = run.start - layout.samples_of(shard).start
                    extremes[:, first : first + len(run)] = known_extremes(samples[: len(run)])
            monitor.advance(len(run))
        if failures.problems or self._failures.is_enough:
            return Product(found=_Found(failures, remarks))
        beside = encoded_extremes(shard, extremes) if self.array == DEPTH else {}
        return Product(beside | self.joined(shard, chunks), _Found(None, remarks))


class _PixelFiles(_FileStage):
    """The stage that fills ``/image`` and ``/mask`` from files."""

    name: ClassVar[StageName] = "samples"
    array, codec, fill = IMAGE, PIXEL_CODEC, np.uint8(0)
    kinds: ClassVar[Mapping[Kind, str]] = {"images": IMAGE, "masks": MASK, "instances": INSTANCE}


class _DepthFiles(_FileStage):
    """The stage that fills ``/depth`` from files."""

    name: ClassVar[StageName] = "depth"
    array, codec, fill = DEPTH, DEPTH_CODEC, np.float16(np.nan)
    kinds: ClassVar[Mapping[Kind, str]] = {"depths": DEPTH}
