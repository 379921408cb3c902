"""The terminal: its consoles, and text, sizes and durations as it shows them."""

from __future__ import annotations

import os
import re
import textwrap
from functools import partial

from rich.console import Console

#: Columns where there is no terminal: lines are not wrapped for what reads a pipe.
_UNLIMITED = 10_000
# Stands for a space at which no line is broken; it is in no text.
_JOINT = "\x00"
_WITH_UNIT = re.compile(r"(\d) (B|kB|MB|GB|TB|s|min|h)\b")


class _Console(Console):
    """A console that ignores a closed pipe: the work goes on, and the exit status still tells its outcome."""

    def on_broken_pipe(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


def _console(*, error: bool) -> Console:
    # Made for each use, so that a replaced stream (as in tests) is respected.
    console = _Console(stderr=error, highlight=False, markup=False, emoji=False)
    # Not is_terminal: CI services force that to get colours.
    if not on_terminal(console):
        console.width = _UNLIMITED
    return console


#: The console for results. On a pipe it has no colours, and nothing is cut to a width.
stdout = partial(_console, error=False)
#: The console for progress, notices and errors.
stderr = partial(_console, error=True)


def on_terminal(console: Console) -> bool:
    """Whether the console is a screen that can redraw a line."""
    return console.file.isatty() and not console.is_dumb_terminal


def visible(text: str) -> str:
    """``text`` with control characters escaped: a file's name must not control the terminal."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda match: f"\\x{ord(match[0]):02x}", text)


def wrapped(text: str, columns: int) -> list[str]:
    """Lines of some columns that ``text``, of a line or more, is broken into; words stay whole, such as paths
    and addresses, also where they are longer, and so do numbers with their units.
    """
    wrapper = textwrap.TextWrapper(columns, break_long_words=False, break_on_hyphens=False)
    joined = _WITH_UNIT.sub(rf"\1{_JOINT}\2", text)
    lines = [part for line in joined.split("\n") for part in wrapper.wrap(line) or [""]]
    return [line.replace(_JOINT, " ") for line in lines]


def amount(size: float) -> str:
    """A number of bytes with a unit: ``"3,012 B"``, ``"265.3 MB"``; powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < (10_000 if unit == "B" else 1000):
            return f"{size:,.0f} B" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def per_second(rate: float, unit: str = "") -> str:
    """A rate for people: ``"33,098/s"``, ``"9.4 samples/s"``, ``"0.29/s"``: slow work is not shown as 0."""
    digits = 0 if rate >= 9.95 else 1 if rate >= 0.995 else 2
    return f"{rate:,.{digits}f}{unit and f' {unit}'}/s"


def duration(seconds: float) -> str:
    """A duration for people: ``"0.4 s"``, ``"38 s"``, ``"4 min 05 s"``, ``"2 h 10 min"``."""
    if seconds < 0.1:
        return "under 0.1 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"
