"""What the samples of a dataset are: the one owner of views, foregrounds, placements and the compositor."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.compositor import Compositor
from fgbgpack.composition.placement import Placements, Plan
from fgbgpack.document import RecipeInfo, SourceInfo
from fgbgpack.sources.catalog import Catalog
from fgbgpack.spec import DatasetSpec

_COUNTED = 4_000_000  # samples that are compared with each other

#: The numbers of samples in their dataset.
Samples: TypeAlias = range | NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Recipe:
    """Sample number to pixels: image and mask are a pure function of it. It may be shared and pickled.

    The folders of ``spec`` are where the original pictures are; ``catalog`` has the resized ones.
    """

    spec: DatasetSpec
    catalog: Catalog
    plan: Plan

    @classmethod
    def of(cls, spec: DatasetSpec, catalog: Catalog) -> Recipe:
        """The recipe of a spec with its resized pictures; SpecError if a dataset cannot hold all samples."""
        plan = Plan(
            height=spec.height,
            width=spec.width,
            background_words=_words(catalog.backgrounds, vary_copies=spec.vary_copies),
            foreground_words=_words(catalog.foregrounds, vary_copies=spec.vary_copies),
            foreground_sizes=tuple((int(h), int(w)) for h, w in catalog.foreground_size),
            placements=spec.placements,
            flip=spec.flip,
            seed=spec.seed,
        )
        return cls(spec, catalog, plan)

    def __len__(self) -> int:
        return self.plan.samples

    @property
    def has_copies(self) -> bool:
        """Whether two backgrounds, or two foregrounds with their masks, are the same file."""
        return any(len(set(sources)) < len(sources) for sources in self._identities)

    @property
    def _identities(self) -> tuple[list[tuple[int, str | None]], ...]:
        words = self.plan.background_words, self.plan.foreground_words
        sources = self.catalog.backgrounds, self.catalog.foregrounds
        return tuple(
            [(word, source.mask_sha256) for word, source in zip(*pair, strict=True)]
            for pair in zip(words, sources, strict=True)
        )

    def distinct_samples(self) -> int:
        """How many samples differ in their pictures or their placement; where there are many, as if none had
        the place of another one by chance.
        """
        pairs = [list(dict.fromkeys(identities)) for identities in self._identities]
        number = [
            np.array([distinct.index(one) for one in identities], np.int64)
            for distinct, identities in zip(pairs, self._identities, strict=True)
        ]
        found = len(pairs[0]) * len(pairs[1]) * self.plan.samples_per_pair
        if len(self) > _COUNTED:
            return found
        placed = self.placements(range(len(self)))
        key = number[0][placed.background] * len(pairs[1]) + number[1][placed.foreground]
        for value, most in ((placed.flip, 2), (placed.y, self.height), (placed.x, self.width)):
            key = key * most + value
        return len(np.unique(key))

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in ("spec", "catalog", "plan")}

    @property
    def height(self) -> int:
        """Height of every sample in pixels."""
        return self.spec.height

    @property
    def width(self) -> int:
        """Width of every sample in pixels."""
        return self.spec.width

    @cached_property
    def info(self) -> RecipeInfo:
        """What the document says of it: two datasets with the same digest have the same image and mask."""
        catalog = self.catalog
        return RecipeInfo(self.plan.recipe_digest(catalog.background, catalog.foreground), len(self))

    @cached_property
    def compositor(self) -> Compositor:
        """What composites placements of its pictures."""
        catalog = self.catalog
        return Compositor(catalog.background, catalog.foreground, catalog.foreground_size)

    def placements(self, samples: Samples) -> Placements:
        """The placements of n samples, computed."""
        return self.plan.placements_of(samples)

    def compose(
        self, samples: Samples, image: NDArray[np.uint8], mask: NDArray[np.uint8], *, top: int = 0
    ) -> None:
        """Fill ``image`` and ``mask`` with composites, as :meth:`Composites.compose` does."""
        self.compositor.compose(self.placements(samples), image, mask, top=top)

    def with_spec(self, spec: DatasetSpec) -> Recipe:
        """The same samples with other depth, or with other folders of the original pictures."""
        return replace(self, spec=spec)


def _words(sources: Sequence[SourceInfo], *, vary_copies: bool) -> tuple[int, ...]:
    """What placements identify each picture by; further copies of one have numbers of their own if asked."""
    seen: Counter[str] = Counter()
    words = []
    for source in sources:
        copy = seen[source.sha256]
        seen[source.sha256] += 1
        own = hashlib.sha256(f"{source.sha256} copy {copy}".encode()).digest()
        words.append(int.from_bytes(own[:4], "big") if copy and vary_copies else source.word)
    return tuple(words)
