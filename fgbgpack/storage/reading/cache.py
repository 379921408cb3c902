"""A folder of this machine that keeps what was read of stores far away, for the next epoch or process.

A file holds what is known of one shard: its index, then its chunks at their places, with holes for those that
were never read. Nothing says which chunks are there but their checksums: a hole, a chunk that another process
has half written and one that is damaged are all alike, and asked of the store again. So there are no locks,
any number of processes may read and write at once, and what a killed one leaves is used. The folders are
named by generations of datasets, each of which stands for all bytes of a dataset: one that is replaced has
another folder.
"""

from __future__ import annotations

import errno
import os
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.errors import SpecError
from fgbgpack.files import why
from fgbgpack.options import checked_numbers

#: What a cache holds unless something else is said.
DEFAULT_BYTES = 20 << 30
_LEAST_BYTES = 1 << 20
#: Files are deleted until so much of the limit is used: what several processes write until they look is left.
_FILLED, _ALLOWED = 3 / 4, 7 / 8
#: The part of the limit that a process writes before it looks how much there is.
_LOOKS = 64
#: Seconds that files stay for after they were used. A pass over more than fits would otherwise delete all
#: that it has kept before it comes again.
_STAYS = 3600.0
#: The same of files of other datasets.
_OTHERS_STAY = 600.0
#: Seconds after which the use of a file is noted again.
_NOTED = 60.0
_OPEN_FILES = 64
_BLOCK = 512  # what file systems count in
_SUFFIX = ".chunks"


class ChunkCache:
    """A folder for chunks of any number of datasets, of ``limit`` bytes. It can be pickled and forked.

    Up to 8 processes together keep to the limit; each one more may exceed it by a 64th.

    Raises SpecError where the limit is none, or the folder cannot be made or written.
    """

    def __init__(self, folder: str | os.PathLike[str], limit: int = DEFAULT_BYTES) -> None:
        (self.limit,) = checked_numbers(
            {"cache_bytes": (limit, _LEAST_BYTES, 1 << 60)}, "There is no such cache:"
        )
        self.folder = Path(folder).absolute()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as exc:
            raise SpecError(
                f"cache: {self.folder} cannot be written: {why(exc, str(self.folder))}. Give another folder.",
                code="cache-unusable",
            ) from exc
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        #: Bytes that this process may still write before it looks; ``None``: it has not looked yet.
        self._left: int | None = None
        #: Bytes that it leaves out before it looks again, since there was no room.
        self._refused = 0
        #: Whether it writes no more, for what was the matter when it did.
        self.failed = False
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "limit": self.limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def admits(self, size: int, generation: str) -> bool:
        """Whether so many bytes may be written now; old files are deleted for them."""
        if self._process != os.getpid():
            self._begin()
        with self._lock:
            if self.failed:
                return False
            if self._refused > 0:
                self._refused -= size
                return False
            if self._left is None or self._left < size:
                room = int(self.limit * _ALLOWED) - self._make_room(generation)
                self._left = min(room, max(size, self.limit // _LOOKS))
            if self._left < size:
                self._refused = self.limit // _LOOKS
                return False
            self._left -= size
            return True

    def fail(self, error: OSError) -> None:
        """Write no more in this process, and say so once."""
        with self._lock:
            if self.failed:
                return
            self.failed = True
        warnings.warn(
            f"Nothing more is cached in {self.folder}: {error.strerror or error}. Reading goes on without.",
            stacklevel=2,
        )

    def _make_room(self, generation: str) -> int:
        """Delete the files that were used least recently, where there is too much; the bytes left."""
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        if total <= self.limit * _FILLED:
            return total
        now = time.time()
        for used, size, path in files:
            stays = _STAYS if path.is_relative_to(self.folder / generation) else _OTHERS_STAY
            if now - used > stays:
                # Another process may have deleted it; who has it open reads on.
                with suppress(OSError):
                    path.unlink()
                    total -= size
            if total <= self.limit * _FILLED:
                break
        return total

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """When each file was used last, how many bytes it takes, and its path."""
        for path in self.folder.rglob(f"*{_SUFFIX}"):
            with suppress(OSError):
                status = path.stat()
                yield status.st_mtime, status.st_blocks * _BLOCK, path


class DatasetCache:
    """What is kept of one dataset, by its generation. It can be pickled and forked."""

    def __init__(self, cache: ChunkCache, generation: str) -> None:
        self._cache, self._generation = cache, generation

    def shards(self, path: str, index_bytes: int) -> CachedShards:
        """The shards of an array, for one process."""
        return CachedShards(self._cache, self._generation, path, index_bytes)


class _File:
    """An open file, which is closed when nothing refers to it any more."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        self.noted = 0.0
        self.note()

    def note(self) -> None:
        """The file is used now."""
        if time.monotonic() - self.noted > _NOTED:
            self.noted = time.monotonic()
            os.utime(self.number)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


class CachedShards:
    """What is kept of the shards of one array, in one process. It may be used on threads.

    Nothing that it gives is checked.
    """

    def __init__(self, cache: ChunkCache, generation: str, path: str, index_bytes: int) -> None:
        self._cache, self._generation = cache, generation
        self._folder = cache.folder / generation / path
        self._index_bytes = index_bytes
        self._files: OrderedDict[int, _File] = OrderedDict()
        self._lock = threading.Lock()

    def index(self, shard: int) -> bytes | None:
        """The index of a shard, or what is in its place."""
        found = self._read(shard, 0, self._index_bytes)
        return None if found is None else found.tobytes()

    def keep_index(self, shard: int, index: bytes) -> None:
        """Write the index of a shard."""
        self._write(shard, 0, index)

    def chunk(self, shard: int, offset: int, size: int) -> NDArray[np.uint8] | None:
        """Bytes of a shard, or what is in their place."""
        return self._read(shard, self._index_bytes + offset, size)

    def keep_chunk(self, shard: int, offset: int, data: NDArray[np.uint8]) -> None:
        """Write bytes of a shard."""
        self._write(shard, self._index_bytes + offset, data.data)

    def _read(self, shard: int, place: int, size: int) -> NDArray[np.uint8] | None:
        try:
            file = self._opened(shard, make=False)
            if file is None:
                return None
            found = np.empty(size, np.uint8)
            if os.preadv(file.number, [found.data], place) == size:
                return found
        except OSError:
            # What cannot be read is asked of the store.
            self._forget(shard)
        return None

    def _write(self, shard: int, place: int, data: bytes | memoryview) -> None:
        # Both ends of it may lie in blocks of their own.
        if not self._cache.admits(len(data) + 8 * _BLOCK, self._generation):
            return
        try:
            file = self._opened(shard, make=True)
            if file is not None and os.fstat(file.number).st_nlink == 0:
                self._forget(shard)
                file = self._opened(shard, make=True)
            if file is not None:
                os.pwrite(file.number, data, place)
        except OSError as exc:
            self._cache.fail(exc)

    def _opened(self, shard: int, *, make: bool) -> _File | None:
        """The file of a shard; ``None`` where there is none, unless it is to be made."""
        with self._lock:
            file = self._files.get(shard)
            if file is None:
                path = self._folder / f"{shard}{_SUFFIX}"
                if make:
                    path.parent.mkdir(parents=True, exist_ok=True)
                elif not path.exists():
                    return None
                file = self._files[shard] = _File(path)
                if len(self._files) > _OPEN_FILES:
                    self._files.popitem(last=False)
            self._files.move_to_end(shard)
            file.note()
            return file

    def _forget(self, shard: int) -> None:
        with self._lock:
            self._files.pop(shard, None)
