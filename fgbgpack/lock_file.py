"""A lock for file systems that have none, as some network file systems: a file that names who holds it.

It is made in one step, so one process gets it. Unlike a lock of the system it outlives a process that is
killed: whoever finds one whose process has ended on this machine removes it. Of a process on another machine
that is not known: the message says which it is, since when it holds the lock, and what to delete.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
#: What the files of those who share a lock are called, after the lock's.
_SHARED = ".shared-"
#: Where the time at which a process started is in /proc/PID/stat, counted after its name.
_START_TIME = 19
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class _Owner:
    """A process: its machine, the start and the process namespace of that, its number and its own start."""

    host: str
    machine: str
    boot: str
    namespace: str
    pid: int
    started: str

    @classmethod
    def this(cls) -> _Owner:
        """The process that calls it; what a system does not tell is empty."""
        namespace = ""
        with suppress(OSError):
            namespace = str((_PROC / "self/ns/pid").readlink())
        return cls(
            host=socket.gethostname(),
            machine=_text(Path("/etc/machine-id")),
            boot=_text(_PROC / "sys/kernel/random/boot_id"),
            namespace=namespace,
            pid=os.getpid(),
            started=_start_of(os.getpid()),
        )

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> _Owner:
        """The same from a lock's file."""
        texts = ("host", "machine", "boot", "namespace", "started")
        return cls(pid=int(fields["pid"]), **{name: str(fields[name]) for name in texts})

    def has_ended(self) -> bool:
        """Whether the process is known to have ended."""
        this = _Owner.this()
        if (self.host, self.machine) != (this.host, this.machine):
            return False
        if self.boot != this.boot:
            # Machines without an id may have the same name.
            return bool(self.machine and self.boot and this.boot)
        if self.namespace != this.namespace:
            return False
        return not _runs(self.pid) or (bool(self.started) and _start_of(self.pid) != self.started)


def acquire(path: Path) -> str | None:
    """Makes the lock's file, or says who holds the lock and what to do if that has ended.

    One whose process has ended on this machine is removed first. Raises OSError where no file can be made.
    """
    if (holder := _make(path)) is not None:
        return holder
    prefix = f"{path.name}{_SHARED}"
    for shared in sorted(one for one in path.parent.iterdir() if one.name.startswith(prefix)):
        if (holder := _holder(shared)) is not None:
            release(path)
            return holder
    return None


def acquire_shared(path: Path) -> tuple[Path, str | None]:
    """Makes a file of this process's own beside the lock's, which others may have too; with who holds the
    lock, as :func:`acquire` says it, and then there is no file.

    Whoever makes the one or the other looks for the other only then: two never miss each other.
    """
    own = path.with_name(f"{path.name}{_SHARED}{uuid.uuid4().hex}")
    holder = _make(own)
    if holder is None and (holder := _holder(path)) is not None:
        release(own)
    return own, holder


def _holder(path: Path) -> str | None:
    """Who made a lock's file; ``None`` if there is none, or only that of a process that has ended."""
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        return None
    owner, since = _parsed(found)
    if owner is None or not owner.has_ended():
        return _described(path, owner, since)
    _remove(path, found)
    return None


def _make(path: Path) -> str | None:
    """Makes a lock's file; or who has made it."""
    text = json.dumps({**asdict(_Owner.this()), "since": time.time()})
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            if (holder := _holder(path)) is not None:
                return holder
            continue
        try:
            os.write(descriptor, text.encode())
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        return None


def release(path: Path) -> None:
    """Removes the lock's file."""
    path.unlink(missing_ok=True)


def _parsed(content: bytes) -> tuple[_Owner | None, float | None]:
    try:
        fields = json.loads(content)
        return _Owner.of(fields), float(fields["since"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, None


def _remove(path: Path, content: bytes) -> None:
    """Removes the file of a process that has ended, unless another one has just done so and made its own."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with suppress(OSError):
        path.rename(aside)
        if aside.read_bytes() != content:
            os.link(aside, path)
        aside.unlink()


def _described(path: Path, owner: _Owner | None, since: float | None) -> str:
    advice = f"If it has ended, delete {path} and run the same command again."
    if owner is None or since is None:
        return f"{path} does not say which process made it. {advice}"
    seconds = max(1, round(time.time() - since))
    size, unit = next((size, unit) for size, unit in _UNITS if seconds >= size)
    made = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"It is process {owner.pid} on {owner.host}, since {made} ({seconds // size} {unit} ago). {advice}"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # another user's
    return True


def _start_of(pid: int) -> str:
    """When a process started, in ticks since the machine's start; empty where that is not known."""
    stat = _text(_PROC / str(pid) / "stat")
    return stat.rpartition(")")[2].split()[_START_TIME] if stat else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
