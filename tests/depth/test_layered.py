"""Depth in layers: the kernel and its naive twin, codes, numbers, and true depth of rendered rooms."""

from __future__ import annotations

import math
import os

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgbgpack.depth.background import from_inverse, to_inverse
from fgbgpack.depth.card import Quantity
from fgbgpack.depth.kernels import LARGEST_CODE, layer_depth
from fgbgpack.depth.layered import (
    PORTRAIT_HEIGHT,
    Layers,
    Outlines,
    Placed,
    figure_depth,
    figures_at,
    layer_step,
)

COMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"
INVERSE, METRES, FAR = Quantity("inverse_depth", None), Quantity("depth", "m"), Quantity("depth", None)
QUANTITIES = [INVERSE, Quantity("inverse_depth", "m"), METRES, FAR]


def whole_bodies(rng, count, height=9, width=5):
    """Patches with all kinds of alpha, transparent in the lowest row."""
    patch = rng.choice(np.array([0, 1, 126, 127, 128, 254, 255], np.uint8), (count, height, width, 4))
    patch[:, -1] = 0
    return patch


@st.composite
def scenes(draw):
    """Backgrounds, sprites and objects that may lie anywhere, outside the picture too."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width, most = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 3))
    patches = whole_bodies(rng, 3)
    size = rng.integers(1, [10, 6], (3, 2)).astype(np.int32)
    extreme = draw(st.booleans())
    choose = [-LARGEST_CODE, LARGEST_CODE] if extreme else np.arange(-40, 41)
    codes = rng.choice(choose, (2, height, width)).astype(np.int16)
    n = 4
    sprite = rng.integers(0, 3, (n, most)).astype(np.int32)
    count = rng.integers(0, most + 1, n)
    sprite[np.arange(most) >= count[:, None]] = -1
    placed = Placed(
        sprite,
        rng.integers(-10, height + 2, (n, most)).astype(np.int32),
        rng.integers(-6, width + 2, (n, most)).astype(np.int32),
    )
    numbers = rng.choice(choose, (n, most)).astype(np.int16)
    flip = rng.integers(0, 2, (n, most)).astype(np.bool_)
    return codes, patches, size, rng.integers(0, 2, n).astype(np.int32), placed, flip, numbers


def outlines_of(patches, size):
    alphas = [patch[:h, :w, 3] for patch, (h, w) in zip(patches, size, strict=True)]
    return Outlines.of(alphas, [False] * len(alphas))


def layers_of(codes, outlines, quantity=INVERSE, step=0.25, figures=None):
    if figures is None:
        figures = np.full((len(codes), 2), np.nan, np.float32)
    return Layers((codes * step).astype(np.float32), figures, quantity, outlines, step)


@settings(max_examples=150)
@given(scenes(), st.sampled_from(QUANTITIES))
def test_layers_equal_their_naive_twin(scene, quantity):
    codes, patches, size, background, objects, flip, numbers = scene
    outlines = outlines_of(patches, size)
    layers = layers_of(codes, outlines, quantity)
    mirrored = Placed(outlines.number(objects.outline, flip), objects.y, objects.x)
    out = np.empty((len(background), *codes.shape[1:]), np.float16)
    planes = layers.compose(background, mirrored, numbers, out)
    for i, which in enumerate(background):
        present = [k for k in range(objects.outline.shape[1]) if objects.outline[i, k] >= 0]
        sprites = []
        for k in present:
            s = objects.outline[i, k]
            patch = patches[s, : size[s, 0], : size[s, 1]]
            sprites.append((patch, flip[i, k], int(objects.y[i, k]), int(objects.x[i, k])))
        expected, at = naive.layer_depth(codes[which], sprites, numbers[i, : len(present)], layers.nearer)
        np.testing.assert_array_equal(out[i].astype(np.float64) / layers.step, expected)
        assert planes[i, : len(present)].tolist() == at


def test_the_kernel_without_compilation():
    """The same of two scenes: indices out of bounds are found."""
    rng = np.random.default_rng(3)
    outlines = outlines_of(whole_bodies(rng, 1), [(9, 5)])
    layers = layers_of(rng.integers(-9, 9, (1, 12, 12)).astype(np.int16), outlines)
    found = []
    for kernel in (layer_depth, getattr(layer_depth, "py_func", layer_depth)):
        out, placed = np.empty((2, 12, 12), np.uint16), np.zeros((2, 1), np.int16)
        tables = layers.codes, layers._halves, layers._half_of, np.zeros(2, np.int32)
        corners = np.array([[2], [-4]], np.int32), np.array([[3], [9]], np.int32)
        numbers = np.array([[4], [-9]], np.int16)
        number = outlines.number(np.zeros((2, 1), np.int32), np.array([[False], [True]]))
        kernel(
            *tables, outlines.alpha, outlines.offset, outlines.size, number, *corners, numbers, 1, placed, out
        )
        found.append((out, placed))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_every_blend():
    """All alphas of planes as near as can be, over backgrounds of all codes."""
    alpha = np.arange(256, dtype=np.uint8)
    codes = np.arange(-LARGEST_CODE, LARGEST_CODE + 1, 1 if COMPILED else 64).astype(np.int16)
    scene = np.repeat(codes[:, None], 256, axis=1)[None]
    outlines = Outlines.of([np.tile(alpha, (len(codes), 1))], [False])
    layers = layers_of(scene, outlines)
    zero = np.zeros((1, 1), np.int32)
    for number in (LARGEST_CODE, LARGEST_CODE - 1):
        out = np.empty(scene.shape, np.float16)
        (plane,) = layers.compose(zero[0], Placed(zero, zero, zero), np.full((1, 1), number, np.int16), out)
        total = alpha.astype(np.int64) * int(plane[0]) + (255 - alpha.astype(np.int64)) * codes[:, None]
        expected = (2 * total + 255) // 510
        np.testing.assert_array_equal(out[0].astype(np.float64) / layers.step, expected)


class TestStep:
    @settings(max_examples=200)
    @given(
        st.floats(-1000, 1000, width=32),
        st.floats(2**-10, 1000, width=32),
        st.integers(4, 10),
    )
    def test_all_depth_is_codes(self, low, span, bits):
        high = low + span
        step = layer_step(low, high, bits)
        assert math.frexp(step)[0] == 0.5, "a power of two"
        assert max(abs(low), abs(high)) <= LARGEST_CODE * step
        # As fine as asked for, unless float16 is not.
        assert span / step >= 2**bits or max(abs(low), abs(high)) > LARGEST_CODE * step / 2
        codes = np.arange(-LARGEST_CODE, LARGEST_CODE + 1)
        values = (codes * step)[np.abs(codes * step) <= 65504]
        np.testing.assert_array_equal(values.astype(np.float16).astype(np.float64), values)

    def test_flat_depth(self):
        assert 0 < layer_step(3.0, 3.0, 9) <= 2**-8


class TestNumbers:
    def test_height_of_persons(self):
        """A whole figure is as high as a person, a portrait is the upper part of one."""
        alphas = [np.full((height, 4), 255, np.uint8) for height in (20, 20, 7)]
        found = Outlines.of(alphas, [False, True, True]).person_pixels.tolist()
        portrait = 1.7 / PORTRAIT_HEIGHT
        assert found == pytest.approx(2 * [20, 20 * portrait, 7 * portrait])

    @pytest.mark.parametrize("quantity", QUANTITIES)
    def test_a_person_is_where_the_floor_is(self, quantity):
        """One of 1.7 m before a camera of 1.55 m: the feet are 155 / 170 of that below the horizon."""
        rows = np.arange(128) + 0.5
        inverse = np.maximum((rows - 0.42 * 128) / (130 * 1.55), 0.05)[:, None] + np.zeros((1, 128))
        depth = from_inverse(inverse, quantity).astype(np.float32)
        figures = figure_depth(depth, quantity)
        height = 60.0
        feet = 0.42 * 128 + height * 1.55 / 1.7
        found = to_inverse(figures_at(figures, np.array(height), quantity), quantity)
        tolerance = 0.02 if quantity.unit == "m" else 0.06
        assert found == pytest.approx((feet - 0.42 * 128) / (130 * 1.55), rel=tolerance)

    def test_flat_depth_tells_nothing(self):
        depth = np.full((32, 32), 2.0, np.float32)
        figures = figure_depth(depth, INVERSE)
        assert np.isnan(figures).all()
        outlines = Outlines.of([np.full((20, 4), 255, np.uint8)], [False])
        layers = Layers(depth[None], figures[None], INVERSE, outlines, 2.0**-8)
        zero, at = np.zeros((1, 1), np.int32), np.full((1, 1), 5, np.int32)
        out = np.empty((1, 32, 32), np.float16)
        layers.compose(zero[0], Placed(zero, at, at), layers.numbers(zero[0], zero), out)
        assert (out == 2).all(), "just before what it hides, which is as far"


def test_inverse_and_back():
    depth = np.array([0.2, 1.0, 30.0, 900.0])
    for quantity in QUANTITIES:
        np.testing.assert_allclose(from_inverse(to_inverse(depth, quantity), quantity), depth)
    assert from_inverse(np.array([0.0, -1.0]), METRES).tolist() == [1000, 1000]
