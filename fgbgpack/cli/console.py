"""Printing: results on stdout, everything else on stderr; paths are never wrapped."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import textwrap
import traceback
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import PurePath
from typing import Any

from rich.console import Console
from rich.text import Text

#: Columns where there is no terminal: lines are not wrapped for what reads a pipe.
_UNLIMITED = 10_000
# Of values that are wrapped.
_LEAST_COLUMNS = 20


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


def say(line: str, *, style: str = "") -> None:
    """Print one line on stdout, not wrapped, so that it can be copied."""
    stdout().print(Text(visible(line), style=style), soft_wrap=True)


def say_title(line: str) -> None:
    """Print a line in bold on stdout."""
    say(line, style="bold")


def say_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values in two columns on stdout; values are wrapped where there is a terminal."""
    width = max(len(name) for name, _ in rows)
    columns = max(_LEAST_COLUMNS, stdout().width - width - 5)
    for name, value in rows:
        found = textwrap.wrap(visible(value), columns, break_long_words=False, break_on_hyphens=False)
        for number, part in enumerate(found or [""]):
            line = Text("  ")
            line.append((name if number == 0 else "").ljust(width), style="dim")
            line.append(f"   {part}")
            stdout().print(line, soft_wrap=True)


def say_next(commands: Iterable[str], python: Iterable[str] = ()) -> None:
    """Print commands, and lines of Python, to continue with."""
    for title, lines in (("Next", commands), ("In Python", python)):
        for i, line in enumerate(lines):
            say(f"  {line}" if i else f"\n{title}:\n  {line}")


def say_next_of_dataset(path: str, *, has_depth: bool, python: str) -> None:
    """Print how to continue with a new dataset: fill its depth, draw it, open it."""
    fill = [] if has_depth else [f"fgbgpack depth {shlex.quote(path)}"]
    opened = ["import fgbgpack", f"dataset = fgbgpack.open_dataset({path!r})", python]
    say_next([*fill, preview_command(path)], opened)


def preview_command(path: str) -> str:
    """The command that draws a picture of a dataset."""
    picture = f"{PurePath(path).stem or 'preview'}.png"
    return f"fgbgpack preview {shlex.quote(path)} -o {shlex.quote(picture)}"


def print_json(document: Any) -> None:
    """Print a JSON document on stdout."""
    stdout().out(json.dumps(document, indent=2), highlight=False)


def show_error(message: str, problems: Sequence[str] = (), *, label: str = "error") -> None:
    """Print one red block on stderr: a message, then a line for each problem."""
    block = Text()
    block.append(f"{label}{': ' if message else ''}", style="bold red")
    block.append(visible(message), style="red")
    for problem in problems:
        block.append("\n  - ", style="red")
        block.append(visible(problem))
    stderr().print(block)


def show_bug(error: BaseException) -> None:
    """Print an unexpected exception with its traceback on stderr."""
    sys.stderr.write("".join(traceback.format_exception(error)))
    show_error(
        f"{type(error).__name__}: {error}\n"
        "This is a bug. Please report it with the lines above and the command that you ran.",
        label="unexpected error",
    )


def show_warning(message: str) -> None:
    """Print a line on stderr."""
    stderr().print(Text(f"warning: {visible(message)}", style="yellow"))


def amount(size: float) -> str:
    """A number of bytes with a unit: ``"3,012 B"``, ``"265.3 MB"``; powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < (10_000 if unit == "B" else 1000):
            return f"{size:,.0f} B" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def per_sample(size: float, samples: int) -> str:
    """Bytes divided by samples: ``"2,612 bytes per sample"``."""
    return f"{size / samples:,.0f} bytes per sample"


def work_done(done: int, samples: int, size: float, seconds: float = 0.0) -> str:
    """How much of the work this run did, its rate if it took ``seconds``, and the stored bytes per sample."""
    stored = per_sample(size, samples)
    if not done:
        return f"already there, {stored}"
    some = "" if done == samples else f"{done:,} of {samples:,} in this run, "
    rate = f"{done / seconds:,.0f}/s, " if seconds > 0 else ""
    return f"{some}{rate}{stored}"


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
