"""Work in other processes: any ``concurrent.futures.Executor``, such as that of a Dask client."""

from __future__ import annotations

import asyncio
import queue
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fgbgpack.errors import ClusterError, FgbgError, SpecError
from fgbgpack.pipeline.executor import Engine, Monitor, Threads
from fgbgpack.pipeline.ticket import Outcome, Ticket, Work, perform, versions_error
from fgbgpack.storage.reading.threads import usable_cores

T = TypeVar("T")
R = TypeVar("R")

#: Tasks that are sent for each worker, so that none waits for the next; the rest stays here.
_SENT = 4
_POLL_SECONDS = 0.5
#: How often the workers are counted, and how long there may be none.
_COUNT_SECONDS = 5.0
_PATIENCE_SECONDS = 60.0
#: How long to wait for tasks that cannot be cancelled, once others were.
_END_SECONDS = 60.0

_RESUMES = "What is written stays: run the same command again to go on."


@dataclass(frozen=True)
class _Kind:
    """A kind of executors: how many workers one has now, and what its ``submit`` takes beside the task."""

    workers: Callable[[Any], int]
    options: Mapping[str, Any] = field(default_factory=dict)


def _pool_size(executor: Any) -> int:
    """How many workers an executor says that it has, as those of Python, loky and mpi4py do."""
    for name in ("_max_workers", "num_workers"):
        if isinstance(count := getattr(executor, name, None), int) and count > 0:
            return count
    return usable_cores()


#: By the package that the class of an executor is in. Dask would keep results by the digests of their tasks.
_KINDS = {
    "distributed": _Kind(lambda executor: sum(executor._client.nthreads().values()), {"pure": False}),
}
_OTHER = _Kind(_pool_size)

#: What the errors of engines mean, by their names: a code, and what happened.
_MEANINGS: Mapping[str, tuple[str, str]] = {
    "KilledWorker": (
        "workers-died",
        "Workers ended again and again while they had the same task: the machine may have too little memory "
        "for them. Start fewer on each machine.",
    ),
    "BrokenProcessPool": ("workers-died", "A worker ended in the middle of its work."),
    "CommClosedError": ("cluster-lost", "The connection to the scheduler or to a worker was lost."),
    **dict.fromkeys(
        ("CancelledError", "FutureCancelledError", "FuturesCancelledError"),
        ("cluster-lost", "The scheduler has ended, or has dropped the work."),
    ),
    "TimeoutError": ("cluster-lost", "The scheduler or a worker does not answer."),
    "ClosedClientError": ("cluster-lost", "The client of the cluster is closed."),
}


def engine_of(workers: int | None, executor: Executor | None = None) -> Engine:
    """What runs the work of a command: threads of this process, or an executor.

    Raises SpecError where that is none, or ``workers`` is below 1.
    """
    threads = Threads(workers)
    if executor is None:
        return threads
    if not isinstance(executor, Executor):
        raise SpecError(
            f"executor: found {type(executor).__name__}, expected a concurrent.futures.Executor, such as "
            "distributed.Client(...).get_executor(retries=3).",
            code="executor-invalid",
        )
    return Workers(executor, threads)


