"""Where the cards of a dataset lie, and how they are written: whole, and never over what a person wrote."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fgbgpack.cards.about import About
from fgbgpack.cards.croissant import croissant
from fgbgpack.cards.datacard import datacard
from fgbgpack.cards.licences import findings
from fgbgpack.cards.summary import Facts, gather
from fgbgpack.dataset.dataset import open_dataset
from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.storage.hdf5 import is_hdf5
from fgbgpack.storage.store import ROOT, exclusive, store_of
from fgbgpack.visual.preview import write_preview

_CROISSANT, _DATACARD, _PREVIEW = "croissant.json", "DATACARD.md", "preview.png"
_PREVIEW_ROWS = 4
#: A line at the end of a data card: what was said, and digests of what was written.
_STATE = re.compile(r"\n<!-- fgbgpack card (\{.*\}) -->\n")


@dataclass(frozen=True)
class Cards:
    """The cards of a dataset, as they were written.

    Attributes:
        croissant: The Croissant file.
        datacard: The data card.
        preview: The picture of samples; None if there is none.
        unsaid: What a dataset that is published should say and these do not.
        findings: What the licences of its pictures mean for passing it on, in sentences.
    """

    croissant: Path
    datacard: Path
    preview: Path | None
    unsaid: tuple[str, ...]
    findings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "croissant": str(self.croissant),
            "datacard": str(self.datacard),
            "preview": None if self.preview is None else str(self.preview),
            "unsaid": list(self.unsaid),
            "findings": list(self.findings),
        }


def write_cards(
    dataset: str | Path,
    about: About = About(),  # noqa: B008 (it is frozen)
    *,
    folder: str | Path | None = None,
    preview: bool = False,
    overwrite: bool = False,
) -> Cards:
    """Write ``croissant.json`` and ``DATACARD.md`` of a dataset, which must be complete.

    They lie in the folder of a Zarr store; beside an HDF5 file ``b.h5`` as ``b.croissant.json`` and
    ``b.DATACARD.md``. What was said of the dataset when they were written before is kept, unless something
    else is said now. The same dataset and words give the same files.

    Args:
        dataset: A local folder or file, or a URL that fsspec opens.
        about: What only a person can say of it.
        folder: Where to write instead; made if it is not there. A URL needs it. The Croissant
            file names files as if it lay with the dataset.
        preview: Whether to draw some samples, too, for the data card.
        overwrite: Replace cards that were changed since they were written, or that something else wrote.

    Raises:
        DatasetError: There is no dataset, it is not complete, or the cards cannot be written.
        SpecError: No folder is given for a URL, or cards that a person has changed are in the way.

    Example:
        >>> write_cards("lobby.zarr", About(license="CC-BY-4.0")).datacard  # doctest: +SKIP
        PosixPath('lobby.zarr/DATACARD.md')
    """
    places = _Places.of(dataset, folder)
    opened = open_dataset(dataset)
    before = _State.of(places)
    about = about.over(before.about)
    facts = gather(opened)
    description = (json.dumps(croissant(facts, about), indent=2, ensure_ascii=False) + "\n").encode()
    drawn = preview or places.preview.name in before.digests
    picture = places.preview.name if drawn else None
    text = datacard(facts, about, croissant=places.croissant.name, picture=picture)

    new = {places.croissant: description, places.datacard: text.encode()}
    changed = [path for path, content in new.items() if before.is_foreign(path, content)]
    if drawn and before.is_foreign(places.preview, b""):
        changed.append(places.preview)
    if changed and not overwrite:
        raise SpecError(
            "These files were changed by somebody, or something else wrote them; --overwrite replaces them:",
            [str(path) for path in changed],
        )
    with _alone(dataset, places.inside):
        try:
            places.croissant.parent.mkdir(parents=True, exist_ok=True)
            if drawn:
                write_preview(opened, places.preview, rows=_PREVIEW_ROWS)
            for path, content in new.items():
                digests = {path.name: _digest(content) for path, content in new.items()}
                if drawn:
                    digests[places.preview.name] = _digest(places.preview.read_bytes())
                state = _State(about, digests).line if path == places.datacard else b""
                _publish(path, content + state)
        except OSError as exc:
            raise DatasetError(
                f"The cards cannot be written to {places.croissant.parent}: {exc.strerror or exc}."
            ) from exc
    return Cards(
        croissant=places.croissant,
        datacard=places.datacard,
        preview=places.preview if drawn else None,
        unsaid=about.unsaid,
        findings=tuple(_findings(facts)),
    )


def cards_are_stale(dataset: str | Path) -> bool:
    """Whether a local dataset has cards that tell of it as it was before.

    Args:
        dataset: Its folder or file. One that is elsewhere, or has no cards, has none that are stale.
    """
    if "://" in str(dataset):
        return False
    places = _Places.of(dataset, None)
    path = Path(dataset) if is_hdf5(dataset) else Path(dataset) / ROOT
    try:
        described = json.loads(places.croissant.read_bytes())
        known = {
            file["name"]: (file["sha256"], file["contentSize"])
            for file in described["distribution"]
            if "sha256" in file
        }
        size = f"{path.stat().st_size} B"
        with path.open("rb") as file:
            digest = "" if known[path.name][1] != size else hashlib.file_digest(file, "sha256").hexdigest()
        return known[path.name] != (digest, size)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _findings(facts: Facts) -> list[str]:
    return findings(facts.licences) if facts.sources is not None else []


@dataclass(frozen=True)
class _Places:
    """Where the files go, and whether that is in the folder of a dataset."""

    croissant: Path
    datacard: Path
    preview: Path
    inside: bool

    @classmethod
    def of(cls, dataset: str | Path, folder: str | Path | None) -> _Places:
        path = Path(dataset)
        if folder is None and "://" in str(dataset):
            raise SpecError(f"{dataset} is a URL: say in which folder to write its cards, with -o FOLDER.")
        prefix = f"{path.stem}." if is_hdf5(dataset) else ""
        usual = path.parent if prefix else path
        where = usual if folder is None else Path(folder)
        return cls(
            croissant=where / f"{prefix}{_CROISSANT}",
            datacard=where / f"{prefix}{_DATACARD}",
            preview=where / f"{prefix}{_PREVIEW}",
            inside=folder is None and not prefix,
        )


@dataclass(frozen=True)
class _State:
    """What a data card remembers of when it was written.

    Attributes:
        about: What was said of the dataset.
        digests: The SHA-256 of each file that was written, by its name, without this line.
        contents: What lies there now.
    """

    about: About = field(default_factory=About)
    digests: Mapping[str, str] = field(default_factory=dict)
    contents: Mapping[Path, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, places: _Places) -> _State:
        contents = {}
        for path in (places.croissant, places.datacard, places.preview):
            try:
                contents[path] = path.read_bytes()
            except FileNotFoundError:
                continue
            except OSError as exc:
                raise DatasetError(f"{path} cannot be read: {exc.strerror}.") from exc
        text = contents.get(places.datacard, b"").decode(errors="replace")
        matches = list(_STATE.finditer(text))
        if not matches:
            return cls(contents=contents)
        match = matches[-1]
        contents[places.datacard] = (text[: match.start()] + text[match.end() :]).encode()
        try:
            remembered = json.loads(match[1])
            return cls(About.from_dict(remembered["about"]), dict(remembered["files"]), contents)
        except (ValueError, KeyError, TypeError):
            return cls(contents=contents)

    def is_foreign(self, path: Path, new: bytes) -> bool:
        """Whether there is something that is neither what was written before nor what is to be written."""
        there = self.contents.get(path)
        return there is not None and there != new and _digest(there) != self.digests.get(path.name)

    @property
    def line(self) -> bytes:
        """What the data card ends with."""
        remembered = {"about": self.about.to_dict(), "files": self.digests}
        # Written like this, nothing that was said can end the comment.
        harmless = json.dumps(remembered).replace(">", "\\u003e")
        return f"\n<!-- fgbgpack card {harmless} -->\n".encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def _alone(dataset: str | Path, inside: bool) -> Iterator[None]:
    """Where the cards lie in a dataset's folder, nobody else may write there."""
    lock = exclusive(store_of(dataset, read_only=False), str(dataset)) if inside else nullcontext()
    with lock:
        yield


def _publish(path: Path, content: bytes) -> None:
    """Write a file in one step; what a killed writer leaves is swept as that of any writer of a dataset."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
