"""Work on threads: the shards that are missing, one thread on each, and how far it is."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.storage.layout import Layout

Stage: TypeAlias = Literal["sources", "samples", "backgrounds", "depth", "checks", "chunks", "export"]

T = TypeVar("T")
R = TypeVar("R")

_POLL_SECONDS = 0.1
_MEASURE_SECONDS = 1.0


@dataclass(frozen=True)
class Progress:
    """How far a stage is.

    Attributes:
        stage: ``"sources"`` counts pictures, ``"samples"`` and ``"depth"`` count samples, ``"backgrounds"``
            the backgrounds whose depth guides that of the samples, ``"checks"`` the samples whose pixels were
            read back and compared with those of the recipe, ``"export"`` the samples that were written in
            another form.
        done: How many are done, those of earlier runs included.
        total: How many there are.
    """

    stage: Stage
    done: int
    total: int


@dataclass(frozen=True)
class Notice:
    """Something that the user should know, in one line."""

    message: str


Event: TypeAlias = Progress | Notice
OnEvent: TypeAlias = Callable[[Event], None]


def silent(event: Event) -> None:
    """What hears the events where nobody else does."""


Check: TypeAlias = Callable[[], None]
Advance: TypeAlias = Callable[[int], None]


class _Cancelled(Exception):
    """Another thread has failed, or the user has had enough."""


def check_workers(workers: int | None) -> None:
    """Raise SpecError unless ``workers`` is ``None`` or a number of threads."""
    if workers is not None and workers < 1:
        raise SpecError(f"--workers is {workers}, expected 1 or more threads.")


def worker_count(workers: int | None) -> int:
    """The threads to use: as many as asked for, else one for each processor this process may use."""
    if workers is not None:
        return workers
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def fill_missing(
    layout: Layout,
    present: Callable[[], set[int]],
    write: Callable[[int, Check, Advance], None],
    stage: Stage,
    workers: int | None,
    tell: OnEvent,
) -> int:
    """Write every shard that is missing and check that all are there.

    Returns:
        How many samples were written, or whatever else the array's first axis counts.
    """
    there = present()
    missing = [shard for shard in range(layout.shards) if shard not in there]
    total = layout.shape[0]
    at_first = done = total - sum(len(layout.samples_of(shard)) for shard in missing)
    tell(Progress(stage, done, total))
    counts: queue.SimpleQueue[int] = queue.SimpleQueue()
    cancelled = threading.Event()

    def check() -> None:
        if cancelled.is_set():
            raise _Cancelled

    pool = ThreadPoolExecutor(worker_count(workers), thread_name_prefix=f"fgbgpack-{stage}")
    try:
        pending = {pool.submit(write, shard, check, counts.put) for shard in missing}
        while pending:
            finished, pending = wait(pending, _POLL_SECONDS, FIRST_EXCEPTION)
            for future in finished:
                future.result()
            if not counts.empty():
                while not counts.empty():
                    done += counts.get()
                tell(Progress(stage, done, total))
    finally:
        cancelled.set()
        pool.shutdown(cancel_futures=True)
    if missing:
        lost = set(range(layout.shards)) - present()
        if lost:
            raise DatasetError(
                f"{len(lost)} shards are missing or damaged right after they were written (the first is "
                f"number {min(lost)}): the store loses data, or something else writes to it."
            )
    return total - at_first


def on_threads(work: Callable[[T], R], items: Iterable[T], workers: int | None) -> list[R]:
    """What ``work`` makes of each item, in order; an error or an interrupt drops those that are not begun."""
    pool = ThreadPoolExecutor(worker_count(workers))
    try:
        return list(pool.map(work, items))
    finally:
        pool.shutdown(cancel_futures=True)


def in_order(
    work: Callable[[T], R], items: Iterable[T], workers: int | None, *, ahead: int
) -> Iterator[tuple[T, R]]:
    """Each item with what ``work`` makes of it on threads, in order.

    Args:
        work: What is done on threads.
        items: Taken one by one in this thread, as there is room.
        workers: Threads; ``None`` takes one for each processor.
        ahead: How many items wait at most, beyond one for each thread.
    """
    threads = worker_count(workers)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fgbgpack-in-order")
    waiting: deque[tuple[T, Future[R]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > threads + ahead:
                first, result = waiting.popleft()
                yield first, result.result()
        while waiting:
            first, result = waiting.popleft()
            yield first, result.result()
    finally:
        pool.shutdown(cancel_futures=True)


def measure(work: Callable[[range], None], runs: Sequence[range], workers: int | None) -> tuple[int, float]:
    """Work on runs of samples on threads for about a second.

    Returns:
        How many samples that was, and the seconds it took.
    """
    threads = worker_count(workers)
    done = 0
    start = time.perf_counter()
    for first in range(0, len(runs), threads):
        group = runs[first : first + threads]
        on_threads(work, group, threads)
        done += sum(len(run) for run in group)
        if time.perf_counter() - start > _MEASURE_SECONDS:
            break
    return done, time.perf_counter() - start
