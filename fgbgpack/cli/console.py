"""What the commands say, and how: results on stdout, all else on stderr; paths are never wrapped."""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

#: Columns where there is no terminal: what reads a pipe has no edge to wrap at.
_NO_EDGE = 10_000


class _Console(Console):
    """A console whose reader may leave: the work goes on, and its exit code still tells of the work."""

    def on_broken_pipe(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


def stdout() -> Console:
    """The console for results. On a pipe it has no colours, and nothing is cut to a width."""
    return _console(error=False)


def stderr() -> Console:
    """The console for progress, notices and errors."""
    return _console(error=True)


def _console(*, error: bool) -> Console:
    # Made for each use, so that a stream that was replaced meanwhile (as tests do) is respected.
    console = _Console(stderr=error, highlight=False, markup=False, emoji=False)
    # Not is_terminal: that is forced where colours are, as CI services do.
    if not on_terminal(console):
        console.width = _NO_EDGE
    return console


def on_terminal(console: Console) -> bool:
    """Whether somebody looks at it, on a screen that can redraw a line."""
    return console.file.isatty() and not console.is_dumb_terminal


def visible(text: str) -> str:
    """``text`` with control characters written out: a file's name must not steer the terminal."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda match: f"\\x{ord(match[0]):02x}", text)


def say(line: str, *, style: str = "") -> None:
    """One line on stdout, whole on any terminal so that it can be copied."""
    stdout().print(Text(visible(line), style=style), soft_wrap=True)


def print_json(document: Any) -> None:
    """A JSON document on stdout, as other programs read it."""
    stdout().out(json.dumps(document, indent=2), highlight=False)


def show_error(message: str, problems: Sequence[str] = (), *, label: str = "error") -> None:
    """One red block: what is wrong, then a line for each offending thing."""
    block = Text()
    block.append(f"{label}{': ' if message else ''}", style="bold red")
    block.append(visible(message), style="red")
    for problem in problems:
        block.append("\n  - ", style="red")
        block.append(visible(problem))
    stderr().print(block)


def show_bug(error: BaseException) -> None:
    """The message for an exception that nobody foresaw."""
    sys.stderr.write("".join(traceback.format_exception(error)))
    name = type(error).__name__
    show_error(
        f"{name}: {error}\nThis is a bug, please report it: the lines above, and the command you ran.",
        label="unexpected error",
    )


def show_warning(message: str) -> None:
    """One line on stderr."""
    stderr().print(Text(f"warning: {visible(message)}", style="yellow"))


def amount(size: float) -> str:
    """A number of bytes with a unit: ``"3,012 B"``, ``"265.3 MB"``; powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < (10_000 if unit == "B" else 1000):
            return f"{size:,.0f} B" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def duration(seconds: float) -> str:
    """A span of time as people write it: ``"0.4 s"``, ``"38 s"``, ``"4 min 05 s"``, ``"2 h 10 min"``."""
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
