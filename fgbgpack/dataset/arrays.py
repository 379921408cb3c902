"""What an open dataset holds: its document, its arrays, and what samples are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.objects import Objects
from fgbgpack.composition.placement import Placements, Plan
from fgbgpack.composition.recipe import Recipe, plan_of
from fgbgpack.dataset.batch import shapes
from fgbgpack.dataset.composed import ComposedArray, layered_attributes
from fgbgpack.dataset.composer import Composer
from fgbgpack.dataset.mixing import ADJACENT
from fgbgpack.dataset.pixel_source import PixelSource, is_drawn, is_worth_composing, pixel_source
from fgbgpack.dataset.sample_table import SampleTable
from fgbgpack.dataset.texts import stored_credits, stored_texts
from fgbgpack.document import (
    BACKGROUND_DEPTH,
    DEPTH,
    DEPTH_MAX,
    DEPTH_MIN,
    FOREGROUND_SIZE,
    FRONT_ROW,
    IMAGE,
    INSTANCE,
    MASK,
    NAME,
    OF_BACKGROUND,
    PERSON_PIXELS,
    PLACEMENTS,
    SOURCE_ARRAYS,
    Document,
)
from fgbgpack.errors import DatasetError
from fgbgpack.source_info import PictureCredit, SourcesInfo
from fgbgpack.sources.catalog import Catalog
from fgbgpack.sources.names import counted
from fgbgpack.spec import DatasetSpec
from fgbgpack.storage.layout import DEFAULT_POLICY, Extent, Layout, LayoutPolicy
from fgbgpack.storage.processes import is_far_away
from fgbgpack.storage.reading import ArrayReader, StoredArray
from fgbgpack.storage.store import DatasetStore

_BYTES_PER_PIXEL = 6  # of image, mask and depth together
#: Samples whose placements are computed at a time, where all are looked at.
_PLACED_AT_ONCE = 1 << 20
#: The resized sources.
_CATALOG = (*SOURCE_ARRAYS, PERSON_PIXELS, FRONT_ROW)


def catalog_paths(document: Document) -> tuple[str, ...]:
    """The paths of the arrays of the resized sources."""
    return tuple(path for path in document.recipe_arrays if path in _CATALOG)


def catalog_of(sources: SourcesInfo, arrays: Mapping[str, NDArray[Any]]) -> Catalog:
    """The resized sources, of their arrays by the paths of these."""
    background, foreground, size, cut = (arrays[path] for path in SOURCE_ARRAYS)
    pictures = sources.backgrounds, sources.foregrounds
    person, front = arrays.get(PERSON_PIXELS), arrays.get(FRONT_ROW)
    return Catalog(background, foreground, size, cut, *pictures, person_pixels=person, front_row=front)


class DatasetArrays:
    """The arrays of an open dataset.

    ``pixels`` is ``"stored"`` where image, mask and instance are read, ``"recomposed"`` where they are
    composed of the sources and the placements, which gives the same bytes; asked for as ``"auto"``, what is
    cheaper. ``document`` is what the dataset says of itself, ``layout`` how image and mask are cut where they
    are not stored. Nothing is read now that has as many elements as there are samples.
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
        source = pixel_source(pixels, document, store.name)
        # What is missing or damaged is found now, not when it is first read.
        composed = (*document.planes, *document.composed) if source == "recomposed" else document.composed
        forms = store.forms([path for path in (*document.planes, DEPTH) if path not in composed], copied=True)
        self._readers = {path: store.reader(path, form) for path, form in forms.items()}
        if source is None:
            is_cheaper = is_worth_composing(store, document, catalog_paths(document), far=self.reads_ahead)
            source = "recomposed" if is_cheaper else "stored"
        self.pixels = source
        self._draws_all = False
        self._layout_policy = layout
        if self.reads_ahead and document.complete:
            self._ask_ahead()

    def _ask_ahead(self) -> None:
        """Begins to read what the first sample needs beside its pictures; nothing waits."""
        needed = [] if self.has_objects or not self.has_recipe else [FOREGROUND_SIZE]
        if self.pixels == "recomposed":
            needed = [
                *catalog_paths(self.document),
                *(self.document.depth_sources if self._is_layered else ()),
            ]
        path = next(iter([*needed, *self._readers]), None)
        if path is not None and (checks := self.store.checks(path)) is not None:
            checks.ahead()
        for path in needed:
            reader = self._source_readers[path]
            reader.ahead(path, range(reader.layout.shape[0]))

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
        """Whether samples have objects that are told apart: scenes, and imported ones with instances. Else
        each has one foreground, pasted whole, or a mask.
        """
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
        if self.pixels == "stored":
            return StoredArray(self._readers[name])
        image, mask = self._pixel_layouts
        return StoredArray(ComposedArray(self._get_composer, image if name == IMAGE else mask, name))

    @property
    def depth(self) -> StoredArray:
        """Array (n, h, w) float16, NaN where it is not filled; its ``attrs`` tell quantity and unit."""
        if not self._is_layered:
            return StoredArray(self._readers[DEPTH])
        layout = self._layout_policy.depth(self._extent, guided=True)
        return StoredArray(ComposedArray(self._get_composer, layout, DEPTH, self._get_depth_attributes))

    @cached_property
    def _is_layered(self) -> bool:
        """Whether depth is composed when it is read."""
        return self.pixels == "recomposed" and self.document.is_layered

    @cached_property
    def _depth_attributes(self) -> Mapping[str, Any]:
        if DEPTH in self._readers:
            return self._readers[DEPTH].attributes
        return layered_attributes(self.store, self.document)

    def _get_depth_attributes(self) -> Mapping[str, Any]:
        return self._depth_attributes

    @cached_property
    def made(self) -> tuple[str, ...]:
        """The fields that are composed when they are read."""
        planes = () if self.pixels == "stored" else self.document.planes
        return (*planes, *((DEPTH,) if self._is_layered else ()))

    def composes(self, fields: Sequence[str]) -> bool:
        """Whether all of these fields are made when they are read, and nothing is decoded."""
        return not {*fields} - {*self.made}

    @cached_property
    def composer(self) -> Composer:
        """What makes samples of the recipe.

        Raises:
            DatasetError: The sources are missing or damaged, or not those of the document's recipe.
        """
        try:
            draws = self._draws_all or is_drawn(self.document, self._table, far=self.reads_ahead)
            table = self._table if self.has_objects and not draws else None
            return Composer(self.store, self.document, self.recipe, table)
        except DatasetError as exc:
            if self.document.is_virtual:
                raise
            advice = " Pixels that are stored can be read with pixels='stored'."
            raise DatasetError(exc.message + advice, exc.problems, code=exc.code) from exc

    def _get_composer(self) -> Composer:
        # Arrays refer to the dataset by this, which holds none of them: no cycle keeps its files open.
        return self.composer

    @cached_property
    def _forms(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """The shape of a sample in each array of a batch, and its type."""
        return {name: (shape[1:], dtype) for name, (shape, dtype) in shapes(1, self.document).items()}

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
    def _pixel_layouts(self) -> tuple[Layout, Layout]:
        """How image and mask would be cut, were they stored; as they are, where they are."""
        if IMAGE in self._readers:
            return self._readers[IMAGE].layout, self._readers[MASK].layout
        return self._layout_policy.pixels(self._extent, self.document.chunk)

    @cached_property
    def background_depth(self) -> StoredArray | None:
        """Array (B, h, w) float32: the depth of empty backgrounds, ``None`` where ``depth`` is per sample.

        It is in the quantity and unit of ``depth``, and NaN where it is not filled yet.
        """
        is_there = BACKGROUND_DEPTH in self.document.depth_sources
        return StoredArray(self.store.reader(BACKGROUND_DEPTH)) if is_there else None

    @cached_property
    def placements(self) -> Placements:
        """The placements of all samples, which take 21 bytes of memory each: of 100 million 2.1 GB. Batches
        have those of their samples.

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
        return Placements(*(self.sample_arrays[name] for name in PLACEMENTS))

    @cached_property
    def objects(self) -> Objects:
        """The objects of all samples, far to near, which take 36 bytes of memory each, and as many where a
        sample has fewer than another one. Batches have those of their samples.

        Raises:
            DatasetError: Samples are no scenes of objects.

        Example:
            >>> ds.objects.foreground[5], ds.objects.visible[5]  # doctest: +SKIP
            (array([12, 40, -1], dtype=int32), array([0.83, 1.0, -1.0], dtype=float32))
        """
        self.require_objects("objects")
        return Objects.of(self.sample_arrays)

    @cached_property
    def sample_arrays(self) -> dict[str, NDArray[Any]]:
        """What all samples are made of, as it is stored, by the paths of the arrays: placements, and objects
        of scenes; nothing where they were imported.
        """
        return dict(zip(self.placed, self.store.read(*self.placed), strict=True))

    def sample_parts(self) -> Iterator[tuple[slice, Mapping[str, NDArray[Any]]]]:
        """What samples are made of, part by part, as ``sample_arrays``, with the samples of each part: memory
        holds a few parts, not all.
        """
        if self._plan is None:
            yield from self._table.parts() if self.placed else ()
            return
        for start in range(0, len(self), _PLACED_AT_ONCE):
            rows = slice(start, min(start + _PLACED_AT_ONCE, len(self)))
            yield rows, vars(self._plan.placements_of(range(rows.start, rows.stop)))

    @cached_property
    def _table(self) -> SampleTable:
        """What samples are made of, as it is stored, read by parts."""
        return SampleTable(self.store, self.placed)

    @cached_property
    def _source_readers(self) -> dict[str, ArrayReader]:
        """The readers of what samples are made of beside placements."""
        paths = (*catalog_paths(self.document), *self.document.depth_sources)
        forms = self.store.forms(paths, copied=True)
        return {path: self.store.reader(path, form) for path, form in forms.items()}

    @cached_property
    def _plan(self) -> Plan | None:
        """What placements are a function of, if they are computed: ``None`` for scenes, whose objects depend
        on their pictures too, where an incomplete dataset has no manifest that tells what is sound, and where
        something else has changed what is stored.
        """
        if not self.has_recipe or self.has_objects or not self.complete or self.document.pixels.edited:
            return None
        spec, sources = self.require_recipe("placements")
        sizes = self._source_readers[FOREGROUND_SIZE]
        return plan_of(spec, sources, sizes.read(range(sizes.layout.shape[0])))

    def fill_sample_arrays(self, samples: NDArray[np.int64], out: Mapping[str, NDArray[Any]]) -> None:
        """Fill ``out`` with what some samples are made of, by the paths of the arrays as ``sample_arrays``:
        (n, ...) of the types of these. It is computed, or read, of these samples alone.
        """
        if self._plan is not None:
            self._plan.fill_placements(samples, Placements(*(out[name] for name in PLACEMENTS)))
        elif self._draws_all:
            self.composer.made_of(samples, out)
        elif self.placed:
            self._table.of(samples, out)

    def draw_objects(self) -> None:
        """Draw the objects of scenes that are composed whenever samples are read, and keep none of them in
        memory: for few samples at a time, from anywhere. To be called before any is read.
        """
        self._draws_all = self.has_objects and self.pixels == "recomposed"

    def prepare_samples(self) -> None:
        """Read what says what samples are made of, once for all processes that are forked from then on."""
        if self.pixels == "recomposed":
            self.composer.prepare()
        elif self._plan is None and self.placed:
            self._table.prepare()

    def require_objects(self, what: str) -> None:
        """DatasetError (``objects-missing``) where samples have no objects, and so lack ``what``."""
        if not self.has_objects:
            advice = "each has one foreground" if self.has_recipe else "each was imported with a mask at most"
            make = "fgbgpack create --preset scenes" if self.has_recipe else "fgbgpack import --from"
            raise DatasetError(
                f"The samples of {self.path} are no scenes: {advice}, and no {what}. {make} makes some.",
                code="objects-missing",
            )

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories of the foregrounds, by the numbers that objects have; one without a name is that of
        foregrounds of which nothing says what they are. Of imported samples those of the objects, none where
        these are not told apart.
        """
        return self.document.categories

    def require_depth(self) -> None:
        """DatasetError where there is no depth."""
        if not self.has_depth:
            raise DatasetError(
                f"{self.path} has no depth: fill it with fgbgpack depth {self.path}, or name other fields.",
                code="depth-missing",
            )

    @cached_property
    def names(self) -> list[str] | None:
        """The path of each imported sample's picture below the folder of all pictures, without the ending.

        ``None`` for samples that were made of a recipe.

        Example:
            >>> fgbgpack.open_dataset("imported.zarr").names[:2]  # doctest: +SKIP
            ['bg1/fg1/000', 'bg1/fg1/001']
        """
        return None if self.has_recipe else stored_texts(self.store, NAME)

    @cached_property
    def credits(self) -> list[PictureCredit] | None:
        """Licence, author and address of each imported sample's picture; ``None`` for a recipe's samples.

        Example:
            >>> fgbgpack.open_dataset("imported.zarr").credits[0].license  # doctest: +SKIP
            'CC-BY-4.0'
        """
        return None if self.has_recipe else stored_credits(self.store, self.document)

    @cached_property
    def placed(self) -> tuple[str, ...]:
        """The names of the arrays that batches have of what samples are made of."""
        return (*self.document.placements, *self.document.object_arrays)

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
        readers = {path: self._source_readers[path] for path in catalog_paths(self.document)}
        for path, reader in readers.items():
            reader.ahead(path, range(reader.layout.shape[0]))
        arrays = {path: reader.read(range(reader.layout.shape[0])) for path, reader in readers.items()}
        return catalog_of(sources, arrays)

    @cached_property
    def recipe(self) -> Recipe:
        """What the samples are a function of.

        Raises:
            DatasetError: The dataset was imported, or the sources are not those that its document names
                (``recipe-damaged``).
        """
        spec, _ = self.require_recipe("recipe")
        recipe = Recipe.of(spec, self.catalog())
        if recipe.info != self.document.recipe:
            raise DatasetError(
                f"The sources of {self.path} are not those of its recipe: their digest is another one. "
                "Restore the dataset from a copy, or mend it with fgbgpack repair.",
                code="recipe-damaged",
            )
        return recipe
