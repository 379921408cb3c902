"""Folders that ``fgbgpack export`` writes: what is called how in them, in which format they are, and what the
pixels of their depth files mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fgbgpack import schema
from fgbgpack.document import DEPTH, IMAGE
from fgbgpack.errors import SourceError
from fgbgpack.inputs import read_json
from fgbgpack.sources.sample_files import DepthValues

#: The file that describes an export; it is written last.
DOCUMENT = "fgbgpack.json"
#: The file that lists all others: their paths and sizes.
FILES = "fgbgpack-files.csv"
#: The table of samples in a folder of pictures, and what marks texts in it that would be taken for others.
TABLE, TEXT_MARK = "metadata.csv", "'"
_SUFFIX = ".png"


def file_column(field: str) -> str:
    """The column of the table with the paths of a field's pictures, as Hugging Face's imagefolder has it."""
    return "file_name" if field == IMAGE else f"{field}_file_name"


def exported_format(folder: Path) -> str | None:
    """The format of the export that a folder is, or is a part of; ``None`` where it is none. Raises
    SourceError where the document that would say so cannot be read, is damaged or of a newer schema.
    """
    found = _described(folder, is_export=False)
    return None if found is None else str(found[1]["format"])


def exported_depth(folder: Path, files: Sequence[str]) -> tuple[Path, DepthValues] | None:
    """What depth files below a folder (a whole export, or one part of a split) mean, and the document of the
    export that says so; ``None`` where there is none, or these are not the files that it describes. Raises
    SourceError where the document is damaged, of a newer schema, or not of an export.
    """
    if (found := _described(folder, is_export=True)) is None:
        return None
    path, document = found
    is_whole = path.parent == folder.resolve()
    # Folders of parts are above those of depth, or below them where annotations are of a part each.
    levels = slice(2 if is_whole and document["parts"] else 1)
    are_exported = all(DEPTH in name.split("/")[:-1][levels] and name.endswith(_SUFFIX) for name in files)
    return (path, _values(document["depth"])) if are_exported and document["depth"] else None


def _described(folder: Path, *, is_export: bool) -> tuple[Path, dict[str, Any]] | None:
    """The document of the export that a folder is, or is a part of, and its path; ``None`` where it is none.
    That in the folder itself has to be of an export if ``is_export``.
    """
    folder = folder.resolve()
    # The document of a split lies beside the folders of its parts.
    for place in (folder, folder.parent):
        path, is_whole = place / DOCUMENT, place == folder
        document = _read(path, is_export=is_export and is_whole) if path.is_file() else None
        if document is not None and (is_whole or document["parts"]):
            return path, document
    return None


def _read(path: Path, *, is_export: bool) -> dict[str, Any] | None:
    """The document in a file; ``None`` where it may be another document, and is."""

    def error(message: str, problems: list[str]) -> SourceError:
        advice = (
            "Or remove it, and say what is there with --from, what depth is with --depth-factor and its like"
        )
        end = ":" if problems else "."
        return SourceError(
            f"{message.rstrip(' .:')}. {advice}{end}", problems, code="export-document-damaged"
        )

    try:
        document = read_json(path)
    except (OSError, ValueError) as exc:
        message = f"{path} says what was exported, and cannot be read: {exc}. Restore it"
        raise error(message, []) from exc
    stated = document.get("schema") if isinstance(document, Mapping) else None
    if not is_export and not str(stated).startswith("export/"):
        return None
    return schema.read("export", document, where=str(path), error=error)


def _values(depth: Mapping[str, Any]) -> DepthValues:
    """What depth is, from its mapping to pixels: ``low`` became the least pixel value, or the next where that
    stands for unknown depth, and ``high`` the greatest that so many bits have.
    """
    quantity, unit, mapping = depth["quantity"], depth["unit"], depth["mapping"]
    if mapping is None:
        return DepthValues(quantity, unit)
    unknown, low, high = mapping["unknown"], mapping["low"] or 0.0, mapping["high"] or 0.0
    least = 0 if unknown is None else unknown + 1
    # Where all depth is equal, all pixels are: any factor will do.
    factor = (high - low) / ((1 << mapping["bits"]) - 1 - least) if high > low else 1.0
    return DepthValues(quantity, unit, factor, low - least * factor, unknown)
