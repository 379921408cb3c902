"""How help looks: as wide as the terminal, and nothing in it that can be copied is broken."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import typer
import typer.core

from fgbgpack.terminal import wrapped

# Longer lines are hard to read.
_WIDEST = 100
# Names and what they are called share a line with their text if they fit into so many columns.
_NAME_COLUMNS = 24
_DEFAULT_PANEL = "Options"

Row = tuple[str, str]


class HelpfulCommand(typer.core.TyperCommand):
    """A command with help in plain text."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write(_help_of(self, ctx))


class HelpfulGroup(typer.core.TyperGroup):
    """A group of commands with help in plain text."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write(_help_of(self, ctx))


def _help_of(command: Any, ctx: Any) -> str:
    width = min(_WIDEST, shutil.get_terminal_size().columns)
    parameters = [one for one in command.get_params(ctx) if not getattr(one, "hidden", False)]
    arguments = [one for one in parameters if one.param_type_name == "argument"]
    panels: dict[str, list[Row]] = {}
    for option in parameters:
        if option.param_type_name == "option":
            panel = getattr(option, "rich_help_panel", None) or _DEFAULT_PANEL
            panels.setdefault(panel, []).append((_names(option), _text(option)))
    # Last, as it has little else than --help.
    others = panels.pop(_DEFAULT_PANEL, [])
    subcommands = [
        (name, _first_paragraph(command.get_command(ctx, name).help))
        for name in (command.list_commands(ctx) if hasattr(command, "commands") else ())
    ]
    usage = ["Usage:", ctx.command_path, "[OPTIONS]", *map(_shown_argument, arguments)]
    usage += ["COMMAND ..."] if subcommands else []
    blocks = ["\n       ".join(wrapped(" ".join(usage), width - len("Usage: ")))]
    paragraphs = (command.help or "").split("\n\n")
    blocks += ["\n".join(wrapped(" ".join(text.split()), width)) for text in paragraphs]
    blocks += _panel("Arguments", [(one.metavar, one.help or "") for one in arguments], width)
    for title, rows in (*panels.items(), (_DEFAULT_PANEL, others), ("Commands", subcommands)):
        blocks += _panel(title, rows, width)
    if command.epilog:
        blocks.append(command.epilog.replace("\n\n", "\n").rstrip())
    return "\n\n".join(blocks) + "\n"


def _panel(title: str, rows: Sequence[Row], width: int) -> Iterator[str]:
    """A titled list of names and texts, if there are any."""
    if rows:
        columns = max([len(name) for name, _ in rows if len(name) <= _NAME_COLUMNS], default=_NAME_COLUMNS)
        lines = [line for name, text in rows for line in _row(name, text, columns, width)]
        yield "\n".join([typer.style(f"{title}:", bold=True), *lines])


def _row(name: str, text: str, columns: int, width: int) -> Iterator[str]:
    indent = 2 + columns + 2
    first, *others = wrapped(text, width - indent)
    fits = len(name) <= columns
    shown = f"  {typer.style(name, bold=True)}"
    yield f"{shown}{' ' * (columns + 2 - len(name))}{first}".rstrip() if fits else shown
    for line in others if fits else (first, *others):
        yield " " * indent + line


def _names(option: Any) -> str:
    """The names of an option, short ones first, and what its value is called."""
    names = sorted([*option.opts, *option.secondary_opts], key=lambda name: name.startswith("--"))
    value = "" if option.is_flag or not option.metavar else f" {option.metavar}"
    return f"{', '.join(names)}{value}"


def _text(option: Any) -> str:
    return f"{option.help} Required." if option.required else option.help or ""


def _shown_argument(argument: Any) -> str:
    name = f"{argument.metavar}..." if argument.nargs == -1 else argument.metavar
    return name if argument.required else f"[{name}]"


def _first_paragraph(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())
