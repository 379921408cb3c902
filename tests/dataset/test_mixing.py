"""What a shuffled order mixes, in whatever memory it has."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fgbgpack.dataset.mixing import Mixing


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
