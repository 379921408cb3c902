"""Depth of backgrounds, as guided networks take it."""

from __future__ import annotations

import numpy as np
import pytest
from refusals import refused

from fgbgpack.depth import BackgroundDepth
from fgbgpack.depth.background import to_inverse
from fgbgpack.depth.card import Quantity
from fgbgpack.errors import DepthModelError

RNG = np.random.default_rng(19)
QUANTITIES = [("inverse_depth", None), ("depth", None), ("depth", "m")]


class TestBackgroundDepth:
    @pytest.mark.parametrize(("quantity", "unit"), QUANTITIES)
    def test_centre_and_spread(self, quantity, unit):
        depth = RNG.uniform(0.5, 9, (3, 5, 7))
        given = BackgroundDepth.of(depth, Quantity(quantity, unit))
        assert (given.depth.dtype, given.centre.dtype, given.spread.dtype) == (np.float32,) * 3
        assert (len(given), given.meaning) == (3, (quantity, unit))
        for i, values in enumerate(depth):
            inverse = {"m": 1 / values}.get(unit, values if quantity == "inverse_depth" else -values)
            assert given.centre[i] == pytest.approx(np.median(inverse), rel=1e-6)
            assert given.spread[i] == pytest.approx(np.abs(inverse - np.median(inverse)).mean(), rel=1e-6)

    def test_a_flat_background(self):
        given = BackgroundDepth.of(np.full((2, 4, 4), 3, np.float16), Quantity("inverse_depth", None))
        np.testing.assert_array_equal(given.centre, 3)
        np.testing.assert_array_equal(given.spread, 1)

    @pytest.mark.parametrize("quantity", QUANTITIES)
    def test_inverse_depth_is_largest_where_it_is_nearest(self, quantity):
        depth = RNG.uniform(0.5, 9, (4, 4))
        inverse = to_inverse(depth, Quantity(*quantity))
        nearest = depth.argmax() if quantity[0] == "inverse_depth" else depth.argmin()
        assert inverse.argmax() == nearest
        expected = {"m": 1 / depth}.get(quantity[1], depth if quantity[0] == "inverse_depth" else -depth)
        np.testing.assert_array_equal(inverse, expected)

    def test_depth_that_is_not_finite(self):
        depth = np.ones((4, 3, 3), np.float32)
        depth[2, 1, 1], depth[3, 0, 0] = np.nan, np.inf
        with refused(DepthModelError, "network-output-not-finite", r"2 of the 4 backgrounds.*number 2"):
            BackgroundDepth.of(depth, Quantity("depth", "m"))

    def test_no_depth(self):
        with refused(DepthModelError, "backgrounds-missing"):
            BackgroundDepth.of(np.ones((0, 3, 3), np.float32), Quantity("depth", "m"))
        with pytest.raises(ValueError, match=r"found shape \(3, 3\)"):
            BackgroundDepth.of(np.ones((3, 3), np.float32), Quantity("depth", "m"))
