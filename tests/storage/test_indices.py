"""Indices of samples against NumPy's indexing of the axis that they name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st

from fgbgpack.storage.indices import from_start, sample_indices, whole_number

COUNT = 7
AXIS = np.arange(COUNT)
INTEGERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4")


def indices(count):
    """Whatever indexes an axis, and now and then something out of its bounds."""
    inside = st.integers(-count, count - 1)
    number = inside | st.integers(-2 * count, 2 * count)
    signed = numpy_st.arrays(st.sampled_from(["i1", "i8", ">i4"]), st.integers(0, 9), elements=number)
    unsigned = numpy_st.arrays(
        st.sampled_from(["u1", "u8"]), st.integers(0, 9), elements=st.integers(0, count)
    )
    return st.one_of(
        number,
        number.map(np.int16),
        number.map(np.array),
        number.map(torch.tensor),
        st.slices(count),
        st.slices(3 * count),
        st.builds(slice, number | st.none(), number | st.none(), st.sampled_from([-3, -1, 1, 2, None])),
        st.builds(range, inside, inside),
        st.lists(inside, max_size=9),
        st.lists(number, max_size=9),
        st.lists(inside, max_size=9).map(tuple),
        signed,
        unsigned,
        signed.filter(lambda array: array.dtype.isnative).map(torch.from_numpy),
        numpy_st.arrays(np.bool_, count),
        st.lists(st.booleans(), min_size=count, max_size=count),
        numpy_st.arrays(np.bool_, count).map(torch.from_numpy),
    )


def by_numpy(index, axis):
    """What NumPy finds, of what it takes for an index of one axis."""
    if isinstance(index, torch.Tensor):
        index = index.numpy()
    elif not isinstance(index, (slice, np.ndarray)):
        index = np.array(index, None if len(np.atleast_1d(index)) else np.int64)
    return np.atleast_1d(axis[index])


@pytest.mark.slow
@settings(max_examples=400)
@given(st.integers(1, COUNT).flatmap(lambda count: st.tuples(st.just(count), indices(count))))
def test_samples_are_those_that_numpy_finds(drawn):
    count, index = drawn
    try:
        expected = by_numpy(index, AXIS[:count])
    except IndexError:
        with pytest.raises(IndexError):
            sample_indices(index, count)
    else:
        found = sample_indices(index, count)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "index",
    [
        *(1.0, "1", None, ..., True, np.True_, np.array(True), torch.tensor(True), {1, 2}, b"1"),
        *([1.0], ["1"], [None], [[1]], [[]], np.zeros((1, 1), int), np.zeros(2), torch.zeros(3)),
        *([True], np.ones(COUNT + 1, bool), np.ones((COUNT, 1), bool), np.array(["1"])),
        *(np.array([1], "M8[s]"), np.array([1 + 0j]), 2**70, [2**70]),
    ],
    ids=repr,
)
def test_what_is_no_index_is_an_index_error(index):
    with pytest.raises(IndexError) as caught:
        sample_indices(index, COUNT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("index", "wrong"),
    [
        (COUNT, COUNT),
        (-COUNT - 1, -COUNT - 1),
        ([0, COUNT], COUNT),
        ([0, -COUNT - 1, COUNT], -COUNT - 1),
        (range(3, COUNT + 2), COUNT + 1),
        (np.array([2**40]), 2**40),
        (np.array([2**63], np.uint64), 2**63),
        # As signed numbers these would count from the end.
        ([2**64 - 1], 2**64 - 1),
        (np.array([2**64 - 1, 3], np.uint64), 2**64 - 1),
    ],
)
def test_an_index_out_of_bounds_is_named_as_numpy_names_it(index, wrong):
    with pytest.raises(IndexError, match=f"^index {wrong} is out of bounds for axis 0 with size {COUNT}$"):
        sample_indices(index, COUNT)


def test_no_samples_have_no_indices():
    for index in ([], (), range(0), slice(None), np.zeros(0, bool), np.zeros(0)):
        assert sample_indices(index, 0).shape == (0,)
    with pytest.raises(IndexError, match="index 0 is out of bounds"):
        sample_indices(0, 0)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_indices_of_any_shape_count_from_the_start_and_the_callers_stay(dtype):
    given_index = np.array([[1, 0], [COUNT - 1, 2]], dtype)
    if given_index.dtype.kind == "i":
        given_index = given_index - np.array(COUNT, dtype) * (given_index > 1)
    before = given_index.copy()
    found = from_start(given_index, COUNT)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, [[1, 0], [COUNT - 1, 2]])
    np.testing.assert_array_equal(given_index, before)


def test_an_axis_that_is_indexed_by_other_than_integers_is_named():
    for wrong in (np.zeros(2), np.ones(2, bool), np.array(["a"])):
        with pytest.raises(IndexError, match=f"axis 3, not {wrong.dtype}"):
            from_start(wrong, COUNT, 3)


class Five:
    def __index__(self):
        return 5


@pytest.mark.parametrize("value", [5, np.uint8(5), np.int64(5), np.array(5), torch.tensor(5), Five()])
def test_integers_of_every_kind_are_whole_numbers(value):
    found = whole_number(value)
    assert found == 5
    assert type(found) is int


@pytest.mark.parametrize(
    "value",
    [
        *(True, np.True_, np.array(True), torch.tensor(True), 5.0, np.float32(5), "5", None, ..., [5], (5,)),
        *(np.array([5]), torch.tensor([5]), torch.tensor(5.0), slice(5)),
    ],
    ids=repr,
)
def test_all_else_is_no_whole_number(value):
    assert whole_number(value) is None
