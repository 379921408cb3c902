"""The documents for users: their code blocks, inline code and tables, and how the blocks are run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from fgbgpack.cli import app

ROOT = Path(__file__).resolve().parents[2]
#: README and the pages of docs/: every code block of them runs in the tests.
PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
DOCUMENTS = (*PAGES, "CONTRIBUTING.md", "CHANGELOG.md")

_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_OPTION = re.compile(r'(\w+)="([^"]*)"')
#: What ends a command that the shell alone understands.
_SHELL = re.compile(r"[|<>;&$]")


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    Attributes:
        page: The document.
        line: The line of its fence, from 1 on.
        language: ``"sh"``, ``"python"``, ``"toml"``, ...; ``"text"`` for output.
        options: What follows the language: ``title``, the file that the block is; ``no_run``, why it cannot
            run in the tests; ``exit``, the exit status that its last command is to have.
        text: The code.
    """

    page: str
    line: int
    language: str
    options: dict[str, str]
    text: str


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(*documents: str, language: str | None = None) -> list[Block]:
    """The code blocks of some documents, in order."""
    found = []
    for document in documents:
        text = text_of(document)
        for match in _FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(document, line, match[1], dict(_OPTION.findall(match[2])), match[3]))
    return [block for block in found if language in (None, block.language)]


def commands(block: Block) -> list[str]:
    """The commands of a shell block, one a line; a backslash at the end of a line joins the next."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def shell_words(*documents: str) -> list[list[str]]:
    """The words of every command in shell blocks, without variables that are set before it."""
    lines = [line for block in blocks(*documents, language="sh") for line in commands(block)]
    words = [shlex.split(line, comments=True) for line in lines]
    return [[word for word in line if not re.match(r"[A-Z_]+=", word)] for line in words]


def inline_code(*documents: str) -> list[list[str]]:
    """The words of every piece of inline code."""
    prose = [_FENCE.sub("", text_of(document)) for document in documents]
    return [code.split() for text in prose for _, code in re.findall(r"(`+)([^\n]*?\w[^\n]*?)\1", text)]


def table(document: str, header: str) -> list[list[str]]:
    """The rows of the table whose header starts with a cell, as lists of cells."""
    body = text_of(document).split(f"\n| {header} |", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in body.splitlines()[2:]]


# --- the command line ---


def commands_of(group: Any, *words: str) -> dict[tuple[str, ...], Any]:
    """Every command below a group, by its words: ``("create",)``, ``("models", "get")``."""
    found: dict[tuple[str, ...], Any] = {}
    for name, command in group.commands.items():
        found |= (
            commands_of(command, *words, name) if hasattr(command, "commands") else {(*words, name): command}
        )
    return found


PROGRAM = typer.main.get_command(app)
COMMANDS = commands_of(PROGRAM)


def command_of(words: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """The command that a line begins with, after ``fgbgpack``, if there is one, and its arguments."""
    length = next((n for n in (3, 2, 1) if tuple(words[1 : 1 + n]) in COMMANDS), 0)
    return tuple(words[1 : 1 + length]), words[1 + length :]


def option_names(*command: str) -> set[str]:
    """The options of a command; without one, those of the program itself."""
    parameters = (COMMANDS[command] if command else PROGRAM).params
    names = [name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)]
    return {name for name in names if name.startswith("-")}


# --- running a page ---


class Reader:
    """Somebody who follows a page in the working folder: block by block, in one Python session."""

    def __init__(self) -> None:
        self._names: dict[str, Any] = {"__name__": "__main__"}

    def follow(self, block: Block) -> None:
        """Run a block, or write the file that it is.

        Raises:
            AssertionError: A command does not exit as the block says.
        """
        if "no_run" in block.options:
            return
        if "title" in block.options:
            path = Path(block.options["title"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            *others, last = commands(block)
            for line in others:
                self._run(line, 0)
            self._run(last, int(block.options.get("exit", "0")))
        elif block.language == "python":
            # Tracebacks name the line of the document.
            code = compile("\n" * block.line + block.text, str(ROOT / block.page), "exec")
            exec(code, self._names)

    def _run(self, line: str, status: int) -> None:
        words = shlex.split(line, comments=True)
        if words[0] == "fgbgpack" and not _SHELL.search(line):
            # In this process: kernels are compiled and networks loaded once for all pages.
            done = CliRunner().invoke(app, [*words[1:], *_fewer(words)], catch_exceptions=False)
            found, output = done.exit_code, done.output
        else:
            shell = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", line], env=_environment(), capture_output=True, text=True
            )
            found, output = shell.returncode, shell.stdout + shell.stderr
        assert found == status, f"{line}\nexit status {found}, expected {status}\n{output}"


def _fewer(words: list[str]) -> list[str]:
    """Options that make few sample pictures where a page leaves their number to the default."""
    return ["--backgrounds", "2", "--foregrounds", "2"] if words[1:2] == ["sample"] else []


def _environment() -> dict[str, str]:
    """Commands of a shell are those of this Python."""
    folder = str(Path(sys.executable).parent)
    path = os.pathsep.join([folder, os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
