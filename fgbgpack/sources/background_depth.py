"""Depth of backgrounds from files: what a depth camera measured, or a renderer knows, in metres."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.sources.decoding import hash_file
from fgbgpack.sources.memory import decoding
from fgbgpack.sources.names import listed
from fgbgpack.sources.problems import problem
from fgbgpack.sources.resizing import Frame, crop_box
from fgbgpack.sources.sample_files import read_file_header, read_numbers
from fgbgpack.spec import Reading

#: Metres of a unit in files of whole numbers, as most depth cameras and data sets have it.
_MILLIMETRE = 0.001
#: The largest share of a background whose depth may be unknown: with more, most of it would be invented.
MOST_UNKNOWN = 0.5
#: Depths count as one surface that differ by no larger a part. Depth cameras err by 1 to 2 %.
_SAME_SURFACE = 0.05
_MOST_TAPS = 8  # along a side of a pixel
_SHOWN = 3


@dataclass(frozen=True)
class MetricValues:
    """What the numbers in files mean: metres are numbers times ``factor``; ``None`` takes whole numbers of 16
    bits or more as millimetres, and others as metres. ``invalid`` stands for unknown depth, as 0 and what is
    not finite do.
    """

    factor: float | None = None
    invalid: float | None = None


@decoding()
def read_metres(
    path: Path,
    frame: Frame,
    values: MetricValues,
    *,
    picture: Path | None = None,
    reading: Reading | None = None,
    sha256: str | None = None,
    most_unknown: float = MOST_UNKNOWN,
) -> NDArray[np.float32]:
    """Depth of a whole background, cut and resized as its picture is: ``(h, w)`` metres, NaN where unknown.

    Each pixel has the mean of the depths in its area that are within 5 % of that at its centre: that takes
    away noise, and mixes nothing across edges, where the mean is a depth at which there is nothing. The
    file, gray PNG or TIFF or ``.npy``, may have another size than the ``picture``, but not another aspect.
    Raises SourceError where it cannot be used, where its digest is not ``sha256``, or where a larger share
    of it than ``most_unknown`` is unknown.
    """
    if sha256 is not None and hash_file(path) != sha256:
        found = "another file than when the dataset was made"
        raise problem(path, found, "the same file", "background-depth-changed")
    numbers = read_numbers(path)
    height, width = numbers.shape
    if picture is not None:
        full = read_file_header(picture, reading or Reading()).size
        if abs(width * full[1] - height * full[0]) > max(full):
            found = f"depth of {width}x{height} pixels"
            expected = f"the aspect of {picture}, {full[0]}x{full[1]}"
            raise problem(path, found, expected, "background-depth-size-differs")
    factor = values.factor
    if factor is None:
        if numbers.dtype.itemsize == 1:
            found, expected = "numbers of 8 bits", "millimetres of 16 bits, metres in .npy, or --depth-factor"
            raise problem(path, found, expected, "background-depth-unusable")
        factor = 1.0 if numbers.dtype.kind == "f" else _MILLIMETRE
    is_known = np.isfinite(numbers) & (numbers != 0)
    if values.invalid is not None:
        is_known &= numbers != values.invalid
    lowest = float(np.min(numbers, initial=0, where=is_known))
    if lowest < 0:
        expected = "distances above 0; --depth-invalid says which number stands for unknown depth"
        raise problem(path, f"a depth of {lowest:g}", expected, "background-depth-unusable")
    resized = _mean_near_centres(np.where(is_known, numbers, 0), frame)
    unknown = resized == 0
    if unknown.mean() > most_unknown:
        found = "no known depth" if unknown.all() else f"unknown depth at {unknown.mean():.0%} of its pixels"
        raise problem(path, found, f"at most {most_unknown:.0%}", "background-depth-unknown")
    with np.errstate(over="ignore"):
        return np.where(unknown, np.nan, resized * factor).astype(np.float32)


def _mean_near_centres(numbers: NDArray[Any], frame: Frame) -> NDArray[np.float64]:
    """Distances, 0 where unknown, at the size of a frame: the mean of those, on a grid in the area of each
    pixel, that are close to the one at its centre.
    """
    height, width = numbers.shape
    box = crop_box((width, height), frame.height, frame.width)
    left, top, right, bottom = box if frame.fit == "crop" else (0.0, 0.0, float(width), float(height))
    steps = (bottom - top) / frame.height, (right - left) / frame.width
    taps = [min(max(1, math.ceil(step)), _MOST_TAPS) for step in steps]

    def at(row: float, column: float) -> NDArray[np.float64]:
        """The values at a place in the area of each pixel, as shares of its height and width."""
        rows = (top + (np.arange(frame.height) + row) * steps[0]).astype(np.intp)
        columns = (left + (np.arange(frame.width) + column) * steps[1]).astype(np.intp)
        return numbers[np.ix_(rows, columns)].astype(np.float64)

    centre = at(0.5, 0.5)
    total, count = centre.copy(), np.ones(centre.shape)
    for row, column in np.ndindex(*taps):
        value = at((row + 0.5) / taps[0], (column + 0.5) / taps[1])
        is_near = np.abs(value - centre) <= _SAME_SURFACE * centre
        total += np.where(is_near, value, 0)
        count += is_near
    return total / count


def filled(metres: NDArray[np.float32]) -> NDArray[np.float32]:
    """Depth ``(h, w)`` without holes: unknown pixels get the farther of the nearest known depths at their
    left and right, since holes beside things are mostly of what is behind them; rows without any known depth
    get the farther of the rows above and below. NaN stays where nothing is known.
    """
    along = np.fmax(_last_known(metres), _last_known(metres[:, ::-1])[:, ::-1])
    found = np.where(np.isnan(metres), along, metres)
    down = np.fmax(_last_known(found.T).T, _last_known(found.T[:, ::-1])[:, ::-1].T)
    result: NDArray[np.float32] = np.where(np.isnan(found), down, found)
    return result


def _last_known(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """At each pixel of a row the last value at it or before it that is known."""
    columns = np.where(np.isnan(values), 0, np.arange(values.shape[1]))
    last: NDArray[np.float32] = np.take_along_axis(values, np.maximum.accumulate(columns, axis=1), axis=1)
    return last


def holes_in_words(maps: Mapping[str, NDArray[Any]]) -> str | None:
    """What is to be said of unknown depth of backgrounds, by their names; ``None`` where all is known."""
    shares = {name: float(np.isnan(one).mean()) for name, one in maps.items()}
    worst = sorted((name for name in shares if shares[name]), key=lambda name: -shares[name])
    if not worst:
        return None
    mean = sum(shares.values()) / len(shares)
    return (
        f"Depth of backgrounds: {mean:.1%} of all pixels are unknown in the files, and get the farther depth "
        f"at their sides; most in {listed([f'{name} ({shares[name]:.0%})' for name in worst], _SHOWN)}."
    )
