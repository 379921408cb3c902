"""Two datasets side by side: what of one sample differs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.document import DepthInfo, NetworkDepthInfo
from fgbgpack.errors import SpecError
from fgbgpack.viewer.layers import Picture, difference_numbers, difference_palette

#: Differences beyond those of all but so many pixels have the last colour.
_SHOWN_SHARE = 0.98
_LARGEST_COLOUR = 255.0


@dataclass(frozen=True, eq=False)
class Difference:
    """How values of the second dataset differ from those of the first, (n, h, w) float32, NaN where one of
    the two has none; ``limit`` is what gets the last colour, and ``fit`` the factor and the offset that the
    second was brought to the first with, (n, 2), where their values have no common measure.
    """

    values: NDArray[np.float32]
    limit: float
    fit: NDArray[np.float64] | None = None

    def picture_pixels(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """(n, h, w) numbers, and their colours."""
        return difference_numbers(self.values, self.limit), difference_palette()

    def to_dict(self) -> dict[str, Any]:
        """What is said of the first sample, as JSON data."""
        known = self.values[0][np.isfinite(self.values[0])]
        return {
            "pixels": int(np.count_nonzero(known)),
            "of": int(known.size),
            "largest": float(np.abs(known).max(initial=0.0)),
            "mean": float(np.abs(known).mean()) if known.size else 0.0,
            "limit": self.limit,
            "fit": None if self.fit is None else self.fit[0].tolist(),
        }


class Pair:
    """Two datasets with samples of one size, compared sample by sample."""

    def __init__(self, first: Dataset, second: Dataset) -> None:
        self._first, self._second = first, second

    @property
    def problem(self) -> str | None:
        """Why their samples cannot be compared, if so."""
        first, second = self._first, self._second
        if (first.height, first.width) != (second.height, second.width):
            return (
                f"Samples of {first.width}x{first.height} and of {second.width}x{second.height} pixels are "
                "not compared pixel by pixel."
            )
        return None

    @property
    def is_same_recipe(self) -> bool:
        """Whether sample i of both shows the same."""
        first, second = self._first.document.recipe, self._second.document.recipe
        return first is not None and second is not None and first.sha256 == second.sha256

    @property
    def count(self) -> int:
        """How many samples both have."""
        return min(len(self._first), len(self._second))

    @property
    def layers(self) -> tuple[str, ...]:
        """What can be compared."""
        if self.problem is not None:
            return ()
        both = self._first.has_depth and self._second.has_depth
        return ("image", "mask", "depth") if both else ("image", "mask")

    def difference(self, layer: str, samples: NDArray[np.int64], limit: float | None = None) -> Difference:
        """How a layer of some samples differs; SpecError where it cannot be compared. ``limit`` is that of
        depth, ``None`` for what nearly all pixels that differ are within.
        """
        if layer not in self.layers:
            why = self.problem or f"there is no {layer} in both."
            raise SpecError(f"The datasets cannot be compared: {why}", code="view-invalid")
        if len(samples) and samples.max() >= self.count:
            raise SpecError(f"Only the first {self.count:,} samples are in both.", code="view-invalid")
        first, second = (
            one.read(samples, fields=layer).arrays[layer].astype(np.float32)
            for one in (self._first, self._second)
        )
        if layer != "depth":
            values = second - first
            if values.ndim == 4:
                # Of three colours, the difference that is largest.
                most = np.abs(values).argmax(axis=3)
                values = np.take_along_axis(values, most[..., None], axis=3)[..., 0]
            return Difference(values, _LARGEST_COLOUR)
        fit = None
        if not self._has_common_measure:
            fit = np.stack([_fitted(*pair) for pair in zip(second, first, strict=True)])
            second = (second * fit[:, 0, None, None] + fit[:, 1, None, None]).astype(np.float32)
        values = np.asarray(second - first, np.float32)
        differs = np.abs(values[np.isfinite(values) & (values != 0)])
        if limit is None:
            limit = float(np.quantile(differs, _SHOWN_SHARE)) if differs.size else 0.0
        return Difference(values, limit, fit)

    @property
    def _has_common_measure(self) -> bool:
        """Whether depth of both means the same without more ado: metres, or what one network says."""
        first, second = self._first.document.depth, self._second.document.depth
        return _measure(first) == _measure(second)


def _measure(depth: DepthInfo | None) -> tuple[object, ...]:
    if depth is None:
        return ()
    network = depth.sha256 if isinstance(depth, NetworkDepthInfo) else depth.mode
    return (depth.quantity, depth.unit) if depth.unit else (depth.quantity, network)


def _fitted(values: NDArray[np.float32], to: NDArray[np.float32]) -> NDArray[np.float64]:
    """The factor and the offset with which values come nearest to others, by least squares."""
    known = np.isfinite(values) & np.isfinite(to)
    x, y = values[known].astype(np.float64), to[known].astype(np.float64)
    spread = x.var() if x.size else 0.0
    if not spread:
        return np.array([1.0, (y.mean() - x.mean()) if x.size else 0.0])
    factor = ((x - x.mean()) * (y - y.mean())).mean() / spread
    return np.array([factor, y.mean() - factor * x.mean()])


def as_picture(difference: Difference) -> Picture:
    """The first sample of a difference."""
    numbers, colours = difference.picture_pixels()
    return Picture(numbers[0], colours)
