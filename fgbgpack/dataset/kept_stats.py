"""Statistics that are kept in a dataset: in an attribute of the root group, beside the document."""

from __future__ import annotations

from typing import Any

from fgbgpack import schema
from fgbgpack.dataset.stats import Stats
from fgbgpack.document import Document
from fgbgpack.errors import SpecError
from fgbgpack.storage.manifest import metadata_digest
from fgbgpack.storage.store import DatasetStore
from fgbgpack.storage.targets import writable

#: The attribute of the root group, beside that of the document.
STATS = "fgbgpack_stats"
#: The SHA-256 of all else that is kept: a number that is damaged is not taken for another one.
_SHA256 = "sha256"


def kept(store: DatasetStore, document: Document) -> Stats | None:
    """The statistics that are kept in a dataset; ``None`` where there are none, or they are of another one or
    damaged.
    """
    found = store.root().get("attributes", {}).get(STATS) if document.complete else None
    if not isinstance(found, dict) or found.get("generation") != document.generation:
        return None
    fields: dict[str, Any] = {name: value for name, value in found.items() if name != _SHA256}
    if found.get(_SHA256) != metadata_digest(fields) or schema.problems("stats", found):
        return None
    return Stats.from_dict(fields)


def keep(store: DatasetStore, stats: Stats) -> None:
    """Keep statistics in the dataset that they are of, perhaps open for reading only.

    Raises SpecError (``stats-foreign``) where they are of another one, DatasetError where it cannot be
    written.
    """
    opened = DatasetStore(writable(store.base, store.name), store.name)
    fields = stats.to_dict()
    document = opened.existing_document(complete=True)
    if document.generation != stats.generation:
        raise SpecError(
            f"These statistics are not of {store.name} as it is now: count its samples again.",
            code="stats-foreign",
        )
    before = kept(opened, document)
    if before is not None and stats in (before, before.without_split()):
        return
    with opened.exclusive():
        opened.add_to_root({STATS: {**fields, _SHA256: metadata_digest(fields)}})
