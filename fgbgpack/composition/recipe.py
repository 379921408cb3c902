"""What the samples of a dataset are: the one owner of views, foregrounds, placements and the compositor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.compositor import Compositor
from fgbgpack.composition.placement import Placements, Plan
from fgbgpack.document import RecipeInfo
from fgbgpack.sources.catalog import Catalog
from fgbgpack.spec import DatasetSpec

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
            background_words=tuple(source.word for source in catalog.backgrounds),
            foreground_words=tuple(source.word for source in catalog.foregrounds),
            foreground_sizes=tuple((int(h), int(w)) for h, w in catalog.foreground_size),
            placements=spec.placements,
            flip=spec.flip,
            seed=spec.seed,
        )
        return cls(spec, catalog, plan)

    def __len__(self) -> int:
        return self.plan.samples

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
