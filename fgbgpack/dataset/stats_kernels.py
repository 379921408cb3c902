"""Kernels that count: sums of pixels, and how often each value occurs. Whole numbers, so in any order."""

from __future__ import annotations

import numpy as np

from fgbgpack.jit import Int64, UInt8, UInt16, kernel

_CHANNELS = 3
#: Rows of which the squares of 8 bits add up to less than 2^32.
_ROWS = 1 << 16


@kernel
def add_images(image: UInt8, part: Int64, total: Int64, squares: Int64) -> None:
    """Add the values of each channel, and their squares, to those of the part that each sample is in.

    ``image`` is (n, rows, 3 * width), ``part`` (n,), ``total`` and ``squares`` (parts, 3).
    """
    n, rows, width = image.shape
    line = np.zeros(width, np.uint32)
    square = np.zeros(width, np.uint32)
    for i in range(n):
        for top in range(0, rows, _ROWS):
            # Along the row, so that the compiler adds up many at once.
            for row in range(top, min(top + _ROWS, rows)):
                for j in range(width):
                    value = np.uint32(image[i, row, j])
                    line[j] += value
                    square[j] += value * value
            for j in range(width):
                total[part[i], j % _CHANNELS] += line[j]
                squares[part[i], j % _CHANNELS] += square[j]
                line[j] = 0
                square[j] = 0


@kernel
def add_masks(mask: UInt8, seen: Int64, area: Int64, alpha: Int64) -> None:
    """Count where masks are above 127: add to ``seen`` (pixels,), over all samples, and set ``area`` (n,) of
    each sample. Set ``alpha`` (n,) to the sum of each mask, too. ``mask`` is (n, pixels).
    """
    n, pixels = mask.shape
    for i in range(n):
        count = np.int64(0)
        total = np.int64(0)
        for j in range(pixels):
            value = mask[i, j]
            is_seen = np.int64(value >> 7)
            seen[j] += is_seen
            count += is_seen
            total += np.int64(value)
        area[i] = count
        alpha[i] = total


@kernel
def add_depths(depth: UInt16, part: Int64, counts: Int64) -> None:
    """Count each value of depth, by its bits: ``depth`` (n, pixels), ``counts`` (parts, 65536)."""
    for i in range(depth.shape[0]):
        # Taken out of the loop, which takes twice as long otherwise.
        of_part = counts[part[i]]
        values = depth[i]
        for j in range(len(values)):
            of_part[values[j]] += 1
