"""Datasets that something else than fgbgpack has changed, made as though it had not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fgbgpack.document import ATTRIBUTE, DIGEST
from fgbgpack.storage.manifest import metadata_digest
from fgbgpack.storage.store import DatasetStore


def accept(path: Path) -> None:
    """Write the manifest anew, of what is there."""
    DatasetStore.open(path, read_only=False).accept()


def edit_document(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the document of a dataset on disk, and its digest with it."""
    root = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    change(root["attributes"][ATTRIBUTE])
    root["attributes"][DIGEST] = metadata_digest(root["attributes"][ATTRIBUTE])
    (path / "zarr.json").write_text(json.dumps(root), encoding="utf-8")


def is_manifest(key: str) -> bool:
    """Whether a key or a path is of the manifest."""
    return key.split("/")[0] == "manifest"
