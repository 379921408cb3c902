"""Where the feet of whole figures can be, as the kernel that draws objects takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.floor import Floor, middles
from fgbgpack.composition.objects import Objects
from fgbgpack.composition.occlusion_kernels import find_feet_rows
from fgbgpack.composition.sprites import Sprites


def person_pixels(
    floor: Floor, low: int, high: int, hidden: NDArray[np.bool_] | None = None
) -> NDArray[np.int16]:
    """How high a person of 1.7 m is in pixels whose feet are at each pixel: ``(h, w)``.

    It is 0 where nobody can stand, and where that person would be lower than ``low`` pixels or higher than
    ``high``. On ``hidden`` floor somebody can stand too.
    """
    rows = np.rint(floor.person_height(middles(len(floor.feet))))
    known = np.where((rows >= low) & (rows <= high), rows, 0)
    feet = floor.feet if hidden is None else floor.feet | hidden
    return np.where(feet, known[:, None], 0).astype(np.int16)


_NOTHING = np.empty((0, 0, 0), np.int16)


@dataclass(frozen=True, eq=False)
class Standing:
    """The pixels of B backgrounds that feet may be on.

    Attributes:
        level: (B, h) int32, of each row the number of the height that is nearest to that of a person there,
            the lower of two; -1 where nobody can stand.
        count: (B, h, w + 1) int16, how many such pixels come before each column.
        front: (B, h, w) int16, the lowest row of feet of somebody whom each pixel hides, -1 where it hides
            none; (0, 0, 0) where backgrounds hide nothing.
    """

    level: NDArray[np.int32]
    count: NDArray[np.int16]
    front: NDArray[np.int16]

    @classmethod
    def of(
        cls, person: NDArray[np.int16], heights: Sequence[int], front: NDArray[np.int16] | None = None
    ) -> Standing:
        """Those of the pixels of persons (B, h, w), at some heights, ascending."""
        rows, known = person.max(axis=2).astype(np.int32), np.array(heights, np.int32)
        level = np.abs(rows[..., None] - known).argmin(axis=-1).astype(np.int32)
        count = np.zeros((*person.shape[:2], person.shape[2] + 1), np.int16)
        np.cumsum(person > 0, axis=2, out=count[..., 1:])
        level = np.where(rows > 0, level, np.int32(-1)).astype(np.int32)
        return cls(level, count, _NOTHING if front is None else front)

    @classmethod
    def nowhere(cls) -> Standing:
        """That of recipes which do not ask for it."""
        return cls(np.empty((0, 0), np.int32), np.empty((0, 0, 0), np.int16), _NOTHING)

    @property
    def hides(self) -> bool:
        """Whether backgrounds hide what stands behind their things."""
        return len(self.front) > 0


def feet_rows(
    sprites: Sprites, cut: NDArray[np.uint8], sprite: NDArray[np.int32], objects: Objects
) -> NDArray[np.int32]:
    """The row of the feet of each of (n, K) objects that are these sprites, or ``UNHIDDEN``: of those that
    are not there, and of foregrounds that are ``cut`` (F,), which do not stand.
    """
    rows = np.empty(sprite.shape, np.int32)
    find_feet_rows(
        sprites.size,
        sprites.feet,
        (cut == 0).astype(np.uint8),
        sprite.reshape(-1),
        objects.foreground.reshape(-1),
        objects.flip.reshape(-1),
        objects.y.reshape(-1),
        objects.rotation.reshape(-1),
        rows.reshape(-1),
    )
    return rows
