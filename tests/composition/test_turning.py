"""Turned sprites: their alpha and areas by the naive twin, and cut edges that stay out of sight."""

from __future__ import annotations

import dataclasses
import math

import naive_scenes
import numpy as np
import pytest
from refusals import refused

from fgbgpack.composition.objects import Objects
from fgbgpack.composition.recipe import Recipe
from fgbgpack.composition.sprites import Sprites
from fgbgpack.composition.turning_kernels import cosine, sine
from fgbgpack.errors import SpecError
from fgbgpack.pipeline.create import load_recipe
from fgbgpack.pipeline.events import silent

ANGLES = np.array([0, 1, -1, 37, -100, 450, -450, 203], np.int16)


def test_sines_are_rounded_to_nearest():
    for tenths in range(-900, 901):
        assert sine(tenths) == round(math.sin(math.radians(tenths / 10)) * 65536)
        assert cosine(tenths) == round(math.cos(math.radians(tenths / 10)) * 65536)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 1), (2, 9), (6, 5)])
def test_alpha_and_area_are_the_naive_ones(height, width):
    rng = np.random.default_rng(height)
    patch = rng.integers(0, 256, (1, height, width, 4), np.uint8)
    patch[..., 3] = rng.choice([0, 3, 127, 128, 255], (height, width))
    sprites = Sprites.of(patch, np.array([[height, width]], np.int32), (height,), ("soft", "hard"))
    sprite = np.array([[0, 1, -1]] * len(ANGLES), np.int32)
    for flip in (0, 1):
        flips, rotation = np.full(sprite.shape, flip, np.int8), np.repeat(ANGLES[:, None], 3, axis=1)
        turned, area = sprites.turned(sprite, flips, rotation), sprites.areas(sprite, flips, rotation)
        for i, tenths in enumerate(ANGLES.tolist()):
            for k, blend in enumerate(("soft", "hard")):
                upright = naive_scenes.sprite_of(patch[0], height, blend)
                expected, rows, columns = naive_scenes.turn(
                    upright[:, ::-1] if flip else upright, tenths, blend == "hard"
                )
                number = 3 * i + k
                start, shape = turned.offset[number], turned.size[number].tolist()
                found = turned.alpha[start : start + math.prod(shape)].reshape(shape)
                np.testing.assert_array_equal(found, expected[..., 3])
                assert turned.margin[i, k].tolist() == [rows, columns]
                assert area[i, k] == (expected[..., 3] > 127).sum()
            assert (area[i, 2], turned.size[3 * i + 2].tolist()) == (0, [0, 0])


@pytest.mark.parametrize("cut", [1, 2, 4, 8, 6, 12])
def test_no_cut_edge_is_seen(pictures, cut):
    """Both ends of an edge that is cut are beyond the border, and no farther than they have to be."""
    fields = {"samples": 200, "foreground_height": "8-14", "placement": "anchored", "rotation": 30}
    found = load_recipe(pictures.spec(**fields), silent)
    recipe = Recipe.of(found.spec, dataclasses.replace(found.catalog, cut=np.array([cut, cut], np.uint8)))
    objects = recipe.objects(range(200))
    assert len(np.unique(objects.rotation)) > 100
    for i in range(200):
        y, x, h, w = (float(getattr(objects, name)[i, 0]) for name in ("y", "x", "height", "width"))
        angle = math.radians(objects.rotation[i, 0] / 10)
        corners = {
            (down, across): (
                y + h / 2 + math.sin(angle) * across * w / 2 + math.cos(angle) * down * h / 2,
                x + w / 2 + math.cos(angle) * across * w / 2 - math.sin(angle) * down * h / 2,
            )
            for down in (-1, 1)
            for across in (-1, 1)
        }
        left, right = bool(cut & 2), bool(cut & 8)
        if objects.flip[i, 0]:
            left, right = right, left
        beyond = []
        if cut & 4:
            beyond.append((min(corners[1, across][0] for across in (-1, 1)) - 21, h))
        if cut & 1:
            beyond.append((-max(corners[-1, across][0] for across in (-1, 1)), h))
        if left:
            beyond.append((-max(corners[down, -1][1] for down in (-1, 1)), w))
        if right:
            beyond.append((min(corners[down, 1][1] for down in (-1, 1)) - 33, w))
        for far, size in beyond:
            assert (0.49 if angle else 0) <= far <= size // 4 + 2.01, (i, far)


def test_turned_ones_are_inside(pictures):
    fields = {"samples": 200, "foreground_height": "6-13", "rotation": 45}
    objects = load_recipe(pictures.spec(**fields), silent).objects(range(200))
    assert (objects.visible[:, 0] == 1).all()
    assert (np.abs(objects.rotation[:, 0]) <= 450).all()
    assert objects.rotation[:, 0].min() < -300
    assert objects.rotation[:, 0].max() > 300


def test_angles_beyond_the_largest_are_refused(pictures):
    recipe = load_recipe(pictures.spec(samples=2, rotation=5), silent)
    objects = recipe.objects(range(2))
    turned = objects.rotation.copy()
    turned[1, 0] = 451
    with refused(SpecError, "placement-outside"):
        recipe.place(range(2), None, dataclasses.replace(objects, rotation=turned))
    assert Objects.none(2, 1).rotation.tolist() == [[-1], [-1]]
