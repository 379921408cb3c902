"""Parquet files with pictures in them: rows that are samples, read by groups."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fgbgpack.errors import FgbgError
from fgbgpack.extras import require
from fgbgpack.sources.decoding import Embedded, PictureFile
from fgbgpack.sources.pairing import Kind
from fgbgpack.sources.problems import problem

#: Separates the path of a table from the number of a row.
_ROW = "#"
#: Groups of rows that a thread keeps, each of one column: neighbours come from the same one.
_KEPT = 4


@dataclass(frozen=True, eq=False)
class Tables:
    """The pictures of some Parquet files below ``root``: of each kind in a column. It can be pickled, and
    used from several threads.
    """

    root: Path
    columns: Mapping[Kind, str]
    _kept: threading.local = field(default_factory=threading.local, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "columns": self.columns}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _kept=threading.local())

    def picture(self, kind: Kind, row: str) -> PictureFile:
        """A picture of a row, which may name a file. Raises SourceError where there is none."""
        column = self.columns[kind]
        path, _, number = row.rpartition(_ROW)
        where = f"{self.root / path}, row {number}, {column}"
        value = self._value(path, int(number), column)
        value = {"bytes": value} if isinstance(value, bytes) else value
        if isinstance(value, dict) and value.get("bytes"):
            return Embedded(where, value["bytes"])
        named = value.get("path") if isinstance(value, dict) else None
        file = (self.root / path).parent / str(named or "")
        if named and file.is_file():
            return file
        expected = "a picture: embed it (datasets: push_to_hub, to_parquet), or put its file there"
        found = f"the file {named} alone" if named else "no picture"
        raise problem(where, found, expected, "picture-missing")

    def _value(self, path: str, row: int, column: str) -> Any:
        """A cell, of the group of rows that holds it."""
        known: list[tuple[str, str, int, Any]] = vars(self._kept).setdefault("groups", [])
        for table, name, first, values in known:
            if (table, name) == (path, column) and first <= row < first + len(values):
                return values[row - first].as_py()
        with readable_table(self.root / path):
            file = pyarrow_parquet().ParquetFile(self.root / path, memory_map=True)
            first = 0
            for number in range(file.metadata.num_row_groups):
                rows = file.metadata.row_group(number).num_rows
                if first <= row < first + rows:
                    values = file.read_row_group(number, columns=[column]).column(0).combine_chunks()
                    known[:] = [(path, column, first, values), *known][:_KEPT]
                    return values[row - first].as_py()
                first += rows
        raise problem(self.root / path, f"no row {row}", "the rows that it had", "annotations-unreadable")


class readable_table:  # it reads as a statement
    """Turns the errors of pyarrow into a SourceError that names the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, FgbgError) or not isinstance(error, Exception):
            return
        found = f"it cannot be read ({' '.join(str(error).split()) or type(error).__name__})"
        expected = "a whole Parquet file: get it again"
        raise problem(self._path, found, expected, "annotations-unreadable") from error


def row_of(path: str, number: int) -> str:
    """What stands for a row of a table among the files of samples."""
    return f"{path}{_ROW}{number}"


def table_of(row: str) -> str:
    """The table of a row."""
    return row.rpartition(_ROW)[0]


def column_values(root: Path, path: str, columns: Sequence[str]) -> Iterator[Any]:
    """The rows of a table, in some columns, one after the other."""
    with readable_table(root / path):
        file = pyarrow_parquet().ParquetFile(root / path, memory_map=True)
        for batch in file.iter_batches(columns=list(columns)):
            yield from batch.to_pylist()


def pyarrow_parquet() -> Any:
    """Pyarrow's reader; MissingPackageError where it is not installed."""
    return require("pyarrow.parquet", extra="parquet", needed_by="--from parquet")
