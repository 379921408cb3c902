"""What an open dataset holds: its document, its arrays, and what samples are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.objects import Objects
from fgbgpack.composition.placement import Placements, Plan
from fgbgpack.composition.recipe import Recipe, plan_of
from fgbgpack.composition.scenes import ScenePlacements
from fgbgpack.dataset.composed import ComposedArray
from fgbgpack.dataset.composed_depth import ComposedDepth
from fgbgpack.dataset.mixing import ADJACENT
from fgbgpack.dataset.pixel_source import PixelSource, pixel_source
from fgbgpack.document import (
    BACKGROUND_DEPTH,
    DEPTH,
    DEPTH_MAX,
    DEPTH_MIN,
    FOREGROUND_SIZE,
    IMAGE,
    INSTANCE,
    MASK,
    NAME,
    OBJECT_ARRAYS,
    OF_BACKGROUND,
    PERSON_PIXELS,
    PLACEMENTS,
    SCENE_PLACEMENTS,
    SOURCE_ARRAYS,
    Document,
)
from fgbgpack.errors import DatasetError
from fgbgpack.source_info import SourcesInfo
from fgbgpack.sources.catalog import Catalog
from fgbgpack.sources.names import counted
from fgbgpack.spec import DatasetSpec
from fgbgpack.storage.layout import DEFAULT_POLICY, Extent, LayoutPolicy
from fgbgpack.storage.processes import is_far_away
from fgbgpack.storage.reading import ArrayReader, StoredArray
from fgbgpack.storage.store import DatasetStore

_BYTES_PER_PIXEL = 6  # of image, mask and depth together
#: The resized sources.
_CATALOG = (*SOURCE_ARRAYS, PERSON_PIXELS)


def catalog_paths(document: Document) -> tuple[str, ...]:
    """The paths of the arrays of the resized sources."""
    return tuple(path for path in document.recipe_arrays if path in _CATALOG)


def catalog_of(sources: SourcesInfo, arrays: Mapping[str, NDArray[Any]]) -> Catalog:
    """The resized sources, of their arrays by the paths of these."""
    background, foreground, size, cut = (arrays[path] for path in SOURCE_ARRAYS)
    pictures, person = (sources.backgrounds, sources.foregrounds), arrays.get(PERSON_PIXELS)
    return Catalog(background, foreground, size, cut, *pictures, person_pixels=person)


class DatasetArrays:
    """The arrays of an open dataset.

    ``pixels`` is ``"stored"`` where image, mask and instance are read, ``"recomposed"`` where they are
    composed of the sources and the placements, which gives the same bytes; asked for as ``"auto"``, stored
    where there are some. ``document`` is what the dataset says of itself, ``layout`` how image and mask are
    cut where they are not stored.
    """

    def __init__(
        self,
        store: DatasetStore,
        document: Document,
        pixels: PixelSource = "auto",
        layout: LayoutPolicy = DEFAULT_POLICY,
    ) -> None:
        self.store = store
        self.document = document
        self.pixels = pixel_source(pixels, document, store.name)
        self._layout_policy = layout
        # What is missing or damaged is found now, not when it is first read.
        composed = document.composed if self.pixels == "stored" else (*document.planes, *document.composed)
        forms = store.forms([path for path in (*document.planes, DEPTH) if path not in composed], copied=True)
        self._readers = {path: store.reader(path, form) for path, form in forms.items()}
        if self.reads_ahead and document.complete:
            self._ask_ahead()

    def _ask_ahead(self) -> None:
        """Begins to read what the first sample needs beside its pictures; nothing waits."""
        path = FOREGROUND_SIZE if self._places else next(iter(self._readers), None)
        if path is not None and (checks := self.store.checks(path)) is not None:
            checks.ahead()
        if self._places:
            self._sizes.ahead(FOREGROUND_SIZE, range(self._sizes.layout.shape[0]))

    # --- what it is --------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.document.samples

    def __repr__(self) -> str:
        state = "" if self.complete else ", incomplete"
        depth = " with depth" if self.has_depth else ""
        size = f"{self.width}x{self.height}"
        return f"<fgbgpack.Dataset {self.path!r}: {counted(len(self), 'sample')} of {size}{depth}{state}>"

    @property
    def path(self) -> str:
        """Where the dataset is, as it was given."""
        return self.store.name

    @property
    def complete(self) -> bool:
        """Whether all that the spec asks for is there."""
        return self.document.complete

    @property
    def has_recipe(self) -> bool:
        """Whether it was made of sources and placements; else it was imported from pictures."""
        return self.document.has_recipe

    @property
    def has_depth(self) -> bool:
        """Whether depth is filled, at least in part."""
        return self.document.depth is not None

    @property
    def height(self) -> int:
        """Height of every sample in pixels."""
        return self.document.height

    @property
    def width(self) -> int:
        """Width of every sample in pixels."""
        return self.document.width

    @property
    def reads_ahead(self) -> bool:
        """Whether it is in a store of which chunks can be asked for before they are needed."""
        return is_far_away(self.store.store)

    @property
    def adjacent(self) -> int:
        """How many chunks that follow one another should be read soon after one another."""
        return ADJACENT if self.reads_ahead else 1

    @property
    def sample_bytes(self) -> int:
        """Bytes of image, mask and depth of a sample in memory."""
        return self.height * self.width * _BYTES_PER_PIXEL

    @property
    def fields(self) -> tuple[str, ...]:
        """Which of ``"image"``, ``"mask"``, ``"instance"`` and ``"depth"`` can be read."""
        return (*self.document.planes, *((DEPTH,) if self.has_depth else ()))

    @property
    def background_fields(self) -> tuple[str, ...]:
        """Which of ``"background_image"`` and ``"background_depth"`` can be read as well."""
        return OF_BACKGROUND[: self.has_recipe + bool(self.document.depth_sources)]

    @property
    def has_objects(self) -> bool:
        """Whether samples are scenes of objects; else each has one foreground, pasted whole."""
        return self.document.has_objects

    # --- its arrays --------------------------------------------------------------------------------

    @property
    def image(self) -> StoredArray:
        """Array (n, h, w, 3) uint8, RGB; it is indexed as NumPy's are, and reads what an index touches."""
        return self.plane(IMAGE)

    @property
    def mask(self) -> StoredArray:
        """Array (n, h, w) uint8, alpha of the pasted foreground, or of all objects together, 0..255."""
        return self.plane(MASK)

    @property
    def instance(self) -> StoredArray:
        """Array (n, h, w) uint8, 0 or 1 + the number of the object on top, where its alpha is above 127.

        Raises:
            DatasetError: Samples are no scenes of objects.
        """
        self.require_objects("instances")
        return self.plane(INSTANCE)

    def plane(self, name: str) -> StoredArray:
        """One of ``document.planes``, stored or composed."""
        return StoredArray(self._readers[name] if self.pixels == "stored" else self._composed[name])

    @property
    def depth(self) -> StoredArray:
        """Array (n, h, w) float16, NaN where it is not filled; its ``attrs`` tell quantity and unit."""
        return StoredArray(self._readers[DEPTH] if self._layers is None else self._layers)

    @cached_property
    def _layers(self) -> ComposedDepth | None:
        """Depth in layers, composed when it is read, where image and mask are."""
        if self.pixels == "stored" or not self.document.is_layered:
            return None
        layout = self._layout_policy.depth(self._extent, guided=True)
        return ComposedDepth.of(self.store, self.document, self.recipe, layout)

    @property
    def _made(self) -> set[str]:
        """The fields that are composed when they are read."""
        planes = () if self.pixels == "stored" else self.document.planes
        return {*planes, *(() if self._layers is None else (DEPTH,))}

    def composes(self, fields: Sequence[str]) -> bool:
        """Whether all of these fields are made when they are read, and nothing is decoded."""
        return self.pixels == "recomposed" and not {*fields} - self._made

    @cached_property
    def depth_min(self) -> NDArray[Any] | None:
        """(n,) the least depth of each sample, in the quantity and unit of ``depth``; NaN where it is not
        filled, ``None`` where there is no depth.
        """
        return self.store.read(DEPTH_MIN)[0] if self.has_depth else None

    @cached_property
    def depth_max(self) -> NDArray[Any] | None:
        """(n,) the greatest depth of each sample, as ``depth_min``."""
        return self.store.read(DEPTH_MAX)[0] if self.has_depth else None

    @property
    def _extent(self) -> Extent:
        return Extent(len(self), self.height, self.width, self.recipe.plan.samples_per_background)

    @cached_property
    def _composed(self) -> dict[str, ComposedArray]:
        """The planes, composed when they are read."""
        image, mask = self._layout_policy.pixels(self._extent, self.document.chunk)
        stored: Any = self._scenes if self.has_objects else (self.placements,)
        composites = self.recipe.place(range(len(self)), *stored)
        return {
            plane: ComposedArray(composites, image if plane == IMAGE else mask, plane)
            for plane in self.document.planes
        }

    @cached_property
    def background_depth(self) -> StoredArray | None:
        """Array (B, h, w) float32: the depth of empty backgrounds, ``None`` where ``depth`` is per sample.

        It is in the quantity and unit of ``depth``, and NaN where it is not filled yet.
        """
        is_there = BACKGROUND_DEPTH in self.document.depth_sources
        return StoredArray(self.store.reader(BACKGROUND_DEPTH)) if is_there else None

    @cached_property
    def placements(self) -> Placements:
        """The placements of all samples.

        Raises:
            DatasetError: The dataset was imported, and has none, or samples are scenes, which have
                ``objects``.
        """
        self.require_recipe("placements")
        if self.has_objects:
            raise DatasetError(
                f"The samples of {self.path} are scenes, with several objects perhaps: see its objects.",
                code="placements-missing",
            )
        return Placements(*self.store.read(*PLACEMENTS))

    @cached_property
    def objects(self) -> Objects:
        """The objects of all samples, far to near.

        Raises:
            DatasetError: Samples are no scenes of objects.

        Example:
            >>> ds.objects.foreground[5], ds.objects.visible[5]  # doctest: +SKIP
            (array([12, 40, -1], dtype=int32), array([0.83, 1.0, -1.0], dtype=float32))
        """
        self.require_objects("objects")
        return self._scenes[1]

    @cached_property
    def _scenes(self) -> tuple[ScenePlacements, Objects]:
        found = dict(zip(self.placed, self.store.read(*self.placed), strict=True))
        return ScenePlacements(*(found[name] for name in SCENE_PLACEMENTS)), Objects.of(found)

    @cached_property
    def sample_arrays(self) -> dict[str, NDArray[Any]]:
        """What all samples are made of, by the paths of the arrays: placements, and objects of scenes;
        nothing where they were imported.
        """
        if self.has_objects:
            placed, objects = self._scenes
            return vars(placed) | objects.arrays()
        return dict(vars(self.placements)) if self.has_recipe else {}

    @property
    def _places(self) -> bool:
        """Whether placements of samples that are read are computed: in a store far away all of them are more
        than the few numbers that they are a function of. Scenes depend on their pictures, and an incomplete
        dataset has no manifest that these numbers could be compared with.
        """
        return self.reads_ahead and self.has_recipe and not self.has_objects and self.complete

    @cached_property
    def _sizes(self) -> ArrayReader:
        """The sizes of the foregrounds."""
        return self.store.reader(FOREGROUND_SIZE)

    @cached_property
    def _plan(self) -> Plan:
        """What placements are a function of."""
        spec, sources = self.require_recipe("placements")
        return plan_of(spec, sources, self._sizes.read(range(self._sizes.layout.shape[0])))

    def fill_sample_arrays(self, samples: NDArray[np.int64], out: Mapping[str, NDArray[Any]]) -> None:
        """Fill ``out`` with what some samples are made of, by the paths of the arrays as ``sample_arrays``:
        (n, ...) of the types of these. Where it is computed, it is so of these samples alone.
        """
        if self._places:
            for name, values in vars(self._plan.placements_of(samples)).items():
                out[name][...] = values
            return
        for name in self.placed:
            self.sample_arrays[name].take(samples, axis=0, out=out[name], mode="clip")

    def prepare_samples(self) -> None:
        """Read what says what samples are made of, once for all processes that are forked from then on."""
        if self.has_recipe:
            _ = self._plan if self._places else self.sample_arrays

    def require_objects(self, what: str) -> None:
        """DatasetError (``objects-missing``) where samples are no scenes of objects, and so lack ``what``."""
        if not self.has_objects:
            raise DatasetError(
                f"The samples of {self.path} are no scenes: each has one foreground, and no {what}. "
                "fgbgpack create --preset scenes makes some.",
                code="objects-missing",
            )

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories of the foregrounds, by the numbers that objects have; one without a name where the
        foregrounds are in no subfolders, none where samples were imported.
        """
        return () if self.document.sources is None else self.document.sources.categories

    @cached_property
    def names(self) -> list[str] | None:
        """The path of each imported sample's picture below the folder of all pictures, without the ending.

        ``None`` for samples that were made of a recipe.

        Example:
            >>> fgbgpack.open_dataset("imported.zarr").names[:2]  # doctest: +SKIP
            ['bg1/fg1/000', 'bg1/fg1/001']
        """
        if self.has_recipe:
            return None
        (stored,) = self.store.read(NAME)
        return [name.decode() for name in stored.view(f"S{stored.shape[1]}")[:, 0].tolist()]

    @property
    def placed(self) -> tuple[str, ...]:
        """The names of the arrays that batches have of what samples are made of."""
        return (*self.document.placements, *(OBJECT_ARRAYS if self.has_objects else ()))

    def require_recipe(self, what: str) -> tuple[DatasetSpec, SourcesInfo]:
        """The spec and the pictures; DatasetError if the dataset was imported, and so lacks ``what``."""
        document = self.document
        if document.spec is None or document.sources is None:
            raise DatasetError(
                f"{self.path} was imported from pictures: it has no {what}. Only datasets that fgbgpack "
                "create made have.",
                code="recipe-missing",
            )
        return document.spec, document.sources

    def whole(self, name: str) -> NDArray[Any]:
        """The whole of an array, by its path: meant for the small ones."""
        return np.asarray(getattr(self, name)[:]) if name in self.fields else self.store.read(name)[0]

    def catalog(self) -> Catalog:
        """The resized sources that the samples were made of, with their names and digests."""
        _, sources = self.require_recipe("sources")
        paths = catalog_paths(self.document)
        return catalog_of(sources, dict(zip(paths, self.store.read(*paths), strict=True)))

    @cached_property
    def recipe(self) -> Recipe:
        """What the samples are a function of; DatasetError if the dataset was imported."""
        spec, _ = self.require_recipe("recipe")
        return Recipe.of(spec, self.catalog())
