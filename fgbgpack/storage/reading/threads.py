"""The threads that all readers of a process share."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

MOST = 16


def usable_cores() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Helpers:
    """Threads that start when they are first needed, and anew in a process that was forked."""

    def __init__(self) -> None:
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def run(self, tasks: Iterable[T], work: Callable[[T], None], threads: int) -> None:
        """Do every task, on this thread and on ``threads - 1`` others.

        The first error ends it; when this returns or raises, no thread is at work on a task any more.
        """
        left = deque(tasks)

        def take_all() -> None:
            try:
                while left:
                    try:
                        task = left.popleft()
                    except IndexError:  # another thread took the last
                        return
                    work(task)
            except BaseException:
                left.clear()
                raise

        others = [self._threads().submit(take_all) for _ in range(min(threads, MOST, len(left)) - 1)]
        try:
            take_all()
        finally:
            # Those that have not begun have nothing left to do; the others are at their last task.
            errors = [other.exception() for other in others if not other.cancel()]
        for error in errors:
            if error is not None:
                raise error

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None or self._pool[0] != os.getpid():
            self._pool = os.getpid(), ThreadPoolExecutor(MOST, "fgbgpack-read")
        return self._pool[1]


helpers = Helpers()
