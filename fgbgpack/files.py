"""Files of this machine: hashed, replaced in one step, made durable, locked; and what full disks are told as.

Renaming makes a file appear whole, but after a power loss it may be there without its content, or not at all:
the system writes data, names and folders when it likes. What must survive is synced, in this order: the data,
then the name that makes it count, then the folder with that name.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import sys
import uuid
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

from fgbgpack import lock_file, system
from fgbgpack.errors import DatasetError, SpecError, redacted
from fgbgpack.inputs import open_file

#: How the name of a file ends while it is being written: here, and in Zarr's local store.
PARTIAL = re.compile(r"\.[0-9a-f]{32}\.partial$")

# As pathlib leaves it: "s3:/bucket". One letter is a drive of Windows.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def require_local(path: str | os.PathLike[str], what: str) -> None:
    """Refuses a URL where files are written on this machine: SpecError, ``target-not-local``.

    ``what`` begins the message, such as ``"Exports are"``.
    """
    if is_url(path):
        raise SpecError(
            f"{what} written to this machine only: found the URL {shown(path)}. Give a path, and copy the "
            "result to its place.",
            code="target-not-local",
        )


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether what was given as a path is a URL."""
    return bool(_URL.match(os.fspath(path)))


def shown(path: str | os.PathLike[str]) -> str:
    """A path as messages have it: a URL as it was given, without what is secret in it.

    Example:
        >>> from pathlib import PurePosixPath
        >>> shown(PurePosixPath("s3://bucket/pictures")), shown("pictures")
        ('s3://bucket/pictures', 'pictures')
    """
    if not is_url(path):
        return os.fspath(path)
    scheme, rest = os.fspath(path).split(":/", 1)
    return redacted(f"{scheme}://{rest.lstrip('/')}")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- durable ---------------------------------------------------------------------------------------

#: What a file system says that cannot sync folders, or not this one.
_NOT_SYNCED = frozenset((errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES))


class FolderSync:
    """Makes everything below a folder durable, and the names of the folder and of those above it.

    Where the system can sync a whole file system it does that, with one call for any number of files; else
    each file and folder is synced. Make it before the first file is written: it notices what the system fails
    to write from then on. All raises OSError.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._descriptor: int | None = None
        if os.name == "posix":
            self._descriptor = os.open(self._folder, os.O_RDONLY)
            weakref.finalize(self, os.close, self._descriptor)

    def start(self, name: str) -> None:
        """Begins to write a file below the folder, so that the sync at the end has less to wait for."""
        # What goes wrong is told by the sync.
        with suppress(OSError):
            descriptor = os.open(self._folder / name, os.O_RDONLY)
            try:
                system.start_writing(descriptor)
            finally:
                os.close(descriptor)

    def sync(self) -> None:
        """Returns when all that is there by now survives a power loss."""
        if self._descriptor is not None and system.syncfs(self._descriptor):
            return
        for path, folders, names in os.walk(self._folder, topdown=False):
            for name in names:
                sync_file(Path(path, name))
            for name in folders:
                sync_folder(Path(path, name))
        for folder in (self._folder, *self._folder.parents):
            sync_folder(folder)


def sync_file(path: Path) -> None:
    """Makes the content of a file durable; what is no regular file, or is gone, is left out."""
    writable = os.O_RDWR if sys.platform == "win32" else os.O_RDONLY
    with suppress(FileNotFoundError, PermissionError):
        if stat.S_ISREG(path.lstat().st_mode):
            descriptor = os.open(path, writable)
            try:
                _fsync(descriptor)
            finally:
                os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable, where the file system can do that."""
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            _fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        if exc.errno not in _NOT_SYNCED:
            raise


