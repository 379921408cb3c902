"""Samples made of the recipe when they are read: what they are made of, pixels, and layered depth."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.objects import Objects
from fgbgpack.composition.placement import Placements, Plan
from fgbgpack.composition.recipe import Recipe
from fgbgpack.composition.scenes import ScenePlacements
from fgbgpack.dataset.blocks import in_blocks, scratch
from fgbgpack.dataset.sample_table import SampleTable
from fgbgpack.depth.card import Quantity
from fgbgpack.depth.strategies import Layered
from fgbgpack.document import DEPTH, DEPTH_SOURCES, IMAGE, MASK, PLACEMENTS, Document, NetworkDepthInfo
from fgbgpack.storage.store import DatasetStore

Array: TypeAlias = NDArray[Any]
Numbers: TypeAlias = NDArray[np.int64]


class Composer:
    """Makes samples of the recipe of a dataset: the same bytes as one that stores its pixels holds.

    It may be used from several threads, and forked. ``table`` has the objects of scenes; with ``None`` they
    are drawn anew, which gives the same.
    """

    def __init__(
        self, store: DatasetStore, document: Document, recipe: Recipe, table: SampleTable | None
    ) -> None:
        self.recipe = recipe
        self._store, self._document, self._table = store, document, table
        pixels = document.height * document.width
        #: Bytes of a sample in each of the arrays that are made.
        self._bytes = {plane: pixels * (3 if plane == IMAGE else 1) for plane in document.planes}
        self._bytes[DEPTH] = 2 * pixels

    @cached_property
    def layers(self) -> tuple[Layered, float] | None:
        """What gives layered depth, and its grid; ``None`` until all is there that it is made of."""
        depth = self._document.depth
        if not isinstance(depth, NetworkDepthInfo) or depth.step is None or not depth.complete:
            return None
        return layered_source(self._store, self.recipe, depth), depth.step

    def with_recipe(self, recipe: Recipe) -> Composer:
        """What makes samples of another recipe of the same pictures, whose objects are drawn anew."""
        other = Composer(self._store, self._document, recipe, None)
        if self._document.is_layered:
            layers = self.layers
            other.__dict__["layers"] = layers and (layers[0].with_recipe(recipe), layers[1])
        return other

    def prepare(self) -> None:
        """Read all that samples are made of, once for all processes that are forked from then on."""
        self.recipe.check()
        if self._table is not None:
            self._table.prepare()
        if self._document.is_layered:
            _ = self.layers

    def made_of(
        self, samples: Numbers, out: Mapping[str, Array]
    ) -> tuple[Placements | ScenePlacements, Objects | None]:
        """The placements of n samples, and objects where these are scenes; filled into ``out`` where it has
        the arrays, by their paths in a dataset.
        """
        plan = self.recipe.plan
        if isinstance(plan, Plan):
            has_all = "background" in out
            placed = (
                Placements(*(out[name] for name in PLACEMENTS)) if has_all else Placements.empty(len(samples))
            )
            plan.fill_placements(samples, placed)
            return placed, None
        scenes = plan.placements_of(samples)
        if self._table is None:
            objects = self.recipe.objects(samples)
        else:
            objects = Objects.of(self._table.of(samples, out))
        for name, array in (vars(scenes) | objects.arrays()).items():
            if name in out and out[name] is not array:
                out[name][...] = array
        return scenes, objects

    def fill(self, samples: Numbers, out: Mapping[str, Array], threads: int | None = None) -> None:
        """Fill ``out`` with n samples: planes, ``depth`` where it is layered, and what they are made of.

        ``samples`` are from 0 to below the number of samples, arrays C-contiguous and of the shapes and types
        of :func:`fgbgpack.dataset.batch.shapes`: nothing is checked. ``threads`` of ``None`` chooses.
        """

        def work(block: slice) -> None:
            is_all = block.stop - block.start == len(samples)
            some = out if is_all else {name: array[block] for name, array in out.items()}
            self._fill(samples[block], some)

        in_blocks(work, len(samples), sum(self._bytes.get(name, 0) for name in out), threads)

    def _fill(self, samples: Numbers, out: Mapping[str, Array]) -> None:
        placed, objects = self.made_of(samples, out)
        if planes := {name: out[name] for name in self._document.planes if name in out}:
            self._fill_planes(placed, objects, planes)
        if DEPTH in out:
            self._fill_depth(placed, objects, out[DEPTH])

    def _fill_planes(
        self,
        placed: Placements | ScenePlacements,
        objects: Objects | None,
        planes: dict[str, NDArray[np.uint8]],
        top: int = 0,
    ) -> None:
        if MASK not in planes and IMAGE in planes:
            planes[MASK] = scratch.of("mask", planes[IMAGE].shape[:3])
        self.recipe.compose_planned(placed, objects, planes, top=top)

    def _fill_depth(
        self, placed: Placements | ScenePlacements, objects: Objects | None, out: NDArray[np.float16]
    ) -> None:
        if self.layers is None:
            out[...] = np.nan
        else:
            layered, step = self.layers
            layered.fill(placed, objects, out, step=step)

    def fill_band(self, samples: Numbers, plane: str, out: NDArray[np.uint8], top: int) -> None:
        """Fill ``out`` with the rows from ``top`` on of a plane of n samples; nothing is checked, as in
        :meth:`fill`.
        """
        self._fill_planes(*self.made_of(samples, {}), {plane: out}, top)


def layered_source(store: DatasetStore, recipe: Recipe, depth: NetworkDepthInfo) -> Layered:
    """What gives layered depth, from the arrays of a dataset; DatasetError where they are damaged."""
    background, figures = store.read(*DEPTH_SOURCES[depth.mode])
    return Layered(recipe, background, figures, Quantity(depth.quantity, depth.unit))
