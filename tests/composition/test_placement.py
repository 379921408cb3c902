"""Placements depend on the seed and two pictures."""

from __future__ import annotations

import dataclasses
import math

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from fgbgpack.composition.placement import Plan
from fgbgpack.errors import SpecError

PLAN = Plan(
    height=21,
    width=33,
    background_words=(11, 22, 33),
    foreground_words=(0xFFFFFFFF, 5),
    foreground_sizes=((10, 8), (21, 33)),
    placements=3,
    flip=True,
    seed=7,
)


def rows(plan, start=0, stop=None):
    """Placements as tuples of (background, foreground, flip, replica, y, x)."""
    p = plan.placements_of(range(start, plan.samples if stop is None else stop))
    return list(
        zip(*(c.tolist() for c in (p.background, p.foreground, p.flip, p.replica, p.y, p.x)), strict=True)
    )


def corners(plan):
    """Corners by what they may depend on: the words of both pictures, flip and replica."""
    return {
        (plan.background_words[b], plan.foreground_words[f], flip, replica): (y, x)
        for b, f, flip, replica, y, x in rows(plan)
    }


# --- placements ------------------------------------------------------------------------------------


def test_samples_are_ordered_by_background_foreground_flip_and_replica():
    expected = [
        (b, f, flip, r) for b in range(3) for f in range(2) for flip in (False, True) for r in range(3)
    ]
    assert [row[:4] for row in rows(PLAN)] == expected
    assert PLAN.samples == len(expected) == 36
    without = dataclasses.replace(PLAN, flip=False)
    assert [row[:4] for row in rows(without)] == [row for row in expected if not row[2]]


def test_placements_have_the_types_that_are_stored():
    p = PLAN.placements_of(range(3, 9))
    assert len(p) == 6
    types = {name: getattr(p, name).dtype for name in ("background", "foreground", "replica", "y", "x")}
    assert set(types.values()) == {np.dtype(np.int32)}
    assert p.flip.dtype == np.bool_


@pytest.mark.slow
@given(st.integers(0, 36), st.integers(0, 36))
def test_any_part_equals_that_part_of_the_whole(a, b):
    start, stop = sorted((a, b))
    assert rows(PLAN, start, stop) == rows(PLAN)[start:stop]


@given(st.lists(st.integers(0, 35), max_size=9))
def test_any_samples_in_any_order_equal_those_of_the_whole(index):
    some = PLAN.placements_of(np.array(index, np.int64))
    whole = PLAN.placements_of(range(36))[np.array(index, np.int64)]
    for field in dataclasses.fields(some):
        np.testing.assert_array_equal(getattr(some, field.name), getattr(whole, field.name))


def test_corners_come_from_philox_with_the_seed_as_key_and_multiply_high():
    plan = dataclasses.replace(PLAN, seed=0x0123456789ABCDEF)
    for b, f, flip, replica, y, x in rows(plan):
        counter = (plan.background_words[b], plan.foreground_words[f], int(flip), replica)
        words = naive.philox4x32(counter, (0x89ABCDEF, 0x01234567))
        height, width = plan.foreground_sizes[f]
        expected = [
            naive.multiply_high(words[0], 21 - height + 1),
            naive.multiply_high(words[1], 33 - width + 1),
        ]
        assert [y, x] == expected


def test_known_placements():
    # A change of these would place every foreground of every dataset anew.
    plan = dataclasses.replace(PLAN, foreground_sizes=((10, 8), (5, 5)), placements=2)
    assert [row[4:] for row in rows(plan, 0, 8)] == [
        (11, 11),
        (0, 19),
        (5, 15),
        (2, 10),
        (9, 19),
        (11, 3),
        (1, 4),
        (4, 26),
    ]


@pytest.mark.slow
@settings(max_examples=60)
@given(st.data())
def test_a_pair_keeps_its_placements_whatever_else_is_in_the_dataset(data):
    words = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4, unique=True)
    backgrounds, foregrounds = data.draw(words), data.draw(words)
    size = {word: (1 + word % 21, 1 + word % 33) for word in foregrounds}

    def plan(backgrounds, foregrounds, placements, flip):
        return Plan(
            21,
            33,
            tuple(backgrounds),
            tuple(foregrounds),
            tuple(size[w] for w in foregrounds),
            placements,
            flip,
            5,
        )

    whole = corners(plan(backgrounds, foregrounds, 4, True))

    def some(words):
        return data.draw(
            st.permutations(words).flatmap(lambda p: st.integers(1, len(p)).map(lambda n: p[:n]))
        )

    fewer = plan(some(backgrounds), some(foregrounds), data.draw(st.integers(1, 4)), data.draw(st.booleans()))
    for key, corner in corners(fewer).items():
        assert whole[key] == corner


def test_each_of_seed_background_foreground_flip_and_replica_changes_corners():
    plan = dataclasses.replace(PLAN, placements=50, foreground_sizes=((1, 1), (1, 1)))
    base = rows(plan)
    for other in (
        dataclasses.replace(plan, seed=8),
        dataclasses.replace(plan, seed=7 + 2**32),
        dataclasses.replace(plan, background_words=(12, 23, 34)),
        dataclasses.replace(plan, foreground_words=(6, 0xFFFFFFFE)),
    ):
        same = np.mean([a[4:] == b[4:] for a, b in zip(base, rows(other), strict=True)])
        assert same < 0.02
    p = plan.placements_of(range(plan.samples))
    position = (p.y * 33 + p.x).reshape(3, 2, 2, 50)
    assert (position[:, :, 0] == position[:, :, 1]).mean() < 0.02
    assert len(np.unique(position[0, 0, 0])) > 40


