"""The files of a dataset's cards: written in one step each, and never over what a person wrote."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fgbgpack.cards.about import About
from fgbgpack.cards.croissant import croissant
from fgbgpack.cards.datacard import datacard
from fgbgpack.cards.licences import findings
from fgbgpack.cards.summary import summarize
from fgbgpack.dataset.dataset import open_dataset
from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.files import require_local, sha256_of, write_atomically
from fgbgpack.inputs import LARGEST_JSON, parse_json, read_file, read_json
from fgbgpack.storage.arrays import METADATA
from fgbgpack.storage.hdf5 import is_hdf5
from fgbgpack.storage.store import DatasetStore
from fgbgpack.storage.targets import is_url, name_of
from fgbgpack.storage.zipped import SUFFIX
from fgbgpack.visual.canvas import picture_bytes
from fgbgpack.visual.preview import render_preview

_CROISSANT, _DATACARD, _PREVIEW = "croissant.json", "DATACARD.md", "preview.png"
_PREVIEW_ROWS = 4
#: The last line of a data card: what was stated, and the digests of the files.
_STATE = re.compile(r"\n<!-- fgbgpack card (\{.*\}) -->\n")


@dataclass(frozen=True)
class Cards:
    """The cards of a dataset that were written.

    Attributes:
        croissant: The Croissant file.
        datacard: The data card.
        preview: The picture of samples; ``None`` if there is none.
        unsaid: What a published dataset should state and these do not.
        findings: What the licences of its pictures mean for redistributing it, in sentences.
    """

    croissant: Path
    datacard: Path
    preview: Path | None
    unsaid: tuple[str, ...]
    findings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value and str(value)
            for name, value in vars(self).items()
        }


def write_cards(
    dataset: str | os.PathLike[str],
    about: About = About(),  # noqa: B008 (it is frozen)
    *,
    folder: str | Path | None = None,
    preview: bool = False,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Cards:
    """Write ``croissant.json`` and ``DATACARD.md`` of a dataset, which must be complete.

    They are written into the folder of a Zarr store; beside an HDF5 file ``b.h5`` as ``b.croissant.json`` and
    ``b.DATACARD.md``. What existing cards state is kept unless ``about`` states something else. The same
    dataset and statements give the same files.

    Args:
        dataset: A local folder or file, or a URL.
        about: What only its authors can say of it.
        folder: Where to write instead; made if it does not exist. Required for a URL. The Croissant file
            names files as if it lay with the dataset.
        preview: Whether to draw some samples, too, for the data card.
        overwrite: Replace cards that were edited, or that another program wrote.
        storage_options: As for :func:`fgbgpack.open_dataset`, where the dataset is a URL.

    Raises:
        DatasetError: There is no dataset, it is not complete, or the cards cannot be written.
        SpecError: No folder is given for a URL, or edited cards are in the way.

    Example:
        >>> write_cards("lobby.zarr", About(license="CC-BY-4.0")).datacard  # doctest: +SKIP
        PosixPath('lobby.zarr/DATACARD.md')
    """
    paths = _Paths.of(dataset, folder)
    opened = open_dataset(dataset, storage_options=storage_options)
    existing = _ExistingCards.read(paths)
    about = about.over(existing.about)
    summary = summarize(opened)
    with_preview = preview or paths.preview.name in existing.digests
    picture = paths.preview.name if with_preview else None
    contents = {
        paths.croissant: f"{json.dumps(croissant(summary, about), indent=2, ensure_ascii=False)}\n".encode(),
        paths.datacard: datacard(summary, about, croissant=paths.croissant.name, picture=picture).encode(),
    }
    if with_preview:
        drawn = render_preview(opened, rows=_PREVIEW_ROWS)
        contents = {paths.preview: picture_bytes(drawn, paths.preview.suffix)} | contents
    # What a run that was stopped has written is what is going to be written.
    edited = [path for path in paths.files if path in contents and existing.is_foreign(path, contents[path])]
    if edited and not overwrite:
        raise SpecError(
            "These files were edited, or another program wrote them; --overwrite replaces them:",
            [str(path) for path in edited],
            code="cards-edited",
        )
    store = DatasetStore.open(dataset, read_only=False) if paths.in_dataset else None
    with store.exclusive() if store is not None else nullcontext():
        try:
            paths.croissant.parent.mkdir(parents=True, exist_ok=True)
            digests = {path.name: _digest(content) for path, content in contents.items()}
            contents[paths.datacard] += _state_line(about, digests)
            for path, content in contents.items():
                write_atomically(path, content)
        except OSError as exc:
            raise DatasetError(
                f"The cards cannot be written to {paths.croissant.parent}: {exc.strerror or exc}.",
                code="cards-unwritable",
            ) from exc
    return Cards(
        croissant=paths.croissant,
        datacard=paths.datacard,
        preview=paths.preview if with_preview else None,
        unsaid=about.unsaid,
        findings=tuple(findings(summary.licences)) if summary.licences else (),
    )


def stated_about(dataset: str | os.PathLike[str]) -> About:
    """What the cards of a local dataset state of it; nothing where there are none, and for a URL or a zip
    file.

    Raises:
        DatasetError: There are cards, and they cannot be read.
    """
    return About() if _has_no_place(dataset) else _ExistingCards.read(_Paths.of(dataset, None)).about


def _has_no_place(dataset: str | os.PathLike[str]) -> bool:
    """Whether cards cannot lie with a dataset: at a URL, or in a zip file, which is not changed."""
    return is_url(dataset) or _is_zip(dataset)


def _is_zip(dataset: str | os.PathLike[str]) -> bool:
    return Path(dataset).suffix.lower() == SUFFIX


def cards_are_stale(dataset: str | os.PathLike[str]) -> bool:
    """Whether a local dataset has changed since its cards were written; False for a URL or a zip file, or
    without cards.
    """
    if _has_no_place(dataset):
        return False
    paths = _Paths.of(dataset, None)
    path = Path(dataset) if is_hdf5(dataset) else Path(dataset) / METADATA
    try:
        described = read_json(paths.croissant)
        (file,) = (f for f in described["distribution"] if f["name"] == path.name and "sha256" in f)
        # The digest of a large file is computed only if its size is the same.
        same_size: bool = file["contentSize"] == f"{path.stat().st_size} B"
        return not same_size or bool(file["sha256"] != sha256_of(path))
    except (OSError, ValueError, KeyError, TypeError):
        return False


@dataclass(frozen=True)
class _Paths:
    """The paths of the cards, and whether they are in the folder of the dataset."""

    croissant: Path
    datacard: Path
    preview: Path
    in_dataset: bool

    @property
    def files(self) -> tuple[Path, Path, Path]:
        """All of them."""
        return self.croissant, self.datacard, self.preview

    @classmethod
    def of(cls, dataset: str | os.PathLike[str], folder: str | Path | None) -> _Paths:
        path = Path(dataset)
        if folder is None and is_url(dataset):
            raise SpecError(
                f"{name_of(dataset)} is a URL: say in which folder to write its cards, with -o FOLDER.",
                code="folder-missing",
            )
        if folder is None and _is_zip(path):
            raise SpecError(
                f"{path} is a zip file, which is not changed: say in which folder to write its cards, with "
                "-o FOLDER.",
                code="folder-missing",
            )
        if folder is not None:
            require_local(folder, "Cards are")
        prefix = f"{path.stem}." if is_hdf5(dataset) else ""
        parent = Path(folder) if folder is not None else path.parent if prefix else path
        croissant, card, preview = (parent / f"{prefix}{name}" for name in (_CROISSANT, _DATACARD, _PREVIEW))
        return cls(croissant, card, preview, in_dataset=folder is None and not prefix)


@dataclass(frozen=True)
class _ExistingCards:
    """The cards that exist before these are written, and the ``about`` that they state.

    ``digests`` has the SHA-256 of each file as it was written, by its name, without the last line of the
    card; ``contents`` the files now, likewise.
    """

    contents: Mapping[Path, bytes]
    about: About = field(default_factory=About)
    digests: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, paths: _Paths) -> _ExistingCards:
        contents = {}
        for path in paths.files:
            try:
                contents[path] = read_file(path, LARGEST_JSON)
            except FileNotFoundError:
                continue
            except OSError as exc:
                raise DatasetError(
                    f"{path} cannot be read: {exc.strerror}.", code="cards-unreadable"
                ) from exc
        text = contents.get(paths.datacard, b"").decode(errors="replace")
        matches = list(_STATE.finditer(text))
        if not matches:
            return cls(contents)
        match = matches[-1]
        contents[paths.datacard] = (text[: match.start()] + text[match.end() :]).encode()
        try:
            state = parse_json(match[1])
            return cls(contents, About.from_dict(state["about"]), dict(state["files"]))
        except (ValueError, KeyError, TypeError):
            return cls(contents)

    def is_foreign(self, path: Path, new: bytes) -> bool:
        """Whether a file is neither as it was written nor as it is going to be."""
        content = self.contents.get(path)
        return content is not None and content != new and _digest(content) != self.digests.get(path.name)


def _state_line(about: About, digests: Mapping[str, str]) -> bytes:
    """The last line of the data card: an HTML comment, which no statement can end."""
    state = json.dumps({"about": about.to_dict(), "files": digests}).replace(">", "\\u003e")
    return f"\n<!-- fgbgpack card {state} -->\n".encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
