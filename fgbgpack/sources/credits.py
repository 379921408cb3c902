"""``sources.csv``: the licence of each picture of a folder, who made it, and where it comes from.

It is a table in UTF-8 with a header. ``file`` names a picture below its folder by its path, or by as much of
the end of its path as no other picture has; ``license`` (or
``licence``), ``author`` and ``url`` are what is known of it; ``category`` of a foreground is what it shows,
and ``cut`` names the sides at which it is cut, such as ``bottom`` or ``bottom left``, or ``none``;
``horizon``, ``floor`` and ``focal_length`` of a background are where its horizon is, from 0 at the top to 1,
the mask of its floor, such as ``floors/hall.png``, and the focal length in pixels of the picture. Each may be
left out or empty.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fgbgpack.errors import SourceError
from fgbgpack.inputs import read_file
from fgbgpack.sources.cuts import SIDES, parse_sides
from fgbgpack.sources.names import listed, normal
from fgbgpack.sources.problems import combined, problem

#: The name of the table in a folder of pictures.
CREDITS_FILE = "sources.csv"

_FILE = "file"
_CUT, _HORIZON = "cut", "horizon"
_FLOOR, _FOCAL, _CATEGORY = "floor", "focal_length", "category"
_ORIGIN = ("license", "author", "url")
#: Columns that say something of pictures of one kind only.
OF_FOREGROUNDS, OF_BACKGROUNDS = (_CATEGORY, _CUT), (_HORIZON, _FLOOR, _FOCAL)
_COLUMNS = (_FILE, *_ORIGIN, *OF_FOREGROUNDS, *OF_BACKGROUNDS)
#: Columns that change what is made of a picture: a row that names no picture would do nothing.
_USED = (_CUT, *OF_BACKGROUNDS)
_WHOSE = dict.fromkeys(OF_FOREGROUNDS, "foregrounds") | dict.fromkeys(OF_BACKGROUNDS, "backgrounds")
_SPELLINGS = {"licence": "license"}
#: What may separate cells: whichever the header uses first.
_DELIMITERS = ",;\t"
_SHOWN = 5
_LARGEST_TABLE = 64 << 20  # bytes
# As in the schema of the document, which holds the names of categories.
_LABEL = re.compile("[^\x00-\x1f\x7f]{1,255}")


@dataclass(frozen=True, slots=True)
class Credit:
    """What is known of a picture: an SPDX identifier, address or sentence; who made it; where it is from;
    what it shows; at which sides it is cut, as :func:`fgbgpack.sources.cuts.cut_sides` says; where its
    horizon is, 0 to 1; the mask of its floor, as it is written; and its focal length in pixels of the
    picture.
    """

    license: str | None = None
    author: str | None = None
    url: str | None = None
    category: str | None = None
    cut: int | None = None
    horizon: float | None = None
    floor: str | None = None
    focal_length: float | None = None


@dataclass(frozen=True)
class Credits:
    """What the ``sources.csv`` of a folder says of pictures by their names, what is wrong with it, and
    notices of rows for files that are not there, unused columns, and pictures without a licence.
    """

    by_name: dict[str, Credit] = field(default_factory=dict)
    problems: list[SourceError] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def read_credits(
    folder: Path, names: Iterable[str], misplaced: Iterable[str] = (), *, is_whole: bool = True
) -> Credits:
    """Reads the ``sources.csv`` of a folder of pictures with these names, compared in NFC, if it has one.

    ``misplaced`` are those of ``OF_FOREGROUNDS`` and ``OF_BACKGROUNDS`` that pictures of this kind do not
    have. Pictures without a licence are noticed where nothing else may state it (``is_whole``).
    """
    path = folder / CREDITS_FILE
    credits = Credits()
    try:
        table = _table(path, read_file(path, _LARGEST_TABLE))
        columns = _columns(path, table[0][1], credits)
    except FileNotFoundError:
        if path.is_symlink():
            found = "a link to a file that is not there"
            credits.problems.append(problem(path, found, "a readable file", "credits-unreadable"))
        return credits
    except OSError as error:
        unreadable = f"it cannot be read ({error.strerror})"
        credits.problems.append(problem(path, unreadable, "a readable file", "credits-unreadable"))
        return credits
    except SourceError as error:
        credits.problems.append(error)
        return credits
    pictures = _Pictures(names)
    absent = []
    lines: dict[str, int] = {}
    rows = _rows(path, table[1:], columns, credits)
    for column in misplaced:
        if said := [line for line, _, credit in rows if getattr(credit, column) is not None]:
            found, expected = f"the column '{column}' has values", f"it in the table of the {_WHOSE[column]}"
            credits.problems.append(_problem(path, said[0], found, expected))
    for line, file, credit in rows:
        named = pictures.called(file)
        name = named[0] if len(named) == 1 else None
        used = [column for column in _USED if getattr(credit, column) is not None]
        if len(named) > 1:
            found = f"{file} is the name of {len(named)} pictures ({listed(named, _SHOWN)})"
            credits.problems.append(_problem(path, line, found, "one: give more of its path"))
        elif name is not None and (first := lines.setdefault(name, line)) != line:
            credits.problems.append(_problem(path, line, f"{name} is on line {first} too", "it once"))
        elif name is None and used:
            found = f"{file}, of which it says {' and '.join(used)}, is not there"
            credits.problems.append(_problem(path, line, found, "the name of a picture"))
        elif name is None:
            absent.append(f"{file} (line {line})")
        elif credit != Credit():
            credits.by_name[name] = credit
    unstated = [name for name in pictures if credits.by_name.get(name, Credit()).license is None]
    if absent:
        lacking = f"{len(absent)} of its rows are for pictures that are not there"
        credits.notices.append(f"{path}: {lacking}: {listed(absent, _SHOWN)}")
    if unstated and is_whole and not set(columns).isdisjoint(_ORIGIN):
        lacking = f"no licence is stated for {len(unstated)} of {len(pictures)} pictures"
        credits.notices.append(f"{path}: {lacking}: {listed(unstated, _SHOWN)}")
    return credits


class _Pictures:
    """Pictures by their paths, or by the ends of these, in NFC."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_path = {normal(name): name for name in names}
        self._by_end: dict[str, list[str]] = {}
        for path in self._by_path:
            self._by_end.setdefault(path.rpartition("/")[2], []).append(path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_path.values())

    def __len__(self) -> int:
        return len(self._by_path)

    def called(self, file: str) -> list[str]:
        """The pictures that a table means by this. What is no file may be named with an extension."""
        path = normal(file.replace("\\", "/").removeprefix("./"))
        before, _, after = path.rpartition(".")
        for one in (path, *([before] if before and "/" not in after else [])):
            if one in self._by_path:
                return [self._by_path[one]]
            alike = self._by_end.get(one.rpartition("/")[2], [])
            if found := [self._by_path[other] for other in alike if other.endswith(f"/{one}")]:
                return found
        return []


