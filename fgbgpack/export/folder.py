"""A PNG file for each picture, in folders of their sources, and a table of all samples."""

from __future__ import annotations

import csv
import io
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from fgbgpack.export.names import safe, told_apart
from fgbgpack.export.pictures import png
from fgbgpack.export.target import Part, Run, Target, Work
from fgbgpack.storage.store import DEPTH

_DEPTH_BITS = 16
_TABLE = "placements.csv"
_ENDING = ".png"
_OF_RECIPE = ("background", "foreground", "flip", "replica", "y", "x")


class FolderTarget(Target[str]):
    """``image/<background>/<foreground>/<flip>-<replica>.png``, the same below ``mask`` and ``depth``, and
    ``placements.csv``: all of it in a folder for each part.

    Sources go by their file names without endings; a sample that was imported goes by its name.
    """

    TO = "folder"
    OPTIONS = frozenset({"depth_bits"})

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self._scale = (
            work.depth_scale(work.options.depth_bits or _DEPTH_BITS) if DEPTH in work.fields else None
        )
        self._folder = work.folder
        self._table: TextIO | None = None
        if work.source_names is not None:
            self._sources = [_folders(work.source_names[kind]) for kind in _OF_RECIPE[:2]]
        else:
            self._names = _paths(work.dataset.names or [])

    def begin(self, part: Part) -> None:
        """Make the part's folder, and begin its table."""
        self._folder = self.work.folder / part.folder
        self._folder.mkdir(exist_ok=True)
        self._table = (self._folder / _TABLE).open("w", encoding="utf-8", newline="")
        of_samples = _OF_RECIPE if self.work.source_names is not None else ("name",)
        self._table.write(_rows([["sample", *self.work.fields, *of_samples]]))

    def encode(self, run: Run) -> str:
        """Write the pictures, and make the rows of the table."""
        folder = self.work.folder / run.part.folder
        rows = []
        for i, (path, record) in enumerate(zip(self._below(run), self.work.records(run), strict=True)):
            paths = [f"{field}/{path}{_ENDING}" for field in self.work.fields]
            for field, where in zip(self.work.fields, paths, strict=True):
                pixels = run.batch.arrays[field][i]
                if field == DEPTH and self._scale is not None:
                    pixels = self._scale.apply(pixels)
                _write_new(folder / where, png(pixels))
            sample, *rest = record.values()
            rows.append(
                [sample, *paths, *(int(value) if isinstance(value, bool) else value for value in rest)]
            )
        return _rows(rows)

    def _below(self, run: Run) -> list[str]:
        """The path of each sample of a run below the folder of a field, without an ending."""
        if self.work.source_names is None:
            return [self._names[i] for i in run.samples.tolist()]
        batch = run.batch
        backgrounds, foregrounds = self._sources
        placed = (batch.background, batch.foreground, batch.flip, batch.replica)
        return [
            f"{backgrounds[b]}/{foregrounds[f]}/{int(flip)}-{replica}"
            for b, f, flip, replica in zip(*(array.tolist() for array in placed), strict=True)
        ]

    def write(self, run: Run, encoded: str) -> None:
        """Add the rows to the table."""
        if self._table is not None:
            self._table.write(encoded)

    def end(self, part: Part) -> None:
        """Finish the part's table."""
        self.close()

    def close(self) -> None:
        """Let go of the table."""
        if self._table is not None:
            self._table.close()

    def finish(self) -> dict[str, Any]:
        """How depth was made whole numbers."""
        return {} if self._scale is None else {"depth": self._scale.to_dict()}

    def how_to_open(self, out: str) -> list[str]:
        """With pandas and Pillow."""
        folder = Path(out) / self.work.parts[0].folder
        return [
            "import pandas, PIL.Image",
            f"folder = {str(folder)!r}",
            f'samples = pandas.read_csv(folder + "/{_TABLE}")',
            f'picture = PIL.Image.open(folder + "/" + samples.{self.work.fields[0]}[0])',
        ]


def _folders(names: list[str]) -> list[str]:
    """The folder of each source, by their file names."""
    return told_apart([safe(PurePosixPath(name).stem) for name in names])


def _paths(names: list[str]) -> list[str]:
    """The path of each imported sample, by their names, whose folders stay."""
    # A folder that ends as a picture does could have the name of one.
    return told_apart(
        [
            "/".join([*(_not_a_picture(safe(folder)) for folder in folders), safe(last)])
            for *folders, last in (name.split("/") for name in names)
        ]
    )


def _not_a_picture(folder: str) -> str:
    return f"{folder}_" if folder.casefold().endswith(_ENDING) else folder


def _write_new(path: Path, data: bytes) -> None:
    try:
        file = path.open("xb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("xb")
    with file:
        file.write(data)


def _rows(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
