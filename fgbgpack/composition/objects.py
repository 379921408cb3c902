"""The objects of samples, as arrays: one row a sample, far to near, padded with -1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fgbgpack.document import OBJECT_ARRAYS, OBJECTS
from fgbgpack.errors import SpecError

#: Stands where a sample has no more objects.
NO_OBJECT = -1
#: What can be known of objects.
OBJECT_NAMES = tuple(path.removeprefix(f"{OBJECTS}/") for path in OBJECT_ARRAYS)


@dataclass(frozen=True, eq=False)
class Objects:
    """What n samples with up to K objects hold, as arrays of shape (n, K) or more, -1 where there is no
    object.

    The objects of a sample come in the order in which they are drawn, far to near: object k has the number
    ``k + 1`` in the instance map. Sizes and places are in pixels, and may be outside the picture.

    Imported samples have ``category`` and ``box``, and ``visible`` where that was known; what is not there is
    a SpecError (``field-missing``) when it is asked for.

    Attributes:
        foreground: int32, the index of the foreground.
        category: int16, the number of its category.
        flip: int8, 1 where it is mirrored left to right.
        y: int16, the top row of the sprite, before it is turned.
        x: int16, its left column.
        height: int16, of the sprite, before it is turned.
        width: int16, of the same.
        rotation: int16, how far it is turned clockwise about the middle of these rows and columns, in tenths
            of a degree.
        blend: int8, the number of its blend in ``fgbgpack.scene_spec.BLENDS``.
        gain: (n, K, 3) int16, what red, green and blue are multiplied by, times 256.
        shadow: int16, how dark its shadow is, 0 for none to 255.
        visible: float32, the share of its pixels (alpha above 127) that is within the picture, and not
            hidden.
        box: (n, K, 4) int16, top, left, bottom and right of these pixels; 0 where there are none.
    """

    foreground: NDArray[np.int32]
    category: NDArray[np.int16]
    flip: NDArray[np.int8]
    y: NDArray[np.int16]
    x: NDArray[np.int16]
    height: NDArray[np.int16]
    width: NDArray[np.int16]
    rotation: NDArray[np.int16]
    blend: NDArray[np.int8]
    gain: NDArray[np.int16]
    shadow: NDArray[np.int16]
    visible: NDArray[np.float32]
    box: NDArray[np.int16]

    def __getattr__(self, name: str) -> NoReturn:
        if name in OBJECT_NAMES:
            raise SpecError(
                f"Nothing is known of the {name} of these objects: their samples were imported.",
                code="field-missing",
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __len__(self) -> int:
        return len(self.category)

    def __getitem__(self, index: slice | NDArray[np.int64]) -> Objects:
        return Objects.of({path: array[index] for path, array in self.arrays().items()})

    @property
    def count(self) -> NDArray[np.int64]:
        """(n,) int64, how many objects each sample has."""
        return np.asarray((self.category >= 0).sum(axis=1))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by their paths in a dataset."""
        known = vars(self)
        return {f"{OBJECTS}/{one.name}": known[one.name] for one in fields(self) if one.name in known}

    @classmethod
    def none(cls, samples: int, most: int) -> Objects:
        """The objects of samples that have none."""
        return cls(*(np.full(shape, NO_OBJECT, dtype) for shape, dtype in shapes(samples, most).values()))

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Objects:
        """Those of arrays by their paths in a dataset, of which imported samples have some."""
        made = object.__new__(cls)
        vars(made).update(
            {name: arrays[f"{OBJECTS}/{name}"] for name in OBJECT_NAMES if f"{OBJECTS}/{name}" in arrays}
        )
        return made


#: By the path of each array its type, and what its axes after the first two are called and how long they are.
FORMS: Mapping[str, tuple[type[np.generic], tuple[tuple[str, int], ...]]] = {
    **dict.fromkeys(OBJECT_ARRAYS, (np.int16, ())),
    f"{OBJECTS}/foreground": (np.int32, ()),
    f"{OBJECTS}/flip": (np.int8, ()),
    f"{OBJECTS}/blend": (np.int8, ()),
    f"{OBJECTS}/gain": (np.int16, (("rgb", 3),)),
    f"{OBJECTS}/visible": (np.float32, ()),
    f"{OBJECTS}/box": (np.int16, (("edge", 4),)),
}


def shapes(samples: int, most: int) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
    """The shape and the type of each array, by its path, of so many samples with up to so many objects."""
    return {
        path: ((samples, most, *(length for _, length in more)), dtype)
        for path, (dtype, more) in FORMS.items()
    }
