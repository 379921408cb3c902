"""The recipe: image and mask are a function of it, wherever it is and however it came there."""

from __future__ import annotations

import multiprocessing
import pickle
from dataclasses import fields, replace
from pathlib import Path

import naive
import numpy as np
import pytest
from builders import Pictures
from children import send_composites
from refusals import refused
from zarr.storage import MemoryStore

from fgbgpack import create, open_dataset
from fgbgpack.composition.recipe import Recipe
from fgbgpack.errors import SpecError
from fgbgpack.pipeline import Notice
from fgbgpack.pipeline.create import load_recipe
from fgbgpack.sources.catalog import load_catalog
from fgbgpack.sources.listing import find_sources

ALL = range(36)


def catalog_of(spec):
    sources = find_sources(Path(spec.backgrounds), Path(spec.foregrounds), None)
    return load_catalog(
        sources,
        height=spec.height,
        width=spec.width,
        fit=spec.fit,
        foreground_height=spec.foreground_height,
    )


@pytest.fixture(scope="module")
def recipe(pictures):
    """The recipe of 36 samples, not to be changed."""
    spec = pictures.spec()
    return Recipe.of(spec, catalog_of(spec))


def composed(recipe, samples=ALL, **options):
    image = np.empty((len(samples), recipe.height, recipe.width, 3), np.uint8)
    mask = np.empty(image.shape[:3], np.uint8)
    recipe.compose(samples, image, mask, **options)
    return image, mask


