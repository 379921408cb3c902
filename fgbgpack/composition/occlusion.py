"""Which pixels of a background hide people who stand behind them, by metric depth, and where feet can be out
of sight.

A person who stands is as far away as the floor at the feet. So one number says all of a pixel of the
background: the lowest row of feet that is still behind it. It is found once, and stored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.floor import FEET_SIDE, Floor, middles, scaled, square_side, surrounded

#: What hides somebody is at most this part of that person's distance away.
_NEARER = 0.9
#: Feet are at least so many rows above the base of what hides them, in pictures whose smaller side is 128.
_ABOVE_BASE = 3
#: Pixels are floor whose distance differs by less than this part from that of the floor in their place.
_ON_FLOOR = 0.05
#: The value of pixels that hide nobody.
NOBODY = -1


def front_rows(inverse: NDArray[np.float64], floor: Floor) -> NDArray[np.int16]:
    """The lowest row of feet of somebody whom each pixel hides: ``(h, w)``, ``NOBODY`` where it hides none.

    A pixel hides those whose feet are on floor that is farther away than it, by a tenth of that distance, and
    above the base of the thing that it belongs to. The base is where that thing ends, downwards in its
    column, on the floor or at the picture's lower edge. ``inverse`` is metric, in 1 / m, NaN where it is
    unknown; unknown pixels hide nobody.
    """
    height = len(inverse)
    nobody = np.full(inverse.shape, NOBODY, np.int16)
    if not floor or not floor.slope > 0:
        return nobody
    with np.errstate(invalid="ignore"):
        lowest = np.floor((_NEARER * inverse - floor.offset) / floor.slope - 0.5)
    base, row = nobody.astype(np.float64), np.full(inverse.shape[1], float(NOBODY))
    is_before = _is_before(inverse, floor)
    for y in range(height - 1, -1, -1):
        row = np.where(is_before[y], np.where(row == NOBODY, y, row), NOBODY)
        base[y] = row
    found = np.minimum(lowest, base - max(1, scaled(_ABOVE_BASE, inverse.shape)))
    return np.where(is_before & (found >= 0), found, NOBODY).astype(np.int16)


def hidden_feet(inverse: NDArray[np.float64], floor: Floor, front: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Where feet may be on floor that is not seen, ``(h, w)``: behind what :func:`front_rows` finds in front.

    There the floor is seen to go on: above what hides it or, where that reaches up to the horizon, at both of
    its sides. All of that thing from there on is nearer by a tenth, so that whoever stands there is behind
    all of it. A square around the feet has to be floor, seen or hidden.
    """
    if floor.kind != "metric" or not floor.slope > 0:
        return np.zeros(inverse.shape, np.bool_)
    rows = middles(len(inverse))
    line = floor.inverse_depth(rows)[:, None]
    is_before = _is_before(inverse, floor)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = 1 / inverse
        behind = _NEARER / line
        is_floor = (np.abs(line * distance - 1) < _ON_FLOOR) & (line > 0)
    below = _farthest(distance, is_floor, is_before)
    beside = np.maximum(
        _farthest(distance.T, is_floor.T, is_before.T).T,
        _farthest(distance.T[::-1], is_floor.T[::-1], is_before.T[::-1])[::-1].T,
    )
    hidden = is_before & (line > 0) & (np.where(np.isfinite(below), below, beside) <= behind)
    hidden &= front >= np.arange(len(inverse))[:, None]
    found: NDArray[np.bool_] = hidden & surrounded(hidden | is_floor, square_side(FEET_SIDE, inverse.shape))
    return found


def _is_before(inverse: NDArray[np.float64], floor: Floor) -> NDArray[np.bool_]:
    """Pixels that are nearer than the floor in their place; above the horizon there is none."""
    line = np.maximum(floor.inverse_depth(middles(len(inverse))), 0)[:, None]
    with np.errstate(invalid="ignore"):
        before: NDArray[np.bool_] = (inverse > line * (1 + _ON_FLOOR)) & (inverse > 0)
    return before


def _farthest(
    distance: NDArray[np.float64], is_floor: NDArray[np.bool_], is_before: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Downwards in each column, the greatest distance of what is before the floor since floor was seen; not
    finite where none was.
    """
    found = np.empty(distance.shape)
    last = np.full(distance.shape[1], np.inf)
    for y in range(len(distance)):
        last = np.where(is_before[y], np.fmax(last, distance[y]), np.inf)
        last[is_floor[y]] = 0
        found[y] = last
    return found
