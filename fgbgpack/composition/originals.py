"""Composites and backgrounds at a multiple of the dataset's size, from the original pictures."""

from __future__ import annotations

import dataclasses
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.compositor import Compositor
from fgbgpack.composition.recipe import Recipe, Samples, heights_of
from fgbgpack.composition.scenes import ScenePlan
from fgbgpack.errors import SourceError, SpecError
from fgbgpack.source_info import SourceInfo
from fgbgpack.sources.background_depth import MetricValues, read_metres
from fgbgpack.sources.catalog import Catalog, load_background, load_catalog
from fgbgpack.sources.decoding import hash_file
from fgbgpack.sources.listing import Source, Sources, find_sources
from fgbgpack.sources.problems import run_all
from fgbgpack.sources.resizing import Frame
from fgbgpack.spec import DatasetSpec


class Renderer:
    """Renders placements at a scale. Safe to use from several threads at once.

    At scale 1 it composites the catalog itself; above that, the original pictures, found again in the folders
    of the recipe's spec. ``backgrounds_kept`` of these stay in memory. Raises SourceError if they are not
    there, or not the ones the dataset was made of.
    """

    def __init__(self, recipe: Recipe, scale: int, *, backgrounds_kept: int) -> None:
        spec = recipe.spec
        self._recipe, self._scale = recipe, scale
        self._size = (spec.height * scale, spec.width * scale)
        if scale == 1:
            return
        if isinstance(recipe.plan, ScenePlan):
            raise SpecError(
                "Scenes of objects are not rendered larger than they are: give --depth-scale 1, or "
                "--depth-mode guided.",
                code="scenes-not-larger",
            )
        self._plan = recipe.plan
        sources = _originals(spec, recipe.catalog)
        self._large = load_catalog(
            sources,
            height=spec.height,
            width=spec.width,
            fit=spec.fit,
            foreground_height=heights_of(spec),
            scale=scale,
            with_backgrounds=False,
        )

        @lru_cache(maxsize=backgrounds_kept)
        def background(index: int) -> NDArray[np.uint8]:
            (picture,) = load_background(sources.backgrounds[index], Frame(*self._size, spec.fit))
            return picture

        self._background = background

    def __call__(self, samples: Samples, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
        """Fill ``image``, (n, h * scale, w * scale, 3), RGB, and ``mask``, (n, h * scale, w * scale), alpha,
        with n samples.
        """
        if self._scale == 1:
            self._recipe.compose(samples, image, mask)
            return
        placements = self._plan.placements_of(samples).scaled(self._scale)
        used, local = np.unique(placements.background, return_inverse=True)
        pictures = np.stack([self._background(int(index)) for index in used])
        compositor = Compositor(pictures, self._large.foreground, self._large.foreground_size)
        compositor.compose(dataclasses.replace(placements, background=local.astype(np.int32)), image, mask)


class Backgrounds:
    """Renders empty backgrounds at some scales, and keeps none. Safe to use from several threads at once.

    Above scale 1 the original pictures are read, each once; SourceError as of :class:`Renderer`.
    """

    def __init__(self, recipe: Recipe, *scales: int) -> None:
        spec, catalog = recipe.spec, recipe.catalog
        self._frames = [Frame(spec.height * scale, spec.width * scale, spec.fit) for scale in scales]
        self._resized = catalog.background
        self._originals: tuple[Source, ...] = ()
        if max(scales) > 1:
            self._originals = _original_backgrounds(spec, catalog.backgrounds)

    def __call__(self, index: int) -> list[NDArray[np.uint8]]:
        """The background of that number at each scale: (h * scale, w * scale, 3) uint8, RGB."""
        if not self._originals:
            return [np.asarray(self._resized[index]) for _ in self._frames]
        return load_background(self._originals[index], *self._frames)


_NOT_THERE = (
    "A depth scale above 1 renders from the original pictures, and they are not where the dataset says. Give "
)


def sources_of(spec: DatasetSpec) -> Sources:
    """The pictures in the folders of a spec; raises SourceError as ``find_sources``."""
    masks = Path(spec.masks) if spec.masks else None
    return find_sources(
        Path(spec.backgrounds),
        Path(spec.foregrounds),
        masks,
        spec.mask_pattern,
        spec.reading,
        classes=spec.classes,
        floors=spec.scene.has_floor,
        depth=Path(spec.background_depth) if spec.background_depth else None,
    )


def depth_of_backgrounds(recipe: Recipe) -> NDArray[np.float32]:
    """Depth of the backgrounds as its files say it: ``(B, h, w)`` metres, NaN where it is unknown. Raises
    SourceError where they cannot be used, or are others than those that the dataset was made of.
    """
    spec, catalog = recipe.spec, recipe.catalog
    if catalog.background_depth is not None:
        return catalog.background_depth
    if without := [source.name for source in catalog.backgrounds if source.depth_sha256 is None]:
        raise SourceError(
            "The dataset was made without depth of its backgrounds: make it again with --background-depth.",
            [f"background {name}: no file of its depth is known" for name in without],
            code="background-depth-missing",
        )
    folder, frame = Path(spec.background_depth or ""), Frame(spec.height, spec.width, spec.fit)
    values = MetricValues(spec.depth_factor, spec.depth_invalid)
    jobs = [
        partial(read_metres, folder / (source.depth_name or ""), frame, values, sha256=source.depth_sha256)
        for source in catalog.backgrounds
    ]
    return np.stack(run_all(jobs))


def _originals(spec: DatasetSpec, catalog: Catalog) -> Sources:
    """The original pictures that a catalog was made of, found again in the spec's folders."""
    try:
        found = sources_of(spec)
    except SourceError as exc:
        raise SourceError(
            f"{_NOT_THERE}--backgrounds and --foregrounds (and --masks), or --depth-scale 1. {exc.message}",
            exc.problems,
            code="originals-missing",
        ) from exc
    problems = []
    in_order: list[tuple[Source, ...]] = []
    for kind, recorded, there in (
        ("background", catalog.backgrounds, found.backgrounds),
        ("foreground", catalog.foregrounds, found.foregrounds),
    ):
        by_name = {source.name: source for source in there}
        for source in recorded:
            if source.name not in by_name:
                problems.append(f"{kind} {source.name}: is not there")
            elif by_name[source.name] != source:
                problems.append(f"{kind} {source.name}: is not the file that the dataset was made of")
        in_order.append(tuple(by_name[source.name] for source in recorded if source.name in by_name))
    _refuse(problems)
    return dataclasses.replace(found, backgrounds=in_order[0], foregrounds=in_order[1])


def _original_backgrounds(spec: DatasetSpec, recorded: tuple[SourceInfo, ...]) -> tuple[Source, ...]:
    """The same with their files: nothing else in the folder matters, nor where the foregrounds are."""
    folder = Path(spec.backgrounds)
    known = tuple(source for source in recorded if isinstance(source, Source))
    if len(known) == len(recorded):
        return known
    found = tuple(
        Source(source.name, source.sha256, path=folder / source.name, reading=spec.reading)
        for source in recorded
    )
    missing = [source.name for source in found if not (folder / source.name).is_file()]
    if len(missing) == len(found):
        raise SourceError(
            f"{_NOT_THERE}--backgrounds, or --depth-scale 1. None of them is in {folder}.",
            code="originals-missing",
        )
    problems = [f"background {name}: is not there" for name in missing]
    problems += [
        f"background {source.name}: is not the file that the dataset was made of"
        for source in found
        if source.name not in missing and hash_file(folder / source.name) != source.sha256
    ]
    _refuse(problems)
    return found


def _refuse(problems: list[str]) -> None:
    if problems:
        raise SourceError(
            "These are not the pictures that the dataset was made of:", problems, code="originals-differ"
        )
