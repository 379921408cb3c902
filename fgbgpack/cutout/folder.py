"""The folder of cut-outs: where each file is, what was made of which photograph, and what is still to do."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fgbgpack.cutout.table import TABLE, Cutout, Decisions, read_decisions, write_table
from fgbgpack.errors import SpecError
from fgbgpack.files import disk_errors, locked, make_folders, require_local, sync_folder, write_atomically
from fgbgpack.inputs import read_json
from fgbgpack.sources.credits import CREDITS_FILE
from fgbgpack.sources.names import in_natural_order

#: The folders in that of cut-outs: those that are used, those that are not, and the alpha of all.
FOREGROUNDS, LEFT_OUT, MASKS = "foregrounds", "left-out", "masks"
#: The picture of all.
REVIEW = "review.png"

# What was made of each photograph: a file for each, written last.
_RECORDS = ".fgbgpack-cutout"
_SHOWN = 3


class CutoutFolder:
    """A folder of cut-outs that is made or continued. Files appear whole, and the record of a photograph
    after all of its files: what has one is done.
    """

    def __init__(self, path: Path, *, only_good: bool) -> None:
        require_local(path, "Cut-outs are")
        self.path = path
        self._only_good = only_good
        self.decisions: Decisions = {}

    def refuse_others(self) -> None:
        """Raises SpecError if the folder has other files than cut-outs, or is none."""
        if os.path.lexists(self.path) and not self.path.is_dir():
            raise SpecError(f"{self.path} is a file: name a folder for the cut-outs.", code="output-is-file")
        with disk_errors(str(self.path), "read", "Nothing is changed."):
            names = sorted(entry.name for entry in self.path.iterdir()) if self.path.is_dir() else []
        if names and not (self.path / _RECORDS).is_dir():
            some = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            raise SpecError(
                f"{self.path} has other files than cut-outs ({some}): name another folder.",
                code="output-not-cutouts",
            )

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Makes the folder if need be, keeps others out, and reads what somebody decided.

        Raises SpecError where other files are there, DatasetError where another process writes to it or it
        cannot be written, SourceError for a table that cannot be read.
        """
        self.refuse_others()
        with disk_errors(str(self.path), "written", "What is there is kept."):
            make_folders(self.path)
            refusal = f"Another process writes cut-outs to {self.path}: wait for it, or end it."
            with locked(self.path, refusal):
                self.refuse_others()
                for name in (_RECORDS, FOREGROUNDS, MASKS):
                    make_folders(self.path / name)
                self.decisions = read_decisions(self.path / TABLE)
                yield

    def done(self, photo: str, fingerprint: Mapping[str, Any]) -> bool:
        """Whether a photograph was cut out as the fingerprint says, and all its files are there."""
        record = self._read(self._record(photo))
        if record is None or record[0] != json.loads(json.dumps(fingerprint)):
            return False
        files = [cutout.file for cutout in record[1] if cutout.file is not None]
        return all(self.find(file) is not None and (self.path / MASKS / file).is_file() for file in files)

    def write(
        self, photo: str, fingerprint: Mapping[str, Any], made: Iterable[tuple[Cutout, bytes, bytes]]
    ) -> None:
        """Writes what was made of a photograph: each cut-out with its picture and its mask, as PNG. What was
        made of it before goes.
        """
        record, cutouts = self._record(photo), []
        before = self._read(record)
        if before is not None:
            record.unlink()
            for file in (cutout.file for cutout in before[1] if cutout.file is not None):
                for folder in (FOREGROUNDS, LEFT_OUT, MASKS):
                    (self.path / folder / file).unlink(missing_ok=True)
        for cutout, picture, mask in made:
            cutouts.append(cutout)
            if cutout.file is not None:
                write_atomically(self.path / MASKS / cutout.file, mask)
                write_atomically(self._place(cutout) / cutout.file, picture)
        document = {"fingerprint": fingerprint, "cutouts": [cutout.to_dict() for cutout in cutouts]}
        write_atomically(record, json.dumps(document).encode())

    def cutouts(self) -> list[Cutout]:
        """All cut-outs, of earlier runs too, in the natural order of photographs."""
        found: dict[str, list[Cutout]] = {}
        for path in (self.path / _RECORDS).glob("*.json"):
            record = self._read(path)
            if record is not None and record[1]:
                found[record[1][0].photo] = record[1]
        return [cutout for photo in in_natural_order(found) for cutout in found[photo]]

    def find(self, file: str) -> Path | None:
        """Where the picture of a cut-out is; ``None`` where somebody deleted it."""
        places = (self.path / folder / file for folder in (FOREGROUNDS, LEFT_OUT))
        return next((place for place in places if place.is_file()), None)

    def is_used(self, cutout: Cutout) -> bool:
        """Whether a cut-out is among the foregrounds."""
        return cutout.is_used(self.decisions, only_good=self._only_good)

    def arrange(self) -> list[Cutout]:
        """Moves each cut-out to where it belongs, and writes the tables. Returns all that are there."""
        cutouts = [one for one in self.cutouts() if one.file is None or self.find(one.file) is not None]
        moved_between: set[Path] = set()
        for cutout in cutouts:
            place = None if cutout.file is None else self.find(cutout.file)
            wanted = self._place(cutout)
            if place is not None and place.parent != wanted:
                make_folders(wanted)
                place.replace(wanted / place.name)
                moved_between |= {place.parent, wanted}
        for folder in moved_between:
            sync_folder(folder)
        write_table(self.path / TABLE, cutouts, self.decisions, only_good=self._only_good)
        self._write_credits(cutouts)
        return cutouts

    def _place(self, cutout: Cutout) -> Path:
        return self.path / (FOREGROUNDS if self.is_used(cutout) else LEFT_OUT)

    def _record(self, photo: str) -> Path:
        return self.path / _RECORDS / f"{photo}.json"

    def _read(self, path: Path) -> tuple[Any, list[Cutout]] | None:
        """The fingerprint and the cut-outs of a record; ``None`` where there is none that can be read."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            document = read_json(path)
            return document["fingerprint"], [Cutout.from_dict(entry) for entry in document["cutouts"]]
        return None

    def _write_credits(self, cutouts: Iterable[Cutout]) -> None:
        """``sources.csv`` beside the foregrounds: who made their photographs, what these show, and where they
        are cut.
        """
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(["file", "license", "author", "url", "category", "cut"])
        for cutout in cutouts:
            if cutout.quality is not None and self.is_used(cutout):
                known = cutout.credit
                stated = (known.license, known.author, known.url, known.category)
                row = [cutout.file, *stated, cutout.quality.sides]
                writer.writerow([cell or "" for cell in row])
        write_atomically(self.path / FOREGROUNDS / CREDITS_FILE, text.getvalue().encode())
