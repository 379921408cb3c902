"""Depth of empty backgrounds, as a guided network takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fgbgpack.depth.card import Quantity
from fgbgpack.errors import DepthModelError

#: Metres nearer than this count as this near: their inverse would drown all others.
NEAREST = 0.1


def to_inverse(depth: NDArray[np.float64], quantity: Quantity) -> NDArray[np.float64]:
    """Inverse depth of values of any shape in ``quantity``: 1 / m from metres, else relative.

    Metres below 0.1 count as 0.1.

    Example:
        >>> to_inverse(np.array([2.0, 0.0]), Quantity("depth", "m"))
        array([ 0.5, 10. ])
    """
    if quantity.kind == "inverse_depth":
        return depth
    return 1 / np.maximum(depth, NEAREST) if quantity.unit == "m" else -depth


def centre_and_spread(depth: NDArray[np.float64]) -> tuple[float, float]:
    """The median of values of any shape, and their mean absolute deviation from it; 1 where that is 0.

    Example:
        >>> centre_and_spread(np.array([1.0, 2.0, 6.0]))
        (2.0, 1.6666666666666667)
    """
    centre = float(np.median(depth))
    return centre, float(np.abs(depth - centre).mean()) or 1.0


@dataclass(frozen=True)
class BackgroundDepth:
    """Depth of B empty backgrounds of h x w pixels, with what normalises it. :meth:`of` makes one.

    Attributes:
        depth: ``(B, h, w)``, float32, finite, in ``quantity`` and ``unit``.
        quantity: ``"depth"`` or ``"inverse_depth"``.
        unit: ``"m"`` or ``None``.
        centre: ``(B,)``, float32: the median of each background's inverse depth.
        spread: ``(B,)``, float32, above 0: its mean absolute deviation from that; 1 for a flat background.
    """

    depth: NDArray[np.float32]
    quantity: Literal["depth", "inverse_depth"]
    unit: Literal["m"] | None
    centre: NDArray[np.float32]
    spread: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        depth: NDArray[Any],
        quantity: Literal["depth", "inverse_depth"],
        unit: Literal["m"] | None,
    ) -> BackgroundDepth:
        """Checks and measures the depth of backgrounds.

        Args:
            depth: ``(B, h, w)``, of any floating-point type; it becomes float32.
            quantity: ``"depth"`` or ``"inverse_depth"``.
            unit: ``"m"`` for metres, else ``None``.

        Raises:
            DepthModelError: Depth is not finite somewhere, or there is none.
            ValueError: ``depth`` has another shape.

        Example:
            >>> BackgroundDepth.of(np.array([[[1.0, 2.0, 4.0]]]), "depth", "m").centre
            array([0.5], dtype=float32)
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
        meaning = Quantity(quantity, unit)
        measures = [centre_and_spread(to_inverse(values.astype(np.float64), meaning)) for values in stored]
        centre, spread = np.array(measures, np.float32).T.copy()
        return cls(stored, quantity, unit, centre, spread)

    @property
    def meaning(self) -> Quantity:
        """Quantity and unit in one."""
        return Quantity(self.quantity, self.unit)

    def __len__(self) -> int:
        return len(self.depth)
