"""Kernels that count: sums of pixels, and how often each value occurs. Whole numbers, so in any order.

Samples that follow one another mostly have the same background, which takes less time to compare than to
count. So each sample is compared with a reference, from above and from below, until a row differs. What is
between is counted; the other rows are counted once, of the reference. Any picture is good as a reference.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.jit import Int64, UInt8, UInt16, kernel

#: Values of one unsigned type.
Values: TypeAlias = NDArray[Any]

_CHANNELS = 3
#: Samples in which a row is looked for that two of them have.
_TRIED = 16
#: Rows of which values of 8 bits add up to less than 2^16, and samples.
_ROWS, _SAMPLES = 257, 65_535
_BYTE, _LOW = np.uint16(8), np.uint16(255)
_SEEN_BIT = np.uint16(7)


@kernel
def _is_same(samples: Values, i: int, reference: Values, row: int) -> bool:
    """Whether a row of sample ``i`` is that of the reference: without branches, so that many are compared at
    once.
    """
    differs = np.bitwise_xor(reference[row, 0], reference[row, 0])
    for j in range(reference.shape[1]):
        differs = np.bitwise_or(differs, np.bitwise_xor(samples[i, row, j], reference[row, j]))
    return bool(differs == 0)


@kernel
def fill_reference(samples: Values, reference: Values) -> None:
    """Fill (rows, width) with rows of (n, rows, width) samples: each is one that two samples following one
    another have, if there is such. Where objects move before a background, that is the background.
    """
    n, rows, width = samples.shape
    for row in range(rows):
        i = 0
        while i + 1 < min(n, _TRIED) and not _is_same(samples, i, samples[i + 1], row):
            i += 1
        for j in range(width):
            reference[row, j] = samples[i, row, j]


@kernel
def _differing(samples: Values, i: int, reference: Values) -> tuple[int, int]:
    """The first row of sample ``i`` that is not that of the reference, and the row after the last one."""
    top = 0
    bottom = len(reference)
    while top < bottom and _is_same(samples, i, reference, top):
        top += 1
    while top < bottom and _is_same(samples, i, reference, bottom - 1):
        bottom -= 1
    return top, bottom


@kernel
def _add_rows(
    image: UInt8,
    i: int,
    top: int,
    bottom: int,
    often: int,
    lines: UInt16,
    total: Int64,
    squares: Int64,
) -> None:
    """Add some rows of sample ``i`` to the sums of a part, (3,), so ``often``; ``lines`` is scratch memory of
    zeros, (3, 3 * width), and is left so.

    Values, and both bytes of their squares, are added up in 16 bits, of which processors add twice as many at
    once as of 32. Operators would be of 64 bits where they are compiled.
    """
    width = image.shape[2]
    for start in range(top, bottom, _ROWS):
        for row in range(start, min(start + _ROWS, bottom)):
            for j in range(width):
                value = np.uint16(image[i, row, j])
                square = np.multiply(value, value)
                lines[0, j] = np.add(lines[0, j], value)
                lines[1, j] = np.add(lines[1, j], np.bitwise_and(square, _LOW))
                lines[2, j] = np.add(lines[2, j], np.right_shift(square, _BYTE))
        for channel in range(_CHANNELS):
            of_values = np.int64(0)
            of_squares = np.int64(0)
            for j in range(channel, width, _CHANNELS):
                of_values += np.int64(lines[0, j])
                of_squares += np.int64(lines[1, j]) + (np.int64(lines[2, j]) << 8)
            total[channel] += often * of_values
            squares[channel] += often * of_squares
        for k in range(len(lines)):
            for j in range(width):
                lines[k, j] = 0


@kernel
def add_images(image: UInt8, part: Int64, total: Int64, squares: Int64) -> None:
    """Add the values of each channel, and their squares, to those of the part that each sample is in.

    ``image`` is (n, rows, 3 * width), ``part`` (n,), ``total`` and ``squares`` (parts, 3).
    """
    n, rows, width = image.shape
    reference = np.empty((1, rows, width), np.uint8)
    fill_reference(image, reference[0])
    same = np.zeros((len(total), rows), np.int64)
    lines = np.zeros((3, width), np.uint16)
    for i in range(n):
        top, bottom = _differing(image, i, reference[0])
        _add_rows(image, i, top, bottom, 1, lines, total[part[i]], squares[part[i]])
        for row in range(top):
            same[part[i], row] += 1
        for row in range(bottom, rows):
            same[part[i], row] += 1
    for p in range(len(total)):
        for row in range(rows):
            if same[p, row]:
                _add_rows(reference, 0, row, row + 1, same[p, row], lines, total[p], squares[p])


@kernel
def add_masks(mask: UInt8, seen: Int64, area: Int64, alpha: Int64) -> None:
    """Count where masks are above 127: add to ``seen`` (rows, width), over all samples, and set ``area`` (n,)
    of each sample. Set ``alpha`` (n,) to the sum of each mask, too. ``mask`` is (n, rows, width).
    """
    n, rows, width = mask.shape
    nothing = np.zeros((rows, width), np.uint8)
    counts = np.zeros((rows, width), np.uint16)
    lines = np.zeros((2, width), np.uint16)
    for i in range(n):
        area[i] = 0
        alpha[i] = 0
        top, bottom = _differing(mask, i, nothing)
        for start in range(top, bottom, _ROWS):
            for row in range(start, min(start + _ROWS, bottom)):
                for j in range(width):
                    value = np.uint16(mask[i, row, j])
                    is_seen = np.right_shift(value, _SEEN_BIT)
                    counts[row, j] = np.add(counts[row, j], is_seen)
                    lines[0, j] = np.add(lines[0, j], is_seen)
                    lines[1, j] = np.add(lines[1, j], value)
            for j in range(width):
                area[i] += np.int64(lines[0, j])
                alpha[i] += np.int64(lines[1, j])
                lines[0, j] = 0
                lines[1, j] = 0
        if i + 1 == n or (i + 1) % _SAMPLES == 0:
            for row in range(rows):
                for j in range(width):
                    seen[row, j] += np.int64(counts[row, j])
                    counts[row, j] = 0


@kernel
def _count(values: UInt16, often: int, counts: Int64) -> None:
    """Count each of some values so ``often``: four at once where they are the same, as a count that was just
    changed is slow to be read again.
    """
    fours = len(values) // 4
    for j in range(fours):
        first = values[4 * j]
        second = values[4 * j + 1]
        third = values[4 * j + 2]
        fourth = values[4 * j + 3]
        if first == second and second == third and third == fourth:
            counts[first] += 4 * often
        else:
            counts[first] += often
            counts[second] += often
            counts[third] += often
            counts[fourth] += often
    for j in range(4 * fours, len(values)):
        counts[values[j]] += often


@kernel
def add_depths(depth: UInt16, part: Int64, counts: Int64) -> None:
    """Count each value of depth, by its bits: ``depth`` (n, rows, width), ``counts`` (parts, 65536)."""
    n, rows, width = depth.shape
    reference = np.empty((rows, width), np.uint16)
    fill_reference(depth, reference)
    same = np.zeros((len(counts), rows), np.int64)
    for i in range(n):
        top, bottom = _differing(depth, i, reference)
        _count(depth[i, top:bottom].reshape(-1), 1, counts[part[i]])
        for row in range(top):
            same[part[i], row] += 1
        for row in range(bottom, rows):
            same[part[i], row] += 1
    for p in range(len(counts)):
        for row in range(rows):
            if same[p, row]:
                _count(reference[row], same[p, row], counts[p])
