"""Colours at the edge of a cut-out are those of the foreground, not of what was behind it."""

from __future__ import annotations

import naive_cutout as naive
import numpy as np
from cutout_photos import FOREGROUND, figure, photo

from fgbgpack.cutout.colour import foreground_colour, reach_of


def test_colours_are_those_of_blur_fusion():
    alpha = np.uint8(np.rint(figure(40, 30, soft=4) * 255))
    rgb = photo(alpha / 255, seed=1)
    expected = naive.foreground_colour(rgb, alpha)
    found = foreground_colour(rgb, alpha, 40)
    soft = (alpha > 0) & (alpha < 255)
    assert np.abs(found[soft] - expected[soft]).max() <= 1
    np.testing.assert_array_equal(found[alpha == 255], rgb[alpha == 255])


def test_edges_lose_the_old_background():
    share = figure(160, 120, soft=6)
    alpha = np.uint8(np.rint(share * 255))
    rgb = photo(share)
    soft = (alpha > 25) & (alpha < 255)
    before = np.abs(rgb[soft].astype(int) - FOREGROUND).mean()
    after = np.abs(foreground_colour(rgb, alpha, 160)[soft].astype(int) - FOREGROUND).mean()
    assert before > 40
    assert after < 6


def test_a_part_of_a_photograph_is_enough():
    alpha = np.uint8(np.rint(figure(260, 200, top=0.3, soft=5) * 255))
    rgb = photo(alpha / 255, seed=3)
    rows, columns = (np.flatnonzero(alpha.any(axis=axis)) for axis in (1, 0))
    reach = reach_of(260)
    top, left = max(0, rows[0] - reach), max(0, columns[0] - reach)
    part = np.s_[top : rows[-1] + 1 + reach, left : columns[-1] + 1 + reach]
    shown = alpha[part] > 0
    whole, cropped = foreground_colour(rgb, alpha, 260)[part], foreground_colour(rgb[part], alpha[part], 260)
    # Sums along a row are rounded another way where it begins elsewhere.
    assert np.abs(whole[shown].astype(int) - cropped[shown]).max() <= 1


def test_nothing_is_known_far_from_the_foreground():
    alpha = np.uint8(np.rint(figure(60, 200) * 255))
    colours = foreground_colour(photo(alpha / 255), alpha, 200)
    assert not colours[:, :20].any()
    beside = (alpha == 0) & (np.roll(alpha, 1, axis=1) > 0)
    assert np.abs(colours[beside].astype(int) - FOREGROUND).max() < 40


def test_windows_grow_with_large_photographs():
    assert reach_of(500) == reach_of(1024) == 48
    assert reach_of(4096) == 4 * 48