class Workers:
    """Runs work in other processes by an executor, a bounded number of tasks at a time; ``threads`` do here
    what is not sent.
    """

    def __init__(self, executor: Executor, threads: Threads) -> None:
        self._executor, self.threads = executor, threads
        self._kind = _KINDS.get(type(executor).__module__.partition(".")[0], _OTHER)
        self._workers, self._counted = 0, 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker has one thread for each of its tasks.
        return Threads, (1,)

    def and_more(self, count: int) -> Workers:
        """The same: workers have threads of their own."""
        return self

    def run(
        self,
        work: Callable[[T, Monitor], R],
        items: Iterable[T],
        on_advance: Callable[[int], None],
        name: str,
        on_result: Callable[[T, R], None] | None = None,
    ) -> None:
        """As :meth:`~fgbgpack.pipeline.executor.Engine.run`; work that is no ``Work`` stays in this process.

        Raises ClusterError where workers cannot do it; what they raise themselves comes as it is.
        """
        if not isinstance(work, Work):
            self.threads.run(work, items, on_advance, name, on_result)
            return
        work.prepare()
        ticket = Ticket.of(work)
        pending: dict[Future[Outcome], T] = {}
        finished: queue.SimpleQueue[Future[Outcome]] = queue.SimpleQueue()
        rest = iter(items)
        last = time.monotonic()
        try:
            while True:
                while len(pending) < self._most() and (item := next(rest, _NONE)) is not _NONE:
                    future = self._submit(ticket, work.sent(item))
                    pending[future] = item
                    future.add_done_callback(finished.put)
                if not pending:
                    break
                try:
                    future = finished.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    self._check_patience(last)
                    continue
                last = time.monotonic()
                item, outcome = pending.pop(future), _result(future)
                result = outcome.value()
                if on_result is not None:
                    on_result(item, result)
                on_advance(outcome.count)
        finally:
            _cancel(pending)

    def in_order(self, work: Work[T, R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Each item with what ``work`` returns for it, in order; items are taken as tasks are sent."""
        work.prepare()
        ticket, rest = Ticket.of(work), iter(items)
        waiting: deque[tuple[T, Future[Outcome]]] = deque()
        try:
            while True:
                while len(waiting) < self._most() and (item := next(rest, _NONE)) is not _NONE:
                    waiting.append((item, self._submit(ticket, work.sent(item))))
                if not waiting:
                    break
                item, future = waiting[0]
                start = time.monotonic()
                while not wait([future], _POLL_SECONDS).done:
                    self._check_patience(start)
                waiting.popleft()
                yield item, _result(future).value()
        finally:
            _cancel([future for _, future in waiting])

    def _submit(self, ticket: Ticket, item: Any) -> Future[Outcome]:
        try:
            return self._executor.submit(perform, ticket, item, **self._kind.options)
        except Exception as exc:  # each engine has errors of its own
            raise _lost(exc) from exc

    def _most(self) -> int:
        """How many tasks may be with the engine."""
        now = time.monotonic()
        if now - self._counted > _COUNT_SECONDS:
            self._counted = now
            # Where it cannot be asked, its tasks tell.
            with suppress(Exception):
                self._workers = self._kind.workers(self._executor)
        return _SENT * max(1, self._workers)

    def _check_patience(self, last: float) -> None:
        """Raises ClusterError where there has been no worker for long."""
        self._most()
        if self._workers == 0 and time.monotonic() - last > _PATIENCE_SECONDS:
            raise ClusterError(
                f"The cluster has had no worker for {_PATIENCE_SECONDS:.0f} seconds: start some. {_RESUMES}",
                code="cluster-without-workers",
            )


_NONE: Any = object()


def _result(future: Future[Outcome]) -> Outcome:
    try:
        return future.result()
    except (Exception, asyncio.CancelledError) as exc:
        if (error := translated(exc)) is exc:
            raise
        raise error from exc


def translated(exc: BaseException) -> BaseException:
    """What an engine has raised, as an error that says what to do; what is no engine's is as it was."""
    if isinstance(exc, FgbgError):
        return exc
    # A worker cannot load what it is sent.
    lacks = isinstance(exc, ModuleNotFoundError | AttributeError) and "fgbgpack" in str(exc)
    if lacks:
        return versions_error([f"a worker: {exc}"])
    known = next((_MEANINGS[kind.__name__] for kind in type(exc).__mro__ if kind.__name__ in _MEANINGS), None)
    if known is None and isinstance(exc, BrokenExecutor):
        known = _MEANINGS["BrokenProcessPool"]
    if known is None:
        return exc
    return ClusterError(f"{known[1]} {_RESUMES}", code=known[0])


def _lost(exc: Exception) -> BaseException:
    """The error where an engine takes no more work."""
    found = translated(exc)
    if isinstance(found, FgbgError):
        return found
    return ClusterError(f"The executor takes no more work: {exc}. {_RESUMES}", code="cluster-lost")


def _cancel(pending: Collection[Future[Outcome]]) -> None:
    """Cancel what has not begun, and wait for the rest."""
    for future in pending:
        with suppress(Exception):
            future.cancel()
    wait([future for future in pending if not future.cancelled()], timeout=_END_SECONDS)
