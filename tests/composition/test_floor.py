"""Floors that are found in depth maps: of rendered rooms, whose floors are known, and of a depth camera."""

from __future__ import annotations

import functools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from documents import ROOT
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.composition.floor import CAMERA_HEIGHT, PERSON_HEIGHT, USUAL_HORIZON, find_floor
from fgbgpack.rendering import Scene, render_scene

SIDE = 96
FRAMES = Path("shared", "images", "rgbd")  # beside the repository

scene_of = functools.cache(functools.partial(render_scene, seed=5, height=SIDE, width=SIDE))


def true_floor(scene: Scene) -> NDArray[np.bool_]:
    """Pixels whose depth is that of the floor."""
    height, camera = len(scene.depth), scene.camera
    down = (np.arange(height) + 0.5 - height / 2) / camera.focal
    fall = down * math.cos(camera.pitch) - math.sin(camera.pitch)
    inverse = (fall / camera.position[1])[:, None]
    return (inverse > 0) & (np.abs(scene.depth * inverse - 1) <= 0.03)


def true_horizon(scene: Scene) -> float:
    return len(scene.depth) / 2 + scene.camera.focal * math.tan(scene.camera.pitch)


def as_seen_by_a_network(scene: Scene, index: int) -> NDArray[np.float64]:
    """Relative inverse depth: of any scale and shift, blurred, bent and with noise."""
    rng = np.random.default_rng(index)
    padded = np.pad(1 / scene.depth.astype(np.float64), 1, mode="edge")
    blurred = sum(padded[y : y + SIDE, x : x + SIDE] for y in range(3) for x in range(3)) / 9
    span = np.ptp(blurred)
    x = np.linspace(-1, 1, SIDE)
    bent = blurred + span * (0.03 * x * rng.uniform(-1, 1) + 0.03 * x[:, None] ** 2)
    noisy = bent + span * 0.002 * rng.standard_normal(bent.shape)
    return noisy * rng.uniform(0.1, 500) + rng.uniform(-100, 100)


def test_a_bare_room_is_understood_exactly():
    """A floor and a wall: 1 / depth of the floor is (row - horizon) / (focal * height of the camera)."""
    rows = np.arange(128) + 0.5
    focal, camera, horizon = 120.0, 1.4, 50.0
    inverse = np.maximum((rows - horizon) / (focal * camera), 1 / 8)[:, None] + np.zeros((1, 128))
    floor = find_floor(inverse, is_metric=True, focal=focal)
    assert floor.kind == "metric"
    assert floor.horizon == pytest.approx(horizon, abs=0.01)
    assert floor.growth == pytest.approx(PERSON_HEIGHT / camera, rel=1e-3)
    assert floor.person_height(100) == pytest.approx(50 * PERSON_HEIGHT / camera, rel=1e-3)
    assert floor.person_height(49) == 0
    np.testing.assert_allclose(floor.inverse_depth(rows[90:]), inverse[90:, 0], rtol=1e-3)
    starts = math.ceil(horizon + focal * camera / 8)
    assert floor.feet[starts + 6 :].all(), "up to the lower and the side edges"
    assert not floor.feet[: starts - 1].any(), "never on the wall"


@pytest.mark.slow
def test_floors_of_rooms_are_found(all_faults, count_faults):
    count = 60 if all_faults else 15
    outcomes: Counter[str] = Counter()
    on_floor = all_feet = 0
    for index in range(count):
        scene = scene_of(index)
        floor = find_floor(as_seen_by_a_network(scene, index), is_metric=False)
        outcomes[floor.kind] += 1
        on_floor += int(true_floor(scene)[floor.feet].sum())
        all_feet += int(floor.feet.sum())
        if floor:
            assert floor.feet.mean() > 0.01
            assert floor.reason == ""
            assert floor.horizon == USUAL_HORIZON * SIDE
            assert floor.growth == PERSON_HEIGHT / CAMERA_HEIGHT
    count_faults("floors of rooms in relative depth", outcomes)
    assert outcomes["relative"] >= 0.98 * count
    assert on_floor >= 0.97 * all_feet


@pytest.mark.slow
def test_metric_depth_gives_the_horizon_and_heights(all_faults):
    errors = []
    for index in range(60 if all_faults else 15):
        scene = scene_of(index)
        floor = find_floor(1 / scene.depth, is_metric=True, focal=scene.camera.focal)
        assert floor.kind == "metric"
        assert true_floor(scene)[floor.feet].mean() > 0.99
        assert abs(floor.horizon - true_horizon(scene)) < 0.015 * SIDE
        errors.append(floor.growth / (PERSON_HEIGHT / scene.camera.position[1]) - 1)
    assert np.median(np.abs(errors)) < 0.01
    assert np.max(np.abs(errors)) < 0.05


def test_scale_and_shift_of_relative_depth_do_not_matter():
    inverse = as_seen_by_a_network(scene_of(0), 0)
    # Powers of two: rounding is the same.
    first = find_floor(inverse, is_metric=False)
    second = find_floor(inverse * 64, is_metric=False)
    np.testing.assert_array_equal(first.feet, second.feet)
    third = find_floor(inverse * 3.7 + 11, is_metric=False)
    assert (first.feet == third.feet).mean() > 0.99


