"""Which samples: found by their sources, dealt out to parts, saved as splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset.splits import Split
from fgbgpack.document import Document
from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.storage.indices import whole_number
from fgbgpack.storage.store import DatasetStore
from fgbgpack.storage.targets import writable

if TYPE_CHECKING:
    from fgbgpack.dataset.dataset import Dataset

_SHOWN = 5


def where(
    dataset: Dataset, conditions: Mapping[str, Any], name: str | Sequence[str] | None
) -> NDArray[np.int64]:
    """The samples that fulfil all conditions, (n,) int64 in ascending order, as :meth:`Dataset.where`
    describes.
    """
    document = dataset.document
    given = [kind for kind, value in conditions.items() if value is not None]
    if document.spec is None or document.sources is None:
        if given:
            dataset.require_recipe(f"placements, and so no {', '.join(given)}: name samples by name=")
        return _named(dataset, name)
    if name is not None:
        raise SpecError(
            f"{dataset.path} has no names: its samples were made, and found by their sources.",
            code="sample-unknown",
        )
    listed: dict[str, Sequence[str | None]] = {
        "background": [source.name for source in document.sources.backgrounds],
        "foreground": [source.name for source in document.sources.foregrounds],
        "replica": [None] * document.spec.placements,
    }
    problems: list[str] = []
    holds = np.ones(len(dataset), np.bool_)
    for kind, names in listed.items():
        if conditions[kind] is not None:
            chosen = np.zeros(len(names), np.bool_)
            chosen[_positions(kind, conditions[kind], names, problems)] = True
            holds &= chosen[getattr(dataset.placements, kind)]
    if problems:
        raise SpecError(f"{dataset.path} has no such samples.", problems, code="sample-unknown")
    if conditions["flip"] is not None:
        holds &= dataset.placements.flip == conditions["flip"]
    return np.flatnonzero(holds)


def _positions(kind: str, value: Any, names: Sequence[str | None], problems: list[str]) -> list[int]:
    """The positions in a list of what is named by position or by name; unknown ones become problems."""
    found = []
    for one in [value] if isinstance(value, str) or whole_number(value) is not None else value:
        number = whole_number(one)
        if isinstance(one, str) and one in names:
            found.append(names.index(one))
        elif number is not None and 0 <= number < len(names):
            found.append(number)
        else:
            or_name = " or its file name" if names[0] else ""
            problems.append(f"{kind}: there is no {one!r}, expected 0 to {len(names) - 1}{or_name}")
    return found


def _named(dataset: Dataset, name: str | Sequence[str] | None) -> NDArray[np.int64]:
    """The imported samples of these names; all of them where none is given."""
    if name is None:
        return np.arange(len(dataset))
    names = dataset.names or [""]
    chosen = {name} if isinstance(name, str) else set(name)
    found = {one: i for i, one in enumerate(names) if one in chosen}
    missing = sorted(map(repr, chosen - found.keys()))
    if missing:
        lines = [f"name: there is no {one}, expected such as {names[0]!r}" for one in missing[:_SHOWN]]
        more = [f"... and {len(missing) - _SHOWN} more"] if len(missing) > _SHOWN else []
        raise SpecError(f"{dataset.path} has no such samples.", lines + more, code="sample-unknown")
    return np.array(sorted(found.values()), np.int64)


def split(dataset: Dataset, recipe: Split) -> dict[str, NDArray[np.int64]]:
    """The samples of each part, (n,) int64 in ascending order, as :meth:`Dataset.split` describes."""
    sources = dataset.document.sources
    if sources is None:
        if recipe.by != "sample":
            dataset.require_recipe(f"sources to split by ({recipe.by}): split it by='sample'")
        return recipe.of_names(dataset.names or [])
    backgrounds, foregrounds = (
        [source.sha256 for source in kind] for kind in (sources.backgrounds, sources.foregrounds)
    )
    return recipe.samples(dataset.placements, backgrounds, foregrounds)


def save_split(store: DatasetStore, document: Document, name: str, recipe: Split) -> Document:
    """Save a split in the document of a dataset, perhaps open for reading only; return ``document`` with all
    splits.
    """
    opened = DatasetStore(writable(store.base, store.name), store.name)
    with opened.exclusive():
        now = opened.existing_document()
        if (now.samples, now.recipe, now.imported) != (document.samples, document.recipe, document.imported):
            raise DatasetError(
                f"{store.name} has been replaced since it was opened: open it again.", code="dataset-replaced"
            )
        now = dataclasses.replace(now, splits={**now.splits, name: recipe.to_dict()})
        opened.commit(now)
    return dataclasses.replace(document, splits=now.splits)
