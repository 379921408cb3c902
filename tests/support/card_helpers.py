"""What data cards are written with in tests, and how they are read."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import mlcroissant

from fgbgpack.cards import About

KINDS = ("guided", "plain", "virtual", "imported", "hdf5")
CREDITS = """file,license,author,url
b0.png,CC BY-NC 4.0,"Ada | Lovelace",https://example.org/b0
b1.png,CC0-1.0,,
"""
ABOUT = About(
    name="Lobby: people in *halls*",
    description="People in halls.",
    license="CC-BY-NC-4.0",
    creators=("Ada Lovelace",),
    organizations=("Example",),
    url="https://example.org/lobby",
    version="1.2.0",
    published="2024-05-31",
    citation="@misc{lobby, title={Lobby --> ``` }}",
)


def copy(path: Path, folder: Path) -> Path:
    if path.is_dir():
        return Path(shutil.copytree(path, folder / path.name))
    return Path(shutil.copy(path, folder / path.name))


def load(path: Path) -> mlcroissant.Dataset:
    with warnings.catch_warnings():
        # What it parses JSON-LD with complains of itself.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="rdflib")
        return mlcroissant.Dataset(str(path))


def document(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
