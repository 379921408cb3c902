"""All calls of a process that change files, recorded by strace: what is written, named, deleted and synced.

Commands run in a process of their own, one after the other, each in its own folder. A call that changes files
and that is not understood here is an error, so that a recording is whole or is none.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: Files by their paths, folders as ``None``.
Files = dict[str, bytes | None]

_SYNCS = ("fsync", "fdatasync", "syncfs", "sync")
_TRACED = (
    *("open", "openat", "openat2", "creat", "lseek", "chdir", *_SYNCS),
    *("write", "pwrite64", "writev", "pwritev", "pwritev2", "truncate", "ftruncate", "fallocate"),
    *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "symlink", "symlinkat"),
    *("mkdir", "mkdirat", "rmdir", "mknod", "mknodat", "sendfile", "copy_file_range", "splice", "mmap"),
)
_LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>)?(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+|\?)(?:<((?:\\x..)*)>)?")
_PLACE = re.compile(r"(\d+|AT_FDCWD)<((?:\\x..)*)>(\(deleted\))?$")
_UNFINISHED = " <unfinished ...>"
_SAID = "said"


@dataclass(frozen=True)
class Call:
    """One call that changed files of a folder. ``inode`` is a number that a file or folder keeps.

    Of ``kind`` "write" and "truncate": ``offset``, or the new size, and ``data``. Of "create", "mkdir",
    "link", "unlink", "rename" and "exchange": ``path`` and perhaps ``other``. Of "fsync" and "syncfs":
    ``covers``, the number of calls that had ended when it began. "said": the command has reported success.
    """

    kind: str
    inode: int = -1
    path: str = ""
    other: str = ""
    offset: int = 0
    data: bytes = b""
    covers: int = 0


#: What an ordered journal has in its order, beside the sizes of truncated files.
NAMING = ("create", "mkdir", "link", "unlink", "rename", "exchange")


@dataclass
class Names:
    """The paths of a folder's files and folders, with their inodes; ``""`` is the folder itself."""

    inodes: dict[str, int] = field(default_factory=lambda: {"": 0})

    def apply(self, call: Call) -> None:
        """Do what a call of ``NAMING`` did."""
        inodes = self.inodes
        if call.kind in ("create", "mkdir"):
            inodes[call.path] = call.inode
        elif call.kind == "link":
            inodes[call.other] = inodes[call.path]
        elif call.kind == "unlink":
            del inodes[call.path]
        else:
            moved = self._taken(call.path)
            back = self._taken(call.other)
            inodes |= {call.other + rest: inode for rest, inode in moved.items()}
            if call.kind == "exchange":
                inodes |= {call.path + rest: inode for rest, inode in back.items()}

    def _taken(self, path: str) -> dict[str, int]:
        """Take out what is at and below a path."""
        below = [name for name in self.inodes if name == path or name.startswith(f"{path}/")]
        return {name[len(path) :]: self.inodes.pop(name) for name in below}


def snapshot(folder: Path) -> Files:
    """All files and folders below a folder."""
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def restore(folder: Path, files: Files) -> None:
    """Make a folder hold these files and folders, and nothing else."""
    if folder.exists():
        for entry in folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in sorted(files.items()):
        if content is None:
            (folder / name).mkdir(parents=True, exist_ok=True)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


