"""What is no dataset, and yet is given to be looked at: exports."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from fgbgpack.errors import DatasetError
from fgbgpack.inputs import read_json
from fgbgpack.sources.exported import DOCUMENT
from fgbgpack.storage.targets import is_url


def refuse_export(path: str) -> None:
    """Raise a DatasetError, ``dataset-is-export``, where a path is the folder of an export, that says how it
    can be looked at.
    """
    file = Path(path) / DOCUMENT
    if is_url(path) or not os.path.lexists(file):
        return
    try:
        document = read_json(file)
    except (OSError, ValueError):
        return
    if not isinstance(document, dict) or not str(document.get("schema")).startswith("export/"):
        return
    how = "View the dataset that it was made from"
    if document.get("format") == "folder":
        how += f", or import it first: fgbgpack import {shlex.quote(path)} imported.zarr"
    raise DatasetError(f"{path} is an export, and not a dataset. {how}.", code="dataset-is-export")
