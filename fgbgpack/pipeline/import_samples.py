"""Make a dataset of pictures, masks and depth that are there as files, without a recipe."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.depth import rounding_bound
from fgbgpack.errors import RecipeMismatchError
from fgbgpack.pipeline.conflicts import clear, layout_differences
from fgbgpack.pipeline.executor import (
    Advance,
    Check,
    Notice,
    OnEvent,
    check_workers,
    fill_missing,
    silent,
    worker_count,
)
from fgbgpack.pipeline.import_scan import Gathered, ImportSpec, Wrong, refusal
from fgbgpack.pipeline.staging import workplace
from fgbgpack.sources.pairing import KINDS, Kind
from fgbgpack.storage import store as disk
from fgbgpack.storage.layout import Layout, depth_layout, pixel_layouts
from fgbgpack.storage.sharding import join
from fgbgpack.storage.store import Keys
from fgbgpack.version import software

#: Files compress less than what fgbgpack makes: so shards are smaller, which threads hold whole.
_SHARD_BYTES = 16 << 20
_SHOWN = 3


@dataclass(frozen=True)
class Found:
    """What an import would make.

    Attributes:
        samples: Samples.
        height: Their height in pixels.
        width: Their width in pixels.
        chunk: Samples in a chunk.
        patterns: Where each kind of file was found; ``None`` for depth where there is none.
        examples: The files of some samples, by their kind, below the folder.
        left_out: Files that nothing pairs with.
        ignored: Files that are none of these.
        bytes: Estimated bytes of each array.
        seconds: Estimated time.
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

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        path: Where the dataset is.
        samples: Samples in it.
        height: Their height in pixels.
        width: Their width in pixels.
        written: Samples whose image and mask this run wrote.
        depth_written: Samples whose depth this run wrote.
        left_out: Files that nothing pairs with.
        seconds: What the whole run took.
        stored_bytes: Bytes in the store, by array.
        depth: Whether there is depth.
        complete: Whether all is there.
    """

    path: str
    samples: int
    height: int
    width: int
    written: int
    depth_written: int
    left_out: int
    seconds: float
    stored_bytes: dict[str, int]
    depth: bool
    complete: bool

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return dataclasses.asdict(self)


def look(spec: ImportSpec, *, workers: int | None = None, on_event: OnEvent | None = None) -> Found:
    """What :func:`import_folder` would make; nothing is written.

    Raises:
        SpecError: Patterns that do not go together.
        SourceError: Files that cannot be used, or do not pair; all are named together.

    Example:
        >>> look(ImportSpec("fgbg-2020")).samples  # doctest: +SKIP
        400000
    """
    check_workers(workers)
    files = Gathered(spec, workers, silent if on_event is None else on_event)
    total = files.extent.samples
    shown = sorted({0, total // 2, total - 1})[:_SHOWN]
    return Found(
        samples=total,
        height=files.extent.height,
        width=files.extent.width,
        chunk=files.trial.chunk,
        patterns=files.pairs.patterns,
        examples=[{kind: paths[i] for kind, paths in files.pairs.files.items()} for i in shown],
        left_out=files.pairs.left_out,
        ignored=files.ignored,
        bytes=files.trial.bytes,
        seconds=files.trial.seconds / worker_count(workers),
    )


def import_folder(
    out: str | Path | Store,
    spec: ImportSpec,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    on_event: OnEvent | None = None,
) -> Imported:
    """Make a dataset of pictures, masks and depth in a folder, or finish that.

    Samples are in the natural order of the names of their pictures. They are stored as those of all datasets,
    but without spec, recipe and sources; the names are there instead.

    Args:
        out: A local folder, an HDF5 file (``.h5``), a URL that fsspec opens, or a Zarr store. A file is made
            of a folder beside it, which takes as much room until then.
        spec: What to import.
        workers: Threads, each on a shard of its own; ``None`` takes one for each processor.
        overwrite: Replace another dataset. Nothing but a dataset is ever replaced.
        on_event: Called in this thread with progress and notices.

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
    tell = silent if on_event is None else on_event
    check_workers(workers)
    with workplace(out, workers, tell) as place:
        return _import(place, spec, workers, overwrite=overwrite, tell=tell)