class Recording:
    """What one command did to the files of a folder: as it was ``before``, and all calls from then on."""

    def __init__(self, folder: Path, before: Files) -> None:
        self.folder, self.before = folder, before
        self.calls: list[Call] = []
        self.names = Names()
        self.is_folder = {0: True}
        self.content: dict[int, bytes] = {}
        for name, content in before.items():
            inode = self._new_inode(is_folder=content is None)
            self.names.inodes[name] = inode
            self.content[inode] = content or b""
        self._offsets: dict[int, int] = {}
        self._appends: set[int] = set()

    def _new_inode(self, *, is_folder: bool) -> int:
        inode = len(self.is_folder)
        self.is_folder[inode] = is_folder
        return inode

    def relative(self, path: str) -> str | None:
        """A path as one below the folder; ``None`` for one that is elsewhere."""
        root = str(self.folder)
        if path == root:
            return ""
        return path[len(root) + 1 :] if path.startswith(f"{root}/") else None

    def _size(self, inode: int) -> int:
        size = len(self.content.get(inode, b""))
        for call in self.calls:
            if call.inode == inode and call.kind == "write":
                size = max(size, call.offset + len(call.data))
            elif call.inode == inode and call.kind == "truncate":
                size = call.offset
        return size

    def note_open(self, path: str, flags: str, descriptor: int) -> None:
        self._offsets[descriptor] = 0
        self._appends.discard(descriptor)
        if "O_APPEND" in flags:
            self._appends.add(descriptor)
        if path not in self.names.inodes:
            assert "O_CREAT" in flags, f"{path} was opened, and nobody made it"
            self._name(Call("create", self._new_inode(is_folder=False), path))
        elif "O_TRUNC" in flags and self._size(self.names.inodes[path]):
            self.calls.append(Call("truncate", self.names.inodes[path]))

    def note_seek(self, descriptor: int, offset: int) -> None:
        self._offsets[descriptor] = offset

    def note_write(self, path: str, descriptor: int, data: bytes, offset: int | None) -> None:
        inode = self.names.inodes[path]
        if offset is None:
            at = self._size(inode) if descriptor in self._appends else self._offsets[descriptor]
            self._offsets[descriptor] = at + len(data)
        else:
            at = offset
        self.calls.append(Call("write", inode, offset=at, data=data))

    def note_truncate(self, path: str, size: int) -> None:
        self.calls.append(Call("truncate", self.names.inodes[path], offset=size))

    def note_sync(self, kind: str, path: str, covers: int) -> None:
        kind = "syncfs" if kind in ("syncfs", "sync") else "fsync"
        self.calls.append(Call(kind, self.names.inodes[path], path, covers=covers))

    def note_naming(self, kind: str, path: str, other: str = "") -> None:
        if kind == "mkdir":
            self._name(Call(kind, self._new_inode(is_folder=True), path))
        else:
            self._name(Call(kind, self.names.inodes[path], path, other))

    def note_said(self) -> None:
        self.calls.append(Call(_SAID))

    def _name(self, call: Call) -> None:
        self.names.apply(call)
        self.calls.append(call)

    @property
    def said(self) -> int:
        """The number of calls until success was reported."""
        return 1 + next(i for i, call in enumerate(self.calls) if call.kind == _SAID)


def can_record(folder: Path) -> bool:
    """Whether strace is there and may trace processes."""
    if shutil.which("strace") is None:
        return False
    log = folder / "probe.log"
    probed = subprocess.run(
        ["strace", "-f", "-y", "-xx", "--seccomp-bpf", "-o", str(log), "-e", "trace=mkdir", "true"]
    )
    return probed.returncode == 0 and "exited with 0" in log.read_text()


