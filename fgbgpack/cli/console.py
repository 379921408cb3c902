"""Printing: results on stdout, everything else on stderr; paths are never wrapped."""

from __future__ import annotations

import json
import shlex
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

from rich.text import Text

from fgbgpack.terminal import per_second, stderr, stdout, visible, wrapped

# Of values that are wrapped.
_LEAST_COLUMNS = 20


def say(line: str, *, style: str = "") -> None:
    """Print one line on stdout, not wrapped, so that it can be copied."""
    stdout().print(Text(visible(line), style=style), soft_wrap=True)


def say_title(line: str) -> None:
    """Print a line in bold on stdout, broken where the terminal is narrower."""
    say_text(line, style="bold")


def say_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values in two columns on stdout; values are wrapped where there is a terminal."""
    width = max(len(name) for name, _ in rows)
    columns = max(_LEAST_COLUMNS, stdout().width - width - 5)
    for name, value in rows:
        for number, part in enumerate(wrapped(visible(value), columns)):
            line = Text("  ")
            line.append((name if number == 0 else "").ljust(width), style="dim")
            line.append(f"   {part}")
            stdout().print(line, soft_wrap=True)


def say_text(text: str, *, indent: str = "", hanging: str = "", style: str = "") -> None:
    """Print text on stdout, in lines as wide as the terminal, if there is one; all but the first of them are
    indented further by ``hanging``.
    """
    for number, line in enumerate(wrapped(visible(text), stdout().width - len(indent + hanging))):
        stdout().print(Text(f"{indent}{hanging if number else ''}{line}", style=style), soft_wrap=True)


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
    console, block = stderr(), Text()
    title = f"{label}{': ' if message else ''}"
    first, *others = wrapped(f"{title}{visible(message)}", console.width)
    block.append(first[: len(title)], style="bold red")
    block.append("\n".join([first[len(title) :], *others]), style="red")
    for problem in problems:
        block.append("\n  - ", style="red")
        block.append("\n    ".join(wrapped(visible(problem), console.width - len("  - "))))
    console.print(block, soft_wrap=True)


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
    console = stderr()
    for line in wrapped(f"warning: {visible(message)}", console.width):
        console.print(Text(line, style="yellow"), soft_wrap=True)


def per_sample(size: float, samples: int) -> str:
    """Bytes divided by samples: ``"2,612 bytes per sample"``."""
    return f"{size / samples:,.0f} bytes per sample"


def work_done(done: int, samples: int, size: float, seconds: float = 0.0) -> str:
    """How much of the work this run did, its rate if it took ``seconds``, and the stored bytes per sample."""
    stored = per_sample(size, samples)
    if not done:
        return f"already there, {stored}"
    some = "" if done == samples else f"{done:,} of {samples:,} in this run, "
    rate = f"{per_second(done / seconds)}, " if seconds > 0 else ""
    return f"{some}{rate}{stored}"
