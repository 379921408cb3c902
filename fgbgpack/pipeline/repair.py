"""Repair a dataset: find what is wrong with it, and write again what something gives back."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.recipe import Recipe
from fgbgpack.depth import Device
from fgbgpack.document import (
    DEPTH,
    DEPTH_PARTS,
    DEPTHS,
    EXTREMES,
    IMAGE,
    MANIFEST,
    OBJECTS,
    SOURCES,
    Document,
    NetworkDepthInfo,
)
from fgbgpack.errors import DatasetError, FgbgError
from fgbgpack.pipeline.arrays import (
    StoredLayouts,
    depth_arrays,
    depth_layouts,
    extent_of,
    object_arrays,
    pixel_arrays,
    placement_arrays,
    plane_layouts,
    write_recipe,
)
from fgbgpack.pipeline.create import load_recipe
from fgbgpack.pipeline.depth import DepthFilling, encoded_extremes
from fgbgpack.pipeline.events import Reporting, reporting, silent
from fgbgpack.pipeline.executor import Monitor
from fgbgpack.pipeline.faults import VALUES, Fault
from fgbgpack.pipeline.inspection import Inspection
from fgbgpack.pipeline.pixels import Pixels
from fgbgpack.pipeline.recorded_depth import recorded_job, stored_samples
from fgbgpack.pipeline.run import Result, Run
from fgbgpack.pipeline.staging import StagingStore, staged
from fgbgpack.pipeline.workers import engine_of
from fgbgpack.sources.names import counted
from fgbgpack.spec import DatasetSpec
from fgbgpack.storage import sealing
from fgbgpack.storage.arrays import METADATA, ArrayForm, ArraySpec, group_metadata
from fgbgpack.storage.hdf5 import GROUP
from fgbgpack.storage.layout import DEFAULT_POLICY, LayoutPolicy
from fgbgpack.storage.manifest import joined_paths, manifest_array, metadata_digest
from fgbgpack.storage.store import DatasetStore
from fgbgpack.storage.targets import Target, located

#: What is left that a report names; the rest is counted.
SHOWN = 20

_FROM_COPY = "Restore it from a copy of the dataset."
_IMPORT = "Run the same fgbgpack import again, with the same files, or restore it from a copy."
_ACCEPTED = (
    "It is what the manifest says, so it was changed and accepted, and is left as it is: make the dataset "
    "again to have what the recipe gives."
)


@dataclass(frozen=True)
class Unrepaired:
    """A fault that is left, and what to do about it."""

    fault: Fault
    advice: str


@dataclass(frozen=True)
class Repair(Result):
    """What repairing a dataset of ``samples`` at ``path`` did, in ``seconds``.

    Attributes:
        fault_count: The faults that were found.
        restored: The objects that were written again, by the paths of their arrays; metadata are those of
            the array.
        differing: The objects of these that are not the same bytes as they were, by the manifest.
        left: The first faults that are left.
        left_count: How many are left.
    """

    fault_count: int
    restored: Mapping[str, int]
    differing: Mapping[str, int]
    left: tuple[Unrepaired, ...]
    left_count: int

    def check(self) -> None:
        """Raise DatasetError (``repair-incomplete``) if a fault is left."""
        if self.left_count:
            count = counted(self.left_count, "fault")
            raise DatasetError(f"{self.path} has {count} left.", code="repair-incomplete")


def repair(
    dataset: Target,
    *,
    backgrounds: str | Path | None = None,
    foregrounds: str | Path | None = None,
    masks: str | Path | None = None,
    device: Device = "auto",
    workers: int | None = None,
    executor: Executor | None = None,
    layout: LayoutPolicy = DEFAULT_POLICY,
    storage_options: Mapping[str, Any] | None = None,
    on_event: Reporting = silent,
) -> Repair:
    """Read all of a dataset, and write again what is missing or damaged, as far as something gives it back.

    Pixels and placements come from the recipe, depth from the networks that the document names, sources from
    the original pictures, metadata from their copies. What is written is the same as before, byte for byte,
    where the networks run as they did. What nothing gives back stays as it is.

    An HDF5 file is written anew, with the same bytes, once all of it can be given back; otherwise it stays as
    it is. What is whole of it is copied to a folder beside it, which needs as much room.

    Args:
        dataset: A local folder, an HDF5 file, a URL, or a Zarr store.
        backgrounds: The folder of the original backgrounds; ``None`` takes the one that the dataset's spec
            names. It is only needed where sources are damaged, or depth above scale 1.
        foregrounds: The same for the foregrounds.
        masks: The same for the masks.
        device: What runs the networks: ``"auto"`` (what filled it), ``"cpu"``, ``"cuda"`` or ``"tensorrt"``.
        workers: Threads; ``None`` takes one for each processor.
        executor: What runs the work in place of threads, as for :func:`create`.
        layout: How chunks and shards were cut, where neither metadata nor their copies tell.
        storage_options: As for :func:`fgbgpack.open_dataset`.
        on_event: Called in this thread with progress and notices; ``"progress"`` shows them.

    Returns:
        What was done, and what is left.

    Raises:
        DatasetError: There is no dataset or no whole document, another process writes it, or it is full.

    Example:
        >>> from fgbgpack.pipeline import repair
        >>> repair("lobby.zarr").left_count  # doctest: +SKIP
        0
    """
    engine = engine_of(workers, executor)
    folders = {"backgrounds": backgrounds, "foregrounds": foregrounds, "masks": masks}
    moved = {key: str(folder) for key, folder in folders.items() if folder is not None}
    with reporting(on_event) as notify, staged(located(dataset, storage_options), engine, notify) as place:
        run = Run(DatasetStore.open(place, read_only=False), engine, notify)
        if (document := run.store.document(lambda error: None)) is None:
            raise DatasetError(f"There is no dataset at {run.name}.", code="dataset-missing")
        if isinstance(place, StagingStore):
            place.require_complete(document)
        with run.exclusive():
            done = _Repairer(run, moved, device, layout).repair()
    done = _of_file(done, place) if isinstance(place, StagingStore) else done
    return dataclasses.replace(done, seconds=run.seconds)


def _of_file(done: Repair, place: StagingStore) -> Repair:
    """The same of an HDF5 file, which is written as a whole or not at all."""
    more = {} if place.damage is None else {GROUP: 1}
    done = dataclasses.replace(done, fault_count=done.fault_count + len(more))
    restored = {} if place.is_kept else {**done.restored, **more}
    return dataclasses.replace(done, restored=restored, differing={} if place.is_kept else done.differing)


class _Repairer:
    """Repairs a dataset that nobody else writes."""

    def __init__(self, run: Run, folders: Mapping[str, str], device: Device, policy: LayoutPolicy) -> None:
        self._run, self._store = run, run.store
        self._folders, self._device, self._policy = folders, device, policy
        self._restored: Counter[str] = Counter()
        self._left: list[Unrepaired] = []

    def repair(self) -> Repair:
        """Do all that can be done."""
        inspection = self._inspect()
        faults = inspection.faults()
        if any(fault.code == "document-damaged" for fault in faults):
            advice = f"{_FROM_COPY} If you have changed it on purpose: fgbgpack verify --accept."
            self._left = [Unrepaired(fault, advice) for fault in faults]
            return self._result(inspection.document, len(faults), {})
        if self._restore_metadata(inspection):
            # Arrays whose form was not known can be read now.
            inspection = self._inspect()
        self._document = inspection.document
        before = self._expected(inspection)
        changes = len(self._restored) > 0 or bool(inspection.faults())
        if changes:
            self._restore_values(inspection)
        differing = self._commit(inspection, before) if changes else {}
        return self._result(inspection.document, len(faults), differing)

    def _inspect(self) -> Inspection:
        inspection = Inspection(self._store, self._run.engine, self._run.on_event)
        inspection.run()
        return inspection

    def _result(self, document: Document, count: int, differing: Mapping[str, int]) -> Repair:
        return Repair(
            path=self._run.name,
            samples=document.samples,
            seconds=self._run.seconds,
            fault_count=count,
            restored=dict(self._restored),
            differing=differing,
            left=tuple(self._left[:SHOWN]),
            left_count=len(self._left),
        )

    def _leave(self, faults: list[Fault], advice: str) -> None:
        known = {(one.fault.key, one.fault.code) for one in self._left}
        self._left += [Unrepaired(one, advice) for one in faults if (one.key, one.code) not in known]

    def _expected(self, inspection: Inspection) -> dict[str, NDArray[np.uint32]]:
        """The checksums that the manifest has, by the paths of the arrays; nothing where it is lost."""
        manifest = self._store.manifest
        if manifest is None or not inspection.has_manifest:
            return {}
        checks = {path: self._store.checks(path) for path in manifest.arrays}
        return {path: one.all() for path, one in checks.items() if one is not None}

    def _restore_metadata(self, inspection: Inspection) -> bool:
        """Write the metadata of arrays and groups again; whether any of an unknown array were."""
        manifest, unknown = self._store.manifest, False
        for fault in inspection.faults():
            path = fault.array
            if not path or fault.key != f"{path}/{METADATA}":
                continue
            if path in (SOURCES, OBJECTS, MANIFEST):
                text: bytes | None = group_metadata()
            elif manifest is not None and path == manifest.path:
                text = manifest_array(manifest).metadata()
            elif (copy := inspection.sound_copy(path)) is not None:
                text = json.dumps(copy, indent=2).encode()
            else:
                text = self._metadata_by_document(inspection, path)
                unknown |= text is not None
            if text is None:
                self._leave([fault], _FROM_COPY)
            else:
                self._store.put(fault.key, text)
                self._restored[path] += 1
        return unknown

    def _metadata_by_document(self, inspection: Inspection, path: str) -> bytes | None:
        """The metadata that an array has by what the document says, if the manifest says the same."""
        manifest = self._store.manifest
        if manifest is None or path not in manifest.arrays or inspection.recipe is None:
            return None
        for spec in self._specs(inspection.document, inspection.recipe):
            text = spec.metadata()
            if spec.path == path and metadata_digest(json.loads(text)) == manifest.arrays[path].sha256:
                return text
        return None

    def _specs(self, document: Document, recipe: Recipe) -> list[ArraySpec]:
        """The arrays of a dataset whose metadata follow from its document."""
        extent, backgrounds = extent_of(recipe), len(recipe.catalog.backgrounds)
        layouts = depth_layouts(extent, document.depth, backgrounds, self._policy)
        planes = plane_layouts(recipe.planes, self._policy.pixels(extent, document.chunk))
        placed = (*placement_arrays(recipe, self._policy), *object_arrays(recipe, self._policy))
        return [*pixel_arrays(planes), *depth_arrays(layouts, document.depth, document.composed), *placed]

    # --- values ------------------------------------------------------------------------------------

    def _restore_values(self, inspection: Inspection) -> None:
        if not inspection.has_manifest:
            # What is written is not compared with what cannot be read; in the end a new one is made.
            self._store.manifest = None
        broken = self._broken(inspection)
        recipe = self._restore_recipe(inspection, broken)
        self._restore_pixels(inspection, broken, recipe)
        self._restore_depth(inspection, broken, recipe)
        for path in broken.keys() & {*inspection.document.of_imported}:
            self._leave(_faults_of(inspection, path), _IMPORT)

    def _broken(self, inspection: Inspection) -> dict[str, list[int]]:
        """The objects to be written again, by the numbers of their shards; others are left."""
        broken: dict[str, set[int]] = {}
        for fault in inspection.faults():
            if fault.code == "recipe-damaged":
                self._leave([fault], _ACCEPTED)
            elif fault.array not in inspection.forms:
                continue
            elif fault.code == "chunk-unexpected":
                self._leave([fault], "Delete it, or fill depth with fgbgpack depth, which replaces it.")
            elif fault.code == "io-failed":
                self._leave([fault], "The store cannot be read there: look for the cause, and try again.")
            elif fault.shard is not None and (fault.code not in VALUES or not inspection.has_manifest):
                broken.setdefault(fault.array, set()).add(fault.shard)
        for fault in inspection.faults():
            is_value = fault.code in VALUES and fault.shard is not None
            if is_value and fault.shard not in broken.get(fault.array, ()):
                # Extremes are also others where the depth is not the one that they belong to.
                depth = broken.get(DEPTH, ()) if fault.array in EXTREMES else ()
                if fault.shard not in depth:
                    self._leave([fault], _ACCEPTED)
        return {path: sorted(shards) for path, shards in broken.items()}

    def _policy_of(self, inspection: Inspection) -> StoredLayouts:
        return StoredLayouts(layouts={path: form.layout for path, form in inspection.forms.items()})

    def _restore_recipe(self, inspection: Inspection, broken: Mapping[str, list[int]]) -> Recipe | None:
        """Write sources and placements again; the recipe, if there is one."""
        paths = [path for path in inspection.document.recipe_arrays if path in broken]
        recipe = inspection.recipe
        if recipe is None and any(path.startswith(f"{SOURCES}/") for path in paths):
            recipe = self._recipe_of_pictures(inspection, paths)
        if recipe is not None and paths:
            self._run.notify(f"Writing {joined_paths(paths, len(paths))} again.")
            write_recipe(self._store, recipe, self._policy_of(inspection))
            self._count(broken, paths)
        return recipe

    def _recipe_of_pictures(self, inspection: Inspection, paths: list[str]) -> Recipe | None:
        """The recipe made of the original pictures; what needs it is left where they are not there."""
        document = inspection.document
        if document.spec is None:
            return None
        try:
            spec = DatasetSpec.from_dict({**document.spec.to_dict(), **self._folders})
            recipe = load_recipe(spec, self._run.on_event, store=self._store)
            if recipe.info != document.recipe:
                raise DatasetError("The pictures there are not those that the dataset was made of.")
        except FgbgError as exc:
            more = "" if not exc.problems else f" ({exc.problems[0]})"
            advice = f"Give the folders of the original pictures. {exc.message.rstrip(':')}{more}"
            for path in paths:
                self._leave(_faults_of(inspection, path), advice)
            return None
        return recipe.with_spec(document.spec)

    def _restore_pixels(
        self, inspection: Inspection, broken: Mapping[str, list[int]], recipe: Recipe | None
    ) -> None:
        planes, forms = inspection.document.planes, inspection.forms
        paths = [path for path in planes if path in broken]
        if not paths:
            return
        if not inspection.document.has_recipe:
            advice = _IMPORT
        elif recipe is None:
            advice = "The sources are damaged: give --backgrounds and --foregrounds (and --masks)."
        elif not all(_are_alike(forms.get(IMAGE), forms.get(path)) for path in planes[1:]):
            advice = _FROM_COPY
        else:
            self._store.delete(_keys(inspection, {path: broken[path] for path in paths}))
            pixels = Pixels(recipe, self._policy_of(inspection))
            for path, layout in pixels.layouts.items():
                self._store.written.declare(path, layout, sharded=True)
            self._run.execute(pixels)
            self._count(broken, paths)
            return
        for path in paths:
            self._leave(_faults_of(inspection, path), advice)

    # --- depth -------------------------------------------------------------------------------------

    def _restore_depth(
        self, inspection: Inspection, broken: Mapping[str, list[int]], recipe: Recipe | None
    ) -> None:
        refilled = *DEPTH_PARTS, *(EXTREMES if DEPTH in inspection.document.composed else (DEPTH,))
        of_networks = {path: broken[path] for path in refilled if path in broken}
        lost: set[int] = set(broken.get(DEPTH, ()))
        if of_networks:
            try:
                self._fill(inspection, of_networks, recipe)
                self._count(broken, list(of_networks))
                self._count({path: sorted(lost) for path in EXTREMES}, EXTREMES if lost else ())
            except FgbgError as exc:
                more = f" ({exc.problems[0]})" if exc.problems else ""
                for path in of_networks:
                    advice = f"Restore it from a copy, or fill depth again with fgbgpack depth. {exc.message}"
                    depth = inspection.document.depth
                    if not (inspection.document.has_recipe or isinstance(depth, NetworkDepthInfo)):
                        advice = _IMPORT
                    self._leave(_faults_of(inspection, path), advice + more)
        alone = {path: [n for n in broken.get(path, ()) if n not in lost] for path in EXTREMES}
        if any(alone.values()) and DEPTH in refilled:
            self._measure(inspection, sorted({*alone[EXTREMES[0]], *alone[EXTREMES[1]]}))
            self._count(alone, [path for path in EXTREMES if alone[path]])

    def _fill(self, inspection: Inspection, broken: Mapping[str, list[int]], recipe: Recipe | None) -> None:
        """Have the networks give depth again; FgbgError, and nothing is changed, where they cannot."""
        run, store, document = self._run, self._store, inspection.document
        if document.has_recipe and recipe is None:
            raise DatasetError("The sources are damaged: give the folders of the pictures.")
        if recipe is not None and self._folders:
            recipe = recipe.with_spec(DatasetSpec.from_dict({**recipe.spec.to_dict(), **self._folders}))
        job = recorded_job(
            document,
            recipe or stored_samples(store, document),
            device=self._device,
            engine=run.engine,
            on_event=run.on_event,
            policy=self._policy_of(inspection),
        )
        previous = document.depth if isinstance(document.depth, NetworkDepthInfo) else None
        keys = _keys(inspection, broken)
        there = inspection.forms.keys() & {*DEPTHS, *DEPTH_PARTS}
        extremes = _keys(inspection, {path: broken.get(DEPTH, ()) for path in there.intersection(EXTREMES)})
        rewritten = [*keys, *extremes, *(f"{path}/{METADATA}" for path in there)]
        before = dict(zip(rewritten, store.get_all(rewritten), strict=True))
        # Another version of ONNX Runtime may give other bytes, which are right all the same.
        store.unchecked = frozenset({*DEPTHS, *DEPTH_PARTS})
        store.delete(keys)
        try:
            filling = DepthFilling.of(job, previous, store)
            self._document = run.fill_depth(filling, document.with_depth(filling.section))
        except FgbgError:
            sealing.put_back(store, before)
            store.unchecked = frozenset()
            raise

    def _measure(self, inspection: Inspection, shards: list[int]) -> None:
        """Write the extremes of sound depth again."""
        checks = inspection.depth_checks()
        layout = inspection.forms[DEPTH].layout
        for path in EXTREMES:
            self._store.written.declare(path, inspection.forms[path].layout, sharded=False)

        def work(shard: int, monitor: Monitor) -> None:
            extremes = np.full((2, layout.shard[0]), np.nan, np.float16)
            found = checks.measure(shard, monitor)
            extremes[:, : found.shape[1]] = found
            for key, value in encoded_extremes(shard, extremes).items():
                self._store.put(key, value)

        self._run.threads.run(work, shards, lambda count: None, "extremes")

    # --- the end -----------------------------------------------------------------------------------

    def _count(self, broken: Mapping[str, list[int]], paths: Any) -> None:
        for path in paths:
            self._restored[path] += len(broken[path])

    def _commit(self, inspection: Inspection, before: Mapping[str, NDArray[np.uint32]]) -> dict[str, int]:
        """Publish the document with the manifest of what is there now; the objects that are others, counted.

        Where a fault is left in an array, its entry in the manifest stays.
        """
        store, left = self._store, {one.fault.array for one in self._left}
        old = inspection.manifest
        root_faults = [fault for fault in inspection.faults() if fault.array == ""]
        if not (self._restored or root_faults or (old is not None and not inspection.has_manifest)):
            return {}
        if any(one.fault.key == f"{one.fault.array}/{METADATA}" for one in self._left):
            # The manifest would take up what is left. What is written is what it says already.
            return {}
        if not before and left:
            # Without its manifest nothing tells what is right.
            self._leave([*root_faults, *_faults_of(inspection, old.path if old else "")], _FROM_COPY)
            return {}
        document = store.commit(self._document)
        self._restored.update({"zarr.json": len(root_faults)} if root_faults else {})
        if old is not None and not before:
            self._restored[old.path] += 1
        if not before and document.manifest != old and document.complete:
            new = document.manifest.arrays if document.manifest is not None else {}
            return {MANIFEST: max(1, len(new) - len(old.arrays if old is not None else {}))}
        differing = {}
        for path, checksums in before.items():
            checks, form = store.checks(path), inspection.forms.get(path)
            if checks is None or form is None or path in left:
                continue
            now = checks.all()
            if now.shape != checksums.shape:
                differing[path] = form.layout.shards
            elif count := int((now != checksums).reshape(form.layout.shards, -1).any(axis=1).sum()):
                differing[path] = count
        return differing


def _keys(inspection: Inspection, broken: Mapping[str, Sequence[int]]) -> list[str]:
    layouts = {path: inspection.forms[path].layout for path in broken}
    return [f"{path}/{layouts[path].key(shard)}" for path, shards in broken.items() for shard in shards]


def _faults_of(inspection: Inspection, path: str) -> list[Fault]:
    return [fault for fault in inspection.faults() if fault.array == path]


def _are_alike(image: ArrayForm | None, mask: ArrayForm | None) -> bool:
    if image is None or mask is None:
        return False
    one, other = image.layout, mask.layout
    return one.chunk[:3] == other.chunk and one.shard[:3] == other.shard
