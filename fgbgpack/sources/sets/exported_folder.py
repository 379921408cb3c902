"""Folders as ``fgbgpack export --to folder`` writes them: pictures of each field, and a table of samples."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fgbgpack.document import DEPTH, IMAGE, INSTANCE, MASK, OBJECTS
from fgbgpack.sources.exported import TABLE, TEXT_MARK, file_column
from fgbgpack.sources.names import in_natural_order, normal
from fgbgpack.sources.pairing import MISSING, SINGULAR, Kind, Pairs
from fgbgpack.sources.problems import CountedProblems
from fgbgpack.sources.sets.objects import SampleObjects
from fgbgpack.sources.sets.sample_set import WRONG, Folder, SampleSet, parts_of, plain, require_few

#: The fields that pictures are of, and the columns with the paths of these, below the folder of the table.
_FIELDS: Mapping[Kind, str] = {"images": IMAGE, "masks": MASK, "instances": INSTANCE, "depths": DEPTH}
_COLUMNS: Mapping[Kind, str] = {kind: file_column(field) for kind, field in _FIELDS.items()}
_SAMPLE, _NAME, _CATEGORY, _VISIBLE = "sample", "name", "category", "visible"
_SUFFIX = ".png"
_OF_MASK = 255  # the number of the one object that a mask shows


def exported_tables(folder: Folder) -> list[str]:
    """The tables of samples of an export: that of all, or those of its parts."""
    found = [path for path in in_natural_order(folder.ending(f"/{TABLE}")) if path.count("/") == 1]
    found = [TABLE] if TABLE in folder.files else found
    return [path for path in found if _SAMPLE in _header(folder, path)]


def _header(folder: Folder, path: str) -> list[str]:
    try:
        # What follows the header may be damaged: that is told when all is read.
        with (folder.root / path).open(encoding="utf-8-sig", errors="replace", newline="") as file:
            return next(csv.reader(file), [])
    except (OSError, csv.Error):
        return []


def read_exported_folder(folder: Folder) -> SampleSet:
    """The set in a folder that was exported, or in one of its parts. Samples are in the order of the tables,
    and what tells their objects apart are the pictures of instances or, where each sample has one foreground
    of a category, the masks. A file of the table that is not there is unmatched.

    Raises SourceError with all that is wrong with its tables.
    """
    tables = exported_tables(folder)
    if not tables:
        raise folder.lacks(f"{TABLE}, as fgbgpack export --to folder writes it", "folder")
    starts = tuple(f"{path.removesuffix(TABLE)}{DEPTH}/" for path in tables)
    is_there = any(path.startswith(starts) and path.endswith(_SUFFIX) for path in folder.files)
    # Others may be in its place, which the table does not name.
    has_depth = folder.depths is None and is_there
    reader = _Reader(folder, _header(folder, tables[0]), has_depth=has_depth)
    for path in tables:
        reader.add(path)
    if reader.problems:
        raise folder.error(reader.problems)
    return reader.sample_set(tables)


class _Reader:
    """Reads the tables of an export one after the other, and collects what is wrong with them."""

    def __init__(self, folder: Folder, columns: Sequence[str], *, has_depth: bool) -> None:
        self._folder, self._columns = folder, columns
        self.problems, self._unmatched = CountedProblems(), CountedProblems()
        self._left_out = 0
        self._kinds: list[Kind] = [
            kind for kind, column in _COLUMNS.items() if column in columns and (kind != "depths" or has_depth)
        ]
        self._files: dict[Kind, list[str]] = {kind: [] for kind in self._kinds}
        self._names: list[str] = []
        self._parts: list[str] = []
        self._categories: dict[str, int] = {}
        self._objects: list[SampleObjects] = []

    @property
    def _has_objects(self) -> bool:
        """Whether the objects of samples are described, and pictures tell them apart."""
        of_scenes = OBJECTS in self._columns and "instances" in self._kinds
        return of_scenes or self._are_of_masks

    @property
    def _are_of_masks(self) -> bool:
        """Whether each sample has one object of a category, which its mask shows."""
        return OBJECTS not in self._columns and _CATEGORY in self._columns and "masks" in self._kinds

    def add(self, path: str) -> None:
        """The samples of a table, which are a part where there are several."""
        where = self._folder.root / path
        try:
            text = self._folder.read(path).decode("utf-8-sig")
            rows = csv.reader(io.StringIO(text, newline=""))
            self._add_rows(where, path.removesuffix(TABLE), rows)
        except (UnicodeDecodeError, csv.Error) as error:
            line = f"{where}: it cannot be read ({error}); expected the table of an export: export it again"
            self.problems.add(WRONG, line, "annotations-unreadable")

    def _add_rows(self, where: Path, below: str, rows: Iterator[list[str]]) -> None:
        header = next(rows, [])
        if header != list(self._columns) or _COLUMNS["images"] not in header:
            known = ", ".join(self._columns)
            expected = f"expected {_COLUMNS['images']} and the same in all parts ({known}): export it again"
            self._wrong(where, f"the columns {', '.join(header)}; {expected}")
            return
        for number, cells in enumerate(rows, start=2):
            if len(cells) != len(header):
                expected = f"expected {len(header)}, as its header has"
                self._wrong(f"{where}, line {number}", f"{len(cells)} cells; {expected}")
                continue
            self._add_sample(f"{where}, line {number}", below, dict(zip(header, cells, strict=True)))

    def _add_sample(self, where: str, below: str, row: Mapping[str, str]) -> None:
        files = {kind: f"{below}{row[_COLUMNS[kind]]}" for kind in self._kinds}
        if missing := [kind for kind, path in files.items() if path not in self._folder.files]:
            for kind in missing:
                line = f"{where}: {files[kind]} is not there; expected the {SINGULAR[kind]} that was exported"
                self._unmatched.add(f"{SINGULAR[kind]}s that are not there", line, MISSING[kind])
            self._left_out += len(files) - len(missing)
            return
        for kind, path in files.items():
            self._files[kind].append(path)
        stem = row[_COLUMNS["images"]].removeprefix(f"{IMAGE}/").rpartition(".")[0]
        self._names.append(plain(_unmarked(row[_NAME])) if row.get(_NAME) else normal(stem))
        self._parts.append(below.rstrip("/"))
        if self._has_objects:
            self._objects.append(self._objects_of(where, row))
            require_few(where, len(self._objects[-1]), self.problems)

    def _objects_of(self, where: str, row: Mapping[str, str]) -> SampleObjects:
        """The objects of a sample: the pixels of each in the picture of instances have its number, from 1."""
        if self._are_of_masks:
            return SampleObjects((self._number_of(_unmarked(row[_CATEGORY])),), values=(_OF_MASK,))
        try:
            said = json.loads(row[OBJECTS])
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, list) or not all(isinstance(one, dict) for one in said):
            self._wrong(where, f"{OBJECTS} are {row[OBJECTS][:40]!r}; expected a list, as it was exported")
            return SampleObjects()
        categories = [one.get(_CATEGORY, "") for one in said]
        shares = [one.get(_VISIBLE) for one in said]
        if not all(isinstance(name, str) for name in categories):
            self._wrong(where, "an object has a category that is no text; expected its name")
            return SampleObjects()
        if not all(share is None or _is_share(share) for share in shares):
            self._wrong(where, f"{_VISIBLE} is no share of each object; expected numbers from 0 to 1")
            return SampleObjects()
        visible = None if None in shares else tuple(map(float, shares))
        numbers = tuple(map(self._number_of, categories))
        return SampleObjects(numbers, values=tuple(range(1, len(said) + 1)), visible=visible)

    def _number_of(self, category: str) -> int:
        return self._categories.setdefault(plain(category), len(self._categories))

    def _wrong(self, where: object, line: str) -> None:
        self.problems.add(WRONG, f"{where}: {line}", "annotations-invalid")

    def sample_set(self, tables: Sequence[str]) -> SampleSet:
        """All that was read."""
        if not self._names and not self._unmatched:
            raise self._folder.lacks(f"samples in {', '.join(tables)}", "folder")
        folders = [path.removesuffix(TABLE) for path in tables]
        places: dict[Kind, str | None] = {
            kind: ", ".join(f"{below}{_FIELDS[kind]}/" for below in folders) for kind in self._kinds
        }
        if self._are_of_masks:
            self._files["instances"], places["instances"] = self._files["masks"], places["masks"]
        names = self._names
        if len(set(names)) < len(names):
            names = [normal(path.rpartition(".")[0]) for path in self._files["images"]]
        lines = []
        if OBJECTS in self._columns and not self._has_objects:
            lines.append("Objects are not imported: no pictures of instances tell them apart.")
        kinds: tuple[Kind, ...] = ("images", "masks", "depths", "instances")
        patterns = {kind: places.get(kind) for kind in kinds}
        return SampleSet(
            "folder",
            Pairs(patterns, self._files, names, self._unmatched, self._left_out),
            (tuple(self._categories) or ("",)) if self._has_objects else (),
            self._objects if self._has_objects else None,
            parts_of(self._parts),
            list(tables),
            lines,
            of_masks=self._are_of_masks,
        )


def _unmarked(cell: str) -> str:
    """The text that a cell stands for."""
    return cell.removeprefix(TEXT_MARK)


def _is_share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
