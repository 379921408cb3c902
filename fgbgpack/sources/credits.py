"""``sources.csv``: the licence of each picture of a folder, who made it, and where it comes from.

It is a table in UTF-8 with a header. ``file`` names a picture of the same folder; ``license`` (or
``licence``), ``author`` and ``url`` are what is known of it. Each may be left out or empty.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

#: What the table is called in a folder of pictures.
CREDITS_FILE = "sources.csv"

_FILE = "file"
_SPELLINGS = {"licence": "license"}
_KNOWN = ("license", "author", "url")
#: What may stand between cells: the one that the header uses first.
_DELIMITERS = ",;\t"
_SHOWN = 5


@dataclass(frozen=True)
class Credit:
    """What is known of a picture.

    Attributes:
        license: An SPDX identifier, an address or a sentence; None where nothing is stated.
        author: Who made it; None where that is not stated.
        url: Where it comes from; None where that is not stated.
    """

    license: str | None = None
    author: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class _Row:
    """A row of the table: its line in the file, its file, and what it says of that."""

    line: int
    file: str
    credit: Credit


def read_credits(
    folder: Path, names: Iterable[str], problems: list[str], notices: list[str]
) -> dict[str, Credit]:
    """What the ``sources.csv`` of a folder says of the pictures in it.

    Args:
        folder: The folder. It need not have such a file.
        names: The names of its pictures, which are matched NFC-normalised.
        problems: Gets a line for each thing that is wrong with the file, with its line number.
        notices: Gets a line for each thing to know: rows for files that are not there, columns that are not
            used, pictures for which no licence is stated.

    Returns:
        The credits by the name of the picture; pictures of which nothing is stated are not in it.

    Example:
        >>> read_credits(Path("bg"), ["hall.jpg"], [], [])  # doctest: +SKIP
        {'hall.jpg': Credit(license='CC0-1.0', author='Ada', url=None)}
    """
    path = folder / CREDITS_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        problems.append(f"{path}: it cannot be read ({error.strerror}); expected a readable file")
        return {}
    table = _table(path, content, problems)
    if table is None:
        return {}
    columns = _columns(path, table[0][1], problems, notices)
    if columns is None:
        return {}
    rows = _rows(path, table, columns, problems)
    pictures = {_normal(name): name for name in names}
    credits = {
        pictures[_normal(row.file)]: row.credit
        for row in rows
        if _normal(row.file) in pictures and row.credit != Credit()
    }
    _report(path, rows, pictures, credits, notices)
    return credits


def _table(path: Path, content: bytes, problems: list[str]) -> list[tuple[int, list[str]]] | None:
    """The rows that are not empty, each with the number of its last line; None if it is no such table."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.append(f"{path}, line {line}: it is not UTF-8; expected a CSV file in UTF-8")
        return None
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
        problems.append(f"{path}, line {max(1, reader.line_num)}: {error}; expected a CSV file")
        return None
    if not rows:
        problems.append(f"{path}: it is empty; expected a header with a column 'file', and a row a picture")
        return None
    return rows


def _columns(path: Path, header: list[str], problems: list[str], notices: list[str]) -> list[str] | None:
    """What each column is, ``""`` for those that are not used; None if it cannot be told."""
    names = [_SPELLINGS.get(name.lower(), name.lower()) for name in header]
    found = []
    if _FILE not in names:
        found.append(
            f"{path}: no column 'file' among {', '.join(header)}; expected file, license, author, url"
        )
    found += [
        f"{path}: {names.count(name)} columns '{name}'; expected one"
        for name in (_FILE, *_KNOWN)
        if names.count(name) > 1
    ]
    if found:
        problems += found
        return None
    unused = [written for written, name in zip(header, names, strict=True) if name not in (_FILE, *_KNOWN)]
    if unused:
        notices.append(
            f"{path}: not used are the columns {', '.join(name or '(no name)' for name in unused)}."
        )
    return [name if name in (_FILE, *_KNOWN) else "" for name in names]


def _rows(
    path: Path, table: list[tuple[int, list[str]]], columns: list[str], problems: list[str]
) -> list[_Row]:
    rows = []
    lines: dict[str, int] = {}
    for line, cells in table[1:]:
        if len(cells) > len(columns):
            problems.append(
                f"{path}, line {line}: {len(cells)} cells, the header has {len(columns)}; expected as many "
                "(quote cells that hold the separator)"
            )
            continue
        # A row may leave out its last cells.
        values = {name: cell or None for name, cell in zip(columns, cells, strict=False) if name}
        file = values.pop(_FILE, None)
        if file is None:
            problems.append(f"{path}, line {line}: no file is named; expected the name of a picture")
        elif _normal(file) in lines:
            problems.append(
                f"{path}, line {line}: {file} is on line {lines[_normal(file)]} too; expected it once"
            )
        else:
            lines[_normal(file)] = line
            rows.append(_Row(line, file, Credit(**values)))
    return rows


def _report(
    path: Path,
    rows: Sequence[_Row],
    pictures: dict[str, str],
    credits: dict[str, Credit],
    notices: list[str],
) -> None:
    strangers = [f"{row.file} (line {row.line})" for row in rows if _normal(row.file) not in pictures]
    if strangers:
        notices.append(
            f"{path}: {len(strangers)} of its rows are for pictures that are not there: {_some(strangers)}"
        )
    unstated = [name for name in pictures.values() if credits.get(name, Credit()).license is None]
    if unstated:
        notices.append(
            f"{path}: no licence is stated for {len(unstated)} of {len(pictures)} pictures: {_some(unstated)}"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:_SHOWN], "..."] if len(names) > _SHOWN else names)


def _normal(name: str) -> str:
    """One spelling for names that look the same (file systems differ in how they store accents)."""
    return unicodedata.normalize("NFC", name)
