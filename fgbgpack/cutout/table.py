"""``cutouts.csv``: a row for each cut-out with its numbers and flags, and a column for people to decide."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fgbgpack.cutout.quality import NOTHING, NUMBERS, Quality
from fgbgpack.errors import SourceError
from fgbgpack.files import write_atomically
from fgbgpack.inputs import read_file
from fgbgpack.sources.credits import Credit
from fgbgpack.sources.names import normal
from fgbgpack.sources.problems import combined, problem

#: The name of the table in the folder of cut-outs.
TABLE = "cutouts.csv"

_COLUMNS = ("file", "photo", "keep", "used", "flags", *NUMBERS)
_LARGEST_TABLE = 64 << 20  # bytes
_WORDS: Mapping[str, bool] = {
    **dict.fromkeys(("yes", "y", "true", "1"), True),
    **dict.fromkeys(("no", "n", "false", "0"), False),
}
#: What may separate cells: spreadsheets of some languages save semicolons.
_DELIMITERS = ",;\t"

#: What a text begins with that spreadsheets take for a formula, and what comes before it in names of files.
_FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_HERE = "./"

#: What somebody decided of a cut-out, by its file name.
Decisions = Mapping[str, bool]


@dataclass(frozen=True)
class Cutout:
    """One cut-out: its file's name, ``None`` where nothing was found; the name of its photograph, and what is
    known of that; its numbers; the box in the photograph, ``(left, top, right, bottom)``.
    """

    file: str | None
    photo: str
    credit: Credit
    quality: Quality | None
    box: tuple[int, int, int, int] | None

    @property
    def flags(self) -> tuple[str, ...]:
        """What is suspicious of it."""
        return (NOTHING,) if self.quality is None else self.quality.flags

    def is_used(self, decisions: Decisions, *, only_good: bool) -> bool:
        """Whether it is a foreground: as somebody decided, or else unless flagged ones are left out."""
        if self.file is None:
            return False
        return decisions.get(normal(self.file), not (only_good and bool(self.flags)))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Cutout:
        """From what :meth:`to_dict` gave. Raises KeyError, TypeError or ValueError for anything else."""
        quality, box = document["quality"], document["box"]
        return cls(
            document["file"],
            document["photo"],
            Credit(**document["credit"]),
            None if quality is None else Quality(**quality),
            None if box is None else tuple(box),
        )


def write_table(path: Path, cutouts: Iterable[Cutout], decisions: Decisions, *, only_good: bool) -> None:
    """Writes the table, in the order of the cut-outs; raises OSError."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for cutout in cutouts:
        decided = None if cutout.file is None else decisions.get(normal(cutout.file))
        keep = "" if decided is None else _word(decided)
        used = _word(cutout.is_used(decisions, only_good=only_good))
        numbers: Sequence[Any] = [""] * len(NUMBERS)
        if cutout.quality is not None:
            numbers = list(asdict(cutout.quality).values())
        names = [_name_cell(cutout.file or ""), _name_cell(cutout.photo)]
        writer.writerow([*names, keep, used, " ".join(cutout.flags), *numbers])
    write_atomically(path, text.getvalue().encode())


def read_decisions(path: Path) -> Decisions:
    """What the column ``keep`` of a table says, by the names of files in NFC; nothing where there is no
    table, or a cell is empty. Raises SourceError for a table that cannot be read, with all that is wrong.
    """
    try:
        rows = _rows(path, read_file(path, _LARGEST_TABLE))
    except FileNotFoundError:
        return {}
    except OSError as error:
        found = f"it cannot be read ({error.strerror})"
        raise _problem(path, found, "a readable file") from error
    found_problems: list[SourceError] = []
    decisions: dict[str, bool] = {}
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    if not {"file", "keep"} <= set(header):
        raise _problem(path, "no columns 'file' and 'keep'", "those that fgbgpack cutout writes")
    at_file, at_keep = header.index("file"), header.index("keep")
    for line, cells in rows[1:]:
        if len(cells) <= max(at_file, at_keep):
            continue
        file, keep = cells[at_file].strip().removeprefix(_HERE), cells[at_keep].strip()
        if not keep or not file:
            continue
        if keep.lower() not in _WORDS:
            found = f"{keep!r} in the column 'keep'"
            found_problems.append(_problem(f"{path}, line {line}", found, "yes, no, or nothing"))
        else:
            decisions[normal(file)] = _WORDS[keep.lower()]
    if found_problems:
        raise combined(found_problems)
    return decisions


def _rows(path: Path, content: bytes) -> list[tuple[int, list[str]]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _problem(path, "it is not UTF-8", "a CSV file in UTF-8") from error
    delimiter = next((char for char in text.partition("\n")[0] if char in _DELIMITERS), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return [(reader.line_num, cells) for cells in reader if any(cells)]
    except csv.Error as error:
        raise _problem(f"{path}, line {reader.line_num}", str(error), "a CSV file") from error


def _problem(where: Path | str, found: str, expected: str) -> SourceError:
    return problem(where, found, expected, "cutouts-table-invalid")


def _name_cell(name: str) -> str:
    """A file's name as it is in the table: such that a spreadsheet takes it for no formula."""
    return f"{_HERE}{name}" if name.startswith(_FORMULA_STARTS) else name


def _word(value: bool) -> str:
    return "yes" if value else "no"
