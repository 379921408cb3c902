"""What the documents say is so: commands parse, snippets run, links lead somewhere, tables fit the code."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import zarr
from typer.testing import CliRunner

import fgbgpack
from fgbgpack import errors, schema
from fgbgpack.cli import app
from fgbgpack.spec import DatasetSpec

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


def commands_of(group: Any, *words: str) -> dict[tuple[str, ...], Any]:
    """Every command below a group, by its words: ``("create",)``, ``("models", "get")``."""
    found = {}
    for name, command in group.commands.items():
        found |= (
            commands_of(command, *words, name) if hasattr(command, "commands") else {(*words, name): command}
        )
    return found


COMMANDS = commands_of(typer.main.get_command(app))


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(language: str, *documents: str) -> list[str]:
    """The fenced code blocks of a language."""
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [block for document in documents for block in fence.findall(text_of(document))]


def shell_lines(*documents: str) -> list[list[str]]:
    """The words of every command in shell blocks, variables set before it left out."""
    lines = [line for block in blocks("sh", *documents) for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [[w for w in line if not re.match(r"[A-Z_]+=", w)] for line in words if line]


def spans(*documents: str) -> list[list[str]]:
    """The words of every piece of inline code."""
    prose = [re.sub(r"^```.*?^```$", "", text_of(d), flags=re.MULTILINE | re.DOTALL) for d in documents]
    return [code.split() for text in prose for code in re.findall(r"`([^`\n]+)`", text)]


def table(document: str, header: str) -> list[list[str]]:
    """The rows of the table whose header starts with a cell, as lists of cells."""
    body = text_of(document).split(f"\n| {header} |", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in body.splitlines()[2:]]


def command_of(words: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """The command that a line begins with, after ``fgbgpack``, if there is one, and its arguments."""
    length = next((n for n in (3, 2, 1) if tuple(words[1 : 1 + n]) in COMMANDS), 0)
    return tuple(words[1 : 1 + length]), words[1 + length :]


def option_names(*command: str) -> set[str]:
    names = [
        n for parameter in COMMANDS[command].params for n in (*parameter.opts, *parameter.secondary_opts)
    ]
    return {name for name in names if name.startswith("-")}


class TestCommands:
    @pytest.mark.parametrize(
        "words", [w for w in shell_lines(*DOCUMENTS) if w[0] == "fgbgpack"], ids=lambda words: " ".join(words)
    )
    def test_a_command_that_is_shown_can_be_parsed(self, words: list[str]) -> None:
        command, arguments = command_of(words)
        with COMMANDS[command].make_context(" ".join(command), list(arguments)):
            pass

    def test_commands_in_the_text_exist_and_have_the_options_that_are_named(self) -> None:
        named = [words for words in spans(*DOCUMENTS) if words[0] == "fgbgpack" and len(words) > 1]
        assert len(named) > 3
        groups = {command[:n] for command in COMMANDS for n in range(1, len(command))}
        for words in named:
            command, arguments = command_of(words)
            options = {word for word in arguments if word.startswith("-")} - {"--help"}
            assert tuple(words[1:]) in groups or options <= option_names(*command), words

    def test_options_in_the_text_exist_somewhere(self) -> None:
        everywhere = {"--help"}.union(*(option_names(*command) for command in COMMANDS))
        named = {word for words in spans(*DOCUMENTS) for word in words if word.startswith("--")}
        assert named
        assert named <= everywhere

    def test_make_has_every_target_that_is_named(self) -> None:
        targets = set(re.findall(r"^([a-z-]+):.*##", text_of("Makefile"), re.MULTILINE))
        shown = [words for words in (*shell_lines(*DOCUMENTS), *spans(*DOCUMENTS)) if words[0] == "make"]
        named = {word for words in shown for word in words[1:2]}
        assert named >= {"demo", "test", "lint", "bench"}
        assert named <= targets

    def test_the_readme_shows_every_command(self) -> None:
        shown = [
            words for words in (*shell_lines("README.md"), *spans("README.md")) if words[0] == "fgbgpack"
        ]
        assert {command_of(words)[0] for words in shown if len(words) > 1} - {()} == set(COMMANDS)


class TestSnippets:
    @pytest.mark.parametrize("snippet", blocks("python", *DOCUMENTS))
    def test_python_compiles_and_uses_public_names(self, snippet: str) -> None:
        tree = ast.parse(snippet)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "fgbgpack":
                assert {alias.name for alias in node.names} <= set(fgbgpack.__all__)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert node.value.id != "fgbgpack" or node.attr in fgbgpack.__all__

    def test_configs_are_specs(self) -> None:
        configs = blocks("toml", *DOCUMENTS)
        assert configs
        for config in configs:
            assert DatasetSpec.from_dict(tomllib.loads(config)).backgrounds == "bg"

    def test_cards_follow_their_schema(self) -> None:
        cards = blocks("json", *DOCUMENTS)
        assert cards
        for card in cards:
            assert schema.problems("depth-model", json.loads(card)) == []


def test_the_readme_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first commands, then all of its Python, in one folder; only with fewer sample pictures."""
    monkeypatch.chdir(tmp_path)
    tutorial = next(block for block in blocks("sh", "README.md") if block.startswith("fgbgpack sample"))
    for line in tutorial.splitlines():
        fewer = ["--backgrounds", "2", "--foregrounds", "2"] if "sample" in line else []
        result = CliRunner().invoke(app, [*shlex.split(line)[1:], *fewer])
        assert result.exit_code == 0, result.output
    assert (tmp_path / "lobby.png").stat().st_size > 10_000
    for snippet in blocks("python", "README.md"):
        exec(compile(snippet, "README.md", "exec"), {})
    assert len(fgbgpack.open_dataset("small.zarr")) == 2 * 2 * 5 * 2


