"""What the sections of ``gpu.py`` find: rows of its table, checks, numbers, failures."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HOLDS, FAILED, SKIPPED = "holds", "FAILED", "skipped"

#: The widths of the table's columns: with the bars between them, 100 characters.
HEADER = ("what", "measured", "compared with", "check")
WIDTHS = (35, 23, 22, 7)


@dataclass(frozen=True)
class Settings:
    """What a section is to do; after ``deadline``, a time as of ``time.time()``, it begins nothing."""

    device: str
    folder: Path
    deadline: float
    quick: bool = False
    network: Path | None = None


@dataclass
class Report:
    """The findings of one section.

    ``file`` gets each as a line of JSON when it is found, so that what is known outlives the process.
    """

    deadline: float = float("inf")
    file: Path | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)

    def row(self, what: str, measured: str = "", compared: str = "", check: str = "") -> None:
        """A line of the table."""
        self._write(row=(what, measured, compared, check))

    def check(self, name: str, holds: Any, found: str = "") -> bool:
        """Something that must hold; where it does not, ``found`` says what was found instead."""
        self._write(check=name, holds=bool(holds), found=found)
        if not holds:
            say(f"FAILED: {name}: {found}")
        return bool(holds)

    def skip(self, what: str, why: str) -> None:
        """Something that was not tried."""
        self._write(skipped=what, why=why)
        say(f"Skipped: {what}: {why}")

    def number(self, **numbers: Any) -> None:
        """Numbers by their names."""
        self._write(numbers=numbers)

    def has_time(self, what: str) -> bool:
        """Whether something may begin; past the deadline it is skipped."""
        if time.time() < self.deadline:
            return True
        self.skip(what, "it would begin after the deadline")
        return False

    @contextmanager
    def attempt(self, what: str, *, must: bool = True) -> Iterator[None]:
        """Goes on after an exception. It is recorded, and is a failed check unless it ``must`` not work."""
        try:
            yield
        except Exception as exc:
            first = str(exc).strip().partition("\n")[0]
            self._write(error=what, text=traceback.format_exc(), must=must)
            say(f"{'FAILED' if must else 'Not possible'}: {what}: {type(exc).__name__}: {first}")
            self.row(what, type(exc).__name__, first, FAILED if must else SKIPPED)

    def failed(self) -> list[str]:
        """The names of all checks that failed, and of what raised an exception."""
        return failed_in(self.lines)

    def _write(self, **line: Any) -> None:
        self.lines.append(line)
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The findings in a file, without a last one that was cut off."""
    lines = []
    for text in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def failed_in(lines: Sequence[dict[str, Any]]) -> list[str]:
    """The names of the checks that failed and of what raised an exception, in order."""
    return [
        line.get("check") or line["error"]
        for line in lines
        if line.get("holds") is False or (line.get("error") and line["must"])
    ]


def numbers_in(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All numbers of a section."""
    return {name: value for line in lines for name, value in line.get("numbers", {}).items()}


def verdict(*held: bool) -> str:
    """What a row says of its checks."""
    return HOLDS if all(held) else FAILED


def table(sections: dict[str, Sequence[Sequence[str]]]) -> str:
    """Rows by section as a table in GitHub's Markdown; what does not fit into its column is cut."""
    lines = [_line(HEADER), "|" + "|".join("-" * (width + 2) for width in WIDTHS) + "|"]
    for title, rows in sections.items():
        if rows:
            lines.append(_line((f"**{title}**", "", "", "")))
        lines += map(_line, rows)
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    cut = [
        cell if len(cell) <= width else cell[: width - 3] + "..."
        for cell, width in zip((one.replace("|", "/") for one in cells), WIDTHS, strict=True)
    ]
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cut, WIDTHS, strict=True)) + " |"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
