"""From a virtual dataset to one that stores its pixels, and back; all that is stored is compared with the
recipe.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.storage import LocalStore

from fgbgpack.composition.placement import Plan
from fgbgpack.dataset.dataset import Dataset, open_dataset
from fgbgpack.errors import DatasetError, RecipeMismatchError, SpecError
from fgbgpack.pipeline.conflicts import clear, differences, layout_differences
from fgbgpack.pipeline.executor import (
    Advance,
    Check,
    Notice,
    OnEvent,
    Stage,
    check_workers,
    fill_missing,
    silent,
)
from fgbgpack.pipeline.pixels import PixelFilling
from fgbgpack.pipeline.staging import workplace
from fgbgpack.sources.catalog import Catalog
from fgbgpack.spec import DatasetSpec
from fgbgpack.storage import store as disk
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.reading import ArrayReader, StoredArray
from fgbgpack.storage.store import Keys

_SHOWN = 5
_PLACED_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Attributes:
        path: Where the result is.
        samples: Samples in it.
        written: Samples whose pixels this run stored.
        checked: Samples whose stored pixels this run compared with those of the recipe.
        virtual: Whether the result is virtual.
        seconds: What the run took.
        pixel_bytes: Bytes that the stored pixels take, or took in the dataset that the virtual one is of.
        total_bytes: Bytes of all that the result stores.
    """

    path: str
    samples: int
    written: int
    checked: int
    virtual: bool
    seconds: float
    pixel_bytes: int
    total_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The conversion as JSON."""
        return dataclasses.asdict(self)


def materialize(
    dataset: str | Path | Store,
    out: str | Path | Store | None = None,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    on_event: OnEvent | None = None,
) -> Conversion:
    """Store the pixels of a virtual dataset, or finish that: the same files as if it had never been virtual.

    Until all pixels are there and compared with the recipe, ``dataset`` stays virtual, and whole.

    Args:
        dataset: A virtual dataset: a local folder, a URL that fsspec opens, or a Zarr store.
        out: Where to make one that stores its pixels; ``None`` stores them in ``dataset`` itself.
        workers: Threads, each on a shard of its own; ``None`` takes one for each processor.
        overwrite: Replace another dataset at ``out``.
        on_event: Called in this thread with progress and notices.

    Raises:
        SpecError: ``out`` is ``dataset``.
        RecipeMismatchError: Another dataset is at ``out``.
        IncompleteDatasetError: ``dataset`` is not complete.
        DatasetError: ``dataset`` is not virtual or damaged, something else is at ``out``, another process is
            writing it, or the store is full.
    """
    check_workers(workers)
    tell = silent if on_event is None else on_event
    source = None if out is None else dataset
    with workplace(dataset if out is None else out, workers, tell, source=source) as place:
        run = _Run(place if out is None else dataset, workers, tell)
        return _materialize(run, None if out is None else place, overwrite=overwrite)


def _materialize(run: _Run, out: str | Path | Store | None, *, overwrite: bool) -> Conversion:
    document = run.document
    pixels = PixelFilling(run.plan, run.catalog, document["spec"]["chunk"])
    if out is not None:
        if not disk.is_virtual(document):
            raise DatasetError(f"{run.name} stores its pixels already: copy it as it is.")
        keys = run.target(out)
        stored = {**document, "pixels": {"complete": True, "stored": True}}
        run.copy_to(keys, stored, overwrite, pixels)
        return run.report(keys, stored)

    keys = Keys(disk.store_of(run.dataset, read_only=False), run.name)
    with disk.exclusive(keys.store, run.name):
        now = disk.read_document(keys, run.name)
        if now is None or now["recipe"] != document["recipe"]:
            raise DatasetError(f"{run.name} has been replaced meanwhile: run the same command again.")
        document = now
        if disk.is_virtual(document):
            run.store_pixels(keys, pixels)
            disk.write_pixel_arrays(keys, pixels.layouts)
            document["pixels"]["stored"] = True
            disk.write_document(keys, document)
            keys.sweep()
        else:
            run.tell(Notice(f"{run.name} stores its pixels already."))
    return run.report(keys, document)


def virtualize(
    dataset: str | Path | Store,
    out: str | Path | Store,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    on_event: OnEvent | None = None,
) -> Conversion:
    """Make a virtual dataset of one that stores its pixels, once all are found to be those of its recipe.

    ``dataset`` stays as it is.

    Args:
        dataset: A dataset that stores its pixels: a local folder, a URL that fsspec opens, or a Zarr store.
        out: Where to make the virtual one.
        workers: Threads; ``None`` takes one for each processor.
        overwrite: Replace another dataset at ``out``.
        on_event: Called in this thread with progress and notices.

    Raises:
        SpecError: ``out`` is ``dataset``.
        RecipeMismatchError: Another dataset is at ``out``.
        IncompleteDatasetError: ``dataset`` is not complete.
        DatasetError: Stored pixels are not those of the recipe, or damaged; ``dataset`` is virtual already;
            something else is at ``out``, or another process is writing it.
    """
    check_workers(workers)
    tell = silent if on_event is None else on_event
    with workplace(out, workers, tell, source=dataset) as place:
        return _virtualize(_Run(dataset, workers, tell), place, overwrite=overwrite)


def _virtualize(run: _Run, out: str | Path | Store, *, overwrite: bool) -> Conversion:
    if disk.is_virtual(run.document):
        raise DatasetError(f"{run.name} is virtual already: copy it as it is.")
    keys = run.target(out)
    virtual = {**run.document, "pixels": {"complete": True, "stored": False}}
    existing = run.same_at(keys, virtual, overwrite)
    if existing is None or not existing["complete"]:
        run.check_pixels(
            run.held.image,
            run.held.mask,
            f"{run.name} holds pixels that are not those of its recipe, and a virtual dataset would not have "
            "them. Nothing was written.",
        )
    run.copy_to(keys, virtual, overwrite, None)
    return run.report(keys, virtual)


class _Run:
    """One conversion: the dataset that it is of, whose recipe is found to be whole, and who hears of it.

    Raises:
        IncompleteDatasetError: It is not complete.
        DatasetError: It is not there, or its sources or placements are damaged.
    """

    def __init__(self, dataset: str | Path | Store, workers: int | None, tell: OnEvent) -> None:
        self._start = time.perf_counter()
        self._written = self._checked = 0
        self.dataset, self.workers, self.tell = dataset, workers, tell
        self.held: Dataset = open_dataset(dataset)
        self.name, self.document = self.held.path, self.held.document
        self.keys = Keys(disk.store_of(dataset, read_only=True), self.name)
        self.catalog: Catalog = self.held.catalog()
        self.plan: Plan = disk.plan_of(self.document["spec"], self.catalog)
        if not self._recipe_is_whole():
            raise DatasetError(
                f"The sources or placements in {self.name} are damaged: they are not those of its recipe "
                f"({self.document['recipe']['sha256']}). Restore it from a copy, or make it again."
            )

    def _recipe_is_whole(self) -> bool:
        plan, catalog, placements = self.plan, self.catalog, self.held.placements
        if len(placements) != plan.samples:
            return False
        if plan.recipe_digest(catalog.background, catalog.foreground) != self.document["recipe"]["sha256"]:
            return False
        for start in range(0, plan.samples, _PLACED_AT_ONCE):
            some = slice(start, min(start + _PLACED_AT_ONCE, plan.samples))
            planned, stored = plan.placements_of(range(some.start, some.stop)), placements[some]
            if any(
                not np.array_equal(getattr(planned, name), getattr(stored, name)) for name in disk.PLACEMENTS
            ):
                return False
        return True

    def target(self, out: str | Path | Store) -> Keys:
        """Where the result is to be."""
        keys = Keys(disk.store_of(out, read_only=False), disk.name_of(out))
        if _are_one(self.keys.store, keys.store):
            raise SpecError(f"{keys.name} is the dataset itself: give another place for the result.")
        return keys

    def same_at(self, keys: Keys, document: Mapping[str, Any], overwrite: bool) -> Mapping[str, Any] | None:
        """The document of what is at the target, if that is the same dataset, complete or begun.

        Raises:
            RecipeMismatchError: Another dataset is there, and it is not to be replaced.
            DatasetError: Something else is there.
        """
        existing = disk.read_document(keys, keys.name)
        if existing is None:
            return None
        differs = differences(existing, document, DatasetSpec.from_dict(document["spec"]), None)
        if _lasting(existing["depth"]) != _lasting(document["depth"]):
            differs.append("depth: the dataset has none, or another one")
        if not existing["complete"]:
            differs += layout_differences(keys, self._depth_layouts())
        if differs and not overwrite:
            raise RecipeMismatchError(
                f"{keys.name} is another dataset: give another place, or --overwrite to replace it.", differs
            )
        return None if differs else existing

    def copy_to(
        self, keys: Keys, document: Mapping[str, Any], overwrite: bool, pixels: PixelFilling | None
    ) -> None:
        """Make the dataset that ``document`` describes, or finish it."""
        with disk.exclusive(keys.store, keys.name):
            same = self.same_at(keys, document, overwrite)
            if same is None:
                clear(keys, disk.read_document(keys, keys.name))
            elif same["complete"]:
                self.tell(Notice(f"{keys.name} is complete already."))
                return
            else:
                self.tell(Notice(f"Resuming {keys.name}."))
            disk.write_document(keys, disk.begun(document))
            if pixels is not None:
                disk.write_pixel_arrays(keys, pixels.layouts)
            disk.write_static(keys, self.plan, self.catalog)
            if pixels is not None:
                self.store_pixels(keys, pixels)
            self._copy_depth(keys)
            disk.write_document(keys, document)
            keys.sweep()

    def store_pixels(self, keys: Keys, pixels: PixelFilling) -> None:
        """Write the shards of pixels that are missing, and read all back."""
        self._written = pixels.fill(keys, self.workers, self.tell)
        image, mask = (
            StoredArray(ArrayReader(keys.store, name, keys.name, layout, disk.PIXEL_CODEC, np.uint8, 0), {})
            for name, layout in zip((disk.IMAGE, disk.MASK), pixels.layouts, strict=True)
        )
        self.check_pixels(
            image,
            mask,
            f"The pixels that are stored in {keys.name} are not those of its recipe. Delete its folders "
            f"{disk.IMAGE}/c and {disk.MASK}/c, and run the same command again.",
        )

    def check_pixels(self, image: StoredArray, mask: StoredArray, message: str) -> None:
        """Compare all stored pixels with those of the recipe.

        Raises:
            DatasetError: Some differ, which are named below ``message``; or a chunk is damaged.
        """
        made = Dataset(self.keys.store, self.name, self.document, "recomposed")
        pairs = ((disk.IMAGE, image, made.image), (disk.MASK, mask, made.mask))
        samples, height = image.shape[:2]
        rows = image.chunks[1]
        layout = Layout(image.shape, image.chunks, image.shards)
        done: set[int] = set()
        wrong: dict[tuple[int, str], str] = {}

        def compare(shard: int, check: Check, advance: Advance) -> None:
            for run in layout.chunk_runs(shard):
                check()
                for top in range(0, height, rows):
                    part = slice(run.start, run.stop), slice(top, top + rows)
                    for name, stored, expected in pairs:
                        for key, line in _differences(name, run, top, stored[part], expected[part]):
                            wrong.setdefault(key, line)
                advance(len(run))
            done.add(shard)

        self._checked = fill_missing(layout, done.copy, compare, "checks", self.workers, self.tell)
        if wrong:
            lines = [wrong[key] for key in sorted(wrong)]
            if len(lines) > _SHOWN:
                found = len({sample for sample, _ in wrong})
                lines[_SHOWN:] = [f"... {found:,} of {samples:,} samples in all"]
            raise DatasetError(message, lines)

    def _copy_depth(self, keys: Keys) -> None:
        """Copy the arrays of depth, those that guide it included."""
        for array in (*disk.DEPTHS, disk.BACKGROUND_DEPTH):
            metadata = self.keys.get(f"{array}/{disk.ROOT}")
            if metadata is not None:
                keys.put(f"{array}/{disk.ROOT}", metadata)
        stages: dict[str, Stage] = {disk.BACKGROUND_DEPTH: "backgrounds", disk.DEPTH: "depth"}
        if self.document["depth"] is None:
            return
        for array, layout in self._depth_layouts().items():
            beside = (disk.DEPTH_MIN, disk.DEPTH_MAX) if array == disk.DEPTH else ()
            fill_missing(
                layout,
                partial(keys.sound_shards, array, layout),
                self._copier(keys, array, layout, beside),
                stages[array],
                self.workers,
                self.tell,
            )

    def _copier(
        self, keys: Keys, array: str, layout: Layout, beside: tuple[str, ...]
    ) -> Callable[[int, Check, Advance], None]:
        sound = self.keys.sound_shards(array, layout)

        def copy(shard: int, check: Check, advance: Advance) -> None:
            check()
            if shard not in sound:
                raise DatasetError(
                    f"Shard {self.name}/{array}/{layout.key(shard)} is missing or damaged: restore it from a "
                    "copy, or fill depth again with fgbgpack depth --overwrite."
                )
            # The shard comes last: where it is, the numbers that belong to it are too.
            for key in (*(f"{name}/c/{shard}" for name in beside), f"{array}/{layout.key(shard)}"):
                value = self.keys.get(key)
                if value is not None:
                    keys.put(key, value)
            advance(len(layout.samples_of(shard)))

        return copy

    def _depth_layouts(self) -> dict[str, Layout]:
        """How the arrays of depth that are in shards are cut; that of the backgrounds comes first."""
        arrays = (disk.BACKGROUND_DEPTH, disk.DEPTH) if self.document["depth"] is not None else ()
        layouts = {array: disk.stored_layout(self.keys, array) for array in arrays}
        return {array: layout for array, layout in layouts.items() if layout is not None}

    def report(self, keys: Keys, document: Mapping[str, Any]) -> Conversion:
        """What was done, from the start until now."""
        virtual = disk.is_virtual(document)
        result = disk.stored_bytes(keys)
        pixels = disk.stored_bytes(self.keys) if virtual else result
        return Conversion(
            path=keys.name,
            samples=self.plan.samples,
            written=self._written,
            checked=self._checked,
            virtual=virtual,
            seconds=time.perf_counter() - self._start,
            pixel_bytes=sum(pixels.get(name, 0) for name in (disk.IMAGE, disk.MASK)),
            total_bytes=sum(result.values()),
        )


def _lasting(depth: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A depth section less what says how far it is."""
    return None if depth is None else {key: value for key, value in depth.items() if key != "complete"}


def _are_one(one: Store, other: Store) -> bool:
    if isinstance(one, LocalStore) and isinstance(other, LocalStore):
        return other.root.exists() and one.root.samefile(other.root)
    return one == other


def _differences(
    array: str, samples: range, top: int, found: NDArray[np.uint8], expected: NDArray[np.uint8]
) -> Iterator[tuple[tuple[int, str], str]]:
    """For each sample that differs the sample and the array, and a line on its first pixel that does."""
    if np.array_equal(found, expected):
        return
    differs = (found != expected).reshape(*found.shape[:3], -1).any(axis=3)
    for i in np.flatnonzero(differs.any(axis=(1, 2))).tolist():
        y, x = np.argwhere(differs[i])[0].tolist()
        line = (
            f"/{array}[{samples[i]}, {top + y}, {x}]: found {found[i, y, x].tolist()}, "
            f"expected {expected[i, y, x].tolist()}"
        )
        yield (samples[i], array), line
