"""Runs of the command line: in this process, or as a process of their own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner, Result

from fgbgpack.cli import app

#: The command line as a process of its own.
PROGRAM = [sys.executable, "-m", "fgbgpack"]

#: Options of ``create``: samples of 32x24 without depth.
TINY = ("--depth-model", "none", "--size", "32x24", "--foreground-height", "10", "--placements", "2")


def run(*arguments: object, stdin: str | None = None) -> Result:
    """Run a command in this process."""
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(app, words, prog_name="fgbgpack", input=stdin)


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start a command as a process of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*PROGRAM, *map(str, arguments)], **{**pipes, **options})


def failure(*arguments: object) -> tuple[int, str]:
    """The exit status and the error's code of a command that fails, read from its ``--json``."""
    result = run(*arguments, "--json")
    return result.exit_code, json.loads(result.stdout)["error"]["code"]


def rejected(*arguments: object) -> list[str]:
    """The options that the problems of a command are about; nothing else may be wrong with it."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    return options_of(problems(result))


def problems(result: Result) -> list[str]:
    """The problems that a command reports as text."""
    return re.findall(r"^  - (.*)$", result.stderr, re.MULTILINE)


def options_of(lines: Iterable[str]) -> list[str]:
    """What each problem is about: an option, or a field of a file."""
    return [line.split(":")[0] for line in lines]


def all_commands(group: Any = None, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group, with its names: ``()``, ``("create",)``, ``("models", "get")``."""
    group = get_command(app) if group is None else group
    yield names, group
    for name, command in getattr(group, "commands", {}).items():
        yield from all_commands(command, *names, name)
