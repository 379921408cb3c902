"""What runs the work of a stage: threads of this process, or an engine elsewhere with the same methods."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeVar

from fgbgpack.errors import SpecError
from fgbgpack.storage.reading.threads import usable_cores

T = TypeVar("T")
R = TypeVar("R")

_POLL_SECONDS = 0.1
#: How long is measured what work takes.
MEASURE_SECONDS = 1.0


class Monitor:
    """What work in progress reports to, and asks whether it is still needed. It is used from many threads."""

    def __init__(self) -> None:
        self._counts: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._cancelled = threading.Event()

    def advance(self, count: int) -> None:
        """Report that ``count`` more samples, or whatever else is counted, are done."""
        self._counts.put(count)

    def check(self) -> None:
        """Raise if another thread has failed or the user has interrupted the run."""
        if self._cancelled.is_set():
            raise _Cancelled

    def cancel(self) -> None:
        """Have all work stop at its next check."""
        self._cancelled.set()

    def wait(self, seconds: float) -> int:
        """How many were done since this was last asked; waits until something is reported."""
        total = 0
        with suppress(queue.Empty):
            total = self._counts.get(timeout=seconds)
            while True:
                total += self._counts.get_nowait()
        return total


class _Cancelled(Exception):
    """The work was cancelled."""


class Engine(Protocol):
    """What runs work on many items: threads of this process, or other processes (``Workers``)."""

    @property
    def threads(self) -> Threads:
        """The threads of this process, for what is not sent elsewhere."""

    def and_more(self, count: int) -> Engine:
        """The same with some more threads in this process, which wait for a device most of the time."""

    def run(
        self,
        work: Callable[[T, Monitor], R],
        items: Iterable[T],
        on_advance: Callable[[int], None],
        name: str,
        on_result: Callable[[T, R], None] | None = None,
    ) -> None:
        """Do some work for every item, in any order; the first error cancels all that is left.

        ``work`` reports to the monitor. ``on_advance`` gets its counts, and ``on_result`` each item with what
        ``work`` returned for it, in this thread.
        """


class Threads:
    """Runs work on threads of this process: kernels, codecs and ONNX Runtime release the GIL.

    ``workers`` is 1 or more (SpecError); ``None`` takes one for each processor that this process may use.
    """

    def __init__(self, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise SpecError(f"--workers is {workers}, expected 1 or more threads.", code="workers-invalid")
        self.count: int = usable_cores() if workers is None else workers

    @property
    def threads(self) -> Threads:
        """These."""
        return self

    def and_more(self, count: int) -> Threads:
        """These and some more."""
        return Threads(self.count + count)

    def run(
        self,
        work: Callable[[T, Monitor], R],
        items: Iterable[T],
        on_advance: Callable[[int], None],
        name: str,
        on_result: Callable[[T, R], None] | None = None,
    ) -> None:
        """As :meth:`Engine.run`."""
        monitor = Monitor()
        pool = ThreadPoolExecutor(self.count, thread_name_prefix=f"fgbgpack-{name}")
        try:
            finished: queue.SimpleQueue[tuple[T, Future[R]]] = queue.SimpleQueue()

            def finish(future: Future[R], item: T) -> None:
                finished.put((item, future))
                monitor.advance(0)

            pending = 0
            for item in items:
                pool.submit(work, item, monitor).add_done_callback(partial(finish, item=item))
                pending += 1
            while pending:
                count = monitor.wait(_POLL_SECONDS)
                while not finished.empty():
                    item, future = finished.get()
                    result = future.result()
                    if on_result is not None:
                        on_result(item, result)
                    pending -= 1
                if count:
                    on_advance(count)
        finally:
            monitor.cancel()
            pool.shutdown(cancel_futures=True)

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """What ``work`` returns for each item, in order; an error or interrupt drops those not begun."""
        pool = ThreadPoolExecutor(self.count)
        try:
            return list(pool.map(work, items))
        finally:
            pool.shutdown(cancel_futures=True)

    def in_order(self, work: Callable[[T], R], items: Iterable[T], *, ahead: int) -> Iterator[tuple[T, R]]:
        """Each item with what ``work`` returns for it on threads, in order.

        Items are taken one by one in this thread; ``ahead`` wait at most, beyond one for each thread.
        """
        pool = ThreadPoolExecutor(self.count, thread_name_prefix="fgbgpack-in-order")
        waiting: deque[tuple[T, Future[R]]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) > self.count + ahead:
                    yield waiting[0][0], waiting.popleft()[1].result()
            while waiting:
                yield waiting[0][0], waiting.popleft()[1].result()
        finally:
            pool.shutdown(cancel_futures=True)

    def measure(self, work: Callable[[range], None], runs: Sequence[range]) -> tuple[int, float]:
        """Work on runs of samples for about a second: how many samples that was, and the seconds that as many
        take where no thread ever waits for another.
        """
        start, left = time.perf_counter(), iter(runs)
        lock = threading.Lock()

        def take(_: int) -> tuple[int, float]:
            begun, done = time.perf_counter(), 0
            while not done or time.perf_counter() - start < MEASURE_SECONDS:
                with lock:
                    run = next(left, None)
                if run is None:
                    break
                work(run)
                done += len(run)
            return done, time.perf_counter() - begun

        found = [(done, seconds) for done, seconds in self.map(take, range(self.count)) if done]
        done = sum(done for done, _ in found)
        return done, done / sum(done / seconds for done, seconds in found)
