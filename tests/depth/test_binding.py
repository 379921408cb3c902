from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fgbgpack.depth.binding import Buffers


@pytest.fixture
def buffers():
    return Buffers(None)


def test_a_buffer_is_kept_until_a_larger_one_is_needed(buffers):
    first = buffers.get("images", (4, 3), np.float32)
    assert (first.shape, first.dtype, first.flags.c_contiguous) == ((4, 3), np.float32, True)
    assert np.shares_memory(first, buffers.get("images", (6, 2), np.uint16))
    assert not np.shares_memory(first, buffers.get("mask", (4, 3), np.float32))
    assert not np.shares_memory(first, buffers.get("images", (5, 3), np.float32))


def test_buffers_are_each_threads_own(buffers):
    first = buffers.get("images", (8,), np.uint8)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(buffers.get, "images", (8,), np.uint8).result()
    assert not np.shares_memory(first, other)


def test_buffers_are_of_the_memory_that_is_given():
    made = []

    def allocate(size):
        made.append(size)
        return np.zeros(size, np.uint8)

    Buffers(allocate).get("images", (3, 5), np.float16)
    assert made == [30]


@pytest.mark.parametrize("is_copied", [True, False])
def test_an_array_is_filled_up_with_its_last_row(buffers, is_copied):
    array = np.arange(6, dtype=np.int32).reshape(3, 2)
    staged = buffers.staged("images", array, 5, is_copied=is_copied)
    np.testing.assert_array_equal(staged, [[0, 1], [2, 3], [4, 5], [4, 5], [4, 5]])


def test_what_is_in_place_stays_there(buffers):
    foreign = np.zeros((4, 2), np.uint8)
    assert buffers.staged("images", foreign, 4, is_copied=False) is foreign
    assert not np.shares_memory(buffers.staged("images", foreign, 4, is_copied=True), foreign)
    given = buffers.get("images", (8, 2), np.uint8)
    for part in (given[:4], given[4:]):
        assert buffers.staged("images", part, 4, is_copied=True) is part
    # Rows behind these are another batch's.
    assert not np.shares_memory(buffers.staged("images", given[:3], 4, is_copied=True), given)
    assert not np.shares_memory(buffers.staged("mask", given[:4], 4, is_copied=True), given)
