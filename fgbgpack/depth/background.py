"""Depth of empty backgrounds, as a guided network is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fgbgpack.errors import DepthModelError

#: Metres nearer than this count as this near: their inverse would drown all the rest.
NEAREST = 0.1


class Quantity(NamedTuple):
    """What values of depth mean.

    Attributes:
        kind: ``"depth"`` (larger is farther) or ``"inverse_depth"`` (larger is nearer).
        unit: ``"m"`` for depth in metres, ``None`` for what is known up to scale and shift only.
    """

    kind: Literal["depth", "inverse_depth"]
    unit: Literal["m"] | None

    @classmethod
    def of_card(cls, card: Mapping[str, Any]) -> Quantity:
        """What a model with that card gives."""
        return cls(card["output"]["quantity"], card["output"]["unit"])


def to_inverse(depth: NDArray[np.float64], quantity: Quantity) -> NDArray[np.float64]:
    """Depth as inverse depth, where larger is nearer: 1 / m from metres, relative from all else.

    Args:
        depth: Values of any shape, in ``quantity``.
        quantity: What they mean. Metres below 0.1 are taken for 0.1.

    Returns:
        The same shape.
    """
    if quantity.kind == "inverse_depth":
        return depth
    if quantity.unit == "m":
        return 1 / np.maximum(depth, NEAREST)
    return -depth


def from_inverse(inverse: NDArray[np.float64], quantity: Quantity) -> NDArray[np.float64]:
    """The opposite of :func:`to_inverse`: inverse depth, above 0 where metres are wanted, to ``quantity``."""
    if quantity.kind == "inverse_depth":
        return inverse
    return 1 / inverse if quantity.unit == "m" else -inverse


def centre_and_spread(depth: NDArray[np.float64]) -> tuple[float, float]:
    """The median of values of any shape, and their mean absolute deviation from it; 1 where that is 0."""
    centre = float(np.median(depth))
    return centre, float(np.abs(depth - centre).mean()) or 1.0


@dataclass(frozen=True)
class BackgroundDepth:
    """Depth of B empty backgrounds of h x w pixels, and what a guided network is told of it.

    :meth:`of` makes one.

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
        """Take in the depth of backgrounds.

        Args:
            depth: ``(B, h, w)``, of any floating-point type; it becomes float32.
            quantity: ``"depth"`` or ``"inverse_depth"``.
            unit: ``"m"`` for metres, else ``None``.

        Raises:
            DepthModelError: Depth is not finite somewhere, or there is none.
            ValueError: ``depth`` has another shape.
        """
        if depth.ndim != 3:
            raise ValueError(f"depth: found shape {depth.shape}, expected (backgrounds, height, width)")
        if depth.size == 0:
            raise DepthModelError("There is no depth of any background: at least one picture was expected.")
        stored = np.ascontiguousarray(depth, np.float32)
        wrong = [i for i, values in enumerate(stored) if not np.isfinite(values).all()]
        if wrong:
            raise DepthModelError(
                f"Depth of {len(wrong)} of the {len(stored)} backgrounds is infinite or not a number (the "
                f"first is number {wrong[0]}, counted from 0): the scene network does not fit its card."
            )
        centre, spread = np.empty(len(stored), np.float32), np.empty(len(stored), np.float32)
        for i, values in enumerate(stored):
            inverse = to_inverse(values.astype(np.float64), Quantity(quantity, unit))
            centre[i], spread[i] = centre_and_spread(inverse)
        return cls(stored, quantity, unit, centre, spread)

    @property
    def meaning(self) -> Quantity:
        """Quantity and unit in one."""
        return Quantity(self.quantity, self.unit)

    def __len__(self) -> int:
        return len(self.depth)
