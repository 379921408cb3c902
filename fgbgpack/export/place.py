"""The place of an export: nothing is there, or all of it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.errors import DatasetError, RecipeMismatchError
from fgbgpack.pipeline.executor import Notice, OnEvent
from fgbgpack.storage.store import locked

#: What every export leaves beside its files, last of all.
DOCUMENT = "fgbgpack.json"

_FULL = {errno.ENOSPC, errno.EDQUOT}
_SHOWN = 5


def _is_export(folder: Path) -> bool:
    """Whether a folder says that it is an export."""
    try:
        said = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and str(said.get("schema")).startswith("export/")


class Place:
    """Where an export goes, and the folder beside it in which it is made.

    Args:
        out: The folder to make.
        tell: Who hears of it.
    """

    def __init__(self, out: Path, tell: OnEvent) -> None:
        # Links and ".." are followed now: what is renamed later is the folder itself.
        self._given, self._out, self._tell = out, out.resolve(), tell
        self._begun = self._out.parent / f".{self._out.name}.fgbgpack-export"
        self._replaced = self._out.parent / f".{self._out.name}.fgbgpack-replaced"

    @contextmanager
    def filled(self, held: Dataset, overwrite: bool) -> Iterator[Path]:
        """A folder that becomes the export of ``held`` once all is written in it, and goes if that fails."""
        with self._explained(), self._alone():
            try:
                self._check(held, overwrite)
                yield self._begun
                self._publish()
            except BaseException as exc:
                try:
                    shutil.rmtree(self._begun)
                except (KeyboardInterrupt, OSError):
                    exc.add_note(f"What was written so far is in {self._begun}: delete it.")
                raise

    def _check(self, held: Dataset, overwrite: bool) -> None:
        """Refuse a place where something is that must not be replaced."""
        dataset = Path(held.path).resolve()
        if self._out != dataset and self._out.is_relative_to(dataset):
            raise DatasetError(f"{self._given} lies in {held.path}, the dataset: give another place.")
        if not os.path.lexists(self._out):
            return
        if not self._out.is_dir():
            raise DatasetError(f"{self._given} is a file: give the name of a folder that is to be made.")
        if Path.cwd().is_relative_to(self._out):
            raise DatasetError(
                f"{self._given} is the current folder, or holds it: name a folder that is to be made."
            )
        names = sorted(entry.name for entry in self._out.iterdir())
        if not names:
            return
        if not _is_export(self._out):
            shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            raise DatasetError(
                f"{self._given} holds other things than an export ({shown}), which stay: give another place."
            )
        if not overwrite:
            raise RecipeMismatchError(
                f"{self._given} is an export already: give another place, or --overwrite to replace it."
            )
        if dataset.is_relative_to(self._out):
            raise DatasetError(
                f"{held.path} lies in {self._given}, and would go with it: give another place."
            )

    def _publish(self) -> None:
        if self._out.exists():
            self._out.rename(self._replaced)
        self._begun.rename(self._out)
        shutil.rmtree(self._replaced, ignore_errors=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The folder beside, empty, while no other process can take it: the lock goes with this process."""
        self._out.parent.mkdir(parents=True, exist_ok=True)
        self._begun.mkdir(exist_ok=True)
        with locked(self._begun, f"Another process is exporting to {self._given}: wait for it, or end it."):
            self._clear()
            yield

    def _clear(self) -> None:
        """Undo what runs that were killed left."""
        if self._replaced.exists() and not self._out.exists():
            # It was stopped between the two renames that replace an export.
            self._replaced.rename(self._out)
        shutil.rmtree(self._replaced, ignore_errors=True)
        left_over = list(self._begun.iterdir())
        if left_over:
            self._tell(Notice(f"Removing what an export that was stopped left in {self._begun}."))
        for path in left_over:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say clearly that the disk is full, or that the place cannot be written."""
        try:
            yield
        except OSError as exc:
            if exc.errno in _FULL:
                error = DatasetError(
                    f"The disk that holds {self._given} is full: make room and run the same command again."
                )
            else:
                error = DatasetError(f"{self._given} cannot be written: {exc}.")
            for note in getattr(exc, "__notes__", []):
                error.add_note(note)
            raise error from exc
