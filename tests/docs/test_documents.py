"""The documents fit the code: commands parse, names are public, links lead somewhere, tables are right."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
import zarr
from builders import Pictures, depth_of
from documents import (
    COMMANDS,
    DOCUMENTS,
    PAGES,
    ROOT,
    Block,
    blocks,
    command_of,
    inline_code,
    option_names,
    shell_words,
    table,
    text_of,
)
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import fgbgpack
from fgbgpack import create, errors, schema
from fgbgpack.pipeline.scale import Assumptions
from fgbgpack.spec import DatasetSpec

#: Modules whose names users import: those of the API page.
PUBLIC = (
    "fgbgpack",
    "fgbgpack.pipeline",
    "fgbgpack.torch",
    "fgbgpack.export",
    "fgbgpack.cards",
    "fgbgpack.rendering",
    "fgbgpack.cutout",
)


def test_the_readme_is_one_page() -> None:
    assert len(text_of("README.md").splitlines()) <= 150


class TestCommands:
    @pytest.mark.parametrize(
        "words", [w for w in shell_words(*DOCUMENTS) if w[0] == "fgbgpack"], ids=lambda words: " ".join(words)
    )
    def test_a_command_that_is_shown_can_be_parsed(self, words: list[str]) -> None:
        command, arguments = command_of(words[: words.index(">")] if ">" in words else words)
        with COMMANDS[command].make_context(" ".join(command), list(arguments)):
            pass

    def test_commands_in_the_text_exist_and_have_the_options_that_are_named(self) -> None:
        named = [words for words in inline_code(*DOCUMENTS) if words[0] == "fgbgpack" and len(words) > 1]
        assert len(named) > 3
        groups = {command[:n] for command in COMMANDS for n in range(1, len(command))}
        for words in named:
            command, arguments = command_of(words)
            options = {word for word in arguments if word.startswith("-")} - {"--help"}
            assert tuple(words[1:]) in groups | {("COMMAND", "--help")} or options <= option_names(
                *command
            ), words

    def test_options_in_the_text_exist_somewhere(self) -> None:
        # Those of python -m fgbgpack.training, which needs PyTorch to be imported, and that of pytest.
        everywhere = {"--help", "--hold-out", "--fraction", "--update-golden", *option_names()}
        everywhere |= {name for command in COMMANDS for name in option_names(*command)}
        named = {word for words in inline_code(*DOCUMENTS) for word in words if word.startswith("--")}
        assert named
        assert named <= everywhere

    def test_make_has_every_target_that_is_named(self) -> None:
        targets = set(re.findall(r"^([a-z-]+):.*##", text_of("Makefile"), re.MULTILINE))
        shown = [
            words for words in (*shell_words(*DOCUMENTS), *inline_code(*DOCUMENTS)) if words[0] == "make"
        ]
        named = {word for words in shown for word in words[1:2]}
        assert named >= {"demo", "test", "lint", "docs", "constraints", "bench"}
        assert named <= targets

    def test_the_documents_show_every_command(self) -> None:
        shown = [words for words in (*shell_words(*PAGES), *inline_code(*PAGES)) if words[0] == "fgbgpack"]
        assert {command_of(words)[0] for words in shown if len(words) > 1} - {()} == set(COMMANDS)


def assert_public(code: str) -> None:
    """All that some Python takes of fgbgpack is on the API page."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fgbgpack":
            assert node.module in PUBLIC
            names = {alias.name for alias in node.names}
            assert names <= set(importlib.import_module(node.module).__all__)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.value.id != "fgbgpack" or node.attr in fgbgpack.__all__


class TestSnippets:
    @pytest.mark.parametrize("block", blocks(*PAGES, language="python"), ids=lambda b: f"{b.page}:{b.line}")
    def test_python_uses_public_names(self, block: Block) -> None:
        assert_public(block.text)

    @pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
    def test_notebooks_use_public_names(self, path: Path) -> None:
        cells = [
            cell
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
            if cell["cell_type"] == "code"
        ]
        assert_public("\n".join("".join(cell["source"]) for cell in cells))

    def test_cards_follow_their_schema(self) -> None:
        cards = blocks(*PAGES, language="json")
        assert cards
        for card in cards:
            document = json.loads(card.text)
            assert schema.problems(document["schema"].partition("/")[0], document) == []


