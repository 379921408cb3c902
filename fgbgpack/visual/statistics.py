"""Measures of the quality of a depth map. In every map here, larger is nearer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

#: Alpha of 0.9 and more, and of 0.1 and less, in 255ths. In between a pixel shows both, so its true depth
#: is undefined.
OPAQUE, CLEAR = 230, 25

#: Width of the bands on both sides of the outline: a twentieth of the foreground's height, rounded up, and
#: at least two pixels. That is wide enough to have pixels on both sides of a soft edge, and narrow enough to
#: tell a step from a slope: depth that swells towards the middle of a person gives a larger value in a wider
#: band, a step that follows the outline does not.
_BANDS_IN_HEIGHT = 20
_NARROWEST_BAND = 2


@dataclass(frozen=True)
class Spread:
    """Quartiles of a measure over the ``count`` samples that have it, by linear interpolation."""

    lower: float
    median: float
    upper: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """The spread of the values that are not ``None``; ``None`` where there are none."""
        measured = [value for value in values if value is not None]
        if not measured:
            return None
        lower, median, upper = (float(q) for q in np.quantile(measured, [0.25, 0.5, 0.75]))
        return cls(lower, median, upper, len(measured))


def centred_ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Twice the rank of each value, less the mean: (n,) whole numbers that add up to 0.

    Equal values, which must not be NaN, share the mean of their ranks.
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    doubled = 2 * last - counts + 1
    ranks: NDArray[np.float64] = (doubled - (last[-1] + 1 if last.size else 0)).astype(np.float64)
    return ranks[inverse.reshape(-1)]


def correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Pearson's correlation of values whose mean is 0; 0 where one of them does not vary.

    Of the centred ranks of two maps it is Spearman's rank correlation, ties and all. Sums are exact for up
    to 200,000 values.
    """
    norm = np.sqrt((first @ first) * (second @ second))
    return float(np.clip((first @ second) / norm, -1, 1)) if norm else 0.0


def spearman(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Spearman's rank correlation of two maps without NaN, -1 to 1; 0 if one of them is constant."""
    return correlation(centred_ranks(first), centred_ranks(second))


def band_width(foreground_height: int) -> int:
    """Width in pixels of the bands along the outline of foregrounds of that height in pixels."""
    return max(_NARROWEST_BAND, -(-foreground_height // _BANDS_IN_HEIGHT))


def outline_bands(mask: NDArray[np.uint8], width: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The pixels inside and outside a foreground's outline, (h, w) each, by its (h, w) uint8 alpha.

    Inside are the opaque pixels (alpha of 0.9 and more) with a clear one (0.1 and less) at most ``width``
    rows and at most ``width`` columns away; outside are the clear ones with an opaque one as near. Both are
    empty where no outline is that sharp.
    """
    opaque, clear = mask >= OPAQUE, mask <= CLEAR
    return opaque & _reached(clear, width), clear & _reached(opaque, width)


def _reached(marked: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Whether the square of ``2 * width + 1`` pixels around each pixel holds one that is marked."""
    for axis in (0, 1):
        padded = np.pad(marked, [(width, width) if a == axis else (0, 0) for a in (0, 1)])
        marked = np.asarray(sliding_window_view(padded, 2 * width + 1, axis=axis).any(axis=-1))
    return marked


def outline_step(
    nearness: NDArray[np.floating[Any]], inside: NDArray[np.bool_], outside: NDArray[np.bool_]
) -> float | None:
    """How much nearer a map is inside an outline than outside, in standard deviations of the whole map.

    The difference of two medians, so that a foot on the floor, or one object behind a shoulder, does not
    count; dividing by the standard deviation makes it independent of the map's scale and shift. It is 0
    where the person does not stand out at all (also in a constant map), above 1 where plainly, and ``None``
    where there is no outline. ``nearness`` is (h, w) and finite.
    """
    if not (inside.any() and outside.any()):
        return None
    values = nearness.astype(np.float64)
    if values.min() == values.max():
        return 0.0
    return float((np.median(values[inside]) - np.median(values[outside])) / values.std())


def aligned_error(nearness: NDArray[np.floating[Any]], truth: NDArray[np.floating[Any]]) -> float:
    """Mean relative error of depth, once scale and shift of (n,) inverse depth are fitted to the true one.

    The fit is the least-squares fit of Ranftl et al., "Towards robust monocular depth estimation", 2020,
    section 5; the error is ``mean(|z - z*| / z*)`` with ``z`` the reciprocal of the fitted inverse depth.
    Fitted values beyond the farthest true pixel are set to it, since they may lie behind infinity.
    """
    x, y = nearness.astype(np.float64), truth.astype(np.float64)
    from_mean = x - x.mean()
    spread = from_mean @ from_mean
    scale = (from_mean @ y) / spread if x.min() < x.max() else 0.0
    fitted = np.maximum(scale * from_mean + y.mean(), y.min())
    return float(np.abs(y / fitted - 1).mean())
