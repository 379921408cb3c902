"""The kernels of cut-outs give what their naive twins give."""

from __future__ import annotations

import naive_cutout as naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgbgpack.cutout import kernels

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
SEEDS = st.integers(0, 2**32 - 1)


def masks(size, seed, share=0.5):
    return (np.random.default_rng(seed).random(size) < share).astype(np.uint8)


@given(SIZES, SEEDS, st.integers(0, 12))
def test_the_mean_over_a_box(size, seed, half):
    plane = np.random.default_rng(seed).random(size, np.float32)
    out = np.empty_like(plane)
    kernels.box_mean(plane, half, np.empty_like(plane), out)
    np.testing.assert_allclose(out, naive.box_mean(plane, half), rtol=1e-5, atol=1e-6)


@given(SIZES, SEEDS, st.booleans())
def test_connected_parts(size, seed, diagonal):
    mask = masks(size, seed)
    labels = np.full(size, 77, np.int32)
    count = kernels.label(mask, diagonal, np.empty(mask.size, np.int32), labels)
    expected = naive.label(mask, diagonal)
    np.testing.assert_array_equal(labels, expected)
    assert count == expected.max()


@given(SIZES, SEEDS)
def test_soft_pixels_go_to_the_nearest_part(size, seed):
    alpha = masks(size, seed, 0.7)
    cores = masks(size, seed + 1, 0.2) * alpha
    before = np.empty(size, np.int32)
    queue = np.empty(alpha.size, np.int32)
    count = kernels.label(cores, True, queue, before)
    labels = before.copy()
    kernels.spread(alpha, queue, labels)
    steps = np.array([naive.steps_to(alpha, before, number) for number in range(1, count + 1)])
    for y, x in np.ndindex(size):
        if not alpha[y, x] or not count or np.isinf(steps[:, y, x].min()):
            assert labels[y, x] == 0
        else:
            assert steps[labels[y, x] - 1, y, x] == steps[:, y, x].min()


@pytest.mark.parametrize("reach", [1, 2, 3])
@given(SIZES, SEEDS)
def test_places_without_an_edge(reach, size, seed):
    solid = masks(size, seed, 0.6)
    rgb = np.random.default_rng(seed).integers(0, 40, (*size, 3), np.uint8)
    assert kernels.count_weak(rgb, solid, reach, 12) == naive.count_weak(rgb, solid, reach, 12)
