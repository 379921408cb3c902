"""Scenes: what is drawn and composited is what the naive twins say, for any samples, order and band."""

from __future__ import annotations

import pickle
from dataclasses import replace

import naive_scenes
import numpy as np
import pytest
from builders import assert_same_arrays
from composed_scenes import assert_same_objects, assert_same_planes, composed
from refusals import refused

from fgbgpack.composition.objects import Objects
from fgbgpack.composition.sprites import Sprites, heights_between
from fgbgpack.errors import SpecError
from fgbgpack.pipeline.create import load_recipe
from fgbgpack.pipeline.events import silent
from fgbgpack.scene_spec import BLENDS

SAMPLES = 12
#: Options of scenes, each of which reaches something else.
KINDS = {
    "random": {"samples": SAMPLES},
    "several": {
        "samples": SAMPLES,
        "objects": "2-4",
        "empty": 0.2,
        "foreground_height": "6-13",
        "seed": 2**63 + 5,
    },
    "anchored": {"samples": SAMPLES, "objects": 2, "placement": "anchored", "flip": False},
    "truncated": {"samples": SAMPLES, "objects": "1-3", "truncate": 0.6, "foreground_height": "40%-90%"},
    "apart": {"samples": SAMPLES, "objects": "3-5", "overlap": 0.5, "foreground_height": "5-16"},
    "blended": {"samples": SAMPLES, "blend": "hard,feather", "objects": "1-2"},
    "lit": {"samples": SAMPLES, "objects": "1-3", "light_match": True, "shadow": True},
    "pairs": {"placements": 1, "objects": "1-2", "foreground_height": "7-12", "shadow": True},
    "turned": {
        "samples": SAMPLES,
        "objects": "1-3",
        "rotation": 20,
        "foreground_height": "11-16",
        "blend": "soft,hard,feather",
        "shadow": True,
        "light_match": True,
        "overlap": 0.2,
    },
    "turned, anchored": {
        "samples": SAMPLES,
        "objects": "1-3",
        "rotation": 45,
        "placement": "anchored",
        "shadow": True,
        "truncate": 0.3,
    },
    "upright": {"placements": 2, "flip": False, "objects": 3, "overlap": 0.2, "blend": "soft,hard"},
}


@pytest.fixture(scope="module", params=KINDS)
def recipe(request, pictures):
    """The recipe of each kind, not to be changed."""
    return load_recipe(pictures.spec(**KINDS[request.param]), silent)


def test_sprites_are_the_naive_ones(recipe):
    found, known = recipe.sprites, naive_scenes.all_sprites(recipe)
    assert len(found.size) == len(known)
    for (foreground, height, blend), expected in known.items():
        h, w = np.int16(height), np.int8(BLENDS.index(blend))
        number = int(found.index(np.array([foreground], np.int32), np.array([h]), np.array([w]))[0])
        start = found.offset[number]
        sprite = found.pixels[start : start + expected.size].reshape(expected.shape)
        np.testing.assert_array_equal(sprite, expected)
        assert tuple(found.size[number]) == expected.shape[:2]
        assert found.area[number] == (expected[..., 3] > 127).sum()
        assert tuple(found.feet[number]) == naive_scenes.feet(expected)


def test_objects_and_pixels_are_the_naive_ones(recipe):
    known, samples = naive_scenes.all_sprites(recipe), range(len(recipe))
    objects, planes, placed = recipe.objects(samples), composed(recipe, samples), recipe.placements(samples)
    for i in samples:
        background, expected = naive_scenes.sample_objects(recipe, i, known)
        assert placed.background[i] == background
        assert_same_objects(objects, i, expected)
        assert_same_planes(planes, i, recipe.catalog.background[background], expected)


def test_any_samples_in_any_order_are_those_of_the_whole(recipe):
    whole, objects = composed(recipe, range(len(recipe))), recipe.objects(range(len(recipe)))
    some = np.array([5, 0, 0, len(recipe) - 1])
    assert_same_arrays(composed(recipe, some), {name: plane[some] for name, plane in whole.items()})
    assert_same_arrays(recipe.objects(some).arrays(), objects[some].arrays())
    stored = recipe.place(range(len(recipe)), recipe.placements(range(len(recipe))), objects)
    for planes in (("mask",), ("instance",), ("image",), ("image", "instance")):
        found = {name: np.empty_like(whole[name][some]) for name in planes}
        stored.compose(some, found)
        assert_same_arrays(found, {name: whole[name][some] for name in planes})


@pytest.mark.parametrize(("top", "rows"), [(0, 4), (9, 5), (17, 9)])
def test_bands_are_those_of_the_whole(recipe, top, rows):
    whole, band = composed(recipe, range(SAMPLES)), composed(recipe, range(SAMPLES), top=top, rows=rows)
    inside = min(rows, recipe.height - top)
    for name, plane in band.items():
        np.testing.assert_array_equal(plane[:, :inside], whole[name][:, top : top + inside])
        assert not plane[:, inside:].any()


