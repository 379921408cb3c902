"""A stage: shards to be written, each a pure function of what the stage holds and the shard's number.

A shard is written whole, by one worker, and published in one step. One that is there is complete, one that is
missing is work to do: resuming needs to know nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from fgbgpack.errors import DatasetError
from fgbgpack.pipeline.events import OnEvent, Progress, StageName
from fgbgpack.pipeline.executor import Engine, Monitor
from fgbgpack.pipeline.ticket import Work
from fgbgpack.storage import sealing
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.manifest import ChunkNotes
from fgbgpack.storage.sharding import join
from fgbgpack.storage.store import DatasetStore
from fgbgpack.system import machine_id


@dataclass(frozen=True)
class Product:
    """A shard as it is to be published: keys and values in this order; and what the stage has found on the
    way, for its ``take``: something small that can be pickled.
    """

    values: Mapping[str, bytes] = field(default_factory=dict)
    found: Any = None


class Stage(Protocol):
    """Shards of one array, or of several that are made together. Stages can be pickled, and producing a shard
    changes nothing in them: it may be done in another process.
    """

    @property
    def name(self) -> StageName:
        """What it counts."""

    @property
    def total(self) -> int:
        """How many samples, or whatever else is counted, there are."""

    @property
    def recipe_store(self) -> DatasetStore | None:
        """From which other processes read its recipe; ``None`` for where its shards are written."""

    def size(self, shard: int) -> int:
        """How many of these a shard has."""

    def missing(self, store: DatasetStore) -> list[int]:
        """The shards that are not there, or not sound."""

    def produce(self, shard: int, monitor: Monitor) -> Product:
        """A shard: the same bytes on any machine, any number of times."""

    def take(self, shard: int, found: Any) -> None:
        """Take what was found while a shard was produced that now is published; called in one thread."""

    def is_needed(self, shard: int) -> bool:
        """Whether a shard that is missing is still to be produced, asked right before."""

    def part(self, shard: int) -> Stage:
        """What is enough to produce one shard elsewhere: the stage itself, where that is small."""


class LayoutStage:
    """What stages have in common that write one array, or several that are cut alike, by their paths."""

    recipe_store: DatasetStore | None = None

    def __init__(self, layouts: Mapping[str, Layout]) -> None:
        self._layouts = layouts
        self._first = next(iter(layouts.values()))
        self._among: range | None = None

    def restrict(self, shards: range) -> None:
        """Leave all shards but these to others."""
        self._among = shards

    @property
    def total(self) -> int:
        """All samples of the shards that it writes, or whatever else the first axis counts."""
        return self._first.shape[0] if self._among is None else sum(map(self.size, self._among))

    def size(self, shard: int) -> int:
        """Those of a shard."""
        return len(self._first.samples_of(shard))

    def missing(self, store: DatasetStore) -> list[int]:
        """The shards that one of the arrays lacks, of those that it writes."""
        return sealing.missing_shards(store, self._layouts, self._among)

    def take(self, shard: int, found: Any) -> None:
        """Nothing is found."""

    def is_needed(self, shard: int) -> bool:
        """All are."""
        return True

    def part(self, shard: int) -> Self:
        """The stage itself."""
        return self

    def joined(self, shard: int, chunks: Mapping[str, Sequence[bytes]]) -> dict[str, bytes]:
        """The keys and values of a shard of all arrays, whose encoded chunks are in C order."""
        return {
            f"{array}/{layout.key(shard)}": join(chunks[array], layout.grid)
            for array, layout in self._layouts.items()
        }


@dataclass(frozen=True)
class _Part:
    """A shard, with a stage that is enough for it."""

    shard: int
    stage: Stage


@dataclass(frozen=True)
class _Published:
    """What is told of a shard that is published: what the stage has found and, from another process, what was
    written.
    """

    found: Any
    notes: Sequence[ChunkNotes] = ()


class _StageWork(Work[int, _Published]):
    """Produces shards of a stage, and publishes them in a dataset that it opens by itself."""

    def __init__(self, stage: Stage, store: DatasetStore, *, has_parts: bool) -> None:
        self._stage, self._store, self._has_parts = stage, store, has_parts
        #: The machine that this was sent from.
        self._machine: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__ | {"_machine": machine_id()}
        return {name: value for name, value in state.items() if name != "_stage" or not self._has_parts}

    @property
    def recipe_store(self) -> DatasetStore:
        """Where the recipe of its stage is stored."""
        elsewhere = self._stage.recipe_store
        return self._store if elsewhere is None else elsewhere

    def prepare(self) -> None:
        """Claim the dataset for this process: others write it in its name."""
        self._store.lend()

    def sent(self, item: int) -> object:
        """The number of a shard, with a part of the stage where all of it is too much."""
        return _Part(item, self._stage.part(item)) if self._has_parts else item

    def __call__(self, item: Any, monitor: Monitor) -> _Published:
        shard, stage = (item.shard, item.stage) if isinstance(item, _Part) else (item, self._stage)
        store, product = self._store, stage.produce(shard, monitor)
        is_sent = self._machine is not None
        if is_sent and product.values:
            # Who has sent this may have been stopped, and another dataset begun.
            store.require_unchanged()
        for key, value in product.values.items():
            store.put(key, value)
        if not is_sent:
            return _Published(product.found)
        if product.values and machine_id() != self._machine:
            # What the sender syncs are the files that its own machine has written.
            store.sync_files(product.values)
        return _Published(product.found, store.written.pop(product.values))


def execute(stage: Stage, store: DatasetStore, engine: Engine, on_event: OnEvent) -> int:
    """Write the shards of a stage that are missing, check that all are there; return how many samples were
    written.
    """
    missing = stage.missing(store)
    total = stage.total
    written = sum(map(stage.size, missing))
    done = total - written
    on_event(Progress(stage.name, done, total))

    def advance(count: int) -> None:
        nonlocal done
        done += count
        on_event(Progress(stage.name, done, total))

    def take(shard: int, published: _Published) -> None:
        if published.notes:
            store.take_notes(published.notes)
        stage.take(shard, published.found)

    if missing:
        work = _StageWork(stage, store, has_parts=stage.part(missing[0]) is not stage)
        engine.run(work, filter(stage.is_needed, missing), advance, stage.name, take)
    lost = stage.missing(store) if missing else []
    if lost:
        raise DatasetError(
            f"{len(lost)} shards are missing or damaged right after they were written (the first is "
            f"number {min(lost)}): the store loses data, or something else writes to it.",
            code="shards-lost",
        )
    return written
