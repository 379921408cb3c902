"""Alpha becomes foregrounds, and each flag is raised by what it is about, and by nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from cutout_photos import figure, photo
from PIL import Image

from fgbgpack.cutout.matte import agreement, alpha_of, box_of, confirmed, parts_of
from fgbgpack.cutout.quality import measure

HEIGHT, WIDTH = 200, 160


def alpha_from(share):
    return np.uint8(np.rint(share * 255))


def person():
    return figure(HEIGHT, WIDTH)


def flags(share, rgb=None, split=False):
    parts = parts_of(alpha_from(share), split=split)
    seen = photo(share) if rgb is None else rgb
    return [measure(seen, part, is_split=split).flags for part in parts]


class TestAlpha:
    def test_it_has_the_size_of_the_photograph(self):
        answer = np.zeros((8, 8), np.float16)
        answer[:, 4:] = 1
        alpha = alpha_of(answer, (40, 20))
        assert alpha.shape == (20, 40)
        assert (alpha[:, :14] == 0).all()
        assert (alpha[:, 26:] == 255).all()
        assert (np.diff(alpha[10].astype(int)) >= 0).all()

    def test_noise_of_a_network_is_none(self):
        answer = np.array([[0.02, 0.5, 0.98]], np.float16).repeat(3, 0)
        np.testing.assert_array_equal(alpha_of(answer, (3, 3))[1], [0, 127, 255])


class TestParts:
    def two(self):
        share = np.zeros((HEIGHT, WIDTH))
        share[60:, 10:60] = figure(140, 50)
        share[20:, 80:150] = figure(180, 70)
        return share

    def test_all_is_one_foreground(self):
        (part,) = parts_of(alpha_from(self.two()), split=False)
        np.testing.assert_array_equal(part.alpha, alpha_from(self.two()))
        assert (part.pieces, part.large) == (2, 2)

    def test_people_apart_are_told_apart_from_left_to_right(self):
        first, second = parts_of(alpha_from(self.two()), split=True)
        np.testing.assert_array_equal(np.maximum(first.alpha, second.alpha), alpha_from(self.two()))
        assert box_of(first.alpha)[2] <= 60 < 80 <= box_of(second.alpha)[0]

    def test_a_small_part_goes_to_the_nearest_large_one(self):
        share = self.two()
        share[180:195, 61:70] = 1  # a shoe, 9 by 15 pixels
        first, second = parts_of(alpha_from(share), split=True)
        assert (first.pieces, second.pieces) == (2, 1)
        assert first.alpha[190, 65] == 255

    def test_specks_and_clouds_go(self):
        share = person()
        share[2:5, 2:5] = 1
        share[:20, 100:] = np.maximum(share[:20, 100:], 0.4)
        (part,) = parts_of(alpha_from(share), split=False)
        assert not part.alpha[:6, :6].any()
        assert not part.alpha[:10, 140:].any()
        assert part.specks == pytest.approx(9 / (person() > 0.5).sum(), rel=0.1)

    def test_there_may_be_none(self):
        assert parts_of(np.full((9, 9), 100, np.uint8), split=False) == []


class TestTwoNetworks:
    def test_agreement_is_what_both_have_of_what_one_has(self):
        one, other = np.zeros((2, 4), np.uint8), np.zeros((2, 4), np.uint8)
        one[0], other[:, 1] = 200, 100
        assert agreement(one, other) == 100 / (4 * 200 + 100)
        assert agreement(one, one) == 1
        assert agreement(one, 0 * one) == 0
        assert agreement(0 * one, 0 * one) == 1

    def test_what_the_second_does_not_find_goes(self):
        alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
        alpha[40:160, 20:130] = 255
        second = alpha.copy()
        second[:, 80:] = 80  # a third is nothing
        found = confirmed(alpha, second)
        np.testing.assert_array_equal(found[:, :79], alpha[:, :79])
        assert not found[:, 83:].any()

    def test_what_is_half_transparent_becomes_solid_inside_of_what_the_second_finds(self):
        alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
        alpha[40:160, 20:130] = 255
        second = alpha.copy()
        alpha[80:120, 20:100] = 100
        alpha[130:140, 60:90] = 0
        found = confirmed(alpha, second)
        assert (found[80:120, 23:100] == 255).all()
        assert not found[130:140, 60:90].any()
        assert (confirmed(alpha, 0 * second) == 0).all()

    def test_edges_are_those_of_the_first(self):
        share = person()
        alpha = alpha_from(share)
        coarse = Image.fromarray(alpha).resize((WIDTH // 4, HEIGHT // 4)).resize((WIDTH, HEIGHT))
        for second in (np.asarray(coarse), np.roll(alpha, 1, axis=1)):
            found = confirmed(alpha, second)
            assert np.abs(found.astype(int) - alpha).max() <= 16

    def test_a_small_and_a_large_photograph_are_treated_alike(self):
        alpha = alpha_from(person())
        second = np.where(np.arange(HEIGHT)[:, None] < 100, alpha, 0).astype(np.uint8)
        small = confirmed(alpha, second)
        large = confirmed(*(one.repeat(4, 0).repeat(4, 1) for one in (alpha, second)))
        assert np.abs(large[2::4, 2::4].astype(int) - small).mean() < 1

    @pytest.mark.parametrize(("share", "expected"), [(1, ()), (0.85, ()), (0.7, ("disputed",))])
    def test_disputed(self, share, expected):
        alpha = alpha_from(person())
        (part,) = parts_of(alpha, split=False)
        second = np.where(alpha.cumsum(axis=0, dtype=np.int64) <= share * alpha.sum(axis=0), alpha, 0)
        found = measure(photo(person()), part, is_split=False, second=second.astype(np.uint8))
        assert found.agreement == pytest.approx(share, abs=0.02)
        assert found.flags == expected

    def test_signs_count_less_where_a_second_network_agrees(self):
        share = person()
        share[150:] *= 0.6
        (part,) = parts_of(alpha_from(share), split=False)
        plain = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        assert measure(plain, part, is_split=False).flags == ("unsure", "leaks")
        assert measure(plain, part, is_split=False, second=part.alpha).flags == ()


class TestFlags:
    def test_a_clean_figure_has_none(self):
        assert flags(person()) == [()]

    def test_unsure(self):
        share = person()
        share[100:] *= 0.6
        assert flags(share) == [("unsure",)]

    def test_holes(self):
        share = person()
        share[70:130, 60:100] = 0
        assert flags(share) == [("holes",)]

    def test_leaks(self):
        assert flags(person(), np.full((HEIGHT, WIDTH, 3), 90, np.uint8)) == [("leaks",)]

    def test_border(self):
        share = np.zeros((HEIGHT, WIDTH))
        share[:, :150] = 1
        assert flags(share) == [("border",)]

    def test_a_portrait_that_ends_at_the_bottom_is_good(self):
        share = np.vstack([np.zeros((60, WIDTH)), figure(280, WIDTH)[: HEIGHT - 60]])
        (part,) = parts_of(alpha_from(share), split=False)
        found = measure(photo(share), part, is_split=False)
        assert (found.flags, found.sides) == ((), "bottom")

    def test_tiny(self):
        share = np.zeros((HEIGHT, WIDTH))
        share[50:100, 50:90] = figure(50, 40)
        assert flags(share) == [("tiny",)]

    def test_fragmented(self):
        share = person()
        for row in (60, 90, 120):
            share[row : row + 3] = 0
        assert "fragmented" in flags(share)[0]

    def test_several(self):
        share = np.hstack([figure(HEIGHT, 80), figure(HEIGHT, 80)])
        assert flags(share) == [("several",)]
        assert flags(share, split=True) == [(), ()]