def record(commands: Mapping[Path, Sequence[str]], log: Path) -> dict[Path, Recording]:
    """Runs a command in each folder, which has what the command starts from; the recordings by their folders.

    AssertionError if a command fails, or if a recording, done again, does not give what the command gave.
    """
    recordings = {folder: Recording(folder, snapshot(folder)) for folder in commands}
    words = [[str(folder), *command] for folder, command in commands.items()]
    tracing = ["strace", "-f", "-y", "-xx", "-s", str(1 << 26), "--seccomp-bpf", "-o", str(log)]
    subprocess.run(
        [*tracing, "-e", f"trace={','.join(_TRACED)}", sys.executable, __file__, json.dumps(words)],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    with log.open() as lines:
        read_lines(lines, recordings)
    return recordings


def read_lines(lines: Iterable[str], recordings: Mapping[Path, Recording]) -> None:
    """Give the recordings the calls in the lines of strace."""
    reader = _Reader(recordings)
    for line in lines:
        reader.take(line.rstrip("\n"))


class _Reader:
    """Reads the lines of strace, and gives each recording its calls, in the order in which they ended.

    strace may see the end of a call after that of another one, which needed what the first had made: so a
    folder is made as soon as something is made in it.
    """

    def __init__(self, recordings: Mapping[Path, Recording]) -> None:
        self._recordings = recordings
        self._started: dict[str, tuple[str, dict[Path, int]]] = {}
        self._made_early: set[tuple[Path, str]] = set()
        self._current = Path.cwd()

    def take(self, line: str) -> None:
        process, resumed, text = _LINE.fullmatch(line).groups()
        counts = {folder: len(recording.calls) for folder, recording in self._recordings.items()}
        if text.endswith(_UNFINISHED):
            self._started[process] = text.removesuffix(_UNFINISHED), counts
            return
        if resumed:
            start, counts = self._started.pop(process)
            text = start + text
        if (match := _CALL.match(text)) is None:
            assert text.startswith(("+++", "---")), text[:200]
            return
        name, given, result, place = match.groups()
        if result == "?" or result.startswith("-"):
            return
        self._note(name, given.split(", "), int(result, 0), place, counts)

    def _note(self, name: str, given: list[str], result: int, place: str | None, counts) -> None:
        match name:
            case "chdir":
                self._current = Path(self._path(given[0]))
            case "open" | "openat" | "openat2" | "creat":
                assert place is not None
                if "O_DIRECTORY" not in "".join(given):
                    flags = "O_CREAT|O_TRUNC" if name == "creat" else "".join(given)
                    for recording, path in self._at(_unescaped(place).decode()):
                        # A folder is opened like a file.
                        if not recording.is_folder.get(recording.names.inodes.get(path, -1)):
                            assert "O_TMPFILE" not in flags, f"a file without a name in {path}"
                            self._make_folder_of(path, recording)
                            recording.note_open(path, flags, result)
            case "lseek":
                for recording, _, descriptor in self._open(given[0]):
                    recording.note_seek(descriptor, result)
            case "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2":
                data = b"".join(_unescaped(part) for part in re.findall(r'"((?:\\x..)*)"', ", ".join(given)))
                is_at = name.startswith("p")
                offset = (
                    int(given[4 if name == "pwritev2" else 3 if name == "pwrite64" else -1])
                    if is_at
                    else None
                )
                found = _PLACE.match(given[0])
                for recording, path, descriptor in self._open(given[0]):
                    assert len(data) >= result, "strace has cut it short"
                    recording.note_write(path, descriptor, data[:result], offset)
                for folder, recording in self._recordings.items():
                    if found and _unescaped(found[2]).decode() == str(_said_file(folder)):
                        recording.note_said()
            case "truncate":
                for recording, path in self._at(self._path(given[0])):
                    recording.note_truncate(path, int(given[1]))
            case "ftruncate":
                for recording, path, _ in self._open(given[0]):
                    recording.note_truncate(path, int(given[1]))
            case "fsync" | "fdatasync" | "syncfs":
                found = _PLACE.match(given[0])
                path = _unescaped(found[2]).decode()
                for folder, recording in self._recordings.items():
                    # One of another folder counts for all, if it is of the whole file system.
                    if (below := recording.relative(path)) is not None and not found[3]:
                        recording.note_sync(name, below, counts[folder])
            case "sync":
                for folder, recording in self._recordings.items():
                    recording.note_sync(name, "", counts[folder])
            case "mkdir" | "mkdirat" | "rmdir" | "unlink" | "unlinkat":
                kind = "mkdir" if name.startswith("mkdir") else "unlink"
                for recording, path in self._at(self._named(name, given)):
                    if kind == "mkdir" and (recording.folder, path) in self._made_early:
                        self._made_early.remove((recording.folder, path))
                    else:
                        self._make_folder_of(path, recording)
                        recording.note_naming(kind, path)
            case "rename" | "renameat" | "renameat2" | "link" | "linkat":
                kind = "link" if name.startswith("link") else "rename"
                kind = "exchange" if "RENAME_EXCHANGE" in given[-1] else kind
                if name in ("rename", "link"):
                    one, two = map(self._path, given)
                else:
                    one, two = self._path(given[1], given[0]), self._path(given[3], given[2])
                for recording in self._recordings.values():
                    ends = recording.relative(one), recording.relative(two)
                    assert (ends[0] is None) == (ends[1] is None), f"{one} left its folder: {two}"
                    if ends[0] is not None and one != two:
                        self._make_folder_of(ends[1], recording)
                        recording.note_naming(kind, *ends)
            case "mmap":
                is_written = "PROT_WRITE" in given[2] and "MAP_SHARED" in given[3]
                assert not (is_written and list(self._open(given[4]))), given
            case _:
                touched = [path for one in given for path in self._at(self._path_in(one))]
                assert not touched, f"{name} is not understood: {given}"

    def _make_folder_of(self, path: str, recording: Recording) -> None:
        """Make the folder that a path is in where it is still being made."""
        folder = path.rpartition("/")[0]
        if folder in recording.names.inodes:
            return
        for text, _ in self._started.values():
            name, _, given = text.partition("(")
            if name in ("mkdir", "mkdirat"):
                making = self._named(name, given.split(", "))
                if recording.relative(making) == folder:
                    self._make_folder_of(folder, recording)
                    recording.note_naming("mkdir", folder)
                    self._made_early.add((recording.folder, folder))
                    return
        raise AssertionError(f"{path} was made in a folder that nobody made")

    def _named(self, call: str, given: Sequence[str]) -> str:
        """The path that a call names, alone or in an open folder."""
        return self._path(given[1], given[0]) if call.endswith("at") else self._path(given[0])

    def _at(self, path: str | None) -> Iterator[tuple[Recording, str]]:
        """The recording that a path is of, and the path in its folder."""
        for recording in self._recordings.values() if path is not None else ():
            if (below := recording.relative(path)) is not None:
                yield recording, below

    def _open(self, place: str) -> Iterator[tuple[Recording, str, int]]:
        """The recording that an open file is of, its path and its descriptor; nothing for deleted ones."""
        found = _PLACE.match(place)
        if found and not found[3]:
            for recording, path in self._at(_unescaped(found[2]).decode()):
                if not recording.is_folder.get(recording.names.inodes.get(path, -1)):
                    yield recording, path, int(found[1])

    def _path(self, quoted: str, folder: str | None = None) -> str:
        """A path that was given, absolute."""
        start = self._current if folder is None else _unescaped(_PLACE.match(folder)[2]).decode()
        return os.path.normpath(Path(start, _unescaped(quoted.strip('"')).decode()))

    def _path_in(self, given: str) -> str | None:
        """The path in an argument of any kind; ``None`` if there is none."""
        if found := _PLACE.match(given):
            return _unescaped(found[2]).decode()
        return self._path(given) if given.startswith('"') else None


def _unescaped(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _said_file(folder: Path) -> Path:
    """The file that takes what a command prints, beside its folder."""
    return folder.with_name(f"{folder.name}.said")


def _run(commands: Iterable[Sequence[str]]) -> None:
    """Run the commands that were recorded, each in its folder."""
    from fgbgpack.cli import app

    for folder, *words in commands:
        os.chdir(folder)
        said = os.open(_said_file(Path(folder)), os.O_WRONLY | os.O_CREAT, 0o666)
        os.dup2(said, 1)
        app(words, prog_name="fgbgpack", standalone_mode=False)
        sys.stdout.flush()


if __name__ == "__main__":
    _run(json.loads(sys.argv[1]))
