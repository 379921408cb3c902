"""Which samples: found by their sources, dealt out to parts, saved as splits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from numbers import Real
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset.listed_split import LIST, ListedSplit
from fgbgpack.dataset.splits import Split
from fgbgpack.document import CATEGORIES, OBJECTS, Document
from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.options import truth, whole_number
from fgbgpack.source_info import SourcesInfo
from fgbgpack.sources.pairing import Pattern
from fgbgpack.spec import DatasetSpec
from fgbgpack.storage.indices import plain_array
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
    listed: dict[str, Sequence[str | None]] = {}
    if document.spec is None or document.sources is None:
        known = {path.removeprefix(f"{OBJECTS}/") for path in document.object_arrays}
        if unknown := [kind for kind in given if kind not in known]:
            dataset.require_recipe(f"placements, and so no {', '.join(unknown)}: name samples by name=")
        named = _named(dataset, name)
        if not given:
            return named
    elif name is not None:
        raise SpecError(
            f"{dataset.path} has no names: its samples were made, and found by their sources.",
            code="sample-unknown",
        )
    else:
        named = np.arange(len(dataset))
        listed = {
            "background": [source.name for source in document.sources.backgrounds],
            "foreground": [source.name for source in document.sources.foregrounds],
            "replica": [None] * _replicas(document.spec, document.sources, len(dataset)),
        }
    listed["category"] = dataset.categories
    problems: list[str] = []
    holds = _Conditions()
    for kind, value in conditions.items():
        if value is None:
            continue
        if kind in listed:
            chosen = np.zeros(len(listed[kind]), np.bool_)
            chosen[_positions(kind, value, listed[kind], problems)] = True
            if kind == "category" and document.sources is not None and not dataset.has_objects:
                kind, chosen = "foreground", chosen[list(document.sources.category_numbers)]
            holds.choose(kind, chosen)
        elif kind == "flip":
            flip = truth(value)
            if flip is None:
                problems.append(f"flip: found {value!r}, expected True or False")
            else:
                holds.choose(kind, np.array([not flip, flip]))
        elif not dataset.has_objects:
            problems.append(f"{kind}: samples are no scenes of objects, and have none")
        elif (limits := _limits(value)) is None:
            problems.append(f"{kind}: found {value!r}, expected the least, or the least and the greatest")
        else:
            holds.limit(kind, *limits)
    if problems:
        raise SpecError(f"{dataset.path} has no such samples.", problems, code="sample-unknown")
    parts = dataset.sample_parts()
    found = [np.flatnonzero(holds.hold_for(made_of)) + rows.start for rows, made_of in parts]
    return np.intersect1d(named, np.concatenate([np.zeros(0, np.int64), *found]), assume_unique=True)


def _replicas(spec: DatasetSpec, sources: SourcesInfo, samples: int) -> int:
    """How many samples there are of a pair at most or, of scenes, of a background."""
    return -(-samples // len(sources.backgrounds)) if spec.is_scene else spec.placements


class _Conditions:
    """Conditions that samples fulfil; of scenes, those on objects hold for one and the same."""

    def __init__(self) -> None:
        self._chosen: dict[str, NDArray[np.bool_]] = {}
        self._limits: dict[str, tuple[float, float]] = {}

    def choose(self, kind: str, chosen: NDArray[np.bool_]) -> None:
        """Ask for those whose number of a kind is one of those chosen, each time that it is called."""
        self._chosen[kind] = chosen & self._chosen.get(kind, True)

    def limit(self, kind: str, least: float, greatest: float) -> None:
        """Ask for objects of which something is within limits, both included."""
        self._limits[kind] = least, greatest

    def hold_for(self, made_of: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
        """(n,) whether they hold for samples that are made of this."""
        samples = np.ones(len(next(iter(made_of.values()))), np.bool_)
        of_objects: list[NDArray[np.bool_]] = []
        for kind, chosen in self._chosen.items():
            values = made_of.get(f"{OBJECTS}/{kind}")
            if values is None:
                samples &= chosen[made_of[kind].astype(np.intp)]
            else:
                of_objects.append(chosen[values])
        for kind, (least, greatest) in self._limits.items():
            values = made_of[f"{OBJECTS}/{kind}"]
            of_objects.append((values >= least) & (values <= greatest))
        if of_objects:
            is_there = made_of[CATEGORIES] >= 0
            samples &= np.logical_and.reduce([is_there, *of_objects]).any(axis=1)
        return samples


def _limits(value: Any) -> tuple[float, float] | None:
    """The least and the greatest of a condition, which may name the least alone."""
    ends = value if isinstance(value, tuple | list) else (value, math.inf)
    if len(ends) != 2 or not all(isinstance(end, Real) and not isinstance(end, bool) for end in ends):
        return None
    return float(ends[0]), float(ends[1])


def _positions(kind: str, value: Any, names: Sequence[str | None], problems: list[str]) -> list[int]:
    """The positions in a list of what is named by position, by name or by truth values; unknown ones become
    problems.
    """
    or_name = " or its file name" if names and names[0] else ""
    expected = f"expected 0 to {len(names) - 1}{or_name}"
    if (mask := _mask(value)) is not None:
        if len(mask) == len(names):
            return np.flatnonzero(mask).tolist()
        problems.append(f"{kind}: found {len(mask)} truth values, expected {len(names)}, one for each")
        return []
    found: list[int] = []
    for one in _each(value):
        number = whole_number(one)
        named = _called(one, names) if isinstance(one, str) else []
        if named:
            found += named
        elif number is not None and 0 <= number < len(names):
            found.append(number)
        else:
            problems.append(f"{kind}: there is no {one!r}, {expected}")
    return found


def _each(value: Any) -> list[Any]:
    """What is named, of one or of several."""
    if isinstance(value, str) or whole_number(value) is not None or not isinstance(value, Iterable):
        return [value]
    return list(value)


def _mask(value: Any) -> NDArray[np.bool_] | None:
    """Truth values, if that is what several things are named by."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return None
    try:
        array = plain_array(value)
    except IndexError:  # among numbers: these are told as what they are
        return None
    return array if array.ndim == 1 and array.dtype == np.bool_ else None


