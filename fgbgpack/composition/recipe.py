"""What the samples of a dataset are: the one owner of views, foregrounds, placements and the compositor."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.compositor import Composites, Compositor
from fgbgpack.composition.objects import Objects
from fgbgpack.composition.placement import Placements, Plan
from fgbgpack.composition.scenes import SceneCompositor, ScenePlacements, ScenePlan, Scenes
from fgbgpack.composition.sprites import Sprites, heights_between
from fgbgpack.composition.standing import Standing
from fgbgpack.composition.turning_kernels import TENTHS
from fgbgpack.document import IMAGE, INSTANCE, MASK, RecipeInfo
from fgbgpack.errors import SpecError
from fgbgpack.source_info import SourceInfo, SourcesInfo
from fgbgpack.sources.catalog import Catalog
from fgbgpack.spec import DatasetSpec

_COUNTED = 4_000_000  # samples that are compared with each other
#: What shares are counted in: of random words, of visible pixels, and of sides.
_WORDS, _SHARES, _PARTS = 1 << 32, 1 << 16, 1 << 8

#: The numbers of samples in their dataset.
Samples: TypeAlias = range | NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Recipe:
    """Sample number to pixels: image and mask are a pure function of it. It may be shared and pickled.

    The folders of ``spec`` are where the original pictures are; ``catalog`` has the resized ones.
    """

    spec: DatasetSpec
    catalog: Catalog
    plan: Plan | ScenePlan

    @classmethod
    def of(cls, spec: DatasetSpec, catalog: Catalog) -> Recipe:
        """The recipe of a spec with its resized pictures; SpecError if a dataset cannot hold all samples."""
        sources = SourcesInfo(catalog.backgrounds, catalog.foregrounds)
        if not spec.is_scene:
            return cls(spec, catalog, plan_of(spec, sources, catalog.foreground_size))
        scene = spec.scene
        plan = ScenePlan(
            **_common(spec, sources, catalog.foreground_size),
            cut=tuple(catalog.cut.tolist()),
            categories=sources.category_numbers,
            random_samples=scene.samples,
            objects=scene.object_range,
            empty=round(scene.empty * _WORDS),
            heights=heights_of(spec),
            placement=scene.placement,
            slack=round(scene.truncate * _PARTS),
            least_visible=round(scene.overlap * _SHARES),
            rotation=round(scene.rotation * TENTHS),
            blends=scene.blends,
            light_match=scene.light_match,
            shadow=scene.shadow,
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
        if isinstance(self.plan, ScenePlan):
            return len(pairs[0]) * len(self) // len(self.catalog.backgrounds)
        found = len(pairs[0]) * len(pairs[1]) * self.plan.samples_per_pair
        if len(self) > _COUNTED:
            return found
        placed = self.plan.placements_of(range(len(self)))
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
        """What the document says of it: two datasets with the same digest have the same image and mask,
        and the same layers.
        """
        catalog = self.catalog
        pictures = catalog.background, catalog.foreground
        if isinstance(self.plan, ScenePlan):
            return RecipeInfo(self.plan.recipe_digest(*pictures, *catalog.floors), len(self))
        return RecipeInfo(self.plan.recipe_digest(*pictures, catalog.cut), len(self))

    @cached_property
    def sprites(self) -> Sprites:
        """What the objects of scenes are pasted as."""
        catalog, scene = self.catalog, self._scene_plan
        return Sprites.of(catalog.foreground, catalog.foreground_size, scene.heights, scene.blends)

    @cached_property
    def standing(self) -> Standing:
        """Where whole figures can stand in the backgrounds, and what hides them there."""
        if not self.spec.scene.has_floor:
            return Standing.nowhere()
        if self.catalog.person_pixels is None:
            raise ValueError("scenes on floors need to know where in backgrounds figures can stand")
        if self.spec.occlude and self.catalog.front_row is None:
            raise ValueError("scenes with occlusion need to know what is in front in backgrounds")
        return Standing.of(self.catalog.person_pixels, self._scene_plan.heights, self.catalog.front_row)

    @cached_property
    def _compositor(self) -> Compositor | SceneCompositor:
        catalog = self.catalog
        if self.has_objects:
            return SceneCompositor(catalog.background, self.sprites, catalog.cut, self.standing)
        return Compositor(catalog.background, catalog.foreground, catalog.foreground_size)

    @property
    def has_objects(self) -> bool:
        """Whether samples are scenes, of objects; else each has one foreground, pasted whole."""
        return isinstance(self.plan, ScenePlan)

    @property
    def most_objects(self) -> int:
        """The most objects that a sample can have; SpecError (``objects-missing``) where there are none."""
        return self._scene_plan.most_objects

    @property
    def planes(self) -> tuple[str, ...]:
        """What samples are composed to: ``image`` and ``mask`` and, of scenes, ``instance``."""
        return (IMAGE, MASK, INSTANCE) if self.has_objects else (IMAGE, MASK)

    @property
    def _scene_plan(self) -> ScenePlan:
        if not isinstance(self.plan, ScenePlan):
            raise SpecError("Samples of this recipe have no objects.", code="objects-missing")
        return self.plan

    def check(self) -> None:
        """Raise SpecError where the sources do not fit each other."""
        _ = self._compositor

    def placements(self, samples: Samples) -> Placements | ScenePlacements:
        """The placements of n samples, computed."""
        return self.plan.placements_of(samples)

    def objects(self, samples: Samples) -> Objects:
        """The objects of n samples, computed; SpecError (``objects-missing``) where there are none."""
        return self._scene_plan.objects_of(samples, self.sprites, self.catalog.background, self.standing)

    def sample_arrays(self, samples: Samples) -> dict[str, NDArray[Any]]:
        """What n samples are made of, by the paths of the arrays in a dataset: placements, and objects."""
        placed = vars(self.placements(samples))
        return placed | self.objects(samples).arrays() if self.has_objects else placed

    def place(
        self,
        samples: Samples,
        placements: Placements | ScenePlacements | None = None,
        objects: Objects | None = None,
    ) -> Composites | Scenes:
        """The composites of some samples, by placements and objects that are stored, or else computed.

        Raises SpecError where these name something that is not there.
        """
        placed = self.placements(samples) if placements is None else placements
        compositor = self._compositor
        if isinstance(compositor, SceneCompositor) and isinstance(placed, ScenePlacements):
            return compositor.place(placed, self.objects(samples) if objects is None else objects)
        if isinstance(compositor, Compositor) and isinstance(placed, Placements):
            return compositor.place(placed)
        raise SpecError("These placements are not those of this recipe.", code="array-misfit")

    def compose_planned(
        self,
        placed: Placements | ScenePlacements,
        objects: Objects | None,
        planes: Mapping[str, NDArray[np.uint8]],
        *,
        top: int = 0,
    ) -> None:
        """Fill ``planes`` of samples, as :meth:`Composites.compose` does, by placements that this recipe has
        computed, which are believed, or by objects, which are checked (SpecError).
        """
        compositor = self._compositor
        if isinstance(compositor, Compositor) and isinstance(placed, Placements):
            compositor.compose_planned(placed, planes, top=top)
        elif (
            isinstance(compositor, SceneCompositor)
            and isinstance(placed, ScenePlacements)
            and objects is not None
        ):
            compositor.place(placed, objects).compose(slice(None), planes, top=top)
        else:
            raise SpecError("These placements are not those of this recipe.", code="array-misfit")

    def compose(
        self, samples: Samples, image: NDArray[np.uint8], mask: NDArray[np.uint8], *, top: int = 0
    ) -> None:
        """Fill ``image`` and ``mask`` with composites, as :meth:`Composites.compose` does."""
        self.place(samples).compose(slice(None), {IMAGE: image, MASK: mask}, top=top)

    def at_epoch(self, epoch: int, drawn: tuple[int, ...] | None = None) -> Recipe:
        """The recipe of an epoch: the same pictures, placed anew; that of epoch 0 is this one.

        Further objects of scenes are then drawn from the foregrounds that ``drawn`` lists; ``None``: from
        all. What the pictures alone decide is shared with this recipe.
        """
        plan = self.plan
        plan = plan.at_epoch(epoch, drawn) if isinstance(plan, ScenePlan) else plan.at_epoch(epoch)
        made = replace(self, spec=replace(self.spec, seed=plan.seed), plan=plan)
        made.__dict__["_compositor"] = self._compositor
        if self.has_objects:
            made.__dict__.update(sprites=self.sprites, standing=self.standing)
        return made

    def with_spec(self, spec: DatasetSpec) -> Recipe:
        """The same samples with other depth, or with other folders of the original pictures."""
        return replace(self, spec=spec)


def plan_of(spec: DatasetSpec, sources: SourcesInfo, foreground_size: NDArray[Any]) -> Plan:
    """The plan of samples that are no scenes: of all that is stored of the pictures it needs no more than the
    sizes of the foregrounds, (F, 2) in pixels.

    Raises SpecError if a dataset cannot hold all samples.
    """
    return Plan(**_common(spec, sources, foreground_size))


def _common(spec: DatasetSpec, sources: SourcesInfo, foreground_size: NDArray[Any]) -> dict[str, Any]:
    """The fields that all plans have."""
    return {
        "height": spec.height,
        "width": spec.width,
        "background_words": _words(sources.backgrounds, vary_copies=spec.vary_copies),
        "foreground_words": _words(sources.foregrounds, vary_copies=spec.vary_copies),
        "foreground_sizes": tuple((int(h), int(w)) for h, w in foreground_size),
        "placements": spec.placements,
        "flip": spec.flip,
        "seed": spec.seed,
    }


def heights_of(spec: DatasetSpec) -> tuple[int, ...]:
    """The heights in pixels that foregrounds are pasted at, ascending."""
    return heights_between(*spec.scene.height_range)


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
