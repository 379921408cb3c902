"""Samples in memory."""

from __future__ import annotations

import importlib
import math
import sys
import weakref
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.objects import Objects
from fgbgpack.composition.objects import shapes as object_shapes
from fgbgpack.document import (
    BACKGROUND_PICTURE,
    CATEGORIES,
    DEPTH,
    IMAGE,
    INSTANCE,
    MASK,
    OBJECT_FOREGROUND,
    OBJECTS,
    OF_BACKGROUND,
    PICTURES,
    PLACEMENTS,
    Document,
)
from fgbgpack.errors import SpecError

#: The shape and the type of each array of a batch, by its name.
Shapes: TypeAlias = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]

_ALIGNMENT = 64  # bytes: a cache line
_UINT8, _INT32, _BOOL = map(np.dtype, (np.uint8, np.int32, np.bool_))
_FLOAT16, _FLOAT32 = map(np.dtype, (np.float16, np.float32))


class Batch:
    """n samples, or one without the leading axis.

    Where JAX was imported, batches that are made from then on are pytrees of their arrays.

    Those of a dataset that was imported have no placement: ``background`` and the others are a SpecError.
    Those of scenes have ``background``, ``replica`` and ``objects``, and the others are a SpecError.

    Args:
        arrays: The arrays by the names below; of image, mask and depth those that were read.

    Attributes:
        arrays: The same.

    Example:
        >>> batch = ds.read([3, 5], fields=["mask"])  # doctest: +SKIP
        >>> batch.mask.shape, sorted(batch.arrays)  # doctest: +SKIP
        ((2, 128, 128), ['background', 'flip', 'foreground', 'mask', 'replica', 'x', 'y'])
    """

    __slots__ = ("arrays",)

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = dict(arrays)
        if "jax" in sys.modules:
            _register_pytree()

    def __repr__(self) -> str:
        parts = [
            f"{name} {array.dtype}{list(array.shape)}" if np.ndim(array) else f"{name} {array}"
            for name, array in self.arrays.items()
        ]
        return f"<fgbgpack.Batch: {', '.join(parts)}>"

    def _array(self, name: str) -> NDArray[Any]:
        if name not in self.arrays:
            why = "its dataset was imported, and has no placements."
            if OBJECT_FOREGROUND in self.arrays:
                why = "its samples are scenes, of several objects perhaps: see objects."
            elif name in (INSTANCE, OBJECTS):
                why = "its samples are no scenes of objects, or it was read with other fields."
            if name not in (*PLACEMENTS, OBJECTS, INSTANCE):
                why = f"it was read with other fields. Name {name!r} among them too."
            raise SpecError(f"This batch has no {name}: {why}", code="field-missing")
        return self.arrays[name]

    @property
    def image(self) -> NDArray[np.uint8]:
        """(n, h, w, 3) uint8, RGB. A SpecError where it was not read."""
        return self._array(IMAGE)

    @property
    def mask(self) -> NDArray[np.uint8]:
        """(n, h, w) uint8, alpha of the pasted foreground, 0..255. A SpecError where it was not read."""
        return self._array(MASK)

    @property
    def instance(self) -> NDArray[np.uint8]:
        """(n, h, w) uint8, 0 or 1 + the number of the object on top, where its alpha is above 127. A
        SpecError where it was not read, or samples are no scenes.
        """
        return self._array(INSTANCE)

    @property
    def objects(self) -> Objects:
        """The objects of each sample, far to near. A SpecError where samples are no scenes."""
        if CATEGORIES not in self.arrays:
            self._array(OBJECTS)
        return Objects.of(self.arrays)

    @property
    def depth(self) -> NDArray[np.float16] | None:
        """(n, h, w) float16 in the dataset's quantity and unit; ``None`` where there is none, or not read."""
        return self.arrays.get(DEPTH)

    @property
    def background_image(self) -> NDArray[np.uint8]:
        """(n, h, w, 3) uint8, RGB, the background of each sample with nothing before it. A SpecError where it
        was not read.
        """
        return self._array(BACKGROUND_PICTURE)

    @property
    def background_depth(self) -> NDArray[np.float32]:
        """(n, h, w) float32, the depth of that, in the quantity and unit of depth. A SpecError where it was
        not read.
        """
        return self._array(OF_BACKGROUND[1])

    @property
    def background(self) -> NDArray[np.int32]:
        """(n,) int32, index of the background."""
        return self._array("background")

    @property
    def foreground(self) -> NDArray[np.int32]:
        """(n,) int32, index of the foreground."""
        return self._array("foreground")

    @property
    def flip(self) -> NDArray[np.bool_]:
        """(n,) bool, whether the foreground is mirrored."""
        return self._array("flip")

    @property
    def replica(self) -> NDArray[np.int32]:
        """(n,) int32, which placement of its pair it is."""
        return self._array("replica")

    @property
    def y(self) -> NDArray[np.int32]:
        """(n,) int32, top row of the patch in pixels."""
        return self._array("y")

    @property
    def x(self) -> NDArray[np.int32]:
        """(n,) int32, left column of the patch in pixels."""
        return self._array("x")