def chi_square(observed):
    expected = observed.sum() / observed.size
    return float(((observed - expected) ** 2 / expected).sum())


def test_positions_are_uniform_all_inside_and_reach_every_border():
    plan = Plan(20, 30, tuple(range(40)), (1, 2), ((9, 14), (20, 30)), 500, True, 3)
    p = plan.placements_of(range(plan.samples))
    small = p.foreground == 0
    assert not p.y[~small].any(), "a patch as large as the picture has one place only"
    assert not p.x[~small].any()
    table = np.zeros((12, 17), np.int64)
    np.add.at(table, (p.y[small], p.x[small]), 1)  # an IndexError here would be a patch outside
    assert (table > 0).all()
    # Chi-square has k - 1 degrees of freedom, mean k - 1 and variance 2(k - 1): five sigma either way.
    for counts in (table, table.sum(0), table.sum(1)):
        degrees = counts.size - 1
        assert abs(chi_square(counts) - degrees) < 5 * math.sqrt(2 * degrees)
    flipped = p.flip[small]
    assert abs(np.corrcoef(p.y[small][flipped], p.x[small][flipped])[0, 1]) < 0.04
    assert abs(np.corrcoef(p.y[small][flipped], p.y[small][~flipped])[0, 1]) < 0.04


@given(st.integers(8, 300), st.integers(8, 300), st.data())
def test_every_placement_is_inside_for_any_sizes(height, width, data):
    size = (data.draw(st.integers(1, height)), data.draw(st.integers(1, width)))
    seed = data.draw(st.integers(0, 2**64 - 1))
    p = Plan(height, width, (1, 2**32 - 1), (9,), (size,), 20, True, seed).placements_of(range(80))
    assert (p.y >= 0).all()
    assert (p.x >= 0).all()
    assert (p.y + size[0] <= height).all()
    assert (p.x + size[1] <= width).all()


def test_scaled_placements_lie_at_multiples():
    p = PLAN.placements_of(range(36))
    q = p.scaled(3)
    np.testing.assert_array_equal(q.y, 3 * p.y)
    np.testing.assert_array_equal(q.x, 3 * p.x)
    np.testing.assert_array_equal(q.foreground, p.foreground)


def test_more_samples_than_an_index_can_hold_are_refused():
    with refused(SpecError, "samples-too-many", "1,099,511,627,776"):
        dataclasses.replace(PLAN, placements=2**40 // 12 + 1)


def test_samples_beyond_two_to_the_31_are_placed_as_any():
    plan = dataclasses.replace(PLAN, placements=2**31 - 1)
    far = np.array([plan.samples - 1, 2**31 + 7, 3], np.int64)
    found = plan.placements_of(far)
    for i, sample in enumerate(far.tolist()):
        pair, within = divmod(sample, 2 * plan.placements)
        background, foreground = divmod(pair, len(plan.foreground_words))
        flip, replica = divmod(within, plan.placements)
        counter = (plan.background_words[background], plan.foreground_words[foreground], flip, replica)
        words = naive.philox4x32(counter, (plan.seed & 0xFFFFFFFF, plan.seed >> 32))
        height, width = plan.foreground_sizes[foreground]
        expected = (
            *(background, foreground, bool(flip), replica),
            naive.multiply_high(words[0], plan.height - height + 1),
            naive.multiply_high(words[1], plan.width - width + 1),
        )
        assert tuple(getattr(found, field.name)[i] for field in dataclasses.fields(found)) == expected
    with pytest.raises(IndexError):
        plan.placements_of(np.array([plan.samples]))
    with pytest.raises(IndexError):
        plan.placements_of(np.array([-1]))


# --- recipe digest ---------------------------------------------------------------------------------


def test_the_digest_changes_with_each_thing_that_pixels_depend_on():
    random = np.random.default_rng(0)
    background = random.integers(0, 256, (3, 21, 33, 3), np.uint8)
    foreground = random.integers(0, 256, (2, 21, 33, 4), np.uint8)
    cut = np.array([0, 4], np.uint8)
    digest = PLAN.recipe_digest(background, foreground, cut)
    assert len(digest) == 64
    changes = (
        {"background_words": (11, 22, 34)},
        {"background_words": (22, 11, 33)},
        {"foreground_words": (0xFFFFFFFF, 6)},
        {"foreground_sizes": ((8, 10), (21, 33))},
        {"placements": 4},
        {"flip": False},
        {"seed": 8},
        {"height": 22},
        {"width": 34},
    )
    others = [dataclasses.replace(PLAN, **change) for change in changes]
    digests = [digest, *(other.recipe_digest(background, foreground, cut) for other in others)]
    for array, at in (
        (background, (0, 0, 0, 0)),
        (background, (2, 20, 32, 2)),
        (foreground, (1, 20, 32, 3)),
        (foreground, (0, 9, 7, 0)),
        (cut, (1,)),
    ):
        before = array[at]
        array[at] ^= 1
        digests.append(PLAN.recipe_digest(background, foreground, cut))
        array[at] = before
    assert len(set(digests)) == len(digests)
    assert PLAN.recipe_digest(background, foreground, cut) == digest

    # The padding of a patch is never seen.
    foreground[0, 10:] = 7
    foreground[0, :, 8:] = 7
    padded = np.pad(foreground, ((0, 0), (0, 3), (0, 2), (0, 0)), constant_values=9)
    assert PLAN.recipe_digest(background, foreground, cut) == digest
    assert PLAN.recipe_digest(background, padded, cut) == digest
    assert PLAN.recipe_digest(background[:, :, ::-1][:, :, ::-1], foreground, cut) == digest
