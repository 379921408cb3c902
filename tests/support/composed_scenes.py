"""Scenes as they are composed, and that they are those of the naive twins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import naive_scenes
import numpy as np

from fgbgpack.composition.objects import Objects
from fgbgpack.composition.recipe import Recipe, Samples
from fgbgpack.scene_spec import BLENDS


def composed(recipe: Recipe, samples: Samples, *, top=0, rows=None) -> dict[str, np.ndarray]:
    """All planes of some samples, or so many of their rows from ``top`` on."""
    shape = len(samples), rows or recipe.height, recipe.width
    found = {name: np.full((*shape, 3) if name == "image" else shape, 7, np.uint8) for name in recipe.planes}
    recipe.place(samples).compose(slice(None), found, top=top)
    return found


def assert_same_objects(objects: Objects, i: int, expected: Sequence[Mapping[str, Any]]) -> None:
    """The objects of sample ``i`` are those of its naive twin, and nothing follows them."""
    assert objects.count[i] == len(expected)
    for k, one in enumerate(expected):
        for name in ("foreground", "flip", "y", "x", "height", "width", "rotation", "shadow"):
            assert getattr(objects, name)[i, k] == one[name], (i, k, name)
        assert BLENDS[objects.blend[i, k]] == one["blend"], (i, k)
        assert objects.gain[i, k].tolist() == one["gain"], (i, k)
        assert objects.visible[i, k] == np.float32(float(one["visible"])), (i, k)
        assert objects.box[i, k].tolist() == one["box"], (i, k)
    for array in objects.arrays().values():
        assert (array[i, len(expected) :] == -1).all(), i


def assert_same_planes(
    planes: Mapping[str, np.ndarray], i: int, scene: np.ndarray, expected: Sequence[Mapping[str, Any]]
) -> None:
    """The pixels of sample ``i`` are those of the naive twins of its objects before that background."""
    found = naive_scenes.compose(scene, expected)
    for plane, values in zip(("image", "mask", "instance"), found, strict=True):
        np.testing.assert_array_equal(planes[plane][i], values, err_msg=f"{plane} {i}")