def _table(path: Path, content: bytes) -> list[tuple[int, list[str]]]:
    """The rows that are not empty, each with the number of its last line."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _problem(path, line, "it is not UTF-8", "a CSV file in UTF-8") from error
    first_line = text.lstrip().partition("\n")[0]
    delimiter = next((char for char in first_line if char in _DELIMITERS), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = []
    try:
        for cells in reader:
            cleaned = [" ".join(cell.split()) for cell in cells]
            if any(cleaned):
                rows.append((reader.line_num, cleaned))
    except csv.Error as error:
        raise _problem(path, max(1, reader.line_num), str(error), "a CSV file") from error
    if not rows:
        raise _problem(path, None, "it is empty", "a header with a column 'file', and a row a picture")
    return rows


def _columns(path: Path, header: list[str], credits: Credits) -> list[str]:
    """The meaning of each column, ``""`` for unused ones."""
    names = [_SPELLINGS.get(name.lower(), name.lower()) for name in header]
    problems = [
        _problem(path, None, f"{names.count(name)} columns '{name}'", "one")
        for name in _COLUMNS
        if names.count(name) > 1
    ]
    if _FILE not in names:
        found = f"no column 'file' among {', '.join(header)}"
        problems.insert(0, _problem(path, None, found, ", ".join(_COLUMNS)))
    if problems:
        raise combined(problems)
    unused = [written for written, name in zip(header, names, strict=True) if name not in _COLUMNS]
    if unused:
        credits.notices.append(
            f"{path}: not used are the columns {', '.join(name or '(no name)' for name in unused)}."
        )
    return [name if name in _COLUMNS else "" for name in names]


def _rows(
    path: Path, table: list[tuple[int, list[str]]], columns: list[str], credits: Credits
) -> list[tuple[int, str, Credit]]:
    rows = []
    lines: dict[str, int] = {}
    for line, cells in table:
        if len(cells) > len(columns):
            expected = "as many (quote cells that hold the separator)"
            found = f"{len(cells)} cells, the header has {len(columns)}"
            credits.problems.append(_problem(path, line, found, expected))
            continue
        # A row may leave out its last cells.
        values = {name: cell or None for name, cell in zip(columns, cells, strict=False) if name}
        file, sides = values.pop(_FILE, None), values.pop(_CUT, None)
        cut = None if sides is None else parse_sides(sides)
        if sides is not None and cut is None:
            found = f"{sides!r} in the column 'cut'"
            credits.problems.append(_problem(path, line, found, f"some of {', '.join(SIDES)}, or none"))
        numbers: dict[str, float] = {}
        for column, (fits, expected) in _NUMBERS.items():
            if (written := values.pop(column, None)) is not None:
                numbers[column] = _number(written)
                if not fits(numbers[column]):
                    found = f"{written!r} in the column '{column}'"
                    credits.problems.append(_problem(path, line, found, expected))
        category = values.get(_CATEGORY)
        if category is not None and _LABEL.fullmatch(category) is None:
            expected = "1 to 255 characters, none of them a control character"
            credits.problems.append(_problem(path, line, f"{category!r} in the column 'category'", expected))
        if file is None:
            credits.problems.append(_problem(path, line, "no file is named", "the name of a picture"))
        elif (first := lines.setdefault(normal(file), line)) != line:
            credits.problems.append(_problem(path, line, f"{file} is on line {first} too", "it once"))
        else:
            rows.append(
                (
                    line,
                    file,
                    Credit(
                        **values, cut=cut, horizon=numbers.get(_HORIZON), focal_length=numbers.get(_FOCAL)
                    ),
                )
            )
    return rows


#: Columns of numbers: which ones, and these in words.
_NUMBERS: dict[str, tuple[Callable[[float], bool], str]] = {
    _HORIZON: (
        lambda share: 0 <= share <= 1,
        "a number from 0, the upper edge of the picture, to 1, the lower one",
    ),
    _FOCAL: (lambda pixels: 0 < pixels < math.inf, "a number of pixels of the picture, more than 0"),
}


def _number(text: str) -> float:
    """A number; NaN for other texts."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _problem(path: Path, line: int | None, found: str, expected: str) -> SourceError:
    where = path if line is None else f"{path}, line {line}"
    return problem(where, found, expected, "credits-invalid")
