"""System calls of Linux that Python has no function for; each says whether it could do its work."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import sys
import uuid
from functools import cache
from pathlib import Path
from typing import Any

#: File systems, by the ``f_type`` of statfs(2), of which syncfs(2) puts all on the device: ext2 to ext4, XFS,
#: Btrfs, F2FS, bcachefs, ZFS, NFS, overlays of these, tmpfs and ramfs. Of others, such as FUSE, it may not.
_SYNCED = frozenset(
    (
        *(0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0xCA451A4E),
        *(0x2FC12FC1, 0x6969, 0x794C7630, 0x01021994, 0x858458F6),
    )
)
#: The first Linux whose syncfs(2) reports what could not be written.
_REPORTS_ERRORS = (5, 8)
_SYNC_FILE_RANGE_WRITE = 2
_STATFS_BYTES = 256  # more than any struct statfs has
_AT_FDCWD = -100
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: What glibc itself comes to for programs with large buffers, at most.
_MMAP_BYTES = 32 << 20
_RENAME_EXCHANGE = 2
#: The system, the file system or a sandbox does not have a call, or not for such files.
_MISSING = frozenset(
    (errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF)
)


def syncfs(descriptor: int) -> bool:
    """Puts all on the device that a file system has not written yet, with one call.

    False where that is not to be had, or where errors would go unnoticed: then each file must be synced.
    Raises OSError where something could not be written since the file or folder was opened.
    """
    if not _is_synced(descriptor) or not _call("syncfs", descriptor):
        return False
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return release is not None and (int(release[1]), int(release[2])) >= _REPORTS_ERRORS


def start_writing(descriptor: int) -> bool:
    """Begins to put a file on the device, and does not wait for that; False where that is not to be had.

    It makes nothing durable, but leaves less to be done by what does. Raises OSError where it fails.
    """
    everything = ctypes.c_int64(0)
    return _call("sync_file_range", descriptor, everything, everything, _SYNC_FILE_RANGE_WRITE)


def exchange(one: Path, other: Path) -> bool:
    """Exchanges the names of two files or folders of one file system in one step; False where that is not to
    be had. Raises OSError where one is missing or they cannot be renamed.
    """
    names = os.fsencode(one), os.fsencode(other)
    return _call("renameat2", _AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)


@cache
def machine_id() -> str:
    """What tells this machine, since it was started, from others: processes with the same share its caches of
    files.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"{platform.node()} {uuid.getnode():x}"


@cache
def keep_memory() -> None:
    """Has this process keep what it frees for what it needs next, as it does unless it is told otherwise.

    Dask starts workers with ``MALLOC_TRIM_THRESHOLD_``, which has every large buffer returned to the system,
    and taken from there again page by page: work on such buffers then takes twice as long.
    """
    library = _library()
    if library is not None and hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, 2 * _MMAP_BYTES)


def return_memory() -> None:
    """Gives the system back what was freed of this process's memory, where the C library has a call for it:
    else it may keep it, for each thread of its own.
    """
    if (trim := getattr(_library(), "malloc_trim", None)) is not None:
        trim(0)


def _is_synced(descriptor: int) -> bool:
    # The first field of the struct is the type, a word of the machine.
    found = (ctypes.c_long * (_STATFS_BYTES // ctypes.sizeof(ctypes.c_long)))()
    return _call("fstatfs", descriptor, found) and found[0] & 0xFFFFFFFF in _SYNCED


def _call(name: str, *arguments: Any) -> bool:
    """Calls a function of the C library; False where it is missing. Raises OSError where it fails."""
    function = getattr(_library(), name, None)
    if function is None:
        return False
    if function(*arguments) == 0:
        return True
    number = ctypes.get_errno()
    if number in _MISSING:
        return False
    raise OSError(number, os.strerror(number))


@cache
def _library() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
