"""Where the floor is in a background, from its depth map.

On a plane, inverse depth is linear in the rows and columns of the picture, and on a floor that is seen by a
level camera it depends on the row alone. Nothing in a room is farther away than its floor, seen or hidden. So
the floor is a line of inverse depth over rows which nearly nothing is below, and which as many pixels as
possible are on. All of that holds for relative inverse depth too, whose scale and shift are unknown. What
relative depth does not tell is the horizon, where inverse depth is 0.

Networks bend floors: pixels are compared with a surface that is fitted to those near the line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

#: Height of the horizon where nothing tells it, as a part of the picture's.
USUAL_HORIZON = 0.42
#: Metres from the floor to the head of a person, and to a camera that a person holds.
PERSON_HEIGHT, CAMERA_HEIGHT = 1.7, 1.55
#: Focal length as a part of the picture's larger side, where nothing tells it.
USUAL_FOCAL = 1.0

#: Sizes are in pixels of pictures whose smaller side has so many.
_REFERENCE_SIDE = 128
#: Sides of the squares over which slopes are taken, and of those around feet which have to be floor.
_SLOPE_SIDE, FEET_SIDE = 5, 7

#: Lines that are tried: slopes as parts of the map's range over the picture's height.
_SLOPES = np.geomspace(0.3, 4.0, 48)
#: Part of the picture, from the top, that shows no floor.
_NO_FLOOR = 0.3
#: How far pixels on the floor may be from it, as a part of its range from the horizon to the bottom: from the
#: line first, from the surface last. True depth is not bent.
_FAR, _NEAR, _NEAR_METRIC = 0.2, 0.05, 0.02
#: How many pixels on the line one below it outweighs.
_BELOW_WEIGHT = 3
_ROUNDS = 6
#: The surface is drawn to the line as if so large a part of the pixels lay on it.
_STIFFNESS = 1e-4
#: Slopes of pixels on the floor: downwards the least and the largest, sideways the largest, as parts of the
#: floor's.
_DOWN, _SIDEWAYS = (0.7, 1.5), 0.5

#: A background has a floor if feet may be on so large a part of it, if no larger part of its lower half is
#: below that floor, and if the median of the floor's slopes sideways is no larger part of those downwards.
_LEAST_FEET, _MOST_BELOW, _MOST_SIDEWAYS = 0.01, 0.15, 0.3

#: Each unknown length, focal length or camera height, is about as uncertain: they share what differs from the
#: usual product of both.
_SHARE = 0.5

FloorKind: TypeAlias = Literal["metric", "relative", "given", "none"]


@dataclass(frozen=True, eq=False)
class Floor:
    """The floor of one background of h x w pixels. Rows are counted from the upper edge: the middle of the
    first row is at 0.5.

    Attributes:
        kind: What it is known from: metric depth, relative depth, or a mask that was given. ``"none"`` where
            there is no floor.
        reason: Why there is none, in words; else empty.
        feet: bool ``(h, w)``: pixels that feet may be on.
        horizon: The row of the horizon, which may be outside of the picture.
        growth: Pixels that a person of 1.7 m is higher for each row that the feet are lower.
        offset: Inverse depth of the floor at row 0, in the quantity of the map; NaN where it is not known.
        slope: What inverse depth of the floor grows by from row to row; NaN where it is not known.
    """

    kind: FloorKind
    reason: str
    feet: NDArray[np.bool_]
    horizon: float
    growth: float
    offset: float = math.nan
    slope: float = math.nan

    def __bool__(self) -> bool:
        return self.kind != "none"

    def person_height(self, row: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Height in pixels of a person of 1.7 m with feet at a row; 0 at the horizon and above it."""
        return np.maximum(0.0, self.growth * (np.asarray(row, np.float64) - self.horizon))

    def inverse_depth(self, row: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Inverse depth of the floor at a row, in the quantity of the map."""
        return self.offset + self.slope * np.asarray(row, np.float64)


def find_floor(
    inverse: NDArray[np.floating[Any]],
    *,
    is_metric: bool,
    horizon: float | None = None,
    focal: float | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> Floor:
    """The floor of a background. It is floating-point arithmetic: store the result where samples depend on
    it.

    Args:
        inverse: Inverse depth, ``(h, w)``: larger is nearer; NaN where it is unknown.
        is_metric: Whether it is in 1 / m. Else its scale and shift are unknown.
        horizon: The row of the horizon, if the user says so; ``None`` takes that of metric depth, or the
            usual one.
        focal: Focal length in pixels, if it is known; else camera heights and focal lengths count as equally
            usual. Of use with metric depth only.
        mask: The floor as a user has painted it, ``(h, w)``; ``None`` finds it.

    Raises:
        ValueError: ``inverse`` is not ``(h, w)``, or ``mask`` has another shape.
    """
    if inverse.ndim != 2 or (mask is not None and mask.shape != inverse.shape):
        found = inverse.shape if mask is None else (inverse.shape, mask.shape)
        raise ValueError(f"expected a map of shape (height, width), and a mask of the same: found {found}")
    height, width = inverse.shape
    known = np.isfinite(inverse)
    values = np.where(known, inverse, 0.0).astype(np.float64)
    line = _fit_line(values, known, mask)
    if line is not None and is_metric:
        line = _fit_closely(values, known, line, mask)
    is_line_metric = is_metric and line is not None and line.horizon < height
    if horizon is None:
        horizon = line.horizon if line is not None and is_line_metric else USUAL_HORIZON * height
    growth = PERSON_HEIGHT / CAMERA_HEIGHT
    if line is not None and is_line_metric:
        growth = _growth(line, focal, max(height, width))
    offset, slope = (math.nan, math.nan) if line is None else (line.offset, line.slope)

    def floor(kind: FloorKind, feet: NDArray[np.bool_], reason: str = "") -> Floor:
        return Floor(kind, reason, feet, float(horizon), growth, offset, slope)

    nowhere = np.zeros(inverse.shape, np.bool_)
    if mask is not None:
        feet = surrounded(mask, square_side(FEET_SIDE, inverse.shape))
        if not feet.any():
            return floor("none", nowhere, "the mask of the floor is empty, or nowhere wide enough for feet")
        return floor("given", feet)
    if line is None:
        return floor("none", nowhere, "depth does not grow upwards anywhere, as that of floors does")
    feet, reason = _find_feet(values, known, line, is_metric=is_metric)
    feet &= middles(height)[:, None] > horizon
    if not reason and feet.mean() < _LEAST_FEET:
        reason = "too few pixels look like floor"
    return floor("none", nowhere, reason) if reason else floor("metric" if is_metric else "relative", feet)


@dataclass(frozen=True)
class _Line:
    """Inverse depth by row."""

    offset: float
    slope: float

    @property
    def horizon(self) -> float:
        """The row where metric inverse depth is 0."""
        return -self.offset / self.slope

    def at(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.offset + self.slope * rows

    def reach(self, height: int) -> float:
        """The range of the floor's inverse depth, from the usual horizon to the bottom."""
        return self.slope * height * (1 - USUAL_HORIZON)


def _growth(line: _Line, focal: float | None, side: int) -> float:
    """Height of a person in pixels a row. Of depth z, inverse depth is ``slope * (row - horizon)``, and a
    person is ``focal * PERSON_HEIGHT / z`` high. The slope is ``1 / (focal * camera height)``.
    """
    if focal is None:
        usual = USUAL_FOCAL * side
        focal = usual * (1 / (line.slope * usual * CAMERA_HEIGHT)) ** _SHARE
    return PERSON_HEIGHT * focal * line.slope


def _fit_line(
    values: NDArray[np.float64], known: NDArray[np.bool_], mask: NDArray[np.bool_] | None
) -> _Line | None:
    """The line that many pixels are on and few are below; ``None`` where depth has no range."""
    height, width = values.shape
    stride = max(1, min(height, width) // _REFERENCE_SIDE)
    part = np.s_[int(_NO_FLOOR * height) :: stride, ::stride]
    chosen = known[part] if mask is None else (known & mask)[part]
    value = values[part][chosen]
    row = np.broadcast_to(middles(height)[:, None], values.shape)[part][chosen]
    if len(value) < 2:
        return None
    low, high = np.quantile(values[known], [0.02, 0.98])
    best_score, best = 0.0, None
    for slope in (high - low) / height * _SLOPES:
        width_of_bin = _NEAR * _Line(0.0, slope).reach(height)
        if not width_of_bin > 0:
            continue
        rest = value - slope * row
        lowest = float(rest.min())
        # What is far above the line does not matter, however far.
        bins = np.minimum((rest - lowest) / width_of_bin, 4095).astype(np.int64)
        count = np.bincount(bins, minlength=2)
        below = np.concatenate([[0], np.cumsum(count)])
        score = count[:-1] + count[1:] - _BELOW_WEIGHT * below[: len(count) - 1]
        first = int(score.argmax())
        if score[first] > best_score:
            best_score, best = float(score[first]), _Line(lowest + (first + 1) * width_of_bin, slope)
    return best


def _fit_closely(
    values: NDArray[np.float64], known: NDArray[np.bool_], line: _Line, mask: NDArray[np.bool_] | None
) -> _Line:
    """The line, fitted to the pixels that are close to it."""
    height = len(values)
    rows = np.broadcast_to(middles(height)[:, None], values.shape)
    candidates = (known if mask is None else known & mask) & (rows > _NO_FLOOR * height)
    for tolerance in np.geomspace(_NEAR, _NEAR_METRIC / 4, _ROUNDS):
        near = candidates & (np.abs(values - line.at(rows)) <= tolerance * line.reach(height))
        x, y = rows[near], values[near]
        spread = x - x.mean() if len(x) else x
        if not (spread * spread).sum() > 0:
            break
        slope = float((spread * y).sum() / (spread * spread).sum())
        if slope <= 0:
            break
        line = _Line(float(y.mean() - slope * x.mean()), slope)
    return line


def _find_feet(
    values: NDArray[np.float64], known: NDArray[np.bool_], line: _Line, *, is_metric: bool
) -> tuple[NDArray[np.bool_], str]:
    """Where feet may be, and why this is no floor, if it is none."""
    height, width = values.shape
    rows = np.broadcast_to(middles(height)[:, None], values.shape)
    smooth = _smooth(np.where(known, values, line.at(rows)), square_side(_SLOPE_SIDE, values.shape))
    down, sideways = np.gradient(smooth, axis=0), np.abs(np.gradient(smooth, axis=1))
    lower = known & (rows > USUAL_HORIZON * height)
    reach, tolerance = line.reach(height), _NEAR_METRIC if is_metric else _NEAR
    surface = line.at(rows)
    if not is_metric:
        x = np.broadcast_to((np.arange(width) + 0.5) / width - 0.5, values.shape)
        y = rows / height - 0.75
        basis = np.stack([np.ones(values.shape), y, x, y * y], axis=-1)
        stiffness = np.diag([0.0, 0.0, _STIFFNESS, _STIFFNESS])
        looks_flat = lower & (down > 0.3 * line.slope) & (down < 2.2 * line.slope)
        looks_flat &= sideways < 0.8 * line.slope
        for reached in np.geomspace(_FAR, _NEAR, _ROUNDS):
            near = looks_flat & (np.abs(values - surface) <= reached * reach)
            if near.sum() < 2 * basis.shape[-1]:
                break
            some, rest = basis[near], values[near] - line.at(rows[near])
            bent = np.linalg.solve(some.T @ some + stiffness * len(some) + 1e-9 * np.eye(4), some.T @ rest)
            surface = line.at(rows) + basis @ bent
    slope = np.gradient(surface, axis=0)
    is_floor = lower & (np.abs(values - surface) <= tolerance * reach) & (slope > 0.2 * line.slope)
    is_floor &= (down > _DOWN[0] * slope) & (down < _DOWN[1] * slope) & (sideways < _SIDEWAYS * slope)
    feet = surrounded(is_floor, square_side(FEET_SIDE, values.shape))
    reason = ""
    if feet.any():
        if np.median(sideways[is_floor]) > _MOST_SIDEWAYS * np.median(down[is_floor]):
            reason = "depth changes sideways as it does downwards"
        elif (values < surface - 2 * tolerance * reach)[lower].mean() > _MOST_BELOW:
            reason = "too much is farther away than what looks like floor"
    return feet, reason


def middles(height: int) -> NDArray[np.float64]:
    """Where the middles of rows are, (height,)."""
    return np.arange(height, dtype=np.float64) + 0.5


def scaled(pixels: int, shape: tuple[int, ...]) -> int:
    """A length in pictures of the usual size, in pixels of pictures of a shape, rounded down."""
    return pixels * min(shape) // _REFERENCE_SIDE


def square_side(side: int, shape: tuple[int, ...]) -> int:
    """The side of a square for pictures of a shape, an odd number of pixels, at least 3."""
    return max(3, 2 * (scaled(side, shape) // 2) + 1)


def surrounded(pixels: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """The pixels around which all of a square is such; the picture goes on beyond its edges as it ends."""
    padded = np.pad(pixels.astype(np.int64), side // 2, mode="edge")
    inside: NDArray[np.bool_] = _sums(padded, side) == side * side
    return inside


def _smooth(values: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """The mean of the square around each pixel; slopes go on beyond the edges."""
    return _sums(np.pad(values, side // 2, mode="reflect", reflect_type="odd"), side) / (side * side)


def _sums(padded: NDArray[Any], side: int) -> NDArray[Any]:
    total = np.pad(np.cumsum(np.cumsum(padded, axis=0), axis=1), ((1, 0), (1, 0)))
    sums: NDArray[Any] = (
        total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    )
    return sums
