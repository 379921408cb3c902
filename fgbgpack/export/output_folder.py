"""The folder of an export: it appears complete, or not at all, and what others put into it stays."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.errors import DatasetError
from fgbgpack.files import (
    FolderSync,
    disk_errors,
    finish_swap,
    locked,
    make_folders,
    require_local,
    swap,
    sync_folder,
    write_atomically,
)
from fgbgpack.inputs import read_json
from fgbgpack.pipeline.events import Notice, OnEvent
from fgbgpack.sources.exported import DOCUMENT, FILES

_COLUMNS = ["file", "bytes"]
_SHOWN = 5


class OutputFolder:
    """A folder that an export creates or replaces.

    The new one is written under another name beside it, synced, and then takes its name. Files in the old one
    that its list does not name are not the export's: they move to the new one.
    """

    def __init__(self, path: Path, on_event: OnEvent) -> None:
        require_local(path, "Exports are")
        # Links and ".." are followed here: what is renamed later is the folder itself.
        self._given, self._path, self._on_event = path, path.resolve(), on_event
        self._partial = self._path.parent / f".{self._path.name}.fgbgpack-export"
        self._refusal = f"Another process is exporting to {self._given}: wait for it, or end it."
        self._is_published = False

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """Yields an empty folder to write to, which :meth:`publish` makes the export; it is removed if the
        block fails before that, and what killed runs left is put right first. Raises DatasetError where
        another process is writing the export, or it cannot be written.
        """
        with disk_errors(str(self._given), "written"):
            make_folders(self._path.parent)
            finish_swap(self._partial, self._path, self._refusal)
            self._partial.mkdir(exist_ok=True)
            with locked(self._partial, self._refusal):
                self._remove_leftovers()
                self._folder = FolderSync(self._partial)
                try:
                    yield self._partial
                except BaseException as exc:
                    self._give_up(exc)
                    raise
                if not self._is_published:
                    self._partial.rmdir()

    def check(self, dataset: Dataset, *, overwrite: bool) -> Mapping[str, Any] | None:
        """The document of the export that is there and whole; ``None`` where one is to be written.

        Raises DatasetError where something else is there, or an export that lost files, and is not to be
        replaced.
        """
        source = Path(dataset.path).resolve()
        if self._path != source and self._path.is_relative_to(source):
            raise DatasetError(
                f"{self._given} lies in {dataset.path}, the dataset: name another folder.",
                code="output-inside-dataset",
            )
        if not os.path.lexists(self._path):
            return None
        if not self._path.is_dir():
            raise DatasetError(
                f"{self._given} is a file: name a folder that is to be created.", code="output-is-file"
            )
        if Path.cwd().is_relative_to(self._path):
            raise DatasetError(
                f"{self._given} is the current folder, or contains it: name a folder that is to be created.",
                code="output-contains-current-folder",
            )
        names = sorted(entry.name for entry in self._path.iterdir())
        if not names:
            return None
        document = _document_of(self._path)
        if document is None:
            raise DatasetError(
                f"{self._given} contains other files than those of an export ({_some(names)}): name another "
                "folder.",
                code="output-not-export",
            )
        if files_of(self._path) is None:
            raise DatasetError(
                f"{self._given} has no {FILES}, so it is not known which files are those of the export: name "
                "another folder, or delete this one.",
                code="output-not-export",
            )
        if overwrite:
            if source.is_relative_to(self._path):
                raise DatasetError(
                    f"{dataset.path} lies in {self._given}, which is to be replaced: name another folder.",
                    code="output-contains-dataset",
                )
            return None
        return document

    def sizes(self) -> dict[str, int]:
        """The bytes of each file of the export that is there, by its path (DatasetError if one is missing or
        has another size).
        """
        listed = files_of(self._path) or {}
        with disk_errors(str(self._given)):
            wrong = [name for name, size in listed.items() if size_of(self._path / name) != size]
            own = {name: size_of(self._path / name) or 0 for name in (FILES, DOCUMENT)}
        if wrong:
            raise DatasetError(
                f"{self._given} is not what was exported: {len(wrong)} files are missing or have another "
                f"size ({_some(wrong)}). Replace it with --overwrite.",
                code="export-damaged",
            )
        return listed | own

    def publish(self, document: Mapping[str, Any]) -> dict[str, int]:
        """Makes what was written the export, durably; the bytes of each file, by its path.

        Raises DatasetError where something stands in its way that is not of the export that was there; then
        nothing is changed.
        """
        new = {name: (self._partial / name).stat().st_size for name in _walk(self._partial)}
        (self._partial / FILES).write_bytes(_csv(new))
        self._folder.sync()
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        write_atomically(self._partial / DOCUMENT, text.encode())
        new |= {name: (self._partial / name).stat().st_size for name in (FILES, DOCUMENT)}
        if self._path.is_dir() and any(self._path.iterdir()):
            # The locks go with the folders: nobody else takes the old one for a left-over.
            with locked(self._path, self._refusal):
                self._check_others(new)
                swap(self._partial, self._path)
                self._is_published = True
                self._retire()
                self._partial.rmdir()
        else:
            with suppress(FileNotFoundError):
                self._path.rmdir()
            self._partial.rename(self._path)
            self._is_published = True
            sync_folder(self._path.parent)
        return new

    def _give_up(self, exc: BaseException) -> None:
        if self._is_published:
            exc.add_note(
                f"{self._given} is complete. What it replaced is still in {self._partial}: the next export "
                "to it removes that."
            )
            return
        try:
            shutil.rmtree(self._partial)
        except (KeyboardInterrupt, OSError):
            exc.add_note(f"What was written so far is in {self._partial}: delete it.")

    def _remove_leftovers(self) -> None:
        """Undoes what a killed run left."""
        if not any(self._partial.iterdir()):
            return
        self._on_event(Notice(f"Removing what an export that was stopped left in {self._partial}."))
        if _document_of(self._partial) is not None:
            # It was killed after its export, or while it put that in the place of another one.
            self._retire()
            return
        for path in self._partial.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    # --- files of others ---

    def _check_others(self, new: Iterable[str]) -> None:
        """Refuses files of others at the paths of the new export's."""
        files = set(new)
        taken = files | _folders(files)
        wrong = [
            name
            for name in _others(self._path, _own_files(self._path), _folders(files))
            if name in taken or not files.isdisjoint(_parents(name))
        ]
        if wrong:
            raise DatasetError(
                f"{self._given} has files that are not of the export, in the way of the new one: move them, "
                "or name another folder. Nothing was changed.",
                wrong,
                code="output-in-the-way",
            )

    def _retire(self) -> None:
        """Moves files of others in the replaced export to the new one, then empties it."""
        own = _own_files(self._partial)
        self._move_others(own)
        for name in own - {FILES, DOCUMENT}:
            (self._partial / name).unlink(missing_ok=True)
        # Whatever was put there meanwhile.
        self._move_others(own)
        for folder, names, _ in os.walk(self._partial, topdown=False):
            for name in names:
                with suppress(OSError):
                    Path(folder, name).rmdir()
        if left := sorted({path.name for path in self._partial.iterdir()} - {FILES, DOCUMENT}):
            raise DatasetError(
                f"{self._given} was replaced, but {self._partial} still has files that are not of an export "
                f"({_some(left)}), and others are where they were: move or delete them.",
                code="output-in-the-way",
            )
        # After a kill, they tell what is of an export and what is not.
        for name in (DOCUMENT, FILES):
            (self._partial / name).unlink(missing_ok=True)

    def _move_others(self, own: set[str]) -> None:
        there = set(_walk(self._path)) if self._path.is_dir() else set()
        moved = False
        for name in list(_others(self._partial, own, _folders(there))):
            target = self._path / name
            if os.path.lexists(target):
                continue
            make_folders(target.parent)
            (self._partial / name).rename(target)
            moved = True
        if moved:
            # The old names are deleted next.
            FolderSync(self._path).sync()


