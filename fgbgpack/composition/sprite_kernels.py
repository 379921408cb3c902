"""Kernels of sprites: foregrounds at other heights, in exact integer arithmetic, and their blends."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from fgbgpack.jit import Int32, Int64, UInt8, kernel

#: Whole numbers of 64 bits.
Int: TypeAlias = Any

#: Weights of a filter add up to this.
WEIGHT_BITS = 14
_ONE = 1 << WEIGHT_BITS
#: What is between the passes: products of colour and alpha, with this many bits behind the point.
_EXTRA_BITS = 6
_OPAQUE = 255
_HALF_OPAQUE = 127


@kernel
def filter_weights(source: Int, target: Int, first: Int32, weight: Int64) -> None:
    """Fill the weights of a cubic filter that makes ``source`` pixels to ``target``, no more of them.

    Pixel i of the result is the sum of ``weight[i, k]`` times the source's pixel ``first[i] + k``. The filter
    is Catmull and Rom's (Keys, "Cubic convolution interpolation for digital image processing", 1981, equation
    15 with a = -1/2), stretched by ``source / target``. Its argument is a fraction n / d with d = 2 * source,
    so weights are whole numbers: twice the filter is 3n^3 - 5n^2 d + 2d^3 up to d, and -n^3 + 5n^2 d - 8n d^2
    + 4d^3 up to 2d. They are then brought to a sum of 2^14, the rest going to the largest.
    """
    d = 2 * source
    for i in range(target):
        # In halves of a source pixel times target, which are whole numbers.
        centre = source * (2 * i + 1)
        low = max(0, (centre - 2 * d + target - 1) // (2 * target) - 1)
        high = min(source, (centre + 2 * d) // (2 * target) + 2)
        first[i] = low
        total = np.int64(0)
        for k in range(weight.shape[1]):
            w = np.int64(0)
            if low + k < high:
                n = np.int64(abs(target * (2 * (low + k) + 1) - centre))
                if n < d:
                    w = 3 * n * n * n - 5 * n * n * d + 2 * d * d * d
                elif n < 2 * d:
                    w = -n * n * n + 5 * n * n * d - 8 * n * d * d + 4 * d * d * d
            weight[i, k] = w
            total += w
        rest = np.int64(_ONE)
        largest = 0
        for k in range(weight.shape[1]):
            # Rounded to nearest, a negative one as its opposite is.
            w = abs(weight[i, k])
            scaled = _scaled(w, total)
            if weight[i, k] < 0:
                scaled = -scaled
            weight[i, k] = scaled
            rest -= scaled
            if scaled > weight[i, largest]:
                largest = k
        weight[i, largest] += rest


@kernel
def _scaled(w: Int, total: Int) -> Int:
    """``w * 2^14 / total`` rounded to nearest, halves up, without a product that overflows."""
    whole = np.int64(0)
    rest = np.int64(w)
    for _ in range(WEIGHT_BITS):
        whole *= 2
        rest *= 2
        if rest >= total:
            part = rest // total
            whole += part
            rest -= part * total
    return whole + (1 if 2 * rest >= total else 0)


@kernel
def resize_sprite(
    patch: UInt8,
    first_row: Int32,
    row_weight: Int64,
    first_column: Int32,
    column_weight: Int64,
    middle: Int64,
    out: UInt8,
) -> None:
    """Fill ``out`` (h, w, 4) with a patch (ph, pw, 4) of straight alpha at another size, premultiplied
    meanwhile.

    Columns first: ``middle`` (ph, w, 4) gets alpha times 255 and alpha times colour, with 6 bits behind the
    point.
    """
    half = np.int64(1) << (WEIGHT_BITS - _EXTRA_BITS - 1)
    for row in range(patch.shape[0]):
        for i in range(out.shape[1]):
            red = np.int64(0)
            green = np.int64(0)
            blue = np.int64(0)
            opacity = np.int64(0)
            for k in range(column_weight.shape[1]):
                w = column_weight[i, k]
                if w != 0:
                    column = first_column[i] + k
                    weighted = w * np.int64(patch[row, column, 3])
                    red += weighted * np.int64(patch[row, column, 0])
                    green += weighted * np.int64(patch[row, column, 1])
                    blue += weighted * np.int64(patch[row, column, 2])
                    opacity += weighted * _OPAQUE
            middle[row, i, 0] = (red + half) >> (WEIGHT_BITS - _EXTRA_BITS)
            middle[row, i, 1] = (green + half) >> (WEIGHT_BITS - _EXTRA_BITS)
            middle[row, i, 2] = (blue + half) >> (WEIGHT_BITS - _EXTRA_BITS)
            middle[row, i, 3] = (opacity + half) >> (WEIGHT_BITS - _EXTRA_BITS)
    unit = np.int64(_OPAQUE) << (WEIGHT_BITS + _EXTRA_BITS)
    for i in range(out.shape[0]):
        for column in range(out.shape[1]):
            opacity = np.int64(0)
            for k in range(row_weight.shape[1]):
                if row_weight[i, k] != 0:
                    opacity += row_weight[i, k] * middle[first_row[i] + k, column, 3]
            alpha = np.int64(0)
            if opacity > 0:
                alpha = min(np.int64(_OPAQUE), (2 * opacity + unit) // (2 * unit))
            out[i, column, 3] = alpha
            for channel in range(3):
                colour = np.int64(0)
                if alpha > 0:
                    for k in range(row_weight.shape[1]):
                        if row_weight[i, k] != 0:
                            colour += row_weight[i, k] * middle[first_row[i] + k, column, channel]
                    colour = max(np.int64(0), colour)
                    colour = min(np.int64(_OPAQUE), (2 * _OPAQUE * colour + opacity) // (2 * opacity))
                out[i, column, channel] = colour


@kernel
def harden(sprite: UInt8, out: UInt8) -> None:
    """Fill ``out`` (h, w, 4) with a sprite whose alpha is 255 where it was above 127, and 0 elsewhere."""
    for row in range(sprite.shape[0]):
        for column in range(sprite.shape[1]):
            is_in = sprite[row, column, 3] > _HALF_OPAQUE
            for channel in range(3):
                out[row, column, channel] = sprite[row, column, channel] if is_in else 0
            out[row, column, 3] = _OPAQUE if is_in else 0


@kernel
def feather(sprite: UInt8, out: UInt8) -> None:
    """Fill ``out`` (h, w, 4) with a sprite whose edges are softer: alpha is the least of it and its mean
    there.

    The mean is of 3x3 pixels with weights 1 2 1 both ways, where pixels beyond the sprite are as its
    border's. So alpha never grows, and no colour is needed where there was none.
    """
    height = sprite.shape[0]
    width = sprite.shape[1]
    for row in range(height):
        for column in range(width):
            total = np.int64(8)
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    y = min(max(row + dy, 0), height - 1)
                    x = min(max(column + dx, 0), width - 1)
                    total += (2 - abs(dy)) * (2 - abs(dx)) * np.int64(sprite[y, x, 3])
            mean = total >> 4
            alpha = min(mean, np.int64(sprite[row, column, 3]))
            for channel in range(3):
                out[row, column, channel] = sprite[row, column, channel] if alpha > 0 else 0
            out[row, column, 3] = alpha


@kernel
def feet_of(sprite: UInt8) -> tuple[int, int, int]:
    """The lowest row of a sprite with alpha above 127, and the first and last column that have it within the
    lowest eighth of the rows down to there; -1 three times where no alpha is above 127.
    """
    lowest = -1
    for row in range(sprite.shape[0]):
        for column in range(sprite.shape[1]):
            if sprite[row, column, 3] > _HALF_OPAQUE:
                lowest = row
    left = -1
    right = -1
    if lowest >= 0:
        for row in range(lowest - sprite.shape[0] // 8, lowest + 1):
            if row >= 0:
                for column in range(sprite.shape[1]):
                    if sprite[row, column, 3] > _HALF_OPAQUE:
                        left = column if left < 0 else min(left, column)
                        right = max(right, column)
    return lowest, left, right
