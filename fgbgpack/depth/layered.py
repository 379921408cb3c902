"""Depth in layers: that of an empty background, and before it each object as a plane.

It is computed in codes: whole multiples of a power of two, all of which float16 holds exactly. So it is the
same on every machine, whenever and in whatever order it is made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.floor import PERSON_HEIGHT, find_floor
from fgbgpack.depth.background import from_inverse, to_inverse
from fgbgpack.depth.card import Quantity
from fgbgpack.depth.kernels import LARGEST_CODE, layer_depth

#: Metres from the lower edge to the upper one of a cut-out of a person that is cut off below.
PORTRAIT_HEIGHT = 0.7
_SMALLEST_EXPONENT = -24  # of a float16


@dataclass(frozen=True, eq=False)
class Outlines:
    """The alpha of foregrounds as they are pasted: S outlines, and after these the same mirrored.

    Attributes:
        alpha: uint8, ``(h, w)`` of each in C order, one after the other.
        offset: ``(2 S,)`` int64, where each begins in ``alpha``.
        size: ``(2 S, 2)`` int32, height and width of each.
        person_pixels: ``(2 S,)`` float64: how high a standing person would be, in pixels, who is as far away
            as what is shown.
    """

    alpha: NDArray[np.uint8]
    offset: NDArray[np.int64]
    size: NDArray[np.int32]
    person_pixels: NDArray[np.float64]

    @classmethod
    def of(cls, alphas: Sequence[NDArray[np.uint8]], is_portrait: Sequence[bool]) -> Outlines:
        """Those of ``(h, w)`` alphas, each of a whole person, or of a portrait that is cut off below."""
        each = [np.ascontiguousarray(one) for one in (*alphas, *(one[:, ::-1] for one in alphas))]
        ends = np.cumsum([one.size for one in each])
        offset = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        size = np.array([one.shape for one in each], np.int32)
        shown = np.where(np.tile(np.array(is_portrait, np.bool_), 2), PORTRAIT_HEIGHT, PERSON_HEIGHT)
        person_pixels = size[:, 0] * (PERSON_HEIGHT / shown)
        return cls(np.concatenate([one.reshape(-1) for one in each]), offset, size, person_pixels)

    def number(self, which: NDArray[np.int32], flip: NDArray[Any]) -> NDArray[np.int32]:
        """The numbers of outlines, those of ``flip`` mirrored; -1 stays."""
        mirrored = which + np.int32(len(self.size) // 2) * flip.astype(np.int32)
        return np.where(which < 0, np.int32(-1), mirrored).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Placed:
    """Objects of n samples, drawn from far to near: int32 arrays of ``(n, K)``.

    ``outline`` is the number of the outline, -1 after the last object; ``y`` and ``x`` are its top row and
    left column, which may be outside the picture.
    """

    outline: NDArray[np.int32]
    y: NDArray[np.int32]
    x: NDArray[np.int32]


def figure_depth(
    depth: NDArray[np.float32], quantity: Quantity, person_pixels: NDArray[np.int16] | None = None
) -> NDArray[np.float32]:
    """How far a standing person is by the height, in one background of depth ``(h, w)``: ``(2,)`` float32.

    Inverse depth of one that is p pixels high is the first number plus p times the second. Both are those of
    the floor, or of what depth there is most like one, and NaN where there is nothing of the kind. Where
    figures stand, ``person_pixels`` ``(h, w)`` tell the floor: how high they are by the pixels of their
    feet.
    """
    inverse = to_inverse(depth.astype(np.float64), quantity)
    if person_pixels is not None and person_pixels.any():
        under, pixels = inverse[person_pixels > 0], person_pixels[person_pixels > 0].astype(np.float64)
        more = pixels - pixels.mean()
        slope = float((more * under).sum() / max(1.0, float((more * more).sum())))
        if slope > 0:
            return np.array([under.mean() - slope * pixels.mean(), slope], np.float32)
    floor = find_floor(inverse, is_metric=quantity.unit == "m")
    far, near = floor.inverse_depth(floor.horizon), floor.slope / floor.growth
    return np.array([far, near], np.float32)


@dataclass(frozen=True, eq=False)
class Layers:
    """What gives the depth of samples whose B backgrounds have depth.

    Attributes:
        depth: ``(B, h, w)`` float32, finite, in ``quantity``.
        figures: ``(B, 2)`` float32, of each what :func:`figure_depth` gives.
        quantity: What depth means.
        outlines: What objects look like.
        step: The power of two that depth is a multiple of, on which all of it are codes: see
            :func:`layer_step`.
    """

    depth: NDArray[np.float32]
    figures: NDArray[np.float32]
    quantity: Quantity
    outlines: Outlines
    step: float

    @property
    def nearer(self) -> int:
        """1 where larger depth is nearer, else -1."""
        return 1 if self.quantity.kind == "inverse_depth" else -1

    @cached_property
    def codes(self) -> NDArray[np.int16]:
        """``(B, h, w)``: depth of the backgrounds in steps."""
        return _codes(self.depth, self.step)

    @cached_property
    def _half_of(self) -> NDArray[np.uint16]:
        """The float16 of each code, as bit patterns."""
        values = np.arange(-LARGEST_CODE, LARGEST_CODE + 1) * self.step
        largest = float(np.finfo(np.float16).max)
        halves: NDArray[np.uint16] = np.clip(values, -largest, largest).astype(np.float16).view(np.uint16)
        return halves

    @cached_property
    def _halves(self) -> NDArray[np.uint16]:
        """The same of the backgrounds, ``(B, h, w)``."""
        halves: NDArray[np.uint16] = self._half_of[self.codes.astype(np.intp) + LARGEST_CODE]
        return halves

    def numbers(self, background: NDArray[np.int32], outline: NDArray[np.int32]) -> NDArray[np.int16]:
        """Depth of objects by their height, in steps: ``(n, K)``, of ``(n,)`` backgrounds and ``(n, K)``
        outlines. Where height tells nothing, it is the farthest that there is.
        """
        pixels = self.outlines.person_pixels[outline]
        depth = figures_at(self.figures[background][:, None], pixels, self.quantity)
        farthest = np.float64(-self.nearer * LARGEST_CODE * self.step)
        return _codes(np.where(np.isnan(depth), farthest, depth), self.step)

    def compose(
        self,
        background: NDArray[np.int32],
        objects: Placed,
        numbers: NDArray[np.int16],
        out: NDArray[np.float16],
        outlines: Outlines | None = None,
    ) -> NDArray[np.int16]:
        """Fill ``out``, ``(n, h, w)``, C-contiguous, with the depth of n samples.

        Each object is a plane at its number, ``(n, K)`` in steps, or nearer where it hides what is nearer,
        and nearer than the object before; returns where each is. Objects have other ``outlines`` where these
        are given. All that is named must be there: nothing is checked here.
        """
        shown = self.outlines if outlines is None else outlines
        placed = np.zeros(numbers.shape, np.int16)
        layer_depth(
            self.codes,
            self._halves,
            self._half_of,
            background,
            shown.alpha,
            shown.offset,
            shown.size,
            objects.outline,
            objects.y,
            objects.x,
            numbers,
            self.nearer,
            placed,
            out.view(np.uint16),
        )
        return placed


def figures_at(
    figures: NDArray[np.float32], pixels: NDArray[np.float64], quantity: Quantity
) -> NDArray[np.float64]:
    """Depth of persons who are so many pixels high, of any shape; ``figures`` has one more axis of 2."""
    numbers = figures.astype(np.float64)
    return from_inverse(numbers[..., 0] + numbers[..., 1] * pixels, quantity)


def step_exponent(extent: float, bits: int) -> int:
    """The power of two that gives a range of depth at least so many bits, and that float16 has."""
    # frexp gives a fraction in [0.5, 1): the exponent less one is floor(log2), exactly.
    return max(math.frexp(extent)[1] - 1 - bits, _SMALLEST_EXPONENT)


def layer_step(lowest: float, highest: float, bits: int) -> float:
    """The grid for depth between two values: the power of two that gives their range so many ``bits``, or the
    least one on which all of it are codes.
    """
    exponent = step_exponent(highest - lowest, bits)
    while max(-lowest, highest) > math.ldexp(LARGEST_CODE, exponent):
        exponent += 1
    return math.ldexp(1.0, exponent)


def _codes(depth: NDArray[Any], step: float) -> NDArray[np.int16]:
    """Depth in steps, rounded to nearest: exact divisions, as steps are powers of two."""
    return np.clip(np.rint(depth / step), -LARGEST_CODE, LARGEST_CODE).astype(np.int16)