@pytest.mark.parametrize("side", [8, 16, 64, 300])
def test_any_size_of_picture(side: int):
    rows = (np.arange(side) + 0.5) / side
    inverse = np.maximum(rows - 0.4, 0.15)[:, None] + np.zeros((1, side))
    floor = find_floor(inverse, is_metric=False)
    assert floor
    assert floor.feet.shape == (side, side)
    assert floor.feet[-1].all()
    assert not floor.feet[: side // 2].any()


class TestNoFloor:
    def test_a_wall(self):
        floor = find_floor(np.full((64, 64), 0.5), is_metric=True)
        assert (floor.kind, floor.feet.any(), bool(floor)) == ("none", False, False)
        assert floor.reason
        assert np.isnan(floor.slope)
        assert floor.horizon == USUAL_HORIZON * 64

    def test_nothing_is_known(self):
        floor = find_floor(np.full((64, 64), np.nan), is_metric=True)
        assert floor.kind == "none"
        assert floor.reason

    def test_a_ceiling(self):
        rows = np.linspace(0.5, 0.1, 64)
        assert find_floor(rows[:, None] + np.zeros((1, 64)), is_metric=False).kind == "none"

    def test_a_side_wall_is_none(self):
        columns = np.linspace(0.1, 0.5, 64)
        assert find_floor(columns[None] + np.zeros((64, 1)), is_metric=False).kind == "none"

    @pytest.mark.parametrize("seed", range(5))
    def test_noise(self, seed: int):
        noise = np.random.default_rng(seed).random((64, 64))
        floor = find_floor(noise, is_metric=False)
        assert floor.kind == "none"
        assert floor.reason


class TestWhatUsersSay:
    def test_horizon(self):
        inverse = as_seen_by_a_network(scene_of(0), 0)
        floor = find_floor(inverse, is_metric=False, horizon=60.0)
        assert floor.horizon == 60.0
        assert floor.feet.any()
        assert not floor.feet[:60].any()
        assert floor.person_height(90) == pytest.approx(30 * PERSON_HEIGHT / CAMERA_HEIGHT)

    def test_mask(self):
        inverse = as_seen_by_a_network(scene_of(0), 0)
        mask = np.zeros((SIDE, SIDE), np.bool_)
        mask[70:, 20:60] = True
        floor = find_floor(inverse, is_metric=False, mask=mask)
        assert floor.kind == "given"
        assert floor.feet[80, 40]
        assert not (floor.feet & ~mask).any()
        assert not floor.feet[70].any(), "not at its edge"
        assert floor.feet[-1, 40], "but at that of the picture"

    def test_mask_without_depth(self):
        mask = np.ones((32, 32), np.bool_)
        floor = find_floor(np.full((32, 32), np.nan), is_metric=False, mask=mask)
        assert floor.kind == "given"
        assert floor.feet.all()

    def test_empty_mask(self):
        floor = find_floor(np.ones((32, 32)), is_metric=False, mask=np.zeros((32, 32), np.bool_))
        assert floor.kind == "none"
        assert "mask" in floor.reason

    def test_shapes(self):
        with pytest.raises(ValueError, match="shape"):
            find_floor(np.ones((4, 4, 4)), is_metric=False)
        with pytest.raises(ValueError, match="shape"):
            find_floor(np.ones((4, 4)), is_metric=False, mask=np.ones((4, 5), np.bool_))


def test_unknown_pixels_are_not_floor():
    rows = (np.arange(64) + 0.5) / 64
    inverse = np.maximum(rows - 0.4, 0.1)[:, None] + np.zeros((1, 64))
    inverse[50:54, 30:34] = np.nan
    floor = find_floor(inverse, is_metric=True)
    assert floor.feet[60, 5]
    assert not floor.feet[50:54, 30:34].any()


@pytest.mark.parametrize("name", ["basement", "corridor", "living-room", "office-desk"])
def test_frames_of_a_depth_camera(name: str):
    """Rooms with clutter, in depth with noise and holes: what is relative shows the same floor."""
    path = ROOT.parent / FRAMES / f"{name}.png"
    if not path.is_file():
        pytest.skip(f"there are no frames in {FRAMES.as_posix()} beside the repository")
    metres = np.asarray(Image.open(path))[::4, ::4].astype(np.float64) / 1000
    inverse = 1 / np.where(metres == 0, np.nan, metres)
    metric = find_floor(inverse, is_metric=True)
    relative = find_floor(inverse * 40 - 7, is_metric=False)
    assert (metric.kind, relative.kind) == ("metric", "relative")
    rows = (np.arange(len(inverse)) + 0.5)[:, None]
    is_floor = np.abs(inverse / metric.inverse_depth(rows) - 1) < 0.06
    assert is_floor[relative.feet].mean() >= 0.96
