"""Depth of empty backgrounds, as a guided network takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.depth.card import Quantity
from fgbgpack.errors import DepthModelError

#: Metres nearer than this count as this near: their inverse would drown all others.
NEAREST = 0.1
#: Metres that are farther count as this far: their inverse may be 0.
_FARTHEST = 1000.0


def to_inverse(depth: NDArray[np.float64], quantity: Quantity) -> NDArray[np.float64]:
    """Inverse depth of values of any shape: 1 / m from metres (at least 0.1), else relative."""
    if quantity.kind == "inverse_depth":
        return depth
    return 1 / np.maximum(depth, NEAREST) if quantity.unit == "m" else -depth


def from_inverse(inverse: NDArray[np.float64], quantity: Quantity) -> NDArray[np.float64]:
    """Depth of inverse depth of any shape, which :func:`to_inverse` gives back; at most 1000 m."""
    if quantity.kind == "inverse_depth":
        return inverse
    return 1 / np.maximum(inverse, 1 / _FARTHEST) if quantity.unit == "m" else -inverse


def centre_and_spread(depth: NDArray[np.float64]) -> tuple[float, float]:
    """The median of values of any shape, and their mean absolute deviation from it; 1 where that is 0."""
    centre = float(np.median(depth))
    return centre, float(np.abs(depth - centre).mean()) or 1.0


@dataclass(frozen=True)
class BackgroundDepth:
    """Depth of B empty backgrounds, finite float32 ``(B, h, w)``, with the median of the inverse depth of
    each and its mean absolute deviation from that (1 for a flat background), float32 ``(B,)``. :meth:`of`
    makes one.
    """

    depth: NDArray[np.float32]
    meaning: Quantity
    centre: NDArray[np.float32]
    spread: NDArray[np.float32]

    @classmethod
    def of(cls, depth: NDArray[Any], meaning: Quantity) -> BackgroundDepth:
        """Checks and measures depth, ``(B, h, w)`` of any floating-point type. Raises DepthModelError where
        it is not finite or there is none, ValueError for another shape.
        """
        if depth.ndim != 3:
            raise ValueError(f"depth: found shape {depth.shape}, expected (backgrounds, height, width)")
        if depth.size == 0:
            raise DepthModelError(
                "There is no depth of any background: at least one was expected.", code="backgrounds-missing"
            )
        stored = np.ascontiguousarray(depth, np.float32)
        wrong = np.flatnonzero(~np.isfinite(stored).all(axis=(1, 2)))
        if len(wrong):
            raise DepthModelError(
                f"Depth of {len(wrong)} of the {len(stored)} backgrounds is infinite or not a number (the "
                f"first is number {wrong[0]}, counted from 0): the scene network does not fit its card.",
                code="network-output-not-finite",
            )
        measures = [centre_and_spread(to_inverse(values.astype(np.float64), meaning)) for values in stored]
        centre, spread = np.array(measures, np.float32).T.copy()
        return cls(stored, meaning, centre, spread)

    def __len__(self) -> int:
        return len(self.depth)
