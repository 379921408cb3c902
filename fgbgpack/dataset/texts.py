"""Texts of imported samples: their names, and what is stated of their pictures."""

from __future__ import annotations

from fgbgpack.document import SOURCES, Document
from fgbgpack.import_info import CREDITS
from fgbgpack.source_info import PictureCredit
from fgbgpack.storage.store import DatasetStore


def stored_texts(store: DatasetStore, path: str) -> list[str]:
    """The text of each sample in an array (n, bytes) of UTF-8 padded with zeros."""
    (stored,) = store.read(path)
    return [text.decode() for text in stored.view(f"S{stored.shape[1]}")[:, 0].tolist()]


def stored_credits(store: DatasetStore, document: Document) -> list[PictureCredit]:
    """What is stated of the picture of each sample."""
    paths = [path for path in document.of_imported if path in CREDITS]
    if not paths:
        return [PictureCredit()] * document.samples
    names = [path.removeprefix(f"{SOURCES}/") for path in paths]
    rows = zip(*(stored_texts(store, path) for path in paths), strict=True)
    return [PictureCredit(**dict(zip(names, (text or None for text in row), strict=True))) for row in rows]
