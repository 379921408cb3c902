"""What hides those who stand behind it: found in true depth, and drawn as the naive twin does."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import naive
import naive_scenes
import numpy as np
import pytest
from builders import assert_same_arrays
from composed_scenes import assert_same_objects, assert_same_planes, composed
from numpy.typing import NDArray
from refusals import refused

from fgbgpack.composition.floor import find_floor
from fgbgpack.composition.occlusion import front_rows, hidden_feet
from fgbgpack.composition.occlusion_kernels import UNHIDDEN
from fgbgpack.composition.recipe import Recipe
from fgbgpack.composition.standing import feet_rows, person_pixels
from fgbgpack.depth.card import Quantity
from fgbgpack.depth.strategies import Layered
from fgbgpack.errors import SpecError
from fgbgpack.pipeline.create import load_recipe
from fgbgpack.pipeline.events import silent
from fgbgpack.rendering import render
from fgbgpack.rendering.camera import Camera, camera_row
from fgbgpack.rendering.furniture import FurnishedRoom
from fgbgpack.rendering.kernels import passes
from fgbgpack.rendering.rng import Rng

SIDE, FOCAL, CAMERA, HORIZON, WALL = 128, 120.0, 1.5, 50.0, 9.0

# --- a box on a floor ------------------------------------------------------------------------------


def box_in_a_room(near=3.0, far=3.6, high=0.8, left=-0.5, right=0.5):
    """(h, w) metres: a box on a floor before a wall, seen by a level camera, ray by ray."""
    depth = np.full((SIDE, SIDE), WALL)
    for row, column in np.ndindex(SIDE, SIDE):
        down, across = (row + 0.5 - HORIZON) / FOCAL, (column + 0.5 - SIDE / 2) / FOCAL
        hits = [WALL]
        if down > 0:
            hits.append(CAMERA / down)
            top = (CAMERA - high) / down
            if near <= top <= far and left <= across * top <= right:
                hits.append(top)
        if left <= across * near <= right and CAMERA - high <= down * near <= CAMERA:
            hits.append(near)
        depth[row, column] = min(hits)
    return depth


@pytest.fixture(scope="module")
def box():
    """Inverse depth of a room with a box, its floor, and what is found of it; not to be changed."""
    inverse = 1 / box_in_a_room()
    floor = find_floor(inverse, is_metric=True, focal=FOCAL)
    front = front_rows(inverse, floor)
    return inverse, floor, front, hidden_feet(inverse, floor, front)


def row_of(distance):
    """The row that the floor at a distance is seen in."""
    return HORIZON + FOCAL * CAMERA / distance - 0.5


def test_a_box_hides_those_who_are_behind_it(box):
    inverse, floor, front, _ = box
    is_box = (
        inverse > 1.05 * np.maximum((np.arange(SIDE) + 0.5 - HORIZON) / FOCAL / CAMERA, 1 / WALL)[:, None]
    )
    is_box &= np.abs(np.arange(SIDE) - 63.5) <= 20
    # The front face is 3 m away: whoever is hidden is at least 10 % further, and the base is in row 109.
    face = front[92:100, 50:78]
    assert (face == math.floor(row_of(3.0 / 0.9))).all()
    assert (front[is_box] < row_of(3.0) - 3).all()
    # The back edge of its top is 3.6 m away.
    edge = int(row_of(3.6) - FOCAL * 0.8 / 3.6) + 1
    assert front[edge, 64] == pytest.approx(row_of(4.0), abs=1.5)
    seen = front >= np.arange(SIDE)[:, None]
    assert not (seen & floor.feet).any(), "nobody is behind floor that is seen"
    assert front[~is_box].max() <= row_of(WALL), "or this side of the wall behind it"


def test_feet_may_be_behind_it_and_not_in_it(box):
    _, floor, front, hidden = box
    rows, columns = np.nonzero(hidden)
    assert len(rows) > 100
    assert rows.min() >= math.floor(row_of(WALL))
    assert rows.max() <= row_of(3.0 / 0.9), "so far behind the face"
    # Above the middle of the box floor is seen beyond it: feet are behind its back edge.
    middle = rows[columns == 64]
    assert middle.max() <= row_of(3.6 / 0.9) + 1
    assert (front[hidden] >= np.nonzero(hidden)[0]).all()
    assert not (hidden & floor.feet).any()
    person = person_pixels(floor, 20, 100, hidden)
    assert (person[hidden] > 0).any()
    assert ((person > 0) <= (hidden | floor.feet)).all()


def test_what_is_unknown_hides_nobody_and_nothing_is_found_without_a_floor(box):
    inverse = box[0].copy()
    inverse[80:100, 60:70] = np.nan
    floor = find_floor(inverse, is_metric=True, focal=FOCAL)
    front = front_rows(inverse, floor)
    assert (front[80:100, 60:70] == -1).all()
    assert (front[80:100, 55:60] >= 0).any()
    wall = np.full((SIDE, SIDE), 0.2)
    none = find_floor(wall, is_metric=True)
    assert not none
    assert (front_rows(wall, none) == -1).all()
    assert not hidden_feet(wall, none, front_rows(wall, none)).any()


def test_a_wall_hides_nobody_whom_nothing_is_seen_behind(box):
    inverse, _, _, hidden = box
    # To the picture's edges and above the camera: the floor is seen to go on nowhere.
    closed = np.maximum(inverse, 1 / 4)
    floor = find_floor(closed, is_metric=True, focal=FOCAL)
    found = hidden_feet(closed, floor, front_rows(closed, floor))
    assert hidden[: int(row_of(4.0)) - 1].any()
    assert not found[: int(row_of(4.0)) - 1].any()


# --- rendered rooms with true depth ----------------------------------------------------------------


def add_person(room, x, z):
    body = room.paint("e6dccb")
    for side in (-0.1, 0.1):
        room.tube(x + side, z, (0.0, 0.9), 0.07, 0.09, body)
    room.tube(x, z, (0.8, 1.45), 0.16, 0.2, body)
    room.ball(x, 1.6, z, (0.09, 0.13, 0.1), body)


def furnished(index) -> tuple[FurnishedRoom, Camera]:
    room = FurnishedRoom(Rng(5, index, 1))
    camera = list(render._KINDS.values())[index % len(render._KINDS)](room)
    return room, dataclasses.replace(camera, focal=camera.focal * SIDE)


def hall() -> FurnishedRoom:
    """Six walls around everything."""
    room = FurnishedRoom(Rng(1, 1, 1))
    for axis in range(3):
        for wall in ((-61.0, -60.0), (60.0, 61.0)):
            room.box(*[wall if one == axis else (-61.0, 61.0) for one in range(3)], room.paint("ffffff"))
    return room


def depth_of(room, camera) -> NDArray[np.float32]:
    """Distance, (h, w), by the passes that render rooms."""
    depth, seen = np.empty((SIDE, SIDE), np.float32), np.empty((SIDE, SIDE), np.int32)
    normals, light = np.zeros((SIDE, SIDE, 3), np.float32), np.empty((SIDE, SIDE, 6), np.float32)
    passes.light_pass(room.world(camera_row(camera, SIDE, SIDE)), depth, seen, normals, light)
    return depth


@pytest.mark.slow
def test_in_rooms_they_are_hidden_as_they_are_when_they_are_rendered(all_faults, count_faults):
    """People are put into rooms behind what is there, and rendered: the truth is what is seen of them."""
    outcomes: Counter[str] = Counter()
    for index in range(40 if all_faults else 4):
        room, camera = furnished(index)
        depth = depth_of(room, camera)
        floor = find_floor(1 / depth.astype(np.float64), is_metric=True)
        front = front_rows(1 / depth.astype(np.float64), floor)
        person = person_pixels(floor, 15, 120, hidden_feet(1 / depth.astype(np.float64), floor, front))
        places = np.argwhere((person > 0) & (front >= np.arange(SIDE)[:, None]))
        lens = camera_row(camera, SIDE, SIDE)
        for row, column in places[:: max(1, len(places) // 3)][:3]:
            ray = lens[3:6] + (column + 0.5 - lens[12]) * lens[6:9] + (row + 0.5 - lens[13]) * lens[9:12]
            x, _, z = lens[:3] - ray * lens[1] / ray[1]
            with_person, alone, empty = furnished(index)[0], hall(), depth_of(hall(), camera)
            add_person(with_person, x, z)
            add_person(alone, x, z)
            figure = depth_of(alone, camera) < empty - 1e-3
            is_hidden = figure & ~(depth_of(with_person, camera) < depth - 1e-4)
            found = figure & (front >= row)
            outcomes["hidden, found"] += int((found & is_hidden).sum())
            outcomes["hidden, missed"] += int((is_hidden & ~found).sum())
            outcomes["seen, taken for hidden"] += int((found & ~is_hidden).sum())
            outcomes["people"] += 1
    count_faults("pixels of people behind things in rooms", outcomes)
    right = outcomes["hidden, found"]
    assert outcomes["people"] > 5
    assert right >= 0.97 * (right + outcomes["seen, taken for hidden"])
    assert right >= 0.9 * (right + outcomes["hidden, missed"])


# --- scenes ----------------------------------------------------------------------------------------

SAMPLES = 30
#: Options of scenes, each of which reaches something else.
KINDS = {
    "plain": {"objects": "1-3"},
    "seen": {"objects": "2-4", "overlap": 0.5},
    "edges": {"blend": "soft,hard,feather", "shadow": True, "light_match": True},
    "turned": {"objects": "1-2", "rotation": 12.5, "shadow": True, "truncate": 0.4, "overlap": 0.3},
    "outside": {"objects": "1-2", "truncate": 0.5, "shadow": True, "foreground_height": "4-20"},
}


def persons(height=21, width=33):
    """Two backgrounds: one is all floor, with things before it; the other one has no floor, and no things."""
    rows = np.arange(height)
    person, front = np.zeros((2, height, width), np.int16), np.full((2, height, width), -1, np.int16)
    person[0, 9:] = np.maximum(0, rows - 6)[9:, None]
    front[0, 4:17, 5:12] = 13
    front[0, 8:20, 18:26] = rows[4:16, None]
    front[0, :, 30] = 20
    return person, front


@pytest.fixture(scope="module", params=KINDS)
def recipe(request, pictures):
    """The recipe of each kind, not to be changed."""
    return hidden_recipe(pictures, **KINDS[request.param])


def hidden_recipe(pictures, cut=(0, 0), **fields):
    given = {"placement": "auto", "foreground_height": "5-14", "samples": SAMPLES, "occlude": True, **fields}
    spec = pictures.spec(**given)
    inside = load_recipe(dataclasses.replace(spec, placement="inside", occlude=False), silent).catalog
    person, front = (np.concatenate([array, array[:1]]) for array in persons())
    catalog = dataclasses.replace(inside, cut=np.array(cut, np.uint8), person_pixels=person, front_row=front)
    return Recipe.of(spec, catalog)


def test_objects_and_pixels_are_the_naive_ones(recipe):
    known, samples = naive_scenes.all_sprites(recipe), range(SAMPLES)
    objects, planes = recipe.objects(samples), composed(recipe, samples)
    hidden = 0
    for i in samples:
        background, expected = naive_scenes.sample_objects(recipe, i, known)
        assert_same_objects(objects, i, expected)
        assert_same_planes(planes, i, recipe.catalog.background[background], expected)
        hidden += sum(int(one["hidden"].any()) for one in expected)
    assert hidden > 5


def test_bands_are_those_of_the_whole(recipe):
    samples = range(SAMPLES)
    whole, band = composed(recipe, samples), composed(recipe, samples, top=9, rows=5)
    for name, plane in band.items():
        np.testing.assert_array_equal(plane, whole[name][:, 9:14])


def test_depth_is_that_of_what_is_in_front(recipe):
    """Where the background hides objects, depth is that of the background."""
    samples = range(SAMPLES)
    rows = np.arange(recipe.height, dtype=np.float32)[:, None]
    depth = np.tile(40 - rows, (3, 1, recipe.width)).astype(np.float32)
    figures = np.tile(np.float32([0.02, 0.002]), (3, 1))
    layered = Layered(recipe, depth, figures, Quantity("depth", "m"))
    step = layered.step(11)
    found = np.empty((SAMPLES, recipe.height, recipe.width), np.float16)
    layered(samples, found, step=step)
    known, objects = naive_scenes.all_sprites(recipe), recipe.objects(samples)
    codes = np.rint(depth / step)
    for i in samples:
        background, expected = naive_scenes.sample_objects(recipe, i, known)
        sprites = [one["placed"] for one in expected]
        numbers = [
            int(np.rint(1 / (np.float64(np.float32(0.02)) + np.float64(np.float32(0.002)) * h) / step))
            for h in objects.height[i, : len(expected)].tolist()
        ]
        values, _ = naive.layer_depth(codes[background], sprites, numbers, -1)
        np.testing.assert_array_equal(found[i].astype(np.float64), values * step)


def test_a_thing_before_someone_hides_them_and_one_behind_does_not(pictures):
    recipe = hidden_recipe(pictures, objects=1, blend="hard", flip=False, samples=200)
    placed, objects = recipe.placements(range(200)), recipe.objects(range(200))
    planes, (_, front) = composed(recipe, range(200)), persons()
    sprite = recipe.sprites.index(objects.foreground, objects.height, objects.blend)
    feet = feet_rows(recipe.sprites, recipe.catalog.cut, sprite, objects)
    before = behind = 0
    for i in np.flatnonzero(placed.background == 0):
        is_thing = front[0] >= 0
        over = planes["instance"][i] > 0
        assert not (over & (front[0] >= feet[i, 0])).any()
        before += int((over & is_thing).any())
        behind += int(objects.visible[i, 0] < 1)
    assert before > 5
    assert behind > 5


def test_what_does_not_stand_is_hidden_by_nothing(pictures):
    for cut in ((4, 4), (0, 0)):
        hidden = hidden_recipe(pictures, cut, objects="1-2")
        free = dataclasses.replace(
            hidden,
            spec=dataclasses.replace(hidden.spec, occlude=False),
            catalog=dataclasses.replace(hidden.catalog, front_row=None),
        )
        some = np.arange(SAMPLES)
        same = composed(hidden, some)["mask"] == composed(free, some)["mask"]
        on_floor = hidden.placements(range(SAMPLES)).background != 1
        assert same[~on_floor].all()
        assert same.all() == (cut == (4, 4))
        rows = feet_rows(
            hidden.sprites,
            hidden.catalog.cut,
            np.zeros((SAMPLES, 2), np.int32),
            hidden.objects(range(SAMPLES)),
        )
        assert (rows == UNHIDDEN).all() == (cut == (4, 4))


def test_other_things_make_another_recipe_and_epochs_have_the_same(pictures):
    recipe = hidden_recipe(pictures)
    other = dataclasses.replace(
        recipe, catalog=dataclasses.replace(recipe.catalog, front_row=recipe.catalog.front_row - 1)
    )
    assert other.info.sha256 != recipe.info.sha256
    again = recipe.at_epoch(3)
    again.place(range(4))
    fresh = Recipe.of(dataclasses.replace(recipe.spec, seed=again.plan.seed), recipe.catalog)
    assert_same_arrays(composed(again, range(SAMPLES)), composed(fresh, range(SAMPLES)))
    assert_same_arrays(again.objects(range(SAMPLES)).arrays(), fresh.objects(range(SAMPLES)).arrays())


@pytest.mark.parametrize("placement", ["inside", "anchored"])
def test_what_does_not_stand_on_floors_cannot_be_behind_anything(pictures, placement):
    with refused(SpecError, "spec-invalid") as error:
        pictures.spec(placement=placement, occlude=True)
    assert error.value.problems == (
        f"occlude: it hides what stands on the floor: give placement floor or auto, found {placement}",
    )
