"""The table of rooms in CONTRIBUTING.md is the rule that imports follow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from documents import ROOT, table

PACKAGE = ROOT / "fgbgpack"
LAYERS = {row[1].strip("`/").removesuffix(".py"): int(row[0]) for row in table("CONTRIBUTING.md", "layer")}
LONGEST_MODULE = 500


def test_the_table_names_every_module() -> None:
    files = {path.stem for path in PACKAGE.glob("*.py")}
    folders = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    # A folder within one of these may have a row, and so a layer, of its own.
    assert {row for row in LAYERS if "/" not in row} == files | folders
    assert all((PACKAGE / row).is_dir() for row in LAYERS if "/" in row)


@pytest.mark.slow
@pytest.mark.parametrize("room", LAYERS)
def test_imports_point_to_lower_layers(room: str) -> None:
    for path, imported in imports_of(room):
        assert imported == room or LAYERS[imported] < LAYERS[room], f"{path}: {imported}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("room", "users"), [("rendering", {"visual", "training", "cli"}), ("training", set())]
)
def test_some_rooms_are_for_few(room: str, users: set[str]) -> None:
    found = {other for other in LAYERS for _, imported in imports_of(other) if imported == room}
    assert found - {room} == users


def test_no_module_is_long() -> None:
    lines = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {str(path): n for path, n in lines.items() if n > LONGEST_MODULE} == {}


def test_no_folder_is_called_build() -> None:
    # Git, and the tools that make wheels, leave out folders of that name.
    assert [path for path in PACKAGE.rglob("build") if path.is_dir() and any(path.glob("*.py"))] == []


@cache
def imports_of(room: str) -> list[tuple[Path, str]]:
    """Each file of a room with the rooms that it imports, wherever in the file."""
    return list(_imports_of(room))


def _imports_of(room: str) -> Iterator[tuple[Path, str]]:
    folder = PACKAGE / room
    within = [PACKAGE / row for row in LAYERS if row.startswith(f"{room}/")]
    files = folder.rglob("*.py") if folder.is_dir() else [PACKAGE / f"{room}.py"]
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
                known = (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()
                yield path, name if known else "__init__"


def _row(parts: list[str]) -> str:
    """The row of the table that ``fgbgpack.a.b`` belongs to: that of a, or of a/b where it has one."""
    return row if (row := "/".join(parts[1:3])) in LAYERS else parts[1]
