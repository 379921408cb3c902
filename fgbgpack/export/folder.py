"""PNG files in folders of their sources, and a table of all samples."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from fgbgpack.export.png import png
from fgbgpack.export.target import Run, Target
from fgbgpack.sources.exported import TABLE, TEXT_MARK, file_column

#: What a text begins with that spreadsheets take for a formula, and what marks it as text.
_FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
#: Words that pandas takes for missing values or for truth, and datasets with it.
_WORDS = {"na", "n/a", "#na", "#n/a", "<na>", "nan", "null", "none", "true", "false"}


class FolderTarget(Target):
    """``image/<background>/<foreground>/<flip>-<replica>.png``, the same below ``mask`` and ``depth``, and
    ``metadata.csv``, in a folder for each part.

    Sources are named by their file names without extension, imported samples by their names. Hugging Face
    ``datasets`` reads a part as its imagefolder: one row for each sample, with all its pictures.
    """

    OPTIONS: ClassVar = frozenset({"depth_bits"})

    def write(self, folder: Path) -> dict[str, Any]:
        """Writes the pictures of a run together, and the table in order."""
        job = self._job
        for part in job.parts:
            own = part.folder_in(folder)
            with (own / TABLE).open("w", encoding="utf-8", newline="") as table:
                table.write(_csv([[*map(file_column, job.fields), "sample", *job.ids.columns]]))
                for rows in job.encoded(part, partial(self._write_pictures, own), writes_to=own):
                    table.write(rows)
        return {}

    def _write_pictures(self, folder: Path, run: Run) -> str:
        """Writes the pictures of a run; its rows of the table."""
        ids, fields = self._job.ids, self._job.fields
        paths = [[f"{field}/{path}.png" for field in fields] for path in ids.paths(run.samples)]
        for column, field in enumerate(fields):
            for of_sample, pixels in zip(paths, self._job.pictures(run, field), strict=True):
                _write(folder / of_sample[column], png(pixels))
        records = (record.values() for record in ids.records(run.samples))
        return _csv(
            [*of_sample, *map(_cell, record)] for of_sample, record in zip(paths, records, strict=True)
        )

    def how_to_open(self, out: str, details: Mapping[str, Any]) -> list[str]:
        """With pandas and Pillow."""
        folder = Path(out) / self._job.parts[0].slug
        return [
            "import pandas, PIL.Image",
            f"folder = {str(folder)!r}",
            f'samples = pandas.read_csv(folder + "/{TABLE}")',
            f'picture = PIL.Image.open(folder + "/" + samples.{file_column(self._job.fields[0])}[0])',
        ]


def _cell(value: Any) -> Any:
    """A value as it is in the table. A text that could be a formula, a number or a word of the reader's, or
    begins with an apostrophe, has one more before it: without the first, every text is what it was.
    """
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str):
        return int(value) if isinstance(value, bool) else value
    is_marked = value.startswith((TEXT_MARK, *_FORMULA_STARTS)) or value.casefold() in _WORDS
    return f"{TEXT_MARK}{value}" if is_marked or _is_number(value) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _csv(rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
