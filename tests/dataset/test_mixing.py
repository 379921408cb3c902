"""What a shuffled order mixes, in whatever memory it has."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fgbgpack.dataset.mixing import Mixing, Runs


@given(samples=st.integers(0, 5000), chunk=st.integers(1, 200), composed=st.booleans())
def test_sixteen_blocks_are_mixed_in_bounded_memory(samples, chunk, composed):
    mixing = Mixing.within(samples, chunk, composed=composed)
    assert mixing.window >= 16
    assert 1 <= mixing.part <= chunk
    if 16 * chunk <= samples:
        assert mixing == Mixing(chunk, chunk, 16) == Mixing.of_chunks(16, chunk)
        return
    eighth = 1 if composed else -(-chunk // 8)
    assert mixing.window * mixing.part <= max(samples, 16 * eighth)
    assert mixing.part >= eighth
    if composed:
        assert mixing.part == 1


@given(chunk=st.integers(1, 60), samples=st.integers(0, 1200), composed=st.booleans())
def test_blocks_are_parts_of_chunks(chunk, samples, composed):
    mixing = Mixing.within(samples, chunk, composed=composed)
    numbers = np.arange(5 * chunk)
    blocks = mixing.blocks(numbers)
    assert (np.diff(blocks) >= 0).all()
    for block in np.unique(blocks):
        inside = numbers[blocks == block]
        assert len(inside) <= mixing.part
        assert len(set((inside // chunk).tolist())) == 1
    assert len(np.unique(blocks)) == 5 * -(-chunk // mixing.part)


@given(
    count=st.integers(1, 400), adjacent=st.integers(1, 9), window=st.integers(1, 6), seed=st.integers(0, 99)
)
def test_blocks_of_a_run_are_read_soon_after_one_another_and_apart(count, adjacent, window, seed):
    runs = Runs.within(count, adjacent, window)
    assert 1 <= runs.length <= adjacent
    assert runs.length == 1 or count >= 8 * window * runs.length, "there are enough to mix"
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(count) if runs.length > 1 else None
    place, window_of = runs.order(rng.permutation(len(runs)), numbers)
    assert sorted(place.tolist()) == list(range(count)), "each block has a place of its own"
    order = np.argsort(place)
    assert (np.diff(window_of[order]) >= 0).all(), "windows come one after the other"
    for number in range(int(window_of.max()) + 1):
        blocks = order[window_of[order] == number]
        of_run = blocks // runs.length
        distinct = len(np.unique(of_run))
        assert distinct <= window
        # All runs of a window are met before one is met again, but for the last one, which may be shorter.
        whole = distinct if count % runs.length == 0 or count // runs.length not in of_run else distinct - 1
        for start in range(0, len(blocks) - distinct + 1, max(1, distinct)):
            assert len(np.unique(of_run[start : start + distinct])) >= whole


def test_blocks_that_follow_one_another_are_shuffled_one_by_one_unless_asked():
    numbers = np.array([5, 1, 4, 2, 3])
    place, _ = Runs.within(5, 1, 2).order(numbers, None)
    assert place.tolist() == [4, 0, 3, 1, 2]
