"""Arrays that are indexed as NumPy's are, and read only what an index touches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import EllipsisType
from typing import Any, NamedTuple, Protocol, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fgbgpack.options import whole_number
from fgbgpack.storage.indices import from_start, plain_array
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.reading.reader import Array, Samples

#: One axis of an index: an integer, a slice, or integers of any shape.
Axis: TypeAlias = int | slice | NDArray[np.int64]
One: TypeAlias = SupportsIndex | slice | EllipsisType | Sequence[int] | NDArray[Any]
Key: TypeAlias = One | tuple[One, ...]


class SampleReader(Protocol):
    """What gives the samples of an array: :class:`ArrayReader`, or what makes them anew."""

    keep: int

    @property
    def layout(self) -> Layout:
        """How the array is cut, or would be."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its elements."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The attributes of the array."""

    @property
    def chunks_decoded(self) -> int:
        """How many chunks were decoded so far in this process, in whole or in part."""

    def read(
        self,
        samples: Samples,
        out: Array | None = None,
        *,
        rows: slice = ...,
        columns: slice = ...,
        threads: int | None = None,
    ) -> Array:
        """As :meth:`ArrayReader.read`."""


class StoredArray:
    """An array of samples on disk, or one that is made anew of what is there.

    It is indexed as the NumPy array of the same values would be, by integers, slices, lists, arrays of
    integers and masks on any axes (``None`` is not understood), and gives arrays of its own. An index reads
    the chunks that it touches, and of pictures that are cut into bands the bands that it touches. ``reader``
    reads into arrays that are there already, ``attrs`` are the attributes.
    """

    def __init__(self, reader: SampleReader) -> None:
        self.reader = reader

    @property
    def attrs(self) -> Mapping[str, Any]:
        """The attributes."""
        return self.reader.attributes

    @property
    def shape(self) -> tuple[int, ...]:
        """Samples first."""
        return self.reader.layout.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the elements."""
        return self.reader.dtype

    @property
    def ndim(self) -> int:
        """Axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array in memory."""
        return self.size * self.dtype.itemsize

    @property
    def chunks(self) -> tuple[int, ...]:
        """The shape of what is read together."""
        return self.reader.layout.chunk

    @property
    def shards(self) -> tuple[int, ...]:
        """The shape of what was written together."""
        return self.reader.layout.shard

    @property
    def chunks_decoded(self) -> int:
        """How many chunks were decoded so far in this process, in whole or in part."""
        return self.reader.chunks_decoded

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<StoredArray {self.dtype} of shape {self.shape} in chunks of {self.chunks}>"

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("an array on disk cannot be had without a copy")
        whole: Array = self[:]
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __getitem__(self, key: Key) -> Any:
        """The elements of an index, as an array of its own or, for one element, a NumPy scalar.

        Raises:
            IndexError: As from NumPy: out of bounds, too many axes, or no index at all.
            DatasetError: The array is damaged or cannot be read.
        """
        axes, separator = _axes(key, self.shape)
        samples, first = self._samples(axes)
        # What is left to take of the samples once they are here: of rows and columns only those are here.
        rest: list[Axis] = list(axes[1:])
        cut = [slice(None), slice(None)]
        for i, axis in enumerate(rest[:2]):
            cut[i], rest[i] = _narrowed(axis, self.shape[1 + i])
        part = self.reader.read(samples, rows=cut[0], columns=cut[1])
        in_order = isinstance(first, tuple)
        remaining: list[Any] = [slice(None) if in_order else first, *rest]
        if separator is not None:
            remaining.insert(separator, ...)
        taken = part[tuple(remaining)]
        return taken.reshape(first + taken.shape[1:]) if in_order else taken

    def _samples(self, axes: list[Axis]) -> tuple[NDArray[np.int64], Axis | tuple[int, ...]]:
        """Which samples to read, and how they are then indexed; or the shape that they take, in order."""
        axis = axes[0]
        if isinstance(axis, int):
            return np.array([axis]), 0
        if isinstance(axis, slice):
            return np.arange(*axis.indices(len(self))), slice(None)
        if any(isinstance(other, np.ndarray) for other in axes[1:]):
            # Arrays are broadcast to each other: that is left to NumPy, and each sample read once.
            distinct, places = np.unique(axis, return_inverse=True)
            return distinct, places.reshape(axis.shape)
        return axis.reshape(-1), axis.shape


class _OfMask(NamedTuple):
    """One axis of a mask's true elements, and how long that axis of the mask is."""

    places: NDArray[np.intp]
    size: int


def _axes(key: Key, shape: tuple[int, ...]) -> tuple[list[Axis], int | None]:
    """An index as one entry for each axis, checked and counted from the start, as NumPy does.

    Also where there is an ellipsis that stands for no axis: to NumPy that, too, parts arrays of integers, and
    makes an array of a single element.
    """
    parts = [part for one in (key if isinstance(key, tuple) else (key,)) for part in _parsed(one)]
    missing = len(shape) - sum(part is not Ellipsis for part in parts)
    if missing < 0:
        raise IndexError(
            f"too many indices for array: array is {len(shape)}-dimensional, but {len(shape) - missing} were "
            "indexed"
        )
    ellipses = [i for i, part in enumerate(parts) if part is Ellipsis]
    if len(ellipses) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    at = ellipses[0] if ellipses else len(parts)
    parts[at : at + 1] = [slice(None)] * missing
    axes = [_counted(part, shape[axis], axis) for axis, part in enumerate(parts)]
    return axes, at if ellipses and not missing else None


def _parsed(one: Any) -> list[Any]:
    """One entry of an index, or several where it is a mask of several axes."""
    if one is Ellipsis or isinstance(one, slice):
        return [one]
    if (number := whole_number(one)) is not None:
        return [number]
    if (array := plain_array(one)).ndim:
        if array.dtype == np.bool_:
            return [_OfMask(*axis) for axis in zip(array.nonzero(), array.shape, strict=True)]
        return [array]
    raise IndexError(
        f"only integers, slices, an ellipsis and arrays of integers or truth values index this, not {one!r}"
    )


def _counted(part: Any, size: int, axis: int) -> Axis:
    if isinstance(part, slice):
        return part
    if isinstance(part, int):
        return int(from_start(np.array([part]), size, axis)[0])
    if isinstance(part, _OfMask):
        if part.size != size:
            raise IndexError(
                f"boolean index did not match indexed array along axis {axis}; size of axis is {size} but "
                f"size of corresponding boolean axis is {part.size}"
            )
        return part.places.astype(np.int64)
    return from_start(part, size, axis)


def _narrowed(axis: Axis, size: int) -> tuple[slice, Axis]:
    """Which part of an axis to read, with a positive step, and how that part is then indexed."""
    if isinstance(axis, int):
        return slice(axis, axis + 1), 0
    if isinstance(axis, slice):
        part = range(size)[axis]
        if part == range(size):
            return slice(None), slice(None)
        if not part:
            return slice(0, 0), slice(None)
        forward = part if part.step > 0 else part[::-1]
        return slice(forward.start, forward.stop, forward.step), slice(None, None, 1 if part.step > 0 else -1)
    if not axis.size:
        return slice(0, 0), axis
    first = int(axis.min())
    return slice(first, int(axis.max()) + 1), axis - first
