"""PNG files in folders of their sources, and a table of all samples."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from fgbgpack.export.png import png
from fgbgpack.export.target import Run, Target

_TABLE = "placements.csv"
#: How cells begin that spreadsheets take for formulas.
_FORMULAS = ("=", "+", "-", "@")


class FolderTarget(Target):
    """``image/<background>/<foreground>/<flip>-<replica>.png``, the same below ``mask`` and ``depth``, and
    ``placements.csv``, in a folder for each part.

    Sources are named by their file names without extension, imported samples by their names.
    """

    OPTIONS: ClassVar = frozenset({"depth_bits"})

    def write(self, folder: Path) -> dict[str, Any]:
        """Writes the pictures of a run together, and the table in order."""
        job = self._job
        for part in job.parts:
            own = part.folder_in(folder)
            with (own / _TABLE).open("w", encoding="utf-8", newline="") as table:
                table.write(_csv([["sample", *job.fields, *job.ids.columns]]))
                for rows in job.encoded(part, partial(self._write_pictures, own)):
                    table.write(rows)
        return {}

    def _write_pictures(self, folder: Path, run: Run) -> str:
        """Writes the pictures of a run; its rows of the table."""
        ids, fields = self._job.ids, self._job.fields
        paths = [[f"{field}/{path}.png" for field in fields] for path in ids.paths(run.samples)]
        for column, field in enumerate(fields):
            for of_sample, pixels in zip(paths, self._job.pictures(run, field), strict=True):
                _write_new(folder / of_sample[column], png(pixels))
        records = (record.values() for record in ids.records(run.samples))
        return _csv(
            [sample, *of_sample, *(int(value) if isinstance(value, bool) else value for value in rest)]
            for of_sample, (sample, *rest) in zip(paths, records, strict=True)
        )

    def how_to_open(self, out: str, details: Mapping[str, Any]) -> list[str]:
        """With pandas and Pillow."""
        folder = Path(out) / self._job.parts[0].slug
        return [
            "import pandas, PIL.Image",
            f"folder = {str(folder)!r}",
            f'samples = pandas.read_csv(folder + "/{_TABLE}")',
            f'picture = PIL.Image.open(folder + "/" + samples.{self._job.fields[0]}[0])',
        ]


def _write_new(path: Path, data: bytes) -> None:
    try:
        file = path.open("xb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("xb")
    with file:
        file.write(data)


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """A value as it is written: spreadsheets would take names that begin so for formulas, and the same file
    has a path that does not.
    """
    return f"./{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value