def _called(name: str, names: Sequence[str | None]) -> list[int]:
    """The positions of what has a name: as it is, without its ending, or as a pattern."""
    whole = [i for i, known in enumerate(names) if known == name]
    stems = [i for i, known in enumerate(names) if known and PurePosixPath(known).stem == name]
    alike = [i for i, known in enumerate(names) if known and fnmatchcase(known, name)]
    return whole or stems or (alike if any(sign in name for sign in "*?[") else [])


def _named(dataset: Dataset, name: str | Sequence[str] | None) -> NDArray[np.int64]:
    """The imported samples of these names; all of them where none is given."""
    if name is None:
        return np.arange(len(dataset))
    names = dataset.names or [""]
    places = {one: [i] for i, one in enumerate(names)}
    chosen: set[int] = set()
    missing = []
    for one in [name] if isinstance(name, str) else list(name):
        found = places.get(one) or (_called(one, names) if isinstance(one, str) else [])
        chosen.update(found)
        if not found:
            missing.append(repr(one))
    if missing := sorted(set(missing)):
        lines = [f"name: there is no {one}, expected such as {names[0]!r}" for one in missing[:_SHOWN]]
        more = [f"... and {len(missing) - _SHOWN} more"] if len(missing) > _SHOWN else []
        raise SpecError(f"{dataset.path} has no such samples.", lines + more, code="sample-unknown")
    return np.array(sorted(chosen), np.int64)


def saved_split(dataset: Dataset, name: str) -> Split | ListedSplit:
    """A split that is saved in a dataset."""
    document = dataset.splits[name]
    if document["by"] == LIST:
        return ListedSplit.from_dict(document, len(dataset), dataset.path)
    return Split.from_dict(document)


def split(dataset: Dataset, recipe: Split | ListedSplit) -> dict[str, NDArray[np.int64]]:
    """The samples of each part, (n,) int64 in ascending order, as :meth:`Dataset.split` describes."""
    if isinstance(recipe, ListedSplit):
        return dict(recipe.parts)
    sources = dataset.document.sources
    if sources is None:
        if recipe.field is not None:
            return recipe.of_names(_values_of(dataset, recipe.field))
        if recipe.by != "sample":
            dataset.require_recipe(f"sources to split by ({recipe.by}): split it by='sample'")
        return recipe.of_names(dataset.names or [])
    if recipe.field is not None:
        raise SpecError(
            f"{dataset.path} was not imported, and its samples have no fields: split it by background, "
            "foreground or both.",
            code="split-invalid",
        )
    backgrounds, foregrounds = (
        [source.sha256 for source in kind] for kind in (sources.backgrounds, sources.foregrounds)
    )

    def made_of() -> Iterator[Mapping[str, NDArray[Any]]]:
        return (some for _, some in dataset.sample_parts())

    return recipe.samples(made_of, backgrounds, foregrounds)


def _values_of(dataset: Dataset, field: str) -> list[str]:
    """What a field of the pattern that pictures were imported by says of each sample."""
    imported = dataset.document.imported
    text = (imported.patterns.get("images") if imported else None) or ""
    pattern = Pattern(text)
    if field not in pattern.fields:
        known = ", ".join(pattern.fields) or "none"
        raise SpecError(
            f"The pictures of {dataset.path} were imported by {text!r}, which has no field {field!r}; it has "
            f"{known}.",
            code="split-invalid",
        )
    # Names are below the folder of the pattern, and without extension where that leaves them different.
    below = text.removeprefix(pattern.folder)
    stem = str(PurePosixPath(below).with_suffix(""))
    found = [_first_match(name, Pattern(below), Pattern(stem)) for name in dataset.names or ()]
    return [fields[field] for fields in found]


def _first_match(name: str, *patterns: Pattern) -> dict[str, str]:
    matches = (pattern.match(name) for pattern in patterns)
    found = next((fields for fields in matches if fields is not None), None)
    if found is None:
        raise DatasetError(
            f"The name {name!r} does not follow the pattern that the dataset says it was imported by.",
            code="document-damaged",
        )
    return found


def save_split(store: DatasetStore, document: Document, name: str, recipe: Split | ListedSplit) -> Document:
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
