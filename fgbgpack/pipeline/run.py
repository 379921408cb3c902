"""The one sequence of all that makes or changes a dataset: lock, compare, begin or resume, stages, commit."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fgbgpack.depth import rounding_bound
from fgbgpack.document import DEPTH, DEPTH_PARTS, EXTREMES, DepthInfo, Document, ImportedDepthInfo
from fgbgpack.errors import DatasetError, RecipeMismatchError
from fgbgpack.pipeline.arrays import depth_arrays
from fgbgpack.pipeline.conflicts import clear
from fgbgpack.pipeline.depth import DepthFilling, DepthStage
from fgbgpack.pipeline.events import Notice, OnEvent
from fgbgpack.pipeline.exchange import Exchange
from fgbgpack.pipeline.executor import Engine, Threads
from fgbgpack.pipeline.replacing import Replacement
from fgbgpack.pipeline.stage import Stage, execute
from fgbgpack.storage import sealing
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.manifest import joined_paths
from fgbgpack.storage.store import DatasetStore

_SHOWN = 3


@dataclass(frozen=True)
class Result:
    """What a run did: where the result is, the samples in it, the seconds it took; commands add their own
    numbers.
    """

    path: str
    samples: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return dataclasses.asdict(self)


class Run:
    """One command at work on one dataset, on an engine; ``on_event`` is called in this thread.

    ``written`` and ``stage_seconds`` are what each stage has written, by what it counts, and how long it
    took.
    """

    def __init__(self, store: DatasetStore, engine: Engine, on_event: OnEvent) -> None:
        self.store, self.engine, self.on_event = store, engine, on_event
        self.written: Counter[str] = Counter()
        self.stage_seconds: defaultdict[str, float] = defaultdict(float)
        self._replacement: Replacement | Exchange | None = None
        self._found: Document | None = None
        self._is_exclusive = self._has_told = False
        self._start = time.perf_counter()

    @property
    def name(self) -> str:
        """What messages call the dataset."""
        return self.store.name

    @property
    def threads(self) -> Threads:
        """The threads of this process."""
        return self.engine.threads

    @property
    def seconds(self) -> float:
        """The seconds since the run began."""
        return time.perf_counter() - self._start

    def notify(self, message: str) -> None:
        """Tell the user something, in one line."""
        self.on_event(Notice(message))

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes of this machine from writing the dataset, and leave nothing half-written.

        One that replaces it is put in its place at the end.
        """
        target, self._replacement = self.store, Replacement.of(self.store) or Exchange.of(self.store)
        if isinstance(self._replacement, Replacement):
            self._replacement.finish_exchange()
        with target.exclusive():
            if self._replacement is not None:
                self._replacement.recover()
            self._is_exclusive = True
            try:
                yield
            except DatasetError:
                # What another writer has done looks like damage.
                self.store.check_claim(at_once=True)
                raise
            finally:
                self._is_exclusive = False
            # Once a replacement is in its place, others may write it.
            sealing.sweep(self.store)
            self._tell_of_other_writers()
            if self._replacement is not None:
                if self.store is target:
                    self._replacement.remove()
                else:
                    self._replacement.publish()
                    self.store = DatasetStore(target.store, target.name)

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Write some of the shards of a dataset while other processes write others, whichever they are."""
        with self.store.shared():
            try:
                yield
            except DatasetError:
                self.store.check_claim(at_once=True)
                raise
            self._tell_of_other_writers()

    def replace(self, without: Container[str] | None = None, *, complete: bool) -> bool:
        """Go on with another store, which is put in the place of this one at the end: of nothing, or of all
        arrays but those. Returns whether it does; where it cannot, the dataset is changed where it is, and so
        is in a folder what is not ``complete``.
        """
        if self._replacement is None or not (complete or self._replacement.takes_incomplete):
            return False
        self.store = self._replacement.open(without)
        return True

    def renew(self, without: Container[str] | None = None) -> None:
        """The same with nothing of what a stopped run has begun, which is other than what is asked for, where
        that run may still be at it.
        """
        if isinstance(self._replacement, Exchange):
            self.store = self._replacement.open(without, anew=True)

    def existing(
        self,
        differs: Callable[[Document], list[str]],
        *,
        overwrite: bool,
        other: str = "is another dataset",
        at_once: bool = False,
    ) -> Document | None:
        """The document of the dataset that is to be finished, or is complete; ``None`` to begin a new one.

        ``differs`` says how one that is there differs from the one asked for, one line each. Unless it may be
        overwritten, such a one is a RecipeMismatchError; anything else there is a DatasetError.

        It is overwritten once the new one is complete or, ``at_once``, when that begins; which a store that
        others may be writing does not allow for one that is not complete.
        """
        existing = self.store.document()
        lines = [] if existing is None else differs(existing)
        if lines and not overwrite:
            message = f"{self.name} {other}: give another place, or --overwrite to replace it."
            raise RecipeMismatchError(message, lines)
        if existing is not None and lines and at_once:
            if not existing.complete and self.store.claims is not None:
                raise DatasetError(
                    f"{self.name} holds another dataset that is not complete, which others may still be "
                    "writing: give another place, or delete it once nobody does.",
                    code="dataset-unfinished",
                )
        elif existing is not None and lines and self.replace(complete=existing.complete):
            # A stopped run may have begun it.
            existing = self.store.document()
            lines = [] if existing is None else differs(existing)
            if lines:
                self.renew()
                existing = self.store.document()
        self._found = existing
        if existing is None or lines:
            return None
        return self.reopened(existing) if self._is_exclusive else existing

    def reopened(self, document: Document) -> Document:
        """The document of a dataset that is there, which says that what is missing of it, or is not as its
        manifest says, is yet to be written; by this run, and not in parts by others.
        """
        document = dataclasses.replace(document, in_parts=False)
        faulty = sealing.faulty_objects(self.store)
        if not faulty:
            return document
        count = sum(max(1, len(shards)) for shards in faulty.values())
        self.notify(
            f"{count} objects of {self.name} are missing or damaged, and are written again: "
            f"{joined_paths(faulty, _SHOWN)}."
        )
        sealing.discard(self.store, faulty)
        of_depth = {DEPTH, *EXTREMES, *DEPTH_PARTS}
        if set(faulty) - of_depth:
            pixels = dataclasses.replace(document.pixels, complete=False)
            document = dataclasses.replace(document, complete=False, pixels=pixels)
        if set(faulty) & of_depth and document.depth is not None:
            document = document.with_depth(dataclasses.replace(document.depth, complete=False))
        return self.store.commit(document)

    def begin(self, document: Document) -> None:
        """Replace the dataset that is there, if any, by one that is begun."""
        clear(self.store, self._found)
        self.store.commit(document)

    def begin_or_resume(self, existing: Document | None, document: Document) -> Document | None:
        """Begin the dataset that ``document`` will complete, or go on with the ``existing`` one; return that
        where nothing is left to do.
        """
        if existing is not None and existing.complete:
            self.notify(f"{self.name} is complete already.")
            return existing
        if existing is None:
            self.begin(document.begun())
        else:
            self.notify(f"Resuming {self.name}.")
            self.store.commit(document.begun())
        return None

    def execute(self, stage: Stage, engine: Engine | None = None) -> None:
        """Write the shards of a stage that are missing, on the run's engine or on another."""
        start = time.perf_counter()
        self._tell_of_other_writers()
        self.written[stage.name] += execute(stage, self.store, engine or self._engine(), self.on_event)
        self._tell_of_other_writers()
        self.stage_seconds[stage.name] += time.perf_counter() - start

    def _engine(self) -> Engine:
        """The run's engine, with twice the threads where each waits for its uploads while others compute."""
        return self.engine.and_more(self.engine.threads.count) if self.store.is_far else self.engine

    def _tell_of_other_writers(self) -> None:
        """Say once that the store does not keep them apart, as soon as that is known."""
        if self._has_told or self.store.claims is None or not self.store.claims.lacks_conditions:
            return
        self._has_told = True
        self.notify(
            f"The store of {self.name} has no conditional writes: fgbgpack notices another process that "
            "writes the dataset at the same time, but cannot always prevent it. See that there is none."
        )

    # --- depth -------------------------------------------------------------------------------------

    def fill_depth(self, filling: DepthFilling, document: Document) -> Document:
        """Write all depth that is missing; return the document, now of a complete dataset, and commit it."""
        start = time.perf_counter()
        document, stage = self.prepare_depth(filling, document)
        self.execute_depth(stage)
        document = self.finish_depth(document, filling.job.layouts(filling.section))
        self.stage_seconds["depth"] = time.perf_counter() - start
        return document

    def execute_depth(self, stage: DepthStage) -> None:
        """Write the shards of depth that are missing, and report what the network has noticed meanwhile."""
        self.execute(stage, stage.engine)
        stage.report()

    def prepare_depth(self, filling: DepthFilling, document: Document) -> tuple[Document, DepthStage]:
        """Write what must be there before the depth of samples, its step included; return the document, which
        is committed if it has changed, and the stage that is then to be run.
        """
        job, section = filling.job, filling.section
        layouts = job.layouts(section)
        self.store.declare(*depth_arrays(layouts, section, document.composed))
        filling.mode.prepare(self.store)
        stage = DepthStage(job, filling.mode, self.store, section.step, document.composed)
        if section.step is None:
            # The document comes first: a shard without its grid would mean nothing.
            section = dataclasses.replace(section, step=stage.step)
            document = document.with_depth(section)
            self.store.commit(document)
            self.store.declare(*depth_arrays(layouts, section, document.composed))
        return document, stage

    def finish_depth(self, document: Document, layouts: dict[str, Layout]) -> Document:
        """Record the largest rounding error, and that all depth is there; return the document, committed."""
        depth = document.depth
        if depth is None:
            raise ValueError("a document without depth has none to be finished")
        self.declare_depth(depth, layouts, document.composed)
        document = document.with_depth(dataclasses.replace(depth, complete=True))
        self.store.commit(document)
        return document

    def declare_depth(
        self, depth: DepthInfo, layouts: dict[str, Layout], composed: Collection[str] = ()
    ) -> None:
        """Record the largest rounding error of depth that is all there, of which some is ``composed``."""
        low, high = (values.astype(np.float64) for values in self.store.read(*EXTREMES))
        known = ~np.isnan(low)
        # Imported depth has no grid: only the nearest float16 counts.
        step = 0.0 if isinstance(depth, ImportedDepthInfo) else depth.step or 0.0
        largest = rounding_bound(low[known].min(), high[known].max(), step) if known.any() else 0.0
        self.store.declare(*depth_arrays(layouts, depth, composed, largest))
