"""What several datasets are together: one recipe, and where each of its samples is.

A sample depends on the seed and its two pictures, nothing else. So datasets that were made with the same
options of different pictures are parts of one dataset, if together they have every foreground on every
background: the dataset of all of their pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.placement import Plan
from fgbgpack.composition.recipe import Recipe
from fgbgpack.dataset.dataset import Dataset
from fgbgpack.errors import DatasetError, RecipeMismatchError
from fgbgpack.source_info import SourceInfo
from fgbgpack.sources.catalog import Catalog
from fgbgpack.sources.names import counted, normal
from fgbgpack.spec import DatasetSpec

_SHOWN = 5

#: A picture, by its digest and that of its mask, and which of several copies in its dataset it is.
_Key: TypeAlias = tuple[str, str | None, int]


@dataclass(frozen=True)
class _Pictures:
    """The backgrounds of all datasets, or the foregrounds, in the order in which ``create`` lists them."""

    sources: tuple[SourceInfo, ...]
    #: Of each dataset, where its pictures are among all of them.
    places: tuple[NDArray[np.int64], ...]

    @cached_property
    def inverses(self) -> tuple[NDArray[np.int64], ...]:
        """Of each dataset, where each of all pictures is in it, -1 for those that it does not have."""
        found = np.full((len(self.places), len(self.sources)), -1, np.int64)
        for inverse, places in zip(found, self.places, strict=True):
            inverse[places] = np.arange(len(places))
        return tuple(found)

    def homes(self) -> list[tuple[int, int]]:
        """The first dataset that has a picture, and its number there, for each picture."""
        found: dict[int, tuple[int, int]] = {}
        for number, places in enumerate(self.places):
            for local, place in enumerate(places.tolist()):
                found.setdefault(place, (number, local))
        return [found[place] for place in range(len(self.sources))]


@dataclass(frozen=True)
class Union:
    """Several complete datasets, as one: ``recipe`` is that of all of their pictures.

    ``notices`` are what is to be said of it. It can be pickled.
    """

    recipe: Recipe
    plan: Plan
    datasets: tuple[Dataset, ...]
    backgrounds: _Pictures
    foregrounds: _Pictures
    notices: tuple[str, ...]
    _owners: NDArray[np.int16]

    @classmethod
    def of(cls, datasets: Sequence[Dataset]) -> Union:
        """That of some datasets with recipes. Raises RecipeMismatchError where they were made with other
        options, and DatasetError where no recipe has just their samples.
        """
        _require_same_options(datasets)
        if any(dataset.has_objects for dataset in datasets):
            raise DatasetError(
                "Datasets of scenes cannot be merged: which objects their samples hold depends on all of "
                "their pictures.",
                code="merge-impossible",
            )
        notices: list[str] = []
        problems: list[str] = []
        kinds = {
            "backgrounds": [dataset.recipe.catalog.backgrounds for dataset in datasets],
            "foregrounds": [dataset.recipe.catalog.foregrounds for dataset in datasets],
        }
        names = [dataset.path for dataset in datasets]
        backgrounds, foregrounds = (
            _together(kind, sources, names, problems, notices) for kind, sources in kinds.items()
        )
        if problems:
            raise DatasetError(
                "These datasets cannot be merged: pictures of the same name, or their depth, differ.",
                problems,
                code="merge-names-clash",
            )
        owners = _owners(backgrounds, foregrounds)
        recipe = Recipe.of(_spec(datasets), _catalog(datasets, backgrounds, foregrounds))
        _require_product(backgrounds, foregrounds, owners)
        union = cls(
            recipe, cast(Plan, recipe.plan), tuple(datasets), backgrounds, foregrounds, tuple(notices), owners
        )
        union._require_same_samples()
        return union

    def located(self, samples: range) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
        """Of each of some samples, the number of the dataset that it is taken from, and its number there."""
        plan = self.plan
        index = np.asarray(samples, np.int64)
        pair, within = np.divmod(index, plan.samples_per_pair)
        background, foreground = np.divmod(pair, len(plan.foreground_words))
        owner = self._owners[background, foreground]
        local = np.empty_like(index)
        for number in np.unique(owner).tolist():
            ours = owner == number
            local_b = self.backgrounds.inverses[number][background[ours]]
            local_f = self.foregrounds.inverses[number][foreground[ours]]
            count = len(self.foregrounds.places[number])
            local[ours] = (local_b * count + local_f) * plan.samples_per_pair + within[ours]
        return owner, local

    def _require_same_samples(self) -> None:
        """See that the samples of each dataset are those of the union (DatasetError)."""
        plan, problems = self.plan, []
        for dataset, b, f in zip(
            self.datasets, self.backgrounds.places, self.foregrounds.places, strict=True
        ):
            own = dataset.recipe.plan
            words = (
                (own.background_words, plan.background_words, b),
                (own.foreground_words, plan.foreground_words, f),
            )
            if any(tuple(all_of_them[i] for i in places) != some for some, all_of_them, places in words):
                problems.append(f"{dataset.path}: copies of a picture have placements of their own")
            catalog, whole = dataset.recipe.catalog, self.recipe.catalog
            height, width = catalog.foreground.shape[1:3]
            same = np.array_equal(whole.background[b], catalog.background)
            same = same and np.array_equal(whole.foreground_size[f], catalog.foreground_size)
            if not (same and np.array_equal(whole.foreground[f][:, :height, :width], catalog.foreground)):
                problems.append(
                    f"{dataset.path}: resized pictures differ, perhaps because another version of Pillow "
                    "resized them"
                )
            elif not np.array_equal(whole.cut[f], catalog.cut):
                problems.append(
                    f"{dataset.path}: foregrounds are cut at other sides, as their sources.csv said otherwise"
                )
        if problems:
            raise DatasetError(
                "These datasets cannot be merged: what they have in common differs.",
                problems,
                code="merge-impossible",
            )


def _require_same_options(datasets: Sequence[Dataset]) -> None:
    """See that all were made with the same options (RecipeMismatchError), and of their own recipes
    (DatasetError).
    """
    first, *others = datasets
    spec, _ = first.require_recipe("recipe, which merging needs")
    options, lines = spec.recipe, []
    for other in others:
        theirs = other.require_recipe("recipe, which merging needs")[0].recipe
        lines += [
            f"{field}: {first.path} has {value}, {other.path} has {found}"
            for field, value in options.items()
            if (found := theirs[field]) != value
        ]
    if lines:
        raise RecipeMismatchError(
            "These datasets cannot be merged: they were made with other options.", lines, code="merge-differs"
        )
    for dataset in datasets:
        if dataset.recipe.info != dataset.document.recipe:
            raise DatasetError(
                f"The sources in {dataset.path} are damaged: they are not those of its recipe. Restore it "
                "from a copy, or make it again.",
                code="recipe-damaged",
            )


def _together(
    kind: str,
    sources: Sequence[Sequence[SourceInfo]],
    names: Sequence[str],
    problems: list[str],
    notices: list[str],
) -> _Pictures:
    """The pictures of all datasets, each once: the same picture is one, whatever it is called."""
    found: dict[_Key, SourceInfo] = {}
    owners: dict[str, tuple[_Key, str]] = {}
    keys = [_keys(some) for some in sources]
    renamed = []
    for own_keys, some, dataset in zip(keys, sources, names, strict=True):
        for key, source in zip(own_keys, some, strict=True):
            before = found.setdefault(key, source)
            if before.name != source.name:
                renamed.append(f"{source.name} in {dataset}, as {before.name}")
            elif not before.has_credit and source.has_credit:
                found[key] = before = replace(
                    before, license=source.license, author=source.author, url=source.url
                )
            if before.depth_sha256 != source.depth_sha256:
                problems.append(
                    f"{kind}: {source.name} has other depth in {dataset} (make that again, with it)"
                )
            if before.stated_category != source.stated_category:
                problems.append(
                    f"{kind}: {source.name} is of another category in {dataset} (make that again, with the "
                    "same in its sources.csv)"
                )
            other = owners.setdefault(before.name, (key, dataset))
            if other[0] != key:
                problems.append(
                    f"{kind}: {before.name} is one picture in {other[1]} and another in {dataset} (rename "
                    "one of them, and make that dataset again)"
                )
    if renamed:
        shown = "; ".join(renamed[:_SHOWN]) + ("; ..." if len(renamed) > _SHOWN else "")
        notices.append(f"The same {kind} by other names are taken once: {shown}.")
    ordered = sorted(found, key=lambda key: (normal(found[key].name), found[key].name))
    place = {key: number for number, key in enumerate(ordered)}
    places = tuple(np.array([place[key] for key in own_keys], np.int64) for own_keys in keys)
    return _Pictures(tuple(found[key] for key in ordered), places)


def _keys(sources: Sequence[SourceInfo]) -> list[_Key]:
    seen: Counter[tuple[str, str | None]] = Counter()
    keys = []
    for source in sources:
        identity = source.sha256, source.mask_sha256
        keys.append((*identity, seen[identity]))
        seen[identity] += 1
    return keys


def _owners(backgrounds: _Pictures, foregrounds: _Pictures) -> NDArray[np.int16]:
    """(B, F): the first dataset that has a foreground on a background, -1 where none has."""
    owners = np.full((len(backgrounds.sources), len(foregrounds.sources)), -1, np.int16)
    for number, (b, f) in enumerate(zip(backgrounds.places, foregrounds.places, strict=True)):
        grid = np.ix_(b, f)
        owners[grid] = np.where(owners[grid] < 0, number, owners[grid])
    return owners


def _require_product(backgrounds: _Pictures, foregrounds: _Pictures, owners: NDArray[np.int16]) -> None:
    lacking = np.argwhere(owners < 0)
    if not len(lacking):
        return
    lines = [
        f"{foregrounds.sources[f].name} on {backgrounds.sources[b].name}"
        for b, f in lacking[:_SHOWN].tolist()
    ]
    if len(lacking) > _SHOWN:
        lines.append(f"... {counted(len(lacking), 'pair')} in all")
    raise DatasetError(
        "These datasets cannot be merged: a dataset has every foreground on every background, and none of "
        "them has these pairs. Make a dataset of what is missing, and merge it too.",
        lines,
        code="merge-pairs-missing",
    )


def _spec(datasets: Sequence[Dataset]) -> DatasetSpec:
    spec, _ = datasets[0].require_recipe("recipe, which merging needs")
    return spec


def _catalog(datasets: Sequence[Dataset], backgrounds: _Pictures, foregrounds: _Pictures) -> Catalog:
    """The resized pictures of all datasets."""
    catalogs = [dataset.recipe.catalog for dataset in datasets]
    homes = foregrounds.homes()
    sizes = np.stack([catalogs[k].foreground_size[i] for k, i in homes])
    height, width = sizes.max(axis=0).tolist()
    patches = np.zeros((len(homes), height, width, 4), np.uint8)
    for place, (k, i) in enumerate(homes):
        h, w = sizes[place].tolist()
        patches[place, :h, :w] = catalogs[k].foreground[i, :h, :w]
    return Catalog(
        np.stack([catalogs[k].background[i] for k, i in backgrounds.homes()]),
        patches,
        sizes,
        np.array([catalogs[k].cut[i] for k, i in homes], np.uint8),
        backgrounds.sources,
        foregrounds.sources,
    )