class TestTables:
    def test_every_option_of_create_is_explained(self) -> None:
        rows = table("README.md", "option of `create`")
        explained = {word for row in rows for word in re.findall(r"--[a-z-]+", row[0])}
        assert explained == {name for name in option_names("create") if name.startswith("--")} - {"--help"}

    def test_defaults_are_those_of_the_spec(self) -> None:
        rows = table("README.md", "option of `create`")
        told = {re.findall(r"--[a-z-]+", row[0])[0]: row[1].strip("`") for row in rows}
        spec = DatasetSpec(backgrounds="bg", foregrounds="fg").to_dict()
        for option in ("--fit", "--foreground-height", "--placements", "--seed", "--placement"):
            assert told[option] == str(spec[option[2:].replace("-", "_")]), option
        assert told["--size"] == f"{spec['width']}x{spec['height']}"
        assert told["--flip"] == ("--flip" if spec["flip"] else "--no-flip")
        depth = DatasetSpec.from_dict({"backgrounds": "b", "foregrounds": "f", "depth": {"model": "m"}}).depth
        assert depth is not None
        assert told["--depth-bits"] == str(depth.bits)
        ours = DatasetSpec(backgrounds="bg", foregrounds="fg").depth
        assert ours is not None
        assert told["--depth-model"] == ours.model
        assert told["--depth-guide"] == ours.resolved_guide

    def test_exit_statuses_are_those_of_the_errors(self) -> None:
        raised = {
            e.exit_status for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)
        }
        told = {int(code) for row in table("README.md", "exit status") for code in row[0].split(", ")}
        assert told == raised | {0, 130, 143}

    def test_arrays_are_those_of_a_dataset(self, guided_dataset: Path) -> None:
        members = zarr.open_group(guided_dataset, mode="r").members(max_depth=None)
        there = {f"/{path}": str(node.dtype) for path, node in members if isinstance(node, zarr.Array)}
        rows = table("README.md", "array")
        told = {name: row[1] for row in rows for name in re.findall(r"`(/[a-z_/]+)`", row[0])}
        assert told == there


class TestLinks:
    @pytest.mark.parametrize("document", DOCUMENTS)
    def test_links_to_files_lead_somewhere(self, document: str) -> None:
        for target in re.findall(r"\]\(([^)\s]+)\)", text_of(document)):
            if "://" not in target and not target.startswith("#"):
                assert (ROOT / target.partition("#")[0]).exists(), target

    def test_the_changelog_knows_this_version(self) -> None:
        assert re.search(rf"^## .*{re.escape(fgbgpack.__version__)}", text_of("CHANGELOG.md"), re.MULTILINE)


LAYERS = {row[1].strip("`/").removesuffix(".py"): int(row[0]) for row in table("CONTRIBUTING.md", "layer")}


class TestLayers:
    """The table in CONTRIBUTING.md is the rule that imports follow."""

    def test_the_table_names_every_module(self) -> None:
        package = ROOT / "fgbgpack"
        files = {path.stem for path in package.glob("*.py")}
        folders = {path.parent.name for path in package.glob("*/*.py")}
        # A folder within one of these may have a row, and so a layer, of its own.
        assert {row for row in LAYERS if "/" not in row} == files | folders
        assert all((package / row).is_dir() for row in LAYERS if "/" in row)

    @pytest.mark.parametrize("module", LAYERS)
    def test_imports_point_to_lower_layers(self, module: str) -> None:
        for path, imported in imports_of(module):
            assert imported == module or LAYERS[imported] < LAYERS[module], f"{path}: {imported}"


def imports_of(module: str) -> Iterator[tuple[Path, str]]:
    """Each file of a module with the modules of the package that it imports, wherever in the file."""
    package = ROOT / "fgbgpack"
    folder = package / module
    within = [package / row for row in LAYERS if row.startswith(f"{module}/")]
    files = folder.rglob("*.py") if folder.is_dir() else [package / f"{module}.py"]
    for path in (path for path in files if not any(row in path.parents for row in within)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fgbgpack":
                parts = (node.module or "").split(".")
                names = [_row(parts)] if len(parts) > 1 else [alias.name for alias in node.names]
            elif isinstance(node, ast.Import):
                dotted = [alias.name.split(".") for alias in node.names]
                names = [_row(parts) for parts in dotted if parts[0] == "fgbgpack" and len(parts) > 1]
            else:
                continue
            for name in names:
                known = (package / name).is_dir() or (package / f"{name}.py").exists()
                yield path, name if known else "__init__"


def _row(parts: list[str]) -> str:
    """The row of the table that ``fgbgpack.a.b`` belongs to: that of a, or of a/b where it has one."""
    return row if (row := "/".join(parts[1:3])) in LAYERS else parts[1]