def _import(
    out: str | Path | Store, spec: ImportSpec, workers: int | None, *, overwrite: bool, tell: OnEvent
) -> Imported:
    start = time.perf_counter()
    name = disk.name_of(out)
    keys = Keys(disk.store_of(out, read_only=False), name)
    disk.read_document(keys, name)  # What must not be overwritten is found before any work is done.
    files = Gathered(spec, workers, tell)
    job = _Writing(files, files.trial.chunk, workers, tell)
    document = job.document()
    written = depth_written = 0
    with disk.exclusive(keys.store, name):
        existing = disk.read_document(keys, name)
        differs = _differences(existing, document, spec) if existing is not None else []
        if existing is not None and not differs:
            job = _Writing(files, existing["imported"]["chunk"], workers, tell)
        if existing is not None and not existing["pixels"]["complete"] and not differs:
            differs = layout_differences(keys, job.layouts)
        if differs and not overwrite:
            raise RecipeMismatchError(
                f"{name} is another dataset: give another place, or --overwrite to replace it.", differs
            )
        if existing is not None and not differs:
            document = existing
            if not existing["pixels"]["complete"]:
                tell(Notice(f"Resuming {name}."))
            elif existing["complete"]:
                tell(Notice(f"{name} is complete already."))
            else:
                tell(Notice(f"The depth of {name} is unfinished: run fgbgpack depth to finish it."))
        else:
            clear(keys, existing)
        if not document["pixels"]["complete"]:
            written, depth_written = job.write(keys, document)
        keys.sweep()
    return Imported(
        path=name,
        samples=files.extent.samples,
        height=files.extent.height,
        width=files.extent.width,
        written=written,
        depth_written=depth_written,
        left_out=files.pairs.left_out,
        seconds=time.perf_counter() - start,
        stored_bytes=disk.stored_bytes(keys),
        depth=document["depth"] is not None,
        complete=document["complete"],
    )


def _differences(existing: Mapping[str, Any], new: Mapping[str, Any], spec: ImportSpec) -> list[str]:
    """How a dataset that is there differs from the one that would be imported, one line each."""
    if disk.has_recipe(existing):
        return ["it was not imported, but made by fgbgpack create"]
    was, now = existing["imported"], new["imported"]
    lines = [
        f"{what}: the dataset has {was[key]}, asked for {now[key]}"
        for key, what in (("samples", "samples"), ("fit", "--fit"), ("chunk", "--chunk"), ("files", "files"))
        if was[key] != now[key] and (key != "chunk" or spec.chunk is not None)
    ]
    sizes = [f"{found['width']}x{found['height']}" for found in (was, now)]
    if sizes[0] != sizes[1]:
        lines.append(f"--size: the dataset has {sizes[0]}, asked for {sizes[1]}")
    lines += [
        f"--{kind}: the dataset has {was['patterns'][kind]}, asked for {now['patterns'][kind]}"
        for kind in KINDS
        if was["patterns"][kind] != now["patterns"][kind]
    ]
    if not lines and was["sha256"] != now["sha256"]:
        lines.append("files: their names or sizes have changed since they were imported")
    before, after = existing["depth"], new["depth"]
    if after is None or was["patterns"]["depths"] is None:
        return lines  # That a network has filled depth since then is no difference.
    if before is None or before["mode"] != "imported":
        return [*lines, "depth: that of the files was replaced since they were imported (fgbgpack depth)"]
    keys = [key for key in after if key != "complete" and before[key] != after[key]]
    return lines + [f"depth {key}: the dataset has {before[key]}, asked for {after[key]}" for key in keys]


