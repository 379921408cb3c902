"""Datasets opened so that what is stored is read, which may be dearer than to compose it."""

from __future__ import annotations

from typing import Any

from fgbgpack import Dataset, open_dataset


def open_stored(path: Any, **options: Any) -> Dataset:
    """A dataset whose pixels are read as they are stored, where they are."""
    ds = open_dataset(path, **options)
    return ds if ds.document.is_virtual else open_dataset(path, pixels="stored", **options)