def same_pixels(one, other):
    for found, expected in zip(composed(one), composed(other), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_it_composes_the_naive_composites(recipe):
    assert (len(recipe), recipe.height, recipe.width) == (36, 21, 33)
    image, mask = composed(recipe)
    catalog = recipe.catalog
    for i, ref_image, ref_mask in naive.samples(
        recipe.placements(ALL), catalog.background, catalog.foreground, catalog.foreground_size
    ):
        np.testing.assert_array_equal(image[i], ref_image)
        np.testing.assert_array_equal(mask[i], ref_mask)


def test_any_samples_in_any_order_and_any_band_are_those_of_the_whole(recipe):
    image, mask = composed(recipe)
    some = np.array([30, 2, 2, 17])
    for samples in (some, range(5, 9)):
        found = composed(recipe, samples)
        np.testing.assert_array_equal(found[0], image[samples])
        np.testing.assert_array_equal(found[1], mask[samples])
    band, alpha = np.empty((4, 5, 33, 3), np.uint8), np.empty((4, 5, 33), np.uint8)
    recipe.compose(some, band, alpha, top=9)
    np.testing.assert_array_equal(band, image[some, 9:14])
    np.testing.assert_array_equal(alpha, mask[some, 9:14])


def test_arrays_that_do_not_fit_are_refused(recipe):
    image, mask = np.empty((2, 21, 33, 3), np.uint8), np.empty((2, 21, 33), np.uint8)
    for wrong in ((image[:1], mask), (image, mask[:1]), (image.astype(np.int16), mask)):
        with refused(SpecError, "array-misfit"):
            recipe.compose(range(2), *wrong)


@pytest.mark.parametrize("used", [False, True])
def test_a_pickled_recipe_composes_the_same(recipe, used):
    fresh = Recipe.of(recipe.spec, recipe.catalog)
    if used:
        _ = fresh.info, composed(fresh)
    again = pickle.loads(pickle.dumps(fresh))
    assert (again.spec, again.plan, again.info) == (recipe.spec, recipe.plan, recipe.info)
    same_pixels(again, recipe)
    # What it computed is not sent along.
    assert len(pickle.dumps(fresh)) == len(pickle.dumps(recipe))


@pytest.mark.slow
def test_another_process_composes_the_same(recipe):
    processes = multiprocessing.get_context("spawn")
    receiver, sender = processes.Pipe(duplex=False)
    image, mask = composed(recipe, range(4))
    empty = np.empty_like(image), np.empty_like(mask)
    process = processes.Process(target=send_composites, args=(sender, recipe, range(4), *empty))
    process.start()
    info, found_image, found_mask = receiver.recv()
    process.join()
    assert info == recipe.info
    np.testing.assert_array_equal(found_image, image)
    np.testing.assert_array_equal(found_mask, mask)


@pytest.mark.parametrize("virtual", [False, True])
def test_a_dataset_keeps_the_recipe_that_it_was_made_of(recipe, virtual):
    store = MemoryStore()
    create(store, recipe.spec, virtual=virtual)
    ds = open_dataset(store)
    kept = ds.recipe
    assert (kept.spec, kept.plan, kept.info) == (recipe.spec, recipe.plan, recipe.info)
    assert kept.info == ds.document.recipe
    for field in fields(recipe.catalog):
        found, expected = getattr(kept.catalog, field.name), getattr(recipe.catalog, field.name)
        np.testing.assert_array_equal(found, expected)
    same_pixels(kept, recipe)
    image, mask = composed(recipe)
    np.testing.assert_array_equal(ds.image[:], image)
    np.testing.assert_array_equal(ds.mask[:], mask)
    for field in fields(ds.placements):
        found = getattr(ds.placements, field.name)
        np.testing.assert_array_equal(found, getattr(recipe.placements(ALL), field.name))


def test_its_digest_changes_with_what_pixels_depend_on_and_with_nothing_else(recipe, pictures):
    spec, catalog = recipe.spec, recipe.catalog
    for change in ({"seed": 5}, {"placements": 4}, {"flip": False}):
        assert Recipe.of(replace(spec, **change), catalog).info.sha256 != recipe.info.sha256
    stretched = pictures.spec(fit="stretch")
    assert Recipe.of(stretched, catalog_of(stretched)).info.sha256 != recipe.info.sha256
    brighter = replace(catalog, background=catalog.background ^ 1)
    assert Recipe.of(spec, brighter).info.sha256 != recipe.info.sha256
    for change in ({"chunk": 7}, {"backgrounds": "elsewhere"}):
        assert Recipe.of(replace(spec, **change), catalog).info == recipe.info


def test_another_spec_leaves_the_samples_as_they_are(recipe):
    other = recipe.with_spec(replace(recipe.spec, backgrounds="elsewhere"))
    assert other.spec.backgrounds == "elsewhere"
    assert other.info == recipe.info
    same_pixels(other, recipe)


class TestCopies:
    """Pictures that are copies of each other."""

    @pytest.fixture
    def copied(self, tmp_path):
        made = Pictures(tmp_path, backgrounds=3, foregrounds=2)
        (made.backgrounds / "copy.png").write_bytes((made.backgrounds / "b1.png").read_bytes())
        (made.foregrounds / "zcopy.png").write_bytes((made.foregrounds / "f0.png").read_bytes())
        return made

    def test_their_samples_are_the_same_and_said(self, copied):
        notices = []
        recipe = load_recipe(copied.spec(), notices.append)
        told = [event.message for event in notices if isinstance(event, Notice)]
        everything = recipe.placements(range(len(recipe)))
        image = np.empty((len(recipe), 21, 33, 3), np.uint8)
        recipe.compose(range(len(recipe)), image, np.empty(image.shape[:3], np.uint8))
        distinct = len({picture.tobytes() for picture in image})
        assert recipe.distinct_samples() == distinct < len(everything)
        assert any(f"{distinct:,} of {len(recipe):,} samples are distinct" in text for text in told)
        assert any("1 background and 1 foreground" in text for text in told)

    def test_they_have_placements_of_their_own_if_asked(self, copied):
        notices = []
        plain = load_recipe(copied.spec(), notices.append)
        notices.clear()
        varied = load_recipe(copied.spec(vary_copies=True), notices.append)
        assert not [event for event in notices if isinstance(event, Notice)]
        assert varied.distinct_samples() > plain.distinct_samples()
        assert not varied.has_copies
        before, after = (recipe.placements(range(len(recipe))) for recipe in (plain, varied))
        # Those of the first ones stay.
        first = (before.background != 3) & (before.foreground != 2)
        assert np.array_equal(before.x[first], after.x[first])
        assert np.array_equal(before.y[first], after.y[first])
        of_copy = before.background == 3
        assert not np.array_equal(before.x[of_copy], after.x[of_copy])