def test_scenes_differ_where_one_byte_does(recipe):
    samples = range(SAMPLES)
    planes, placed = composed(recipe, samples), recipe.place(samples)
    assert not placed.differ(slice(None), planes).any()
    for number, (name, plane) in enumerate(planes.items()):
        changed = {**planes, name: plane.copy()}
        changed[name][3 + number].reshape(-1)[number * 10] ^= 1
        assert np.flatnonzero(placed.differ(slice(None), changed)).tolist() == [3 + number]


def test_a_pickled_recipe_gives_the_same(recipe):
    again = pickle.loads(pickle.dumps(recipe))
    assert again.info == recipe.info
    assert_same_arrays(composed(again, range(4)), composed(recipe, range(4)))


def test_random_samples_are_dealt_out_to_all_backgrounds(pictures):
    recipe = load_recipe(pictures.spec(samples=11), silent)
    placed = recipe.placements(range(11))
    assert placed.background.tolist() == [0] * 4 + [1] * 4 + [2] * 3
    assert placed.replica.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2]


def test_what_a_sample_holds_does_not_depend_on_how_many_there_are(pictures):
    few, many = (load_recipe(pictures.spec(samples=n, objects="1-3"), silent) for n in (6, 30))
    assert_same_arrays(few.objects(range(2)).arrays(), many.objects(range(2)).arrays())


def test_every_pair_has_its_foreground_first(pictures):
    recipe = load_recipe(pictures.spec(placements=2, objects=1, foreground_height="8-12"), silent)
    objects = recipe.objects(range(len(recipe)))
    assert len(recipe) == 3 * 2 * 2 * 2
    assert objects.foreground[:, 0].tolist() == ([0] * 4 + [1] * 4) * 3
    assert objects.flip[:, 0].tolist() == [0, 0, 1, 1] * 6


def test_digests_tell_recipes_apart(pictures):
    digests = [load_recipe(pictures.spec(**fields), silent).info.sha256 for fields in KINDS.values()]
    digests.append(load_recipe(pictures.spec(), silent).info.sha256)
    assert len(set(digests)) == len(digests)


def test_objects_are_as_many_as_asked_for_and_seen_as_asked_for(pictures):
    spec = pictures.spec(samples=300, objects="1-4", empty=0.25, overlap=0.4, foreground_height="5-12")
    objects = load_recipe(spec, silent).objects(range(300))
    assert set(objects.count.tolist()) == {0, 1, 2, 3, 4}
    assert 50 < (objects.count == 0).sum() < 100
    assert (objects.visible[objects.foreground >= 0] >= 0.4).all()


def test_heights_are_eight_to_an_octave():
    assert heights_between(16, 64) == (16, 17, 19, 21, 23, 25, 27, 29, 32, 35, 38, 41, 45, 49, 54, 59, 64)
    assert heights_between(3, 5) == (3, 4, 5)
    assert heights_between(50, 50) == (50,)
    assert heights_between(26, 39)[-2:] == (37, 39)


def test_objects_that_name_what_is_not_there_are_refused(pictures):
    recipe = load_recipe(pictures.spec(samples=2, objects=1), silent)
    samples = range(2)
    objects, placed = recipe.objects(samples), recipe.placements(samples)
    for name, value in (("foreground", 2), ("height", 11), ("blend", 1), ("blend", 3)):
        array = getattr(objects, name).copy()
        array[1, 0] = value
        with refused(SpecError, "picture-unknown"):
            recipe.place(samples, placed, replace(objects, **{name: array}))
    with refused(SpecError, "picture-unknown"):
        recipe.place(samples, replace(placed, background=placed.background + 3), objects)
    with refused(SpecError, "array-misfit"):
        recipe.place(samples, placed, Objects.none(3, 1))
    with refused(SpecError, "objects-missing"):
        load_recipe(pictures.spec(), silent).objects(samples)


def test_foregrounds_of_other_heights_have_no_sprites():
    patch = np.zeros((1, 5, 3, 4), np.uint8)
    with refused(SpecError, "array-misfit"):
        Sprites.of(patch, np.array([[4, 3]], np.int32), (3, 5), ("soft",))
    with refused(SpecError, "array-misfit"):
        Sprites.of(patch, np.array([[5, 4]], np.int32), (3, 5), ("soft",))


def test_wide_foregrounds_have_the_heights_that_fit(pictures):
    wide = pictures.spec(width=12, samples=4, foreground_height="4-20")
    recipe = load_recipe(wide, silent)
    assert (recipe.catalog.foreground_size[:, 1] <= 12).all()
    assert recipe.catalog.foreground_size[:, 0].tolist() == [16, 15]


def test_more_sprites_than_memory_is_for_are_refused_before_they_are_made():
    # A foreground of 8192 x 8192 pixels, which takes no memory of its own, at 33 heights with three blends.
    heights = heights_between(512, 8192)
    patch = np.broadcast_to(np.zeros((1, 1, 1, 4), np.uint8), (1, 8192, 8192, 4))
    with refused(SpecError, "sprites-too-large"):
        Sprites.of(patch, np.array([[8192, 8192]], np.int32), heights, BLENDS)