class _Writing:
    """Writes what was gathered.

    Args:
        files: What was gathered.
        chunk: Samples in a chunk of pixels.
        workers: Threads.
        tell: Hears of progress.

    Attributes:
        layouts: How each array is cut.
    """

    def __init__(self, files: Gathered, chunk: int, workers: int | None, tell: OnEvent) -> None:
        self._files, self._chunk, self._workers, self._tell = files, chunk, workers, tell
        image, mask = pixel_layouts(files.extent, chunk, _SHARD_BYTES)
        depth = depth_layout(files.extent, guided=False)
        self.layouts: dict[str, Layout] = {disk.IMAGE: image, disk.MASK: mask, disk.DEPTH: depth}

    def document(self) -> dict[str, Any]:
        """The document of the dataset, not complete."""
        files, extent = self._files, self._files.extent
        depth = {"complete": False, "mode": "imported", **dataclasses.asdict(files.depth)}
        return {
            "schema": "dataset/1.0",
            "complete": False,
            "imported": {
                "samples": extent.samples,
                "height": extent.height,
                "width": extent.width,
                "fit": files.frame.fit,
                "chunk": self._chunk,
                "patterns": dict(files.pairs.patterns),
                "files": sum(map(len, files.pairs.files.values())),
                "sha256": files.digest,
                "left_out": files.pairs.left_out,
            },
            "pixels": {"complete": False, "stored": True},
            "depth": depth if files.has_depth else None,
            "software": software(),
        }

    def write(self, keys: Keys, document: dict[str, Any]) -> tuple[int, int]:
        """Write what is missing, and say that all is there; return how many samples, of pixels and of depth.

        Raises:
            SourceError: Files that cannot be decoded; all are named together, once the others are written.
        """
        extent, section = self._files.extent, document["depth"]
        disk.write_document(keys, document)
        disk.write_pixel_arrays(keys, (self.layouts[disk.IMAGE], self.layouts[disk.MASK]))
        disk.write_names(keys, self._files.pairs.names)
        disk.write_depth_arrays(keys, extent, section)
        wrong = Wrong()
        written = self._write_pixels(keys, wrong)
        depth_written = self._write_depth(keys, wrong) if section is not None else 0
        if wrong.found:
            raise refusal(wrong.found, self._files.spec.folder, begun=keys.name)
        if section is not None:
            held = Dataset(keys.store, keys.name, document)
            low, high = (held.whole(name).astype(float) for name in (disk.DEPTH_MIN, disk.DEPTH_MAX))
            known = ~np.isnan(low)
            # With no step, it is how far the nearest float16 can be.
            largest = rounding_bound(low[known].min(), high[known].max(), 0.0) if known.any() else 0.0
            disk.write_depth_arrays(keys, extent, section, largest)
            section["complete"] = True
        document["pixels"]["complete"] = document["complete"] = True
        disk.write_document(keys, document)
        return written, depth_written

    def _write_pixels(self, keys: Keys, wrong: Wrong) -> int:
        image, mask = self.layouts[disk.IMAGE], self.layouts[disk.MASK]
        kinds: dict[Kind, tuple[str, Layout]] = {"images": (disk.IMAGE, image), "masks": (disk.MASK, mask)}

        def present() -> set[int]:
            there = [keys.sound_shards(name, layout) for name, layout in kinds.values()]
            return set.intersection(*there) | wrong.shards[disk.IMAGE]

        def write(shard: int, check: Check, advance: Advance) -> None:
            own = Wrong()
            pictures = {
                kind: np.zeros((layout.chunk[0], *layout.shape[1:]), np.uint8)
                for kind, (_, layout) in kinds.items()
            }
            chunks: dict[Kind, list[bytes]] = {kind: [] for kind in kinds}
            for run in image.chunk_runs(shard):
                check()
                if wrong.is_enough:
                    break
                for kind, (_, layout) in kinds.items():
                    pictures[kind][len(run) :] = 0
                    self._files.fill(kind, run, pictures[kind], own)
                    chunks[kind] += [disk.PIXEL_CODEC.encode(band) for band in _bands(pictures[kind], layout)]
                advance(len(run))
            if own.found or wrong.is_enough:
                wrong.take(own, disk.IMAGE, shard)
                return
            for kind, (name, layout) in kinds.items():
                keys.put(f"{name}/{layout.key(shard)}", join(chunks[kind], layout.grid))

        return fill_missing(image, present, write, "samples", self._workers, self._tell)

    def _write_depth(self, keys: Keys, wrong: Wrong) -> int:
        layout = self.layouts[disk.DEPTH]

        def present() -> set[int]:
            return keys.sound_shards(disk.DEPTH, layout) | wrong.shards[disk.DEPTH]

        def write(shard: int, check: Check, advance: Advance) -> None:
            own = Wrong()
            chunks = []
            extents = np.full((2, layout.shard[0]), np.nan, np.float16)
            for run in layout.chunk_runs(shard):
                check()
                if wrong.is_enough:
                    break
                maps = np.full(layout.chunk, np.nan, np.float16)
                self._files.fill("depths", run, maps, own)
                first = run.start - layout.samples_of(shard).start
                extents[:, first : first + len(run)] = _extents(maps[: len(run)])
                chunks.append(disk.DEPTH_CODEC.encode(maps))
                advance(len(run))
            if own.found or wrong.is_enough:
                wrong.take(own, disk.DEPTH, shard)
                return
            # The shard comes last: where it is, the numbers that belong to it are too.
            for name, extent in zip((disk.DEPTH_MIN, disk.DEPTH_MAX), extents, strict=True):
                keys.put(f"{name}/c/{shard}", disk.PIXEL_CODEC.encode(extent))
            keys.put(f"{disk.DEPTH}/{layout.key(shard)}", join(chunks, layout.grid))

        return fill_missing(layout, present, write, "depth", self._workers, self._tell)


def _bands(pictures: NDArray[np.uint8], layout: Layout) -> Iterator[NDArray[np.uint8]]:
    """The pictures of a chunk's samples, cut as chunks are, band by band from the top."""
    rows = layout.chunk[1]
    for top in range(0, pictures.shape[1], rows):
        band = pictures[:, top : top + rows]
        if band.shape != layout.chunk:
            band = np.concatenate(
                [band, np.zeros((len(band), rows - band.shape[1], *band.shape[2:]), np.uint8)], axis=1
            )
        yield np.ascontiguousarray(band)


def _extents(maps: NDArray[np.float16]) -> NDArray[np.float16]:
    """The least and the greatest known depth of each map, (2, n)."""
    known = ~np.isnan(maps)
    any_known = known.any(axis=(1, 2))
    low = np.min(maps, axis=(1, 2), where=known, initial=np.float16(np.inf))
    high = np.max(maps, axis=(1, 2), where=known, initial=np.float16(-np.inf))
    return np.where(any_known, np.stack([low, high]), np.float16(np.nan))
