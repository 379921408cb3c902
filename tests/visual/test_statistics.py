"""Statistics of depth maps against slow twins that follow their definitions."""

from __future__ import annotations

from math import sqrt

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fgbgpack.visual.statistics import (
    Spread,
    aligned_error,
    band_width,
    outline_bands,
    outline_step,
    spearman,
)

small_numbers = st.integers(-3, 3)


@st.composite
def pairs(draw, elements=small_numbers):
    count = draw(st.integers(1, 25))
    return tuple(draw(hnp.arrays(np.int64, count, elements=elements)) for _ in range(2))


class TestSpearman:
    @pytest.mark.slow
    @given(pairs())
    def test_is_the_definition_ties_and_all(self, maps):
        assert spearman(*maps) == pytest.approx(naive.spearman(*maps), abs=1e-12)

    @pytest.mark.slow
    @given(pairs(st.integers(-(2**40), 2**40)))
    def test_depends_on_the_order_alone(self, maps):
        first, second = maps
        expected = spearman(first, second)
        assert spearman(second, first) == expected
        assert spearman(3 * first + 5, second) == expected
        assert spearman(-first, second) == -expected
        assert -1 <= expected <= 1

    @given(hnp.arrays(np.float64, (4, 7), elements=st.floats(-1e6, 1e6)))
    def test_is_exactly_one_with_itself(self, values):
        expected = 0.0 if (values == values[0, 0]).all() else 1.0
        assert spearman(values, values) == expected
        assert spearman(values, -values) == -expected

    def test_known_values(self):
        # 1 - 6 * sum(d^2) / (n (n^2 - 1)) where nothing is tied.
        assert spearman(np.array([1, 2, 3, 4, 5]), np.array([2, 1, 4, 3, 5])) == pytest.approx(0.8)
        assert spearman(np.array([1, 2, 3]), np.array([2, 2, 2])) == 0
        assert spearman(np.array([]), np.array([])) == 0

    def test_large_maps_of_few_values(self):
        values = np.random.default_rng(0).integers(0, 5, (300, 400))
        assert spearman(values, values * 2) == 1
        assert abs(spearman(values, values[::-1])) < 0.02


class TestOutline:
    @given(
        hnp.arrays(
            np.uint8,
            st.tuples(st.integers(1, 9), st.integers(1, 9)),
            elements=st.sampled_from([0, 25, 26, 128, 229, 230, 255]),
        ),
        st.integers(1, 10),
    )
    def test_bands_are_the_definition(self, mask, width):
        for band, expected in zip(outline_bands(mask, width), naive.outline_bands(mask, width), strict=True):
            np.testing.assert_array_equal(band, expected)

    @pytest.mark.parametrize(("height", "width"), [(4, 2), (40, 2), (41, 3), (50, 3), (100, 5), (101, 6)])
    def test_band_is_a_twentieth_of_the_foreground(self, height, width):
        assert band_width(height) == width

    def test_a_known_step(self):
        mask = np.zeros((12, 12), np.uint8)
        mask[3:9, 3:9] = 255
        nearness = np.where(mask > 0, 5.0, 2.0)
        # A quarter of the pixels is 3 higher: the standard deviation is 3 * sqrt(1/4 * 3/4).
        assert outline_step(nearness, *outline_bands(mask, 2)) == pytest.approx(4 / sqrt(3))
        assert outline_step(7 - 2 * nearness, *outline_bands(mask, 2)) == pytest.approx(-4 / sqrt(3))

    def test_a_blob_beside_the_person_is_no_step(self):
        mask = np.zeros((40, 40), np.uint8)
        mask[10:30, 15:25] = 255
        rows = np.repeat(np.arange(40.0)[:, None], 40, axis=1)
        assert abs(outline_step(rows, *outline_bands(mask, 2))) < 0.1

    def test_a_constant_map_has_none(self):
        mask = np.zeros((8, 8), np.uint8)
        mask[2:6, 2:6] = 255
        # A tenth has no exact mean: rounding alone must not become a step.
        assert outline_step(np.full((8, 8), 0.1), *outline_bands(mask, 2)) == 0

    @pytest.mark.parametrize("alpha", [0, 128, 255])
    def test_without_an_outline_there_is_nothing_to_measure(self, alpha):
        mask = np.full((8, 8), alpha, np.uint8)
        assert outline_step(np.arange(64.0).reshape(8, 8), *outline_bands(mask, 2)) is None


class TestAlignedError:
    @given(st.floats(0.1, 10), st.floats(-5, 5))
    def test_scale_and_shift_do_not_matter(self, scale, shift):
        truth = np.array([0.2, 0.5, 1.0, 0.25, 0.7])
        assert aligned_error(truth * scale + shift, truth) == pytest.approx(0, abs=1e-9)

    def test_is_that_of_least_squares(self):
        rng = np.random.default_rng(1)
        truth, nearness = rng.uniform(0.2, 1, 50), rng.uniform(0, 3, 50)
        design = np.stack([nearness, np.ones(50)], axis=1)
        fitted = np.maximum(design @ np.linalg.lstsq(design, truth)[0], truth.min())
        expected = np.mean(np.abs(1 / fitted - 1 / truth) * truth)
        assert aligned_error(nearness, truth) == pytest.approx(expected)

    def test_what_the_fit_puts_too_far_is_as_far_as_it_gets(self):
        # The fit is (x + 7) / 16: it puts the last pixel at 1/16, where the farthest one is at 1/4.
        nearness, truth = np.array([0.0, 6.0, 0.0, -6.0]), np.array([0.25, 1.0, 0.25, 0.25])
        fitted = np.array([7 / 16, 13 / 16, 7 / 16, 1 / 4])
        assert aligned_error(nearness, truth) == pytest.approx(np.mean(np.abs(truth / fitted - 1)))

    def test_a_constant_map_is_fitted_by_the_mean(self):
        truth = np.array([0.5, 1.0])
        assert aligned_error(np.array([3.0, 3.0]), truth) == pytest.approx((1 / 3 + 1 / 3) / 2)


def test_spread_leaves_out_what_was_not_measured():
    assert Spread.of([4.0, None, 1.0, 2.0, 3.0, None, 5.0]) == Spread(2.0, 3.0, 4.0, 5)
    assert Spread.of([1.0, 2.0]) == Spread(1.25, 1.5, 1.75, 2)
    assert Spread.of([None]) is None