def _fsync(descriptor: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        # There fsync(2) leaves it to the device when to write. Not all file systems have the other one.
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def make_folders(folder: Path) -> None:
    """Makes a folder, and those above it that are missing, with durable names."""
    missing = []
    for one in (folder, *folder.parents):
        if one.exists():
            break
        missing.append(one)
    folder.mkdir(parents=True, exist_ok=True)
    for one in missing:
        sync_folder(one.parent)


# --- replaced in one step --------------------------------------------------------------------------


class PartialFile:
    """A new file beside the one that it will replace, locked while it is open so that nobody sweeps it.

    Its name has a number, 0 unless another writer of the same file has that. So what killed writers left is
    found by its name, without a look at all files of the folder.
    """

    def __init__(self, target: Path) -> None:
        self._target = self.path = target
        self._descriptor = -1

    def create(self) -> None:
        """Create it; however this is interrupted, ``close`` deletes it."""
        numbers = count()
        for number in numbers:
            self.path = self._named(f"{number:032x}")
            if self._create():
                break
        for number in numbers:
            left_over = self._named(f"{number:032x}")
            if not os.path.lexists(left_over):
                break
            _sweep_one(left_over)

    def _named(self, name: str) -> Path:
        return self._target.with_name(f"{self._target.name}.{name}.partial")

    def _create(self) -> bool:
        """Creates and locks the file; False if another writer has one of that name."""
        while True:
            with suppress(FileExistsError):
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
                with suppress(OSError):
                    try_lock(self._descriptor)
                # A sweeper may have taken it before it was locked.
                if self._is_there():
                    return True
                os.close(self._descriptor)
                self._descriptor = -1
                continue
            if not _sweep_one(self.path):
                return False

    def _is_there(self) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        return False

    def unlock(self) -> None:
        """Give up the lock, for a library that locks the file itself; its name is no longer a number that
        another writer may try.
        """
        if os.name == "posix":
            import fcntl

            _sweep(self._target)
            named = self._named(uuid.uuid4().hex)
            self.path.rename(named)
            self.path = named
            with suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def publish(self) -> None:
        """Replace the target, durably."""
        _fsync(self._descriptor)
        self.path.replace(self._target)
        sync_folder(self._target.parent)

    def close(self) -> None:
        """Close it, and delete it unless it was published."""
        if self._descriptor < 0:
            return
        with suppress(OSError):
            if self._is_there():
                self.path.unlink()
        os.close(self._descriptor)


@contextmanager
def replacing_file(path: Path, *, follows_link: bool = True) -> Iterator[PartialFile]:
    """Yields a new file beside ``path``, which it replaces when the block succeeds, or is deleted.

    A link is followed, or replaced itself. What writers that were killed have left is deleted first. The new
    file survives a power loss once the block is left.
    """
    target = path.resolve() if follows_link else path.parent.resolve() / path.name
    make_folders(target.parent)
    partial = PartialFile(target)
    try:
        partial.create()
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
    """Delete all that killed writers of a file have left; what others are writing is locked, and stays."""
    for left_over in target.parent.iterdir():
        name = left_over.name
        if name.startswith(target.name) and PARTIAL.fullmatch(name[len(target.name) :]):
            _sweep_one(left_over)


def _sweep_one(left_over: Path) -> bool:
    """Delete a file that a killed writer left; False if another one is writing it, or that is not known."""
    if os.name != "posix":
        return False
    try:
        with left_over.open("rb") as file:
            if not try_lock(file.fileno()):
                return False
            left_over.unlink()
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True


def write_atomically(path: Path, content: bytes, *, follows_link: bool = True) -> None:
    """Writes a file in one step, durably: readers see the old content or the new. A link in its place is
    followed, or replaced itself.
    """
    with replacing_file(path, follows_link=follows_link) as partial:
        partial.path.write_bytes(content)


def swap(new: Path, old: Path) -> None:
    """Exchanges the names of two folders of one file system, durably; the one at ``new`` is then at ``old``.

    It is one step where the system can do that. Elsewhere it is three: after a kill between them, the next
    call of :func:`finish_swap` puts all where it was, or finishes. The caller holds the locks of both.
    """
    if not system.exchange(new, old):
        aside = _aside(new)
        old.rename(aside)
        new.rename(old)
        aside.rename(new)
    for folder in {new.parent, old.parent}:
        sync_folder(folder)


def finish_swap(new: Path, old: Path, refusal: str) -> None:
    """Puts right what a kill in :func:`swap` of the same folders has left; else it does nothing.

    DatasetError, with ``refusal``, if another process is in the middle of it.
    """
    aside = _aside(new)
    if aside.is_dir():
        with locked(aside, refusal):
            with suppress(OSError):
                old.rmdir()  # it is empty where somebody has made it since
            aside.rename(new if os.path.lexists(old) else old)


def _aside(new: Path) -> Path:
    return new.with_name(f"{new.name}.aside")


def remove_folder(folder: Path) -> None:
    """Deletes a folder, which loses its name first: a kill leaves nothing that looks like a part of it.

    What it leaves has another name, which the next call of :func:`finish_removal` deletes.
    """
    while True:
        finish_removal(folder)
        try:
            folder.rename(_removed(folder))
        except FileNotFoundError:
            return
        except OSError as exc:
            # Another process is still deleting the last one.
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            break
    finish_removal(folder)


def finish_removal(folder: Path) -> None:
    """Deletes what a kill in :func:`remove_folder` of the same folder has left."""
    # Another process may be deleting it as well.
    with suppress(FileNotFoundError):
        shutil.rmtree(_removed(folder))


def _removed(folder: Path) -> Path:
    return folder.with_name(f".{folder.name.removeprefix('.')}.removed")


# --- errors and locks ------------------------------------------------------------------------------


def is_full(error: OSError) -> bool:
    """Whether an error says that the disk, or the user's share of it, is full."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def why(error: OSError, known: str = "") -> str:
    """What an error says, with the file that it is about, unless that has the name that is ``known``."""
    if error.strerror is None:
        return str(error)
    # The name that a file has while it is written is nothing that a user knows.
    path = PARTIAL.sub("", "" if error.filename is None else os.fsdecode(error.filename))
    is_known = not path or (known != "" and path.endswith(known))
    return error.strerror if is_known else f"{error.strerror} ({path})"


@contextmanager
def disk_errors(name: str, action: str = "read or written", kept: str = "") -> Iterator[None]:
    """Turns an OSError into a DatasetError that names the place and says when its disk is full.

    ``kept`` is said of data that is there already.
    """
    try:
        yield
    except OSError as exc:
        message, code = f"{name} cannot be {action}: {why(exc, name)}.", "io-failed"
        if is_full(exc):
            message = f"The disk that holds {name} is full: make room and run the same command again. {kept}"
            code = "disk-full"
        error = DatasetError(message.rstrip(), code=code)
        for note in getattr(exc, "__notes__", []):
            error.add_note(note)
        raise error from exc


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Locks an open file or folder until it is closed or the process ends; False if another one holds it.

    A ``shared`` lock is for readers, who only keep out a writer.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


#: What a file system says that has no locks.
_NO_LOCKS = frozenset((errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS))


@contextmanager
def locked(folder: Path, refusal: str, *, shared: bool = False) -> Iterator[None]:
    """Holds the lock of a folder, or raises a DatasetError that starts with ``refusal``. Those that hold a
    ``shared`` one keep out others, but not each other.

    It is the system's: it leaves no file, and dies with its process. Where the file system has none, it is a
    file beside the folder that names its process, which is deleted at the end.
    """
    if os.name != "posix":
        yield
        return
    with ExitStack() as held:
        descriptor = os.open(folder, os.O_RDONLY)
        held.callback(os.close, descriptor)
        holder: str | None = ""
        try:
            # A folder that another process has just removed can still be locked.
            if try_lock(descriptor, shared=shared) and folder.is_dir():
                holder = None if os.path.samestat(os.fstat(descriptor), folder.stat()) else ""
        except OSError as exc:
            if exc.errno not in _NO_LOCKS:
                raise
            path = folder.resolve()
            path = path.with_name(f".{path.name}.fgbgpack-lock")
            if shared:
                path, holder = lock_file.acquire_shared(path)
            else:
                holder = lock_file.acquire(path)
            if holder is None:
                held.callback(lock_file.release, path)
        if holder is not None:
            raise DatasetError(f"{refusal} {holder}".rstrip(), code="dataset-locked")
        yield
