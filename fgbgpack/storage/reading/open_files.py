"""The files that readers hold open: few, however many arrays there are in a process."""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections import OrderedDict

from fgbgpack.inputs import open_descriptor

_MOST_FILES = 256
_LEAST_FILES = 16


def _limit() -> int:
    """A part of what the process may open."""
    if os.name != "posix":
        return _LEAST_FILES
    import resource

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MOST_FILES if soft < 0 else min(_MOST_FILES, max(_LEAST_FILES, soft // 4))


class OpenFile:
    """A file that is closed when it is no longer referenced."""

    def __init__(self, path: str) -> None:
        self.number = open_descriptor(path)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


class _Recent:
    """Which files of this process were used last. Those beyond the limit are let go of, the oldest first."""

    def __init__(self) -> None:
        # Garbage may be collected, and files so be let go of, while the lock is held.
        self._lock = threading.RLock()
        self._order: OrderedDict[tuple[int, int], weakref.ref[OpenFiles]] = OrderedDict()

    def note(self, files: OpenFiles, shard: int) -> None:
        with self._lock:
            key = files.number, shard
            self._order[key] = files.reference
            self._order.move_to_end(key)
            self._let_go(_limit())

    def let_go_of_all(self) -> None:
        with self._lock:
            self._let_go(0)

    def _let_go(self, most: int) -> None:
        while len(self._order) > most:
            (_, shard), reference = self._order.popitem(last=False)
            if (files := reference()) is not None:
                files.let_go(shard)

    def forget(self, number: int) -> None:
        with self._lock:
            for key in list(self._order):
                if key[0] == number:
                    self._order.pop(key, None)


_recent = _Recent()


def _renew() -> None:
    # A thread of the parent may have had the lock.
    global _recent
    _recent = _Recent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


class OpenFiles:
    """The open files of one array, by the numbers of its shards. They are closed with it, at the latest."""

    _count = 0

    def __init__(self) -> None:
        OpenFiles._count += 1
        self.number = OpenFiles._count
        self._files: dict[int, OpenFile] = {}
        number = self.number
        self.reference: weakref.ref[OpenFiles] = weakref.ref(self, lambda _: _recent.forget(number))

    def get(self, shard: int, path: str) -> OpenFile:
        """The file of a shard; OSError where it cannot be opened."""
        file = self._files.get(shard)
        if file is None:
            file = self._files[shard] = self._opened(path)
        _recent.note(self, shard)
        return file

    def let_go(self, shard: int) -> None:
        """Close the file of a shard once no thread reads it any more."""
        self._files.pop(shard, None)

    @staticmethod
    def _opened(path: str) -> OpenFile:
        try:
            return OpenFile(path)
        except OSError as exc:
            if exc.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        # Others have opened most of what this process may.
        _recent.let_go_of_all()
        return OpenFile(path)