class TestTables:
    def test_every_option_of_create_is_explained(self) -> None:
        rows = table("docs/create.md", "option of `create`")
        explained = {word for row in rows for word in re.findall(r"--[a-z-]+", row[0])}
        assert explained == {name for name in option_names("create") if name.startswith("--")} - {"--help"}

    def test_what_can_be_assumed_is_explained_with_its_usual_values(self) -> None:
        rows = {row[0].strip("`"): row[1:3] for row in table("docs/scale.md", "name of `--assume`")}
        assert [*rows] == Assumptions.names()
        for column, many in enumerate((False, True)):
            usual = Assumptions().on(cluster=many, remote=many)
            for name, cells in rows.items():
                value = getattr(usual, name.replace("-", "_"))
                assert cells[column] == ("none" if value is None else f"{value:g}"), name

    def test_defaults_are_those_of_the_spec(self) -> None:
        rows = table("docs/create.md", "option of `create`")
        told = {re.findall(r"--[a-z-]+", row[0])[0]: row[1].strip("`") for row in rows}
        spec = DatasetSpec(backgrounds="bg", foregrounds="fg").to_dict()
        for option in ("--fit", "--foreground-height", "--placements", "--seed", "--placement"):
            assert told[option] == str(spec[option[2:].replace("-", "_")]), option
        assert told["--size"] == f"{spec['width']}x{spec['height']}"
        assert told["--flip"] == ("--flip" if spec["flip"] else "--no-flip")
        depth = DatasetSpec.from_dict({"backgrounds": "b", "foregrounds": "f", "depth": {"model": "m"}}).depth
        assert depth is not None
        assert told["--depth-bits"] == str(depth.bits)
        assert told["--precision"] == depth.precision
        ours = DatasetSpec(backgrounds="bg", foregrounds="fg").depth
        assert ours is not None
        assert told["--depth-model"] == ours.model
        assert told["--depth-guide"] == dataclasses.replace(ours, mode="guided").resolved_guide

    def test_exit_statuses_are_those_of_the_errors(self) -> None:
        raised = {
            e.exit_status for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)
        }
        told = {
            int(status) for row in table("docs/errors.md", "exit status") for status in row[0].split(", ")
        }
        assert told == raised | {0, 130, 143}

    @pytest.mark.slow
    def test_arrays_are_those_of_datasets(
        self, guided_dataset: Path, pictures: Pictures, depth_model: Path, tmp_path: Path
    ) -> None:
        layered = pictures.spec(depth=depth_of(depth_model, mode="layered", scale=2))
        create(tmp_path / "layered.zarr", layered)
        there = {}
        for dataset in (guided_dataset, tmp_path / "layered.zarr"):
            members = zarr.open_group(dataset, mode="r").members(max_depth=None)
            there |= {f"/{path}": str(node.dtype) for path, node in members if isinstance(node, zarr.Array)}
        rows = table("docs/format.md", "array")
        told = {name: row[1] for row in rows for name in re.findall(r"`(/[a-z_/.]+)`", row[0])}
        there = {re.sub("^/manifest/.*", "/manifest/...", name): dtype for name, dtype in there.items()}
        assert told == there

    def test_schemas_are_those_that_there_are(self) -> None:
        section = text_of("docs/format.md").split("## Schemas", 1)[1]
        assert {name for name in schema.CURRENT if f"`{name}`" in section} == set(schema.CURRENT)


class TestLinks:
    @pytest.mark.parametrize("document", DOCUMENTS)
    def test_links_to_files_lead_somewhere(self, document: str) -> None:
        folder = (ROOT / document).parent
        generated = {"docs/api.md", "docs/cli.md"}
        for target in re.findall(r"\]\(([^)\s]+)\)", text_of(document)):
            if "://" not in target and not target.startswith("#"):
                path = folder / target.partition("#")[0]
                assert path.exists() or path.resolve().relative_to(ROOT).as_posix() in generated, target

    def test_the_readme_links_every_page(self) -> None:
        linked = set(re.findall(r"\]\((docs/[^)#\s]+\.md)", text_of("README.md")))
        assert linked == set(PAGES) - {"README.md"}

    def test_the_changelog_knows_this_version(self) -> None:
        assert re.search(rf"^## .*{re.escape(fgbgpack.__version__)}", text_of("CHANGELOG.md"), re.MULTILINE)


class TestProjectFiles:
    def test_the_citation_is_of_this_version(self) -> None:
        citation = yaml.safe_load(text_of("CITATION.cff"))
        assert citation["version"] == fgbgpack.__version__
        assert citation["license"] == "MIT"

    def test_constraints_have_one_version_of_all_that_developing_needs(self) -> None:
        lines = [line for line in text_of("constraints.txt").splitlines() if not line.startswith("#")]
        pinned = {canonicalize_name(r.name): r for r in map(Requirement, lines)}
        assert len(pinned) == len(lines)
        assert {str(r.marker) for r in pinned.values()} == {'python_version == "3.11"'}
        project = tomllib.loads(text_of("pyproject.toml"))["project"]
        extras = project["optional-dependencies"]
        included = [name for line in extras["dev"] for name in Requirement(line).extras if "fgbgpack" in line]
        needed = [*project["dependencies"], *(line for name in ("dev", *included) for line in extras[name])]
        for requirement in map(Requirement, needed):
            here = requirement.marker is None or requirement.marker.evaluate(
                {"sys_platform": "linux", "platform_machine": "x86_64"}
            )
            if here and requirement.name != "fgbgpack":
                (version,) = pinned[canonicalize_name(requirement.name)].specifier
                assert version.operator == "=="
                assert requirement.specifier.contains(version.version), requirement


def test_the_api_page_has_the_public_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mkdocs", reason="the site is built with the extra docs")
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    generate = importlib.import_module("generate")
    try:
        assert generate.MODULES == PUBLIC
        page = generate.api_page()
        for module in PUBLIC:
            for name in importlib.import_module(module).__all__:
                again = module != "fgbgpack" and name in fgbgpack.__all__
                entry = f"`{module}.{name}` is `fgbgpack.{name}`." if again else f"::: {module}.{name}"
                assert f"{entry}\n" in page
        commands = generate.cli_page()
        for command in COMMANDS:
            assert f"## fgbgpack {' '.join(command)}\n" in commands
            for option in option_names(*command) - {"--help"}:
                assert f"`{option}" in commands
    finally:
        sys.modules.pop("generate", None)
