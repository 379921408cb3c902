"""All that can be found wrong with a dataset by reading it whole: what verifies it, and what repairs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.placement import Placements
from fgbgpack.composition.recipe import Recipe
from fgbgpack.dataset.arrays import catalog_of, catalog_paths
from fgbgpack.dataset.composer import layered_source
from fgbgpack.document import (
    DEPTH,
    DEPTH_MIN,
    DEPTHS,
    EXTREMES,
    MANIFEST,
    NAME,
    OBJECTS,
    PLACEMENTS,
    SOURCE_ARRAYS,
    SOURCES,
    Document,
    NetworkDepthInfo,
)
from fgbgpack.errors import DatasetError, FgbgError
from fgbgpack.import_info import CREDITS
from fgbgpack.inputs import parse_json
from fgbgpack.pipeline.chunk_checks import WholeArrays, chunk_total
from fgbgpack.pipeline.events import OnEvent, Progress
from fgbgpack.pipeline.executor import Engine, Monitor
from fgbgpack.pipeline.faults import CHANGES, VALUES, Fault, Findings
from fgbgpack.pipeline.shard_checks import Reports, ShardChecks
from fgbgpack.source_info import SourcesInfo
from fgbgpack.spec import DatasetSpec
from fgbgpack.storage.arrays import METADATA, ArrayForm, Node, group_metadata, parse_array
from fgbgpack.storage.hdf5 import GROUP, Hdf5Store
from fgbgpack.storage.manifest import copies_in, manifest_array, metadata_digest
from fgbgpack.storage.sealing import check_unfilled
from fgbgpack.storage.store import DatasetStore

_PLACED_AT_ONCE = 1 << 16
_FOLLOWING = CHANGES & VALUES


@dataclass(frozen=True)
class ArrayCounts:
    """What was looked at of an array, in numbers: its objects, its chunks, and the objects that have faults
    or are not written yet.
    """

    objects: int
    chunks: int
    faulty: int
    unwritten: int


class Inspection:
    """Reads all that a dataset stores, once, and finds what is wrong with it.

    Every chunk is decoded, and compared with the manifest where that covers it; extremes with the depth;
    placements with the recipe; pixels with the composites of it. Nothing is written, and what is found is
    collected in ``findings``. Raises DatasetError where there is no document to go by.
    """

    def __init__(self, store: DatasetStore, engine: Engine, on_event: OnEvent) -> None:
        self.store, self._engine, self._on_event = store, engine, on_event
        self.findings = Findings()
        document = store.document(lambda error: self.findings.of_object(METADATA, error))
        if document is None:
            raise DatasetError(f"There is no dataset at {store.name}.", code="dataset-missing")
        self.document: Document = document
        if isinstance(store.store, Hdf5Store) and (damage := store.store.file.damage) is not None:
            self.findings.of_object(f"{GROUP}/index", damage)
        #: How the arrays are cut whose metadata are known.
        self.forms: dict[str, ArrayForm] = {}
        #: The recipe, if the sources are those that the document names.
        self.recipe: Recipe | None = None
        #: Samples whose stored pixels were compared with those of the recipe.
        self.recomposed = 0
        self._copies: Mapping[str, Node] = copies_in(store.root())
        #: The manifest that the document names.
        self.manifest = store.manifest
        #: Whether its checksums can be read.
        self.has_manifest = self._reads_manifest()
        self._done = 0
        self._total = 0

    # --- what is to be there -----------------------------------------------------------------------

    @property
    def arrays(self) -> tuple[str, ...]:
        """The paths of the arrays of samples and of what they are made of, that should be there by now."""
        # HDF5 files have a manifest that they are not held to, as they have checksums of their own.
        named = self.document.manifest
        groups = {SOURCES, OBJECTS, MANIFEST, None if named is None else named.path}
        return tuple(path for path in self.document.nodes if path not in groups)

    def _is_covered(self, path: str) -> bool:
        manifest = self.manifest
        return manifest is not None and path in manifest.arrays

    def _reads_manifest(self) -> bool:
        """Whether the checksums of the manifest can be read; what is wrong with it is found."""
        manifest = self.manifest
        if manifest is None:
            return False
        spec = manifest_array(manifest)
        expected = {MANIFEST: group_metadata(), manifest.path: spec.metadata()}
        for path, text in expected.items():
            self._check_node(path, json.loads(text))
        try:
            for path in manifest.arrays:
                checks = self.store.checks(path)
                if checks is not None:
                    checks.all()
        except DatasetError as exc:
            key = f"{manifest.path}/{spec.layout.key(0)}"
            message = " ".join(exc.message.split())
            self.findings.add(Fault(exc.code, manifest.path, key, message, shard=0))
            return False
        return True

    # --- metadata ----------------------------------------------------------------------------------

    def _check_node(self, path: str, expected: Node) -> None:
        """Compare the metadata of a group, or of the manifest's array."""
        text = self.store.get(f"{path}/{METADATA}")
        try:
            same = text is not None and metadata_digest(parse_json(text)) == metadata_digest(expected)
        except ValueError:
            same = False
        if not same:
            state = "missing" if text is None else "not those that fgbgpack writes"
            error = DatasetError(f"The metadata of /{path} are {state}.", code="metadata-foreign")
            self.findings.of_object(f"{path}/{METADATA}", error)

    def _load_forms(self) -> None:
        """Find how the arrays are cut, by their own metadata or the copy of it, and what is wrong with it."""
        for group in (SOURCES, OBJECTS):
            is_named = group in self.document.nodes
            if is_named and (self.document.complete or self.store.get(f"{group}/{METADATA}")):
                self._check_node(group, json.loads(group_metadata()))
        paths = list(self.arrays)
        found = zip(paths, self.store.get_all(f"{path}/{METADATA}" for path in paths), strict=True)
        for path, text in found:
            if text is None and not (self.document.complete or self._is_covered(path)):
                continue  # It is not begun.
            expected = self._digest_of(path)
            if (wrong := self._wrong_copy(path)) is not None:
                self.findings.of_object(METADATA, wrong)
            try:
                form = parse_array(text, path, self.store.name)
                if expected is not None and metadata_digest(parse_json(text or b"{}")) != expected:
                    raise DatasetError(
                        f"The metadata of /{path} are not what the manifest says: something else than "
                        "fgbgpack has changed them.",
                        code="metadata-foreign",
                    )
                if path in self.store.unfilled:
                    check_unfilled(self.store.name, path, form, self.store.unfilled[path])
                self.forms[path] = form
            except DatasetError as exc:
                self.findings.of_object(f"{path}/{METADATA}", exc)
                if (node := self.sound_copy(path)) is not None:
                    self.forms[path] = ArrayForm.of(node, f"{self.store.name}/{path}")

    def _digest_of(self, path: str) -> str | None:
        """What the digest of an array's metadata must be; ``None`` where nothing tells."""
        if self.manifest is not None and path in self.manifest.arrays:
            return self.manifest.arrays[path].sha256
        copy = self._copies.get(path)
        # Those of depth that is not filled are looked at by themselves.
        return None if copy is None or path in self.store.unfilled else metadata_digest(copy)

    def _wrong_copy(self, path: str) -> DatasetError | None:
        """What is wrong with the copy of the metadata of an array of depth that is not filled: no manifest
        has those.
        """
        copy = self._copies.get(path)
        if copy is None or path not in self.store.unfilled:
            return None
        try:
            form = ArrayForm.of(copy, f"{self.store.name}/{path}")
            check_unfilled(self.store.name, path, form, self.store.unfilled[path])
        except DatasetError as exc:
            return exc
        return None

    def sound_copy(self, path: str) -> Node | None:
        """The copy of an array's metadata in the root, if it is what the manifest says, or nothing tells."""
        copy = self._copies.get(path)
        if path in self.store.unfilled:
            return copy if self._wrong_copy(path) is None else None
        return copy if copy is not None and metadata_digest(copy) == self._digest_of(path) else None

    # --- chunks ------------------------------------------------------------------------------------

    def run(self) -> None:
        """Read everything."""
        self._load_forms()
        forms: dict[str, ArrayForm] = {}
        for path, form in self.forms.items():
            # Where none was asked for, the arrays of depth are there without any chunk.
            if path not in DEPTHS or self.document.depth is not None:
                forms[path] = form
            else:
                self._check_unfilled(path, form)
        self._total = sum(chunk_total(form.layout) for form in forms.values())
        self._on_event(Progress("verify", 0, self._total))
        planes, covered = self.document.planes, self._covered
        reports = Reports(self.store, self.document, self.forms, covered)
        large = {path: forms[path] for path in (*planes, DEPTH) if path in forms}
        small = {
            path: self.store.reader(path, form, checked=path in covered)
            for path, form in forms.items()
            if path not in large
        }
        whole = WholeArrays(reports.decoder(small))

        def check(part: tuple[str, int], monitor: Monitor) -> Findings:
            with reports.collected() as findings:
                whole.check(*part, monitor)
            return findings

        # This process needs them as a whole.
        parts = [(path, shard) for path in small for shard in range(small[path].layout.shards)]
        self._engine.threads.run(check, parts, self._advance, "verify", self._take)
        self._check_recipe(whole)
        self._check_names(whole)
        if any(path in large for path in planes):
            self.recomposed = 0 if self.recipe is None else self.document.samples
        extremes = {path: whole[path] for path in EXTREMES if path in whole}
        if DEPTH in self.document.composed and len(extremes) == len(EXTREMES):
            self._check_layers(extremes, reports)
        checks = ShardChecks(self.store, reports, large, covered, self.recipe, extremes)
        self._engine.run(checks, checks.checks(), self._advance, "verify", self._take)
        for reader in (*small.values(), *checks.readers.values()):
            reader.close()

    def _take(self, item: object, found: Findings) -> None:
        self.findings.update(found)

    def _advance(self, count: int) -> None:
        self._done += count
        self._on_event(Progress("verify", self._done, self._total))

    @property
    def _covered(self) -> frozenset[str]:
        """The arrays whose chunks are compared with the manifest."""
        return frozenset(path for path in self.forms if self.has_manifest and self._is_covered(path))

    def _check_layers(self, extremes: Mapping[str, NDArray[np.float16]], reports: Reports) -> None:
        """Compare the extremes with those of layered depth that is not stored."""
        depth, layout = self.document.depth, self.forms[DEPTH_MIN].layout
        broken = any(self.findings.in_array(path) for path in (*self.document.depth_sources, *EXTREMES))
        if self.recipe is None or broken or not isinstance(depth, NetworkDepthInfo) or depth.step is None:
            return
        source, step = layered_source(self.store, self.recipe, depth), depth.step

        def check(shard: int, monitor: Monitor) -> Findings:
            run = np.asarray(layout.samples_of(shard), np.int64)
            with reports.collected() as findings:
                for some in (run[i : i + source.batch] for i in range(0, len(run), source.batch)):
                    monitor.check()
                    maps = np.empty((len(some), self.document.height, self.document.width), np.float16)
                    for path, values in zip(EXTREMES, source(some, maps, step=step), strict=True):
                        for sample in some[values != extremes[path][some]].tolist():
                            reports.extremes_differ(path, sample, f"/{path}[{sample}]")
            return findings

        self._engine.threads.run(check, range(layout.shards), self._advance, "verify", self._take)

    def _check_unfilled(self, path: str, form: ArrayForm) -> None:
        """See that no chunk of an array is there, where by the document there is no depth."""
        keys = [f"{path}/{form.layout.key(shard)}" for shard in range(form.layout.shards)]
        try:
            there = self.store.present(keys)
        except DatasetError as exc:
            self.findings.of_object(f"{path}/c", exc)
            return
        for shard in np.flatnonzero(there).tolist():
            message = f"{keys[shard]} is there, but by its document the dataset has no depth."
            self.findings.add(Fault("chunk-unexpected", path, keys[shard], message, shard))

    def depth_checks(self) -> ShardChecks:
        """What measures the extremes of the stored depth again."""
        reports = Reports(self.store, self.document, self.forms, frozenset())
        return ShardChecks(self.store, reports, {DEPTH: self.forms[DEPTH]}, frozenset({DEPTH}), None, {})

    # --- what the values must be -------------------------------------------------------------------

    def _check_recipe(self, whole: WholeArrays) -> None:
        """Make the recipe of the sources, and compare the placements with it."""
        spec, sources = self.document.spec, self.document.sources
        if spec is None or sources is None or not all(path in whole for path in SOURCE_ARRAYS):
            return
        arrays = {path: whole[path] for path in catalog_paths(self.document) if path in self.forms}
        if arrays.keys() == set(catalog_paths(self.document)):
            self._make_recipe(spec, sources, arrays)
        if self.document.has_objects:
            self._check_objects(whole)
        else:
            self._check_placements(whole)

    def _make_recipe(
        self, spec: DatasetSpec, sources: SourcesInfo, arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """Make the recipe of the arrays of the sources, and see that it is the document's."""
        try:
            recipe = Recipe.of(spec, catalog_of(sources, arrays))
            recipe.check()
            same = recipe.info == self.document.recipe
        except (FgbgError, ValueError, IndexError):
            same = False
        if same:
            self.recipe = recipe
        elif not any(map(self.findings.in_array, arrays)):
            message = "The sources are not those of the recipe: their digest is another one."
            self.findings.add(Fault("recipe-damaged", SOURCES, SOURCES, message))

    def _check_objects(self, whole: WholeArrays) -> None:
        """Compare what scenes are made of with the recipe, where there is one."""
        recipe = self.recipe
        for start in range(0, 0 if recipe is None else len(recipe), _PLACED_AT_ONCE):
            samples = range(start, min(start + _PLACED_AT_ONCE, self.document.samples))
            for path, expected in recipe.sample_arrays(samples).items() if recipe is not None else ():
                if path not in whole:
                    continue
                differs = whole[path][samples.start : samples.stop] != expected
                for i in np.flatnonzero(differs.reshape(len(samples), -1).any(axis=1)).tolist():
                    self._misplaced(path, start + i, is_outside=False)

    def _check_placements(self, whole: WholeArrays) -> None:
        if not all(path in self.forms for path in PLACEMENTS):
            return
        stored = Placements(*(whole[path] for path in PLACEMENTS))
        samples = len(stored)
        for start in range(0, samples, _PLACED_AT_ONCE):
            rows = slice(start, min(start + _PLACED_AT_ONCE, samples))
            outside = self._outside(stored[rows], whole)
            if self.recipe is None:
                expected = None
            else:
                expected = self.recipe.sample_arrays(range(rows.start, rows.stop))
            for field in fields(Placements):
                path = field.name
                if path not in whole:
                    continue
                wrong = outside[path]
                if expected is not None:
                    wrong = wrong | (expected[path] != getattr(stored, path)[rows])
                for i in np.flatnonzero(wrong).tolist():
                    self._misplaced(path, start + i, is_outside=bool(outside[path][i]))

    def _misplaced(self, path: str, sample: int, *, is_outside: bool) -> None:
        code, message = "placements-differ", f"/{path}[{sample}] is not the recipe's."
        if is_outside:
            code = "placement-outside"
            message = f"/{path}[{sample}] is out of range: there is no such picture, or it leaves the sample."
        self.findings.of_sample(code, path, self.forms[path].layout, sample, message)

    def _outside(self, stored: Placements, whole: WholeArrays) -> dict[str, NDArray[np.bool_]]:
        """Which placements no sample can have, by their arrays; of (n,) each."""
        background, foreground, size = (whole[path] for path in SOURCE_ARRAYS[:3])
        spec = self.document.spec
        number = np.clip(stored.foreground, 0, max(0, len(foreground) - 1))
        height, width = (0, 0) if spec is None else (spec.height, spec.width)
        known = (
            size[number] if len(size) and SOURCE_ARRAYS[2] in whole else np.zeros((len(stored), 2), np.int32)
        )
        return {
            "background": (stored.background < 0) | (stored.background >= len(background)),
            "foreground": (stored.foreground < 0) | (stored.foreground >= len(foreground)),
            "flip": stored.flip.view(np.uint8) > 1,
            "replica": stored.replica < 0,
            "y": (stored.y < 0) | (stored.y > height - known[:, 0]),
            "x": (stored.x < 0) | (stored.x > width - known[:, 1]),
        }

    def _check_names(self, whole: WholeArrays) -> None:
        for path in (NAME, *CREDITS):
            if path not in whole:
                continue
            texts = whole[path]
            for sample, text in enumerate(texts.view(f"S{texts.shape[1]}")[:, 0].tolist()):
                try:
                    sound = bool(text.decode()) or path != NAME
                except UnicodeDecodeError:
                    sound = False
                if not sound:
                    layout = self.forms[path].layout
                    message = f"/{path}[{sample}] is no {path.rpartition('/')[2]}."
                    self.findings.of_sample("name-damaged", path, layout, sample, message)

    # --- what was found ----------------------------------------------------------------------------

    def faults(self) -> list[Fault]:
        """All faults, in the order of the arrays, without those that follow from others: in an object that is
        not the one that the manifest names, values are others, too.
        """
        faults = self.findings.all((*self.arrays, SOURCES))
        causes = {fault.key for fault in faults if fault.code not in _FOLLOWING}
        depth = {fault.shard for fault in faults if fault.array == DEPTH and fault.code not in _FOLLOWING}

        def follows(fault: Fault) -> bool:
            return fault.key in causes or (fault.array in EXTREMES and fault.shard in depth)

        return [fault for fault in faults if not (fault.code in _FOLLOWING and follows(fault))]

    def counts(self) -> dict[str, ArrayCounts]:
        """What was looked at, by the paths of the arrays."""
        found = {}
        for path in self.arrays:
            form = self.forms.get(path)
            if form is None or (path in DEPTHS and self.document.depth is None):
                continue
            found[path] = ArrayCounts(
                objects=form.layout.shards,
                chunks=chunk_total(form.layout),
                faulty=len(self.findings.shards(path)),
                unwritten=len(self.findings.unwritten.get(path, ())),
            )
        return found