def _document_of(folder: Path) -> Mapping[str, Any] | None:
    """The document of an export; ``None`` where there is none."""
    try:
        document = read_json(folder / DOCUMENT)
    except (OSError, ValueError):
        return None
    is_export = isinstance(document, dict) and str(document.get("schema")).startswith("export/")
    return document if is_export else None


def _csv(sizes: Mapping[str, int]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *sorted(sizes.items())])
    return text.getvalue().encode()


def files_of(folder: Path) -> dict[str, int] | None:
    """The files that an export lists, with their bytes; ``None`` where the list is missing or damaged."""
    try:
        text = (folder / FILES).read_text(encoding="utf-8")
        head, *rows = csv.reader(io.StringIO(text, newline=""))
        listed = {name: int(size) for name, size in rows}
    except (OSError, ValueError, csv.Error):
        return None
    is_sound = head == _COLUMNS and not any(_is_outside(name) for name in listed)
    return listed if is_sound else None


def _is_outside(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or not path.parts or ".." in path.parts


def _own_files(folder: Path) -> set[str]:
    return {*(files_of(folder) or ()), FILES, DOCUMENT}


def _walk(folder: Path) -> Iterator[str]:
    """The paths of all files below a folder."""
    for path, _, names in os.walk(folder):
        below = "" if Path(path) == folder else f"{Path(path).relative_to(folder).as_posix()}/"
        for name in names:
            yield below + name


def _others(folder: Path, own: set[str], shared: set[str]) -> Iterator[str]:
    """The paths of what is in a folder beside own files: files, and folders without own files in them, which
    are not looked into unless they are ``shared``.
    """
    looked_into = _folders(own) | shared

    def below(prefix: str) -> Iterator[str]:
        with os.scandir(folder / prefix) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False) and name in looked_into:
                    yield from below(f"{name}/")
                elif name not in own:
                    yield name

    return below("")


def _folders(files: Iterable[str]) -> set[str]:
    """The folders that hold some files."""
    found: set[str] = set()
    for name in files:
        for parent in _parents(name):
            if parent in found:
                break
            found.add(parent)
    return found


def _parents(name: str) -> Iterator[str]:
    """The folders that a path lies in, the innermost first."""
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def size_of(path: Path) -> int | None:
    """The bytes of a file; ``None`` where there is none."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return path.stat().st_size
    return None


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
