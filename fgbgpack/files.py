"""Files of this machine: hashed, replaced in one step, locked; and what a full disk is told as."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fgbgpack.errors import DatasetError
from fgbgpack.inputs import open_file

#: How the name of a file ends while it is being written: here, and in Zarr's local store.
PARTIAL = re.compile(r"\.[0-9a-f]{32}\.partial$")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class PartialFile:
    """A new file beside the one that it will replace, locked while it is open so that nobody sweeps it."""

    def __init__(self, target: Path) -> None:
        self._target = target
        while True:
            self.path = target.with_name(f"{target.name}.{uuid.uuid4().hex}.partial")
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            with suppress(OSError):
                try_lock(self._descriptor)
            # A sweeper may have taken it before it was locked.
            if self.path.exists():
                return
            os.close(self._descriptor)

    def unlock(self) -> None:
        """Give up the lock, for a library that locks the file itself."""
        if os.name == "posix":
            import fcntl

            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def publish(self) -> None:
        """Replace the target."""
        os.fsync(self._descriptor)
        self.path.replace(self._target)

    def close(self) -> None:
        """Close it, and delete it unless it was published."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)


@contextmanager
def replacing_file(path: Path) -> Iterator[PartialFile]:
    """Yields a new file beside ``path``, which it replaces when the block succeeds, or is deleted.

    A link is followed. What writers that were killed have left is deleted first.
    """
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    partial = PartialFile(target)
    try:
        yield partial
        partial.publish()
    finally:
        partial.close()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """As :func:`replacing_file`; yields the path to write to."""
    with replacing_file(path) as partial:
        yield partial.path


def _sweep(target: Path) -> None:
    """Delete what killed writers of a file have left; what others are writing is locked, and stays."""
    if os.name != "posix":
        return
    for left_over in target.parent.iterdir():
        name = left_over.name
        if name.startswith(target.name) and PARTIAL.fullmatch(name[len(target.name) :]):
            with suppress(OSError), left_over.open("rb") as file:
                if try_lock(file.fileno()):
                    left_over.unlink()


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file in one step: readers see the old content or the new."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def is_full(error: OSError) -> bool:
    """Whether an error says that the disk, or the user's share of it, is full."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def disk_errors(name: str, action: str = "read or written", kept: str = "") -> Iterator[None]:
    """Turns an OSError into a DatasetError that names the place and says when its disk is full.

    ``kept`` is said of data that is there already.
    """
    try:
        yield
    except OSError as exc:
        message, code = f"{name} cannot be {action}: {exc}.", "io-failed"
        if is_full(exc):
            message = f"The disk that holds {name} is full: make room and run the same command again. {kept}"
            code = "disk-full"
        error = DatasetError(message.rstrip(), code=code)
        for note in getattr(exc, "__notes__", []):
            error.add_note(note)
        raise error from exc


def try_lock(descriptor: int) -> bool:
    """Locks an open file or folder until it is closed or the process ends; False if another one holds it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextmanager
def locked(folder: Path, refusal: str) -> Iterator[None]:
    """Holds the system's lock on a folder, or raises ``refusal``; it leaves no file, and dies with its
    process.
    """
    if os.name != "posix":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # A folder that another process has just removed can still be locked.
        if not (
            try_lock(descriptor) and folder.is_dir() and os.path.samestat(os.fstat(descriptor), folder.stat())
        ):
            raise DatasetError(refusal, code="dataset-locked")
        yield
    finally:
        os.close(descriptor)
