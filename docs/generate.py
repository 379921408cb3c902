"""MkDocs hook: adds the pages that are made of other files, and of the code.

``index.md``, ``contributing.md`` and ``changelog.md`` are README.md, CONTRIBUTING.md and CHANGELOG.md.
``cli.md`` comes from the command line's own help, ``api.md`` from ``__all__`` and the docstrings of the
public modules.
"""

from __future__ import annotations

import ast
import posixpath
import re
import sys
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fgbgpack"
#: Files of the repository that are pages too.
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
#: Public modules: all names in their ``__all__`` are documented.
MODULES = (
    "fgbgpack",
    "fgbgpack.pipeline",
    "fgbgpack.torch",
    "fgbgpack.export",
    "fgbgpack.cards",
    "fgbgpack.rendering",
    "fgbgpack.cutout",
)
_ERROR_CODES = "<!-- error codes -->"
#: What a code block says to the tests alone.
_FOR_TESTS = re.compile(r'^(```\w+) (?:no_run|exit)="[^"]*"$', re.MULTILINE)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {page: (ROOT / source).read_text(encoding="utf-8") for source, page in PAGES.items()}
    pages |= {"cli.md": cli_page(), "api.md": api_page()}
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to where their targets are in the site; fill in the codes of errors."""
    name = page.file.src_uri
    source = next((file for file, generated in PAGES.items() if generated == name), f"docs/{name}")

    def pointed(match: re.Match[str]) -> str:
        mark, text, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or "://" in target:
            return match[0]
        place = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        there = PAGES.get(place, place.removeprefix("docs/"))
        if there == place:
            # A file of the repository that is not in the site: named, not linked. One that is not there
            # stays a link, for which the strict build fails.
            return text if (ROOT / place).exists() else match[0]
        return f"{mark}[{text}]({there}{'#' if anchor else ''}{anchor})"

    markdown = _LINK.sub(pointed, _FOR_TESTS.sub(r"\1", markdown))
    return markdown.replace(_ERROR_CODES, error_codes()) if _ERROR_CODES in markdown else markdown


# --- the command line ---


def cli_page() -> str:
    """The page of all commands, from the application that parses them."""
    commands = list(_commands(typer.main.get_command(_app())))
    contents = [f"- [`{title}`](#{_anchor(title)}): {_first_line(command)}" for title, command in commands]
    return "\n\n".join(
        [
            "# Command line",
            "Generated from the commands. `fgbgpack COMMAND --help` shows the same in a terminal.",
            "\n".join(contents),
            *(_described(title, command) for title, command in commands),
        ]
    )


def _app() -> typer.Typer:
    from fgbgpack.cli import app

    return app


def _commands(group: Any, title: str = "fgbgpack") -> Iterator[tuple[str, Any]]:
    """Every command below a group, with its full title."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{title} {name}")
        else:
            yield f"{title} {name}", command


def _anchor(title: str) -> str:
    return title.replace(" ", "-")


def _first_line(command: Any) -> str:
    return " ".join(command.help.split("\n\n")[0].split())


def _described(title: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    usage = " ".join([title, "[OPTIONS]", *(a.metavar for a in arguments)])
    parts = [f"## {title}", command.help, f"```text\n{usage}\n```"]
    if arguments:
        parts.append(_table("argument", [(f"`{a.metavar}`", a.help) for a in arguments]))
    panels: dict[str, list[tuple[str, str]]] = {}
    for option in options:
        panel = getattr(option, "rich_help_panel", None) or "Options"
        panels.setdefault(panel, []).append((_names(option), option.help))
    for panel, rows in panels.items():
        parts.append(_table(panel.lower(), rows))
    if command.epilog:
        examples = [line.strip() for line in command.epilog.splitlines() if line.startswith("  ")]
        parts.append("Examples:\n\n```sh\n" + "\n".join(examples) + "\n```")
    return "\n\n".join(parts) + "\n"


def _names(option: Any) -> str:
    names = [*option.opts, *option.secondary_opts]
    value = "" if option.is_flag else f" {option.metavar}"
    return ", ".join(f"`{name}{value}`" for name in names)


def _table(header: str, rows: list[tuple[str, str]]) -> str:
    lines = [f"| {header} | |", "|---|---|"]
    lines += [f"| {_cell(name)} | {_cell(text)} |" for name, text in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


# --- the Python API ---


def api_page() -> str:
    """The page of all public names: the directives that mkdocstrings fills in."""
    parts = [
        "# Python API",
        "All public names, generated from their docstrings. Anything else may change without notice.",
    ]
    for module in MODULES:
        path = ROOT.joinpath(*module.split("."), "__init__.py")
        parts.append(f"## {module}")
        for name in _all(path):
            # A heading of its own for each of two places would leave links to it without one target.
            known = module != MODULES[0] and name in _all(PACKAGE / "__init__.py")
            parts.append(f"`{module}.{name}` is `fgbgpack.{name}`." if known else f"::: {module}.{name}")
    return "\n\n".join(parts) + "\n"


def _all(path: Path) -> list[str]:
    """The names in ``__all__`` of a module, which is not imported."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in node.targets):
            return [str(name) for name in ast.literal_eval(node.value)]
    raise ValueError(f"{path} has no __all__")


# --- errors ---


def error_codes() -> str:
    """A table of the codes that errors have, by class: what the package's code passes as ``code``."""
    from fgbgpack import errors

    classes = {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.FgbgError)
    }
    codes = {name: {value.code} for name, value in classes.items()}
    modules = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))]
    # What makes an error: its class, or a function that returns one and has a parameter ``code``.
    makers = {name: (name, sys.maxsize) for name in classes} | dict(_helpers(modules, classes))
    for call in (node for module in modules for node in ast.walk(module) if isinstance(node, ast.Call)):
        function = getattr(call.func, "id", getattr(call.func, "attr", ""))
        if function in makers:
            name, place = makers[function]
            given = [k.value for k in call.keywords if k.arg == "code"] + call.args[place : place + 1]
            codes[name] |= {text for value in given for text in _texts(value)}
    rows = [
        f"| `{name}` | {classes[name].exit_status} | {', '.join(f'`{code}`' for code in sorted(found))} |"
        for name, found in codes.items()
        if name != "FgbgError"
    ]
    return "\n".join(["| error | exit status | codes |", "|---|---|---|", *rows])


def _helpers(modules: list[ast.Module], classes: Container[str]) -> Iterator[tuple[str, tuple[str, int]]]:
    """Functions that make an error with a code: their names, the error's class, the place of ``code``."""
    for function in (node for module in modules for node in ast.walk(module)):
        if isinstance(function, ast.FunctionDef) and (name := getattr(function.returns, "id", "")) in classes:
            names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
            yield (
                function.name,
                (name, names.index("code") if "code" in names else sys.maxsize),
            )


def _texts(value: ast.expr) -> list[str]:
    return [n.value for n in ast.walk(value) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
