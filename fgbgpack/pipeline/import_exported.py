"""Folders that ``fgbgpack export`` wrote: what the pixels of their depth mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fgbgpack import schema
from fgbgpack.errors import SourceError
from fgbgpack.pipeline.import_files import DepthValues
from fgbgpack.storage.store import DEPTH

_DOCUMENT = "fgbgpack.json"
_ENDING = ".png"


def exported_depth(folder: Path, files: Sequence[str]) -> tuple[Path, DepthValues] | None:
    """What files of depth mean, where an export wrote them, and the document beside them that says so.

    Args:
        folder: All of an export, or one part of a split.
        files: The files of depth, by their paths below it.

    Returns:
        ``None`` where there is no such document, or these files are others than it tells of.

    Raises:
        SourceError: The document is damaged, none of an export, or of a newer schema.
    """
    folder = folder.resolve()
    # That of a part lies beside its folder.
    for place in (folder, folder.parent):
        path, is_whole = place / _DOCUMENT, place == folder
        document = _read(path, is_export=is_whole) if path.is_file() else None
        if document is None or not (is_whole or document["parts"]):
            continue
        if is_whole and document["parts"]:
            files = [name.partition("/")[2] for name in files]
        are_exported = all(name.startswith(f"{DEPTH}/") and name.endswith(_ENDING) for name in files)
        return (path, _values(document["depth"])) if are_exported and document["depth"] else None
    return None


def _read(path: Path, *, is_export: bool) -> dict[str, Any] | None:
    """The document in a file; ``None`` where it is something else and may be."""

    def refused(message: str, problems: list[str]) -> SourceError:
        advice = "Or take it away and say what depth is with --depth-factor and its like"
        return SourceError(f"{message.rstrip(' .:')}. {advice}{':' if problems else '.'}", problems)

    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        message = f"{path} says what exported depth is, and cannot be read: {exc}. Restore it"
        raise refused(message, []) from exc
    if not is_export and not str(_field(document, "schema")).startswith("export/"):
        return None
    return schema.read("export", document, where=str(path), error=refused)


def _field(document: object, name: str) -> object:
    return document.get(name) if isinstance(document, Mapping) else None


def _values(depth: Mapping[str, Any]) -> DepthValues:
    """What depth is: ``low`` became the least value of a pixel but for that of unknown depth, which is below
    it, and ``high`` the greatest that so many bits have.
    """
    quantity, unit, mapping = depth["quantity"], depth["unit"], depth["mapping"]
    if mapping is None:
        return DepthValues(quantity, unit)
    unknown, low, high = mapping["unknown"], mapping["low"] or 0.0, mapping["high"] or 0.0
    least = 0 if unknown is None else unknown + 1
    # Where all depth is one, all pixels are: any factor will do.
    factor = (high - low) / ((1 << mapping["bits"]) - 1 - least) if high > low else 1.0
    return DepthValues(quantity, unit, factor, low - least * factor, unknown)
