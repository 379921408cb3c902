"""The arrays of a dataset, as they are written."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.objects import FORMS
from fgbgpack.composition.recipe import Recipe
from fgbgpack.depth.attributes import depth_attributes
from fgbgpack.document import (
    BACKGROUND_DEPTH,
    DEPTH,
    DEPTH_MIN,
    DEPTH_SOURCES,
    EXTREMES,
    FIGURE_DEPTH,
    FRONT_ROW,
    IMAGE,
    MASK,
    OBJECT_ARRAYS,
    OBJECTS,
    PERSON_PIXELS,
    PLACEMENTS,
    PLANE_DIMENSIONS,
    SCENE_PLACEMENTS,
    SOURCE_ARRAYS,
    SOURCES,
    DepthInfo,
)
from fgbgpack.pipeline.executor import Threads
from fgbgpack.storage.arrays import (
    BACKGROUND_DEPTH_CODEC,
    DEPTH_CODEC,
    METADATA,
    PIXEL_CODEC,
    ArraySpec,
    group_metadata,
)
from fgbgpack.storage.layout import DEFAULT_POLICY, Extent, Layout, LayoutPolicy
from fgbgpack.storage.store import DatasetStore

#: Chunks of placements and sources that are written at a time, which wait for the store.
_WRITERS = 16


@dataclass(frozen=True)
class StoredLayouts(LayoutPolicy):
    """The policy that cuts arrays as they are cut in a dataset that is there, by their paths."""

    layouts: Mapping[str, Layout] = field(default_factory=dict)

    def pixels(self, extent: Extent, chunk: int | None = None) -> tuple[Layout, Layout]:
        """The layouts of image and mask."""
        return self.layouts[IMAGE], self.layouts[MASK]

    def depth(self, extent: Extent, *, guided: bool) -> Layout:
        """The layout of depth, or of what its extremes belong to."""
        if DEPTH in self.layouts:
            return self.layouts[DEPTH]
        return with_extremes(super().depth(extent, guided=guided), self.layouts[DEPTH_MIN])

    def background_depth(self, backgrounds: int, height: int, width: int) -> Layout:
        """The layout of the depth of backgrounds."""
        return self.layouts[BACKGROUND_DEPTH]

    def rows(self, shape: tuple[int, ...], row_bytes: int) -> Layout:
        """The layout of the sources of that shape."""
        paths = (*SOURCE_ARRAYS, PERSON_PIXELS, FRONT_ROW)
        found = (self.layouts[path] for path in paths if path in self.layouts)
        return next((one for one in found if one.shape == shape), super().rows(shape, row_bytes))

    def vector(self, samples: int) -> Layout:
        """The layout of placements."""
        return self.layouts.get(PLACEMENTS[0]) or super().vector(samples)

    def objects(self, shape: tuple[int, ...]) -> Layout:
        """The layout of an array of objects of that shape."""
        found = (self.layouts[path] for path in OBJECT_ARRAYS if path in self.layouts)
        return next((one for one in found if one.shape == shape), super().objects(shape))


def with_extremes(depth: Layout, extremes: Layout) -> Layout:
    """How ``/depth`` is cut if its extremes are there already, which belong to its shards."""
    samples, (chunk, *rest) = extremes.shard[0], depth.chunk
    if samples == depth.shard[0]:
        return depth
    chunk = chunk if samples % chunk == 0 else samples
    return Layout(depth.shape, (chunk, *rest), (samples, *depth.shard[1:]))


def extent_of(recipe: Recipe) -> Extent:
    """How many samples a recipe has, and how large they are."""
    return Extent(len(recipe), recipe.height, recipe.width, recipe.plan.samples_per_background)


def plane_layouts(planes: Sequence[str], layouts: tuple[Layout, Layout]) -> dict[str, Layout]:
    """How the planes of samples are cut, ``layouts`` being those of image and mask."""
    return {plane: layouts[0] if plane == IMAGE else layouts[1] for plane in planes}


def pixel_arrays(layouts: Mapping[str, Layout]) -> tuple[ArraySpec, ...]:
    """``/image``, ``/mask`` and, of scenes, ``/instance``, cut so."""
    return tuple(
        ArraySpec(plane, layout, np.uint8, PLANE_DIMENSIONS[plane], sharded=True)
        for plane, layout in layouts.items()
    )


def depth_layouts(
    extent: Extent, depth: DepthInfo | None, backgrounds: int, policy: LayoutPolicy
) -> dict[str, Layout]:
    """How ``/depth`` is cut, and what it is made of: that of the backgrounds, and of figures in them."""
    sources = () if depth is None else DEPTH_SOURCES.get(depth.mode, ())
    layouts = {DEPTH: policy.depth(extent, guided=bool(sources))}
    layouts |= background_layouts(sources, extent, backgrounds, policy)
    return layouts


def background_layouts(
    sources: Sequence[str], extent: Extent, backgrounds: int, policy: LayoutPolicy
) -> dict[str, Layout]:
    """How the arrays are cut that depth is made of: each has as many backgrounds in a shard."""
    layouts: dict[str, Layout] = {}
    if sources:
        layout = policy.background_depth(backgrounds, extent.height, extent.width)
        figures = Layout((backgrounds, 2), (1, 2), (layout.shard[0], 2))
        layouts = {path: layout if path == BACKGROUND_DEPTH else figures for path in sources}
    return layouts


def depth_arrays(
    layouts: dict[str, Layout],
    depth: DepthInfo | None,
    composed: Collection[str],
    largest_error: float | None = None,
) -> list[ArraySpec]:
    """``/depth``, the minimum and maximum of each sample, and what depth is made of, less what is composed.

    ``layouts`` come from :func:`depth_layouts`; ``largest_error``, a fraction of the range of all depth, is
    ``None`` until all is there.
    """
    layout = layouts[DEPTH]
    codec = DEPTH_CODEC if BACKGROUND_DEPTH not in layouts else PIXEL_CODEC
    attributes = depth_attributes(depth, largest_error)
    dimensions = ("sample", "height", "width")
    specs = [ArraySpec(DEPTH, layout, np.float16, dimensions, codec, sharded=True, attributes=attributes)]
    specs += [ArraySpec(name, layout.vector, np.float16, ("sample",)) for name in EXTREMES]
    if depth is not None:
        meanings = {
            BACKGROUND_DEPTH: (("height", "width"), {"quantity": depth.quantity, "unit": depth.unit}),
            FIGURE_DEPTH: (("coefficient",), {"quantity": "inverse_depth", "unit": depth.unit}),
        }
        specs += [
            ArraySpec(
                path,
                layouts[path],
                np.float32,
                ("backgrounds", *axes),
                BACKGROUND_DEPTH_CODEC,
                sharded=True,
                attributes=attributes,
            )
            for path, (axes, attributes) in meanings.items()
            if path in layouts
        ]
    return [spec for spec in specs if spec.path not in composed]


def write_texts(
    store: DatasetStore, path: str, texts: Sequence[str], policy: LayoutPolicy = DEFAULT_POLICY
) -> None:
    """Publish a text for each imported sample, at least one of which is not empty."""
    longest = max(len(text.encode()) for text in texts)
    group, _, name = path.rpartition("/")
    dimensions = "sample", f"{name}_byte" if group else "byte"
    spec = ArraySpec(path, policy.rows((len(texts), longest), longest), np.uint8, dimensions)
    for number, rows in enumerate(spec.layout.rows()):
        encoded = np.array([text.encode() for text in texts[rows]], f"S{longest}")
        store.write_rows(spec, number, encoded.view(np.uint8).reshape(-1, longest))
    if group:
        store.put_changed(f"{group}/{METADATA}", group_metadata())
    store.declare(spec)


def write_recipe(store: DatasetStore, recipe: Recipe, policy: LayoutPolicy = DEFAULT_POLICY) -> None:
    """Publish the placements and the sources: values before the metadata that tell of them."""
    specs = {}

    def chunks() -> Iterator[tuple[ArraySpec, int, NDArray[Any]]]:
        for spec, number, rows in _recipe_chunks(recipe, policy):
            store.written.declare(spec.path, spec.layout, sharded=False)
            specs[spec.path] = spec
            yield spec, number, rows

    for _ in Threads(_WRITERS).in_order(lambda chunk: store.write_rows(*chunk), chunks(), ahead=0):
        pass
    for group in (SOURCES, *((OBJECTS,) if recipe.has_objects else ())):
        store.put_changed(f"{group}/{METADATA}", group_metadata())
    store.declare(*specs.values())


def contradicts_recipe(store: DatasetStore, recipe: Recipe, policy: LayoutPolicy) -> bool:
    """Whether other placements or sources are there than those of a recipe, or a part of them, which a
    power loss may leave.
    """
    chunks = (spec.chunk(number, rows) for spec, number, rows in _recipe_chunks(recipe, policy))
    return any(not value.startswith((store.get(key) or b"").rstrip(b"\0")) for key, value in chunks)


def _recipe_chunks(recipe: Recipe, policy: LayoutPolicy) -> Iterator[tuple[ArraySpec, int, NDArray[Any]]]:
    specs = (*placement_arrays(recipe, policy), *object_arrays(recipe, policy))
    for number, rows in enumerate(specs[0].layout.rows()):
        found = recipe.sample_arrays(range(rows.start, rows.stop))
        for spec in specs:
            yield spec, number, found[spec.path]
    for path, array, dimensions in recipe_sources(recipe):
        spec = ArraySpec(path, policy.rows(array.shape, array[0].nbytes), array.dtype.type, dimensions)
        for number, rows in enumerate(spec.layout.rows()):
            yield spec, number, array[rows]


def placement_arrays(recipe: Recipe, policy: LayoutPolicy) -> list[ArraySpec]:
    """The arrays of one number a sample that say what it is made of."""
    layout = policy.vector(len(recipe))
    dtypes: dict[str, type[np.generic]] = {"flip": np.bool_}
    names = SCENE_PLACEMENTS if recipe.has_objects else PLACEMENTS
    return [ArraySpec(name, layout, dtypes.get(name, np.int32), ("sample",)) for name in names]


def object_arrays(recipe: Recipe, policy: LayoutPolicy) -> list[ArraySpec]:
    """The arrays of the objects of scenes; none of other samples."""
    specs = []
    for path, (dtype, more) in FORMS.items() if recipe.has_objects else ():
        shape = (len(recipe), recipe.most_objects, *(length for _, length in more))
        dimensions = ("sample", "object", *(name for name, _ in more))
        specs.append(ArraySpec(path, policy.objects(shape), dtype, dimensions))
    return specs


def recipe_sources(recipe: Recipe) -> list[tuple[str, NDArray[Any], tuple[str, ...]]]:
    """The arrays of the sources, by their paths, with the names of their axes."""
    catalog = recipe.catalog
    sources: dict[str, tuple[NDArray[Any], tuple[str, ...]]] = {
        SOURCE_ARRAYS[0]: (catalog.background, ("backgrounds", "height", "width", "channel")),
        SOURCE_ARRAYS[1]: (catalog.foreground, ("foregrounds", "patch_height", "patch_width", "rgba")),
        SOURCE_ARRAYS[2]: (catalog.foreground_size, ("foregrounds", "side")),
        SOURCE_ARRAYS[3]: (catalog.cut, ("foregrounds",)),
    }
    for path, floors in ((PERSON_PIXELS, catalog.person_pixels), (FRONT_ROW, catalog.front_row)):
        if floors is not None:
            sources[path] = (floors, ("backgrounds", "height", "width"))
    return [(path, array, dimensions) for path, (array, dimensions) in sources.items()]
