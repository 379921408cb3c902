"""Indices of an axis, in one form: whole numbers counted from its start."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.options import truth, whole_number

#: Samples by their numbers: what indexes the first axis of a NumPy array.
Index: TypeAlias = SupportsIndex | slice | range | Sequence[int] | NDArray[Any]


def extremes(numbers: NDArray[np.integer[Any]]) -> tuple[int, int]:
    """The least and the greatest of some numbers; of one, which is common, without NumPy's overhead."""
    if numbers.size == 1:
        only = numbers.item()
        return only, only
    return int(numbers.min()), int(numbers.max())


def from_start(index: NDArray[Any], size: int, axis: int = 0) -> NDArray[np.int64]:
    """Integers of any shape that index an axis of a size, counted from its start; negative ones from the end.

    Raises IndexError, which names the axis, if they are not integers or one lies outside it.
    """
    if index.dtype.kind not in "iu":
        raise IndexError(f"only integers index axis {axis}, not {index.dtype}")
    numbers: NDArray[np.int64] = index.astype(np.int64)
    # Of the index itself: as int64, large unsigned numbers would count from the end.
    least, greatest = extremes(index) if numbers.size else (0, -1)
    if least < -size or greatest >= size:
        wrong = least if least < -size else greatest
        raise IndexError(f"index {wrong} is out of bounds for axis {axis} with size {size}")
    if least < 0:
        numbers[numbers < 0] += size
    return numbers


def plain_array(index: Any) -> NDArray[Any]:
    """What names several things, or one, as an array of integers or of truth values: lists, tuples, ranges,
    arrays, tensors, pandas' Series and the like. Other arrays are returned as they are.

    Raises IndexError where truth values are among numbers, which NumPy would take for 0 and 1.
    """
    array = np.asarray(index)
    if isinstance(index, (list, tuple)) and array.dtype.kind in "iu" and any(map(_is_truth, index)):
        raise IndexError(f"there are truth values among numbers: {index!r}")
    if array.dtype.kind == "O" and array.ndim == 1:
        # Such as pandas' columns that may lack values.
        if all(map(_is_truth, array)):
            return array.astype(np.bool_)
        if all(whole_number(one) is not None for one in array):
            with suppress(OverflowError):
                return array.astype(np.int64)
    return array if array.size or isinstance(index, np.ndarray) else array.astype(np.int64)


def _is_truth(value: Any) -> bool:
    return truth(value) is not None


def sample_indices(index: Index, count: int) -> NDArray[np.int64]:
    """(n,) int64: the samples that an index names, from 0 on, in its order.

    An index is a whole number, a slice, or what :func:`plain_array` takes: whole numbers (negative ones count
    from the end), or ``count`` truth values. Anything else raises IndexError.
    """
    if isinstance(index, slice):
        return np.arange(*index.indices(count))
    array = plain_array(index)
    if array.dtype == np.bool_ and array.shape == (count,):
        return np.flatnonzero(array)
    if array.ndim == 0 and array.dtype.kind in "iu":
        array = array.reshape(1)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise IndexError(
            f"samples are named by whole numbers or by {count} truth values, not by {array.dtype} of shape "
            f"{array.shape}"
        )
    return from_start(array if array.size else array.astype(np.int64), count)