@cache
def _register_pytree() -> None:
    """Tell JAX how a batch is taken apart and put together."""
    tree_util = importlib.import_module("jax.tree_util")
    tree_util.register_pytree_node(
        Batch,
        lambda batch: (tuple(batch.arrays.values()), tuple(batch.arrays)),
        lambda names, arrays: Batch(dict(zip(names, arrays, strict=True))),
    )


def shapes(n: int, document: Document) -> Shapes:
    """Shape and type of each array of a batch of n samples: pictures, and what they are made of."""
    size = (n, document.height, document.width)
    found: Shapes = {IMAGE: ((*size, 3), _UINT8), MASK: (size, _UINT8), DEPTH: (size, _FLOAT16)}
    if document.has_objects:
        found[INSTANCE] = size, _UINT8
    if document.has_recipe:
        found[BACKGROUND_PICTURE] = (*size, 3), _UINT8
    if document.depth_sources:
        found[OF_BACKGROUND[1]] = size, _FLOAT32
    found |= {name: ((n,), _BOOL if name == "flip" else _INT32) for name in document.placements}
    if document.has_objects:
        forms = object_shapes(n, document.most_objects)
        found |= {path: (forms[path][0], np.dtype(forms[path][1])) for path in document.object_arrays}
    return found


class BufferPool:
    """Memory for batches, of some of the ``expected`` arrays, reused once no array in it is referenced.

    Fresh memory costs as much as decoding what is put there: the system clears it, page by page.
    """

    def __init__(self, expected: Shapes, names: Sequence[str]) -> None:
        self._shapes: Shapes = {name: expected[name] for name in names}
        self._buffers: list[_Buffer] = []

    def arrays(self, *, even_in_use: bool = False) -> dict[str, NDArray[Any]]:
        """The arrays, with anything in them; ``even_in_use``: even where one is referenced."""
        free = next((buffer for buffer in self._buffers if even_in_use or not buffer.in_use), None)
        if free is None:
            self._buffers.append(free := _Buffer(self._shapes))
        return free.arrays(self._shapes)


class _Buffer:
    """Memory for the arrays of one batch."""

    def __init__(self, specs: Shapes) -> None:
        size = sum(_padded(math.prod(shape) * dtype.itemsize) for shape, dtype in specs.values())
        self._memory = np.empty(size, np.uint8).data
        self._given: list[weakref.ref[NDArray[Any]]] = []

    @property
    def in_use(self) -> bool:
        """Whether an array in it, or a part of one, is still referenced."""
        return any(array() is not None for array in self._given)

    def arrays(self, specs: Shapes) -> dict[str, NDArray[Any]]:
        """Arrays of these names, shapes and types, one after the other."""
        found, start = dict[str, NDArray[Any]](), 0
        for name, (shape, dtype) in specs.items():
            # Made of a memoryview and not of an array: so this is the array that its parts refer to.
            found[name] = np.ndarray(shape, dtype, buffer=self._memory, offset=start)
            start += _padded(found[name].nbytes)
        self._given = [weakref.ref(array) for array in found.values()]
        return found


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def check_out(given: Mapping[str, NDArray[Any]], fields: Sequence[str], expected: Shapes) -> None:
    """Refuse arrays that cannot be filled, naming all of them."""
    problems = [f"{name}: there is no such array" for name in given if name not in expected]
    for name in (*fields, *(name for name in expected if name not in (*PICTURES, *OF_BACKGROUND))):
        if name not in given:
            if name in fields:
                problems.append(f"{name}: it is asked for and not among the arrays to fill")
            continue
        array, (shape, dtype) = given[name], expected[name]
        if array.shape != shape or array.dtype != dtype:
            problems.append(
                f"{name}: found {array.dtype} of shape {array.shape}, expected {dtype} of shape {shape}"
            )
        elif not (array.flags.c_contiguous and array.flags.writeable):
            problems.append(f"{name}: expected a C-contiguous array that can be written to")
    if problems:
        raise SpecError("out: these arrays cannot be filled.", problems, code="array-misfit")
