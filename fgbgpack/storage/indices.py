"""Indices of an axis, in one form: whole numbers counted from its start."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import NDArray

#: Samples by their numbers: what indexes the first axis of a NumPy array.
Index: TypeAlias = SupportsIndex | slice | range | Sequence[int] | NDArray[Any]


def whole_number(value: Any) -> int | None:
    """A Python, NumPy or torch integer as an ``int``; ``None`` for all else, truth values included."""
    # NumPy refuses to take its truth values for numbers, torch does not.
    if isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool") or np.ndim(value):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


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


def sample_indices(index: Index, count: int) -> NDArray[np.int64]:
    """(n,) int64: the samples that an index names, from 0 on, in its order.

    An index is a whole number, a slice, a range, a list or an array of whole numbers (negative ones count
    from the end), or ``count`` truth values; torch's tensors too. Anything else raises IndexError.
    """
    if isinstance(index, slice):
        return np.arange(*index.indices(count))
    array = np.asarray(index)
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
