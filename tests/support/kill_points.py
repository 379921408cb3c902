"""Processes that are killed: before and after each call that changes names or syncs, or at any moment.

They are forked, one a kill, from a process that has imported and compiled all and has no threads at work. So
each takes little more than its work.
"""

from __future__ import annotations

import errno
import gc
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import zarr.core.sync

from fgbgpack import system

#: What gives names: killed before and after.
NAMING = ("rename", "replace", "link")
#: What else is killed before: what comes after it is also what comes before the next call.
OTHERS = ("unlink", "remove", "rmdir", "fsync", "fdatasync", "pwrite")

Action = Callable[[], object]


@contextmanager
def killed_at(event: int | None) -> Iterator[list[str]]:
    """Counts the events of this process, and kills it with SIGKILL at the one of that number, from 0.

    Yields the events so far, such as "before rename".
    """
    events: list[str] = []
    lock = threading.Lock()

    def happens(name: str) -> None:
        with lock:
            events.append(name)
            if len(events) - 1 == event:
                os.kill(os.getpid(), signal.SIGKILL)

    with ExitStack() as patches:

        def wrap(owner: object, name: str, *, after: bool) -> None:
            real = getattr(owner, name)

            def wrapper(*arguments, **options):
                happens(f"before {name}")
                result = real(*arguments, **options)
                if after:
                    happens(f"after {name}")
                return result

            patches.enter_context(mock.patch.object(owner, name, wrapper))

        for name in NAMING:
            wrap(os, name, after=True)
        for name in OTHERS:
            wrap(os, name, after=False)
        wrap(system, "exchange", after=True)
        wrap(system, "syncfs", after=False)
        yield events
        happens("at the end")


@contextmanager
def lacking(*calls: str) -> Iterator[None]:
    """This process as on a system without ``exchange`` or ``syncfs``, or a file system without ``flock``."""

    def flock(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with ExitStack() as patches:
        for name in calls:
            if name == "flock":
                patches.enter_context(mock.patch("fcntl.flock", flock))
            else:
                patches.enter_context(mock.patch.object(system, name, return_value=False))
        yield


# --- the process that others are forked from -------------------------------------------------------


class _Forker:
    """What that process does when it is asked."""

    def __init__(self) -> None:
        self._pipes: dict[int, Connection] = {}
        # ONNX Runtime has one that waits for work, and is given none here.
        self._threads = len(_threads())

    def warm(self, action: Action) -> list[str]:
        """Do an action here, and end all threads that it has begun; those that are left."""
        with suppress(Exception):  # whoever asks does it as well
            action()
        zarr.core.sync.cleanup_resources()
        gc.collect()
        for _ in range(200):
            if len(_threads()) == self._threads and threading.active_count() == 1:
                return []
            time.sleep(0.01)
        return [*_threads(), *(thread.name for thread in threading.enumerate())]

    def fork(self, action: Action, event: int | None) -> int:
        """Begin an action in a process of its own, which is killed at that event; its number."""
        receiver, sender = multiprocessing.Pipe(duplex=False)
        if pid := os.fork():
            sender.close()
            with suppress(EOFError):
                receiver.recv()
            self._pipes[pid] = receiver
            return pid
        status = 1
        try:
            with killed_at(event) as events:
                sender.send("begun")
                action()
            sender.send(events)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def wait(self, pid: int) -> tuple[int, list[str]]:
        """Wait for a process: its exit code, and its events if it was not killed."""
        events = []
        with self._pipes.pop(pid) as receiver, suppress(EOFError):
            events = receiver.recv()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), events


def _threads() -> list[str]:
    """The threads of this process, by the system's names."""
    names = []
    for path in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):  # it has just ended
            names.append(path.read_text())
    return names


def _serve(pipe: Connection, modules: tuple[str, ...]) -> None:
    for name in modules:
        importlib.import_module(name)
    forker = _Forker()
    with suppress(EOFError):
        while True:
            request, *arguments = pipe.recv()
            pipe.send(getattr(forker, request)(*arguments))


class Nursery:
    """The process that others are forked from, as seen by the one that starts it."""

    def __init__(self, *modules: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, modules), daemon=True)
        with mock.patch.dict(os.environ, OPENBLAS_NUM_THREADS="1"):
            self._process.start()
        other.close()

    def _ask(self, *request: object) -> Any:
        self._pipe.send(request)
        return self._pipe.recv()

    def warm(self, action: Action) -> None:
        """Compile and import there what an action needs. It leaves no threads, so that a fork is sound."""
        left = self._ask("warm", action)
        assert left == [], left

    def finish(self, action: Action) -> tuple[list[str], float]:
        """Do an action; its events, and the seconds that it took."""
        pid = self._ask("fork", action, None)
        start = time.monotonic()
        status, events = self._ask("wait", pid)
        assert status == 0
        return events, time.monotonic() - start

    def kill_at(self, action: Action, event: int) -> bool:
        """Do an action that is killed at an event; whether it came to that."""
        return self._was_killed(self._ask("fork", action, event))

    def kill_after(self, action: Action, seconds: float) -> bool:
        """Do an action that is killed after a time; whether it was still at work."""
        pid = self._ask("fork", action, None)
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
        return self._was_killed(pid)

    def _was_killed(self, pid: int) -> bool:
        status, _ = self._ask("wait", pid)
        assert status in (0, -signal.SIGKILL), status
        return bool(status)

    def close(self) -> None:
        """End it."""
        self._pipe.close()
        self._process.join()
        assert self._process.exitcode == 0
