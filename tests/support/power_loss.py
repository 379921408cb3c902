"""What a journalling file system may hold after a power loss in the middle of recorded calls.

Names change in the order of the calls, up to any point that is no earlier than what a sync has forced: that
of a file or folder puts into the journal all up to the last change of its own names, as XFS does; ext4 even
more. What was written to a file and not synced may be there, or not, or in part, whatever its name says: that
is ext4 without ``auto_da_alloc``, or XFS.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from recorded_calls import NAMING, Files, Names, Recording

_PAGE = 4096
#: Calls before and after a sync near which most of what can go wrong goes wrong.
_NEAR = range(-2, 5)

#: What may have become of data that was not synced: nothing, zeros, its first half, any of its pages, all.
FATES = ("lost", "zeros", "half", "pages", "kept")


@dataclass(frozen=True)
class Loss:
    """The power fails after ``calls`` calls, when the journal has the names of the first ``journal`` of them;
    data that was not synced has one of ``FATES``, decided by ``seed`` where there is a choice.
    """

    calls: int
    journal: int
    fate: str
    seed: int


class Replay:
    """The states that the files of a recording may be in after a power loss."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._calls = recording.calls
        self._data: dict[int, list[int]] = {}
        self._syncs = [i for i, call in enumerate(self._calls) if call.kind in ("fsync", "syncfs")]
        for i, call in enumerate(self._calls):
            if call.kind in ("write", "truncate"):
                self._data.setdefault(call.inode, []).append(i)

    @property
    def said(self) -> int:
        """The number of calls until the command has reported success."""
        return self._recording.said

    def whole(self) -> Files:
        """The files after all calls, with all that was written."""
        return self.files(Loss(len(self._calls), len(self._calls), "kept", 0))

    def losses(self, count: int, seed: int) -> Iterator[tuple[Loss, Files]]:
        """Some power losses that leave different files, with these; at first such after the success was
        reported, then half of them near a sync.
        """
        rng = random.Random(seed)
        seen: set[str] = set()
        total, said = len(self._calls), self.said
        first = [(said, self._forced[said]), (total, self._forced[total]), (said, said)]
        planned = [Loss(calls, journal, fate, seed) for calls, journal in first for fate in FATES]
        near = [at for sync in self._syncs for step in _NEAR if 0 < (at := sync + step) <= total]
        for number in range(20 * count):
            if number < len(planned):
                loss = planned[number]
            else:
                calls = rng.choice(near) if near and rng.random() < 0.5 else rng.randint(0, total)
                least = self._forced[calls]
                journal = rng.choice((least, calls, rng.randint(least, calls)))
                loss = Loss(calls, journal, rng.choice(FATES), rng.getrandbits(32))
            files = self.files(loss)
            digest = hashlib.sha256(
                repr(sorted(files.items(), key=lambda file: file[0])).encode()
            ).hexdigest()
            if digest not in seen:
                seen.add(digest)
                yield loss, files
            if len(seen) == count:
                return

    @cached_property
    def _forced(self) -> list[int]:
        """The least number of calls whose names are in the journal, after each number of calls."""
        forced = [0]
        last_change: dict[int, list[int]] = {}
        names = Names(dict(self._at_first))
        for i, call in enumerate(self._calls):
            least = forced[-1]
            if call.kind in NAMING:
                touched = {
                    call.inode,
                    *(names.inodes[self._parent(path)] for path in (call.path, call.other) if path),
                }
                if call.kind == "exchange":
                    touched.add(names.inodes[call.other])
                names.apply(call)
                for inode in touched:
                    last_change.setdefault(inode, []).append(i)
            elif call.kind == "truncate":
                last_change.setdefault(call.inode, []).append(i)
            elif call.kind == "syncfs":
                least = max(least, call.covers)
            elif call.kind == "fsync":
                changes = [at for at in last_change.get(call.inode, ()) if at < call.covers]
                least = max(least, changes[-1] + 1 if changes else 0)
            forced.append(least)
        return forced

    @cached_property
    def _at_first(self) -> dict[str, int]:
        return {"": 0} | {name: number for number, name in enumerate(self._recording.before, start=1)}

    @staticmethod
    def _parent(path: str) -> str:
        return path.rpartition("/")[0]

    def files(self, loss: Loss) -> Files:
        """The files that a power loss leaves."""
        names = Names(dict(self._at_first))
        for call in self._calls[: loss.journal]:
            if call.kind in NAMING:
                names.apply(call)
        rng = random.Random(loss.seed)
        return {
            path: None if self._recording.is_folder[inode] else self._content(inode, loss, rng)
            for path, inode in sorted(names.inodes.items())
            if path
        }

    def _content(self, inode: int, loss: Loss, rng: random.Random) -> bytes:
        covered = max(
            (
                call.covers
                for call in (self._calls[i] for i in self._syncs if i < loss.calls)
                if call.kind == "syncfs" or call.inode == inode
            ),
            default=0,
        )
        done = [i for i in self._data.get(inode, ()) if i < loss.calls]
        start = self._recording.content.get(inode, b"")
        full = self._written(start, [i for i in done if self._calls[i].kind == "write" or i < loss.journal])
        base = self._written(
            start, [i for i in done if i < (covered if self._calls[i].kind == "write" else loss.journal)]
        )
        longer = base[: len(full)].ljust(len(full), b"\0")
        if loss.fate == "kept" or full == base:
            return full
        if loss.fate == "lost":
            return base
        if loss.fate == "zeros":
            return longer
        if loss.fate == "half":
            half = rng.randint(1, 3) * len(full) // 4
            return full[:half] + base[half:]
        pages = [rng.choice((full, longer))[at : at + _PAGE] for at in range(0, len(full), _PAGE)]
        return b"".join(pages)

    def _written(self, content: bytes, calls: list[int]) -> bytes:
        found = bytearray(content)
        for call in (self._calls[i] for i in calls):
            if call.kind == "truncate":
                del found[call.offset :]
                found.extend(bytes(call.offset - len(found)))
            else:
                found.extend(bytes(max(0, call.offset - len(found))))
                found[call.offset : call.offset + len(call.data)] = call.data
        return bytes(found)
