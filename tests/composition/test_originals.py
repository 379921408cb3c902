"""Composites and backgrounds drawn larger, from the original pictures: as if the dataset were that large."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import naive
import numpy as np
import pytest
from refusals import refused
from zarr.storage import MemoryStore

from fgbgpack import create, open_dataset
from fgbgpack.composition.originals import Backgrounds, Renderer
from fgbgpack.composition.recipe import Recipe
from fgbgpack.errors import SourceError
from fgbgpack.pipeline.create import load_recipe
from fgbgpack.pipeline.events import silent
from fgbgpack.sources.catalog import Catalog, load_catalog
from fgbgpack.sources.listing import find_sources

SAMPLES = np.array([0, 35, 7, 7, 20])


@pytest.fixture(scope="module")
def found(pictures) -> Recipe:
    """The recipe of 36 samples as its pictures were found."""
    return load_recipe(pictures.spec(), silent)


@pytest.fixture(scope="module")
def stored(found) -> Recipe:
    """The same as a dataset holds it, whose sources know no paths."""
    store = MemoryStore()
    create(store, found.spec, virtual=True)
    return open_dataset(store).recipe


@pytest.fixture
def own(found, tmp_path) -> Recipe:
    """The recipe of a dataset whose pictures are the test's own."""
    folder = shutil.copytree(Path(found.spec.backgrounds).parent, tmp_path / "pictures")
    spec = replace(found.spec, backgrounds=str(folder / "bg"), foregrounds=str(folder / "fg"))
    store = MemoryStore()
    create(store, spec, virtual=True)
    return open_dataset(store).recipe


def large(recipe, scale) -> Catalog:
    """The pictures of a recipe, that many times as large."""
    spec = recipe.spec
    return load_catalog(
        find_sources(Path(spec.backgrounds), Path(spec.foregrounds), None),
        height=spec.height,
        width=spec.width,
        fit=spec.fit,
        foreground_height=spec.foreground_height,
        scale=scale,
    )


def rendered(recipe, scale, *, kept=1):
    """Image and mask of the samples, in arrays that held something else."""
    size = len(SAMPLES), recipe.height * scale, recipe.width * scale
    image, mask = np.full((*size, 3), 77, np.uint8), np.full(size, 77, np.uint8)
    Renderer(recipe, scale, backgrounds_kept=kept)(SAMPLES, image, mask)
    return image, mask


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("kind", ["found", "stored"])
def test_composites_are_those_of_large_pictures_at_multiples_of_the_places(request, found, kind, scale):
    recipe = request.getfixturevalue(kind)
    image, mask = rendered(recipe, scale)
    catalog = large(found, scale)
    np.testing.assert_array_equal(catalog.foreground_size, found.catalog.foreground_size * scale)
    for i, ref_image, ref_mask in naive.samples(
        found.placements(SAMPLES),
        catalog.background,
        catalog.foreground,
        catalog.foreground_size,
        scale,
    ):
        np.testing.assert_array_equal(image[i], ref_image)
        np.testing.assert_array_equal(mask[i], ref_mask)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("kind", ["found", "stored"])
def test_backgrounds_are_those_of_large_pictures(request, found, kind, scale):
    backgrounds = Backgrounds(request.getfixturevalue(kind), scale)
    expected = large(found, scale).background
    for i in (2, 0, 1):
        np.testing.assert_array_equal(backgrounds(i)[0], expected[i])


def test_at_scale_1_no_originals_are_needed(own):
    shutil.rmtree(Path(own.spec.backgrounds).parent)
    image, mask = rendered(own, 1)
    expected = np.empty_like(image), np.empty_like(mask)
    own.compose(SAMPLES, *expected)
    np.testing.assert_array_equal(image, expected[0])
    np.testing.assert_array_equal(mask, expected[1])
    np.testing.assert_array_equal(Backgrounds(own, 1)(1)[0], own.catalog.background[1])


def test_originals_that_are_not_there_are_missed_above_that(own):
    shutil.rmtree(Path(own.spec.foregrounds))
    with refused(SourceError, "originals-missing", "--depth-scale 1"):
        Renderer(own, 2, backgrounds_kept=1)
    assert Backgrounds(own, 2)(0)[0].shape == (42, 66, 3), "foregrounds are not needed for these"
    shutil.rmtree(Path(own.spec.backgrounds))
    with refused(SourceError, "originals-missing", "--depth-scale 1"):
        Backgrounds(own, 2)


def test_originals_that_are_others_are_named_together(own, found):
    backgrounds, foregrounds = Path(own.spec.backgrounds), Path(own.spec.foregrounds)
    (backgrounds / "b0.png").unlink()
    shutil.copy(backgrounds / "b1.png", backgrounds / "b2.png")
    shutil.copy(foregrounds / "f0.png", foregrounds / "f1.png")
    with refused(SourceError, "originals-differ") as caught:
        Renderer(own, 2, backgrounds_kept=1)
    assert [line.split(":")[0] for line in caught.value.problems] == [
        "background b0.png",
        "background b2.png",
        "foreground f1.png",
    ]
    with refused(SourceError, "originals-differ") as caught:
        Backgrounds(own, 2)
    assert [line.split(":")[0] for line in caught.value.problems] == [
        "background b0.png",
        "background b2.png",
    ]


def test_originals_may_have_moved_and_others_may_lie_beside_them(own, tmp_path):
    expected = rendered(own, 2)
    folder = Path(own.spec.backgrounds).parent.rename(tmp_path / "moved")
    shutil.copy(folder / "bg/b0.png", folder / "bg/a.png")
    moved = own.with_spec(replace(own.spec, backgrounds=str(folder / "bg"), foregrounds=str(folder / "fg")))
    found = rendered(moved, 2, kept=2)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
