"""A stage: shards to be written, each a pure function of what the stage holds and the shard's number.

A shard is written whole, by one worker, and published in one step. One that is there is complete, one that is
missing is work to do: resuming needs to know nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from fgbgpack.errors import DatasetError
from fgbgpack.pipeline.events import OnEvent, Progress, StageName
from fgbgpack.pipeline.executor import Monitor, Threads
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.sharding import join
from fgbgpack.storage.store import DatasetStore


class Stage(Protocol):
    """Shards of one array, or of several that are made together. Stages can be pickled."""

    @property
    def name(self) -> StageName:
        """What it counts."""

    @property
    def total(self) -> int:
        """How many samples, or whatever else is counted, there are."""

    def size(self, shard: int) -> int:
        """How many of these a shard has."""

    def missing(self, store: DatasetStore) -> list[int]:
        """The shards that are not there, or not sound."""

    def produce(self, shard: int, monitor: Monitor) -> Mapping[str, bytes]:
        """The keys and values of a shard, in the order in which they are to be published.

        They are the same bytes on any machine, any number of times.
        """


class LayoutStage:
    """What stages have in common that write one array, or several that are cut alike, by their paths."""

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
        return store.missing_shards(self._layouts, self._among)

    def joined(self, shard: int, chunks: Mapping[str, Sequence[bytes]]) -> dict[str, bytes]:
        """The keys and values of a shard of all arrays, whose encoded chunks are in C order."""
        return {
            f"{array}/{layout.key(shard)}": join(chunks[array], layout.grid)
            for array, layout in self._layouts.items()
        }


def execute(stage: Stage, store: DatasetStore, threads: Threads, on_event: OnEvent) -> int:
    """Write the shards of a stage that are missing, check that all are there; return how many samples were
    written.
    """
    missing = stage.missing(store)
    total = stage.total
    written = sum(map(stage.size, missing))
    done = total - written
    on_event(Progress(stage.name, done, total))

    def work(shard: int, monitor: Monitor) -> None:
        for key, value in stage.produce(shard, monitor).items():
            store.put(key, value)

    def advance(count: int) -> None:
        nonlocal done
        done += count
        on_event(Progress(stage.name, done, total))

    threads.run(work, missing, advance, stage.name)
    lost = stage.missing(store) if missing else []
    if lost:
        raise DatasetError(
            f"{len(lost)} shards are missing or damaged right after they were written (the first is "
            f"number {min(lost)}): the store loses data, or something else writes to it.",
            code="shards-lost",
        )
    return written
