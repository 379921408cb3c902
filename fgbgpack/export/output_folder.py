"""The folder of an export: it appears complete, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.errors import DatasetError, RecipeMismatchError
from fgbgpack.files import disk_errors, locked
from fgbgpack.inputs import read_json
from fgbgpack.pipeline.events import Notice, OnEvent

#: The file that describes an export; it is written last.
DOCUMENT = "fgbgpack.json"

_SHOWN = 5


class OutputFolder:
    """A folder that an export creates or replaces: written under another name beside it, then renamed."""

    def __init__(self, path: Path, on_event: OnEvent) -> None:
        # Links and ".." are followed here: what is renamed later is the folder itself.
        self._given, self._path, self._on_event = path, path.resolve(), on_event
        self._partial = self._path.parent / f".{self._path.name}.fgbgpack-export"
        self._replaced = self._path.parent / f".{self._path.name}.fgbgpack-replaced"

    @contextmanager
    def writing(self, dataset: Dataset, *, overwrite: bool) -> Iterator[Path]:
        """Yields an empty folder that becomes the export if the block succeeds, and is removed if it fails.
        Raises DatasetError where something else is there, another process is writing it, or it cannot be
        written; RecipeMismatchError where an export is there, and not to be replaced.
        """
        with disk_errors(str(self._given), "written"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.mkdir(exist_ok=True)
            refusal = f"Another process is exporting to {self._given}: wait for it, or end it."
            with locked(self._partial, refusal):
                self._remove_leftovers()
                try:
                    self._check(dataset, overwrite)
                    yield self._partial
                    if self._path.exists():
                        self._path.rename(self._replaced)
                    self._partial.rename(self._path)
                    shutil.rmtree(self._replaced, ignore_errors=True)
                except BaseException as exc:
                    try:
                        shutil.rmtree(self._partial)
                    except (KeyboardInterrupt, OSError):
                        exc.add_note(f"What was written so far is in {self._partial}: delete it.")
                    raise

    def _remove_leftovers(self) -> None:
        """Undoes what a killed run left."""
        if self._replaced.exists() and not self._path.exists():
            # It was killed between the two renames that replace an export.
            self._replaced.rename(self._path)
        shutil.rmtree(self._replaced, ignore_errors=True)
        leftovers = list(self._partial.iterdir())
        if leftovers:
            self._on_event(Notice(f"Removing what an export that was stopped left in {self._partial}."))
        for path in leftovers:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _check(self, dataset: Dataset, overwrite: bool) -> None:
        """Refuses a path whose content must not be replaced."""
        source = Path(dataset.path).resolve()
        if self._path != source and self._path.is_relative_to(source):
            raise DatasetError(
                f"{self._given} lies in {dataset.path}, the dataset: name another folder.",
                code="output-inside-dataset",
            )
        if not os.path.lexists(self._path):
            return
        if not self._path.is_dir():
            raise DatasetError(
                f"{self._given} is a file: name a folder that is to be created.", code="output-is-file"
            )
        if Path.cwd().is_relative_to(self._path):
            raise DatasetError(
                f"{self._given} is the current folder, or contains it: name a folder that is to be created.",
                code="output-contains-current-folder",
            )
        names = sorted(entry.name for entry in self._path.iterdir())
        if not names:
            return
        if not _is_export(self._path):
            shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            raise DatasetError(
                f"{self._given} contains other files than those of an export ({shown}): name another folder.",
                code="output-not-export",
            )
        if not overwrite:
            raise RecipeMismatchError(
                f"{self._given} is an export already: name another folder, or replace it with --overwrite.",
                code="output-exists",
            )
        if source.is_relative_to(self._path):
            raise DatasetError(
                f"{dataset.path} lies in {self._given}, and would be deleted with it: name another folder.",
                code="output-contains-dataset",
            )


def _is_export(folder: Path) -> bool:
    try:
        document = read_json(folder / DOCUMENT)
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and str(document.get("schema")).startswith("export/")
