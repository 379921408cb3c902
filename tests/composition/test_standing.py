"""Whole figures on floors: where they may stand, how high they are, and what is drawn there."""

from __future__ import annotations

import dataclasses

import naive_scenes
import numpy as np
import pytest
from composed_scenes import assert_same_objects
from refusals import refused

from fgbgpack.composition.floor import find_floor
from fgbgpack.composition.recipe import Recipe
from fgbgpack.composition.standing import Standing, person_pixels
from fgbgpack.errors import SpecError
from fgbgpack.pipeline.create import load_recipe
from fgbgpack.pipeline.events import silent

SAMPLES = 40
#: Options of scenes that stand, each of which reaches something else.
KINDS = {
    "plain": {"samples": SAMPLES, "objects": "1-3", "foreground_height": "5-14"},
    "outside": {"samples": SAMPLES, "objects": "1-2", "foreground_height": "4-21", "truncate": 0.5},
    "apart": {"samples": SAMPLES, "objects": "2-4", "foreground_height": "5-14", "overlap": 0.5},
    "edges": {
        "samples": SAMPLES,
        "foreground_height": "6-12",
        "blend": "soft,hard,feather",
        "shadow": True,
        "seed": 2**64 - 1,
    },
    "turned": {
        "samples": SAMPLES,
        "objects": "1-2",
        "foreground_height": "6-12",
        "rotation": 12.5,
        "blend": "soft,hard",
        "shadow": True,
        "truncate": 0.2,
    },
    "pairs": {"placements": 3, "foreground_height": "5-14", "objects": "1-2"},
}


def persons(height=21, width=33):
    """Three backgrounds: a floor with a hole, none, and one at the left, where nobody is low."""
    rows = np.arange(height)
    person = np.zeros((3, height, width), np.int16)
    person[0, 9:] = np.maximum(0, rows - 6)[9:, None]
    person[0, 13:15, 8:20] = 0
    person[2, 14:, :3] = rows[14:, None] - 3
    return person


def standing(pictures, cut=(0, 0), **fields):
    """A recipe of whole foregrounds on these floors."""
    spec = pictures.spec(**{"placement": "auto", **fields})
    inside = load_recipe(dataclasses.replace(spec, placement="inside"), silent).catalog
    catalog = dataclasses.replace(inside, cut=np.array(cut, np.uint8), person_pixels=persons())
    return Recipe.of(spec, catalog)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [(0, 0), (0, 4), (10, 0)])
def test_objects_are_the_naive_ones(pictures, kind, cut):
    recipe = standing(pictures, cut, **KINDS[kind])
    known, samples = naive_scenes.all_sprites(recipe), range(len(recipe))
    objects = recipe.objects(samples)
    for i in samples:
        _, expected = naive_scenes.sample_objects(recipe, i, known)
        assert_same_objects(objects, i, expected)


def test_feet_are_on_the_floor_and_heights_are_those_of_persons(pictures):
    recipe = standing(pictures, samples=300, objects="1-2", foreground_height="5-14", blend="hard")
    placed, objects, person = recipe.placements(range(300)), recipe.objects(range(300)), persons()
    found, known = [], recipe.sprites
    for i, k in np.argwhere(objects.foreground >= 0):
        if placed.background[i] == 1:
            continue
        where = (getattr(objects, name)[i : i + 1, k] for name in ("foreground", "height", "blend"))
        lowest, left, right = known.feet[known.index(*where)[0]].tolist()
        if objects.flip[i, k]:
            left, right = (int(objects.width[i, k]) - 1 - side for side in (right, left))
        row = int(objects.y[i, k]) + lowest
        columns = {int(objects.x[i, k]) + middle for middle in ((left + right) // 2, -(-(left + right) // 2))}
        there = {int(person[placed.background[i], row, column]) for column in columns}
        assert there - {0}
        heights = recipe.plan.heights
        wanted = max(there)
        assert abs(objects.height[i, k] - wanted) == min(abs(height - wanted) for height in heights)
        found.append(row)
    assert set(found) >= set(range(11, 20))


def test_what_stands_lower_is_nearer_and_in_front(pictures):
    recipe = standing(pictures, samples=200, objects=3, foreground_height="5-14", flip=False)
    objects, placed = recipe.objects(range(200)), recipe.placements(range(200))
    for i in np.flatnonzero(placed.background == 0):
        count = int(objects.count[i])
        bottoms = (objects.y[i] + objects.height[i])[:count].tolist()
        assert bottoms == sorted(bottoms)


def test_backgrounds_without_a_floor_have_all_inside(pictures):
    fields = {"samples": 60, "objects": "1-2", "foreground_height": "5-14"}
    found = standing(pictures, **fields)
    inside = load_recipe(pictures.spec(**fields), silent).objects(range(60))
    without = found.placements(range(60)).background == 1
    assert without.sum() == 20
    for path, array in found.objects(range(60)).arrays().items():
        np.testing.assert_array_equal(array[without], inside.arrays()[path][without])
        if path.endswith("/y"):
            assert (array[~without] != inside.arrays()[path][~without]).any()


def test_the_digest_is_that_of_the_floors_too(pictures):
    recipe = standing(pictures, samples=4, foreground_height="5-14")
    other = recipe.catalog.person_pixels.copy()
    other[0, 12, 3] += 1
    changed = dataclasses.replace(recipe, catalog=dataclasses.replace(recipe.catalog, person_pixels=other))
    assert changed.info.sha256 != recipe.info.sha256


def test_persons_by_their_feet():
    """A floor and a wall: a person grows by 1.7 m / 1.4 m for each row below the horizon."""
    rows = np.arange(128) + 0.5
    inverse = np.maximum((rows - 50) / (120 * 1.4), 1 / 8)[:, None] + np.zeros((1, 128))
    floor = find_floor(inverse, is_metric=True, focal=120)
    found = person_pixels(floor, 40, 80)
    heights = np.array([round(1.7 / 1.4 * (row - 50)) for row in rows])
    expected = np.where((heights >= 40) & (heights <= 80), heights, 0)[:, None] * floor.feet
    np.testing.assert_array_equal(found, expected)
    assert found.any()
    assert (floor.feet & (found == 0)).any()


def test_heights_are_the_nearest_the_lower_of_two():
    person = np.array([[[0, 0], [0, 7], [8, 8], [9, 0]]], np.int16)
    found = Standing.of(person, (6, 8, 10))
    assert found.level.tolist() == [[-1, 0, 1, 1]]
    assert found.count.tolist() == [[[0, 0, 0], [0, 0, 1], [0, 1, 2], [0, 1, 1]]]


@pytest.mark.parametrize("placement", ["floor", "auto"])
def test_one_height_is_refused(pictures, placement):
    with refused(SpecError, "spec-invalid") as error:
        pictures.spec(placement=placement, foreground_height=10)
    assert "foreground_height as a range" in error.value.problems[0]
