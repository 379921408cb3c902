"""Kernels of augmentation: what is drawn for a sample, and pictures changed by it, in integer arithmetic.

Lengths within pictures are in 1/65536 of a pixel (``ONE``), factors of colours in 1/4096 (``UNIT``). Weights
of neighbouring pixels and taps of blurs are in 1/256. ``>>`` rounds down, also below 0.
"""

from __future__ import annotations

import numpy as np

from fgbgpack.jit import Int16, Int32, Int64, UInt8, UInt32, UInt64, kernel

#: Numbers of 32 random bits that are drawn for a sample: what each decides does not depend on the options.
WORDS = 16
(_ZOOM, _TOP, _LEFT, _MIRROR, _BRIGHTNESS, _CONTRAST, _SATURATION, _HUE) = range(8)
(_RED, _GREEN, _BLUE, _BLURRED, _SIGMA, _NOISE, _SEED, _SEED_BEHIND) = range(8, WORDS)
#: Limits that are drawn between, as whole numbers: the columns of ``limits`` in :func:`draw`.
(
    LEAST_SIDE,
    MOST_SIDE,
    CROP,
    MIRROR,
    BRIGHTNESS,
    CONTRAST,
    SATURATION,
    HUE,
    TINT,
    BLURRED,
    BLUR,
    NOISE,
) = range(12)
LIMITS = 12

ONE = 1 << 16
_HALF = 1 << 15
UNIT = 1 << 12
#: Radians of a turn, and 1 over the root of 3, in 1/65536.
_TURN = 411775
_ROOT = 37837
#: What red, green and blue contribute to brightness, in 1/4096 (ITU-R BT.601).
_LUMA = (1225, 2404, 467)
_MIDDLE = 128
#: Three times the most variance that one pass of a blur has: that of 1/9, 2/9, 3/9, 2/9, 1/9.
_PASS = 4 * ONE
#: Numbers in the table of noise, and 100 times the standard deviation of a sum of 8 bytes.
NOISE_TABLE = 1 << 16
_NOISE_DEVIATION = 20902

_LOW = np.uint64(0xFFFFFFFF)
_LANES_ROUND = np.uint64(0x0080008000800080)
_LANES_BYTE = np.uint64(0x00FF00FF00FF00FF)
_256 = np.uint64(256)
_8 = np.uint64(8)


@kernel
def _between(word: int, least: int, most: int) -> int:
    """A whole number from ``least`` to ``most`` from 32 random bits."""
    return int(least + ((np.int64(word) * (most - least + 1)) >> 32))


@kernel
def draw(
    words: UInt32,
    limits: Int64,
    base: Int64,
    source: Int64,
    window: Int64,
    mirror: UInt8,
    colour: Int32,
    blur: Int32,
    noise: Int64,
) -> None:
    """What changes each of n samples, from (n, 16) random ``words``.

    ``limits`` are those of the columns above; ``base`` is (height, width) of the largest window and
    ``source`` that of a picture. Filled are ``window`` (n, 4): top, left, height and width; ``mirror`` (n,):
    0 or 1; ``colour`` (n, 12): three rows of three factors and an offset; ``blur`` (n, 4): how many passes,
    and the middle, the inner and the outer tap; ``noise`` (n, 3): a factor and the seeds of rows.
    """
    for i in range(words.shape[0]):
        word = words[i]
        side = _between(word[_ZOOM], limits[LEAST_SIDE], limits[MOST_SIDE])
        for axis in range(2):
            length = (base[axis] * side) >> 16
            free = source[axis] - length
            window[i, axis] = _between(word[_TOP + axis], 0, free) if limits[CROP] else free >> 1
            window[i, 2 + axis] = length
        mirror[i] = 1 if (np.int64(word[_MIRROR]) >> 16) < limits[MIRROR] else 0

        brightness = UNIT + _between(word[_BRIGHTNESS], -limits[BRIGHTNESS], limits[BRIGHTNESS])
        contrast = UNIT + _between(word[_CONTRAST], -limits[CONTRAST], limits[CONTRAST])
        saturation = UNIT + _between(word[_SATURATION], -limits[SATURATION], limits[SATURATION])
        angle = (_between(word[_HUE], -limits[HUE], limits[HUE]) * _TURN) >> 16
        # Series of sine and cosine, by Horner's scheme: up to a quarter turn exact to 3 in 65536.
        square = (angle * angle) >> 16
        sine = cosine = ONE
        for divisor in (72, 42, 20, 6):
            sine = ONE - ((square * sine) >> 16) // divisor
        for divisor in (56, 30, 12, 2):
            cosine = ONE - ((square * cosine) >> 16) // divisor
        sine = (angle * sine) >> 16
        # Rotation around grey (Rodrigues): its diagonal, and what is right of that, and one further.
        around = (ONE - cosine) // 3
        tilt = (sine * _ROOT) >> 16
        ring = (cosine + around, around - tilt, around + tilt)
        for row in range(3):
            for column in range(3):
                grey = 0
                for k in range(3):
                    grey += _LUMA[k] * ring[(column - k) % 3]
                # In 1/4096 of 1/65536.
                factor = saturation * ring[(column - row) % 3] + (((UNIT - saturation) * grey) >> 12)
                tint = UNIT + _between(word[_RED + column], -limits[TINT], limits[TINT])
                light = (((brightness * contrast) >> 12) * tint) >> 12
                colour[i, 4 * row + column] = ((factor >> 16) * light) >> 12
            colour[i, 4 * row + 3] = _MIDDLE * (UNIT - contrast)

        sigma = _between(word[_SIGMA], 0, limits[BLUR])
        if (np.int64(word[_BLURRED]) >> 16) >= limits[BLURRED]:
            sigma = 0
        variance = (sigma * sigma) >> 16
        passes = (3 * variance + _PASS - 1) // _PASS
        blur[i] = 0
        blur[i, 0] = passes
        if passes:
            # Twice 3 taps: outer, 1 - 2 * outer, outer, of a quarter of the variance each.
            outer = variance // (4 * passes)
            blur[i, 3] = ((outer * outer >> 16) + 128) >> 8
            blur[i, 2] = ((2 * outer * (ONE - 2 * outer) >> 16) + 128) >> 8
            blur[i, 1] = 256 - 2 * blur[i, 2] - 2 * blur[i, 3]
        noise[i, 0] = _between(word[_NOISE], 0, limits[NOISE]) * 100 // _NOISE_DEVIATION
        noise[i, 1] = word[_SEED]
        noise[i, 2] = word[_SEED_BEHIND]


@kernel
def positions(start: int, length: int, size: int, mirrored: bool, index: UInt32, weight: UInt64) -> None:
    """Where the n pixels of a row or column come from: ``index`` (n,), and the ``weight`` (n,) of the next.

    The middles of n equal parts of a window; those beyond the middle of the last pixel of ``size`` are there.
    Indices have no sign: Numba then does not ask at each whether it counts from the end.
    """
    n = index.shape[0]
    for k in range(n):
        place = start + ((2 * k + 1) * length) // (2 * n) - _HALF
        place = min(max(place, 0), (size - 1) * ONE)
        to = n - 1 - k if mirrored else k
        index[to] = place >> 16
        weight[to] = np.uint64(((place & (ONE - 1)) + 128) >> 8)


@kernel
def nearest(source: UInt8, window: Int64, mirror: UInt8, out: UInt8) -> None:
    """Fill ``out`` (n, oh, ow) with the nearest pixels of windows of ``source`` (n, h, w), of one type."""
    rows = np.empty(out.shape[1], np.uint32)
    columns = np.empty(out.shape[2], np.uint32)
    row_weight = np.empty(rows.size, np.uint64)
    column_weight = np.empty(columns.size, np.uint64)
    for i in range(out.shape[0]):
        positions(window[i, 0], window[i, 2], source.shape[1], False, rows, row_weight)
        positions(window[i, 1], window[i, 3], source.shape[2], mirror[i] != 0, columns, column_weight)
        for column in range(columns.size):
            columns[column] += 1 if column_weight[column] >= 128 else 0
        for row in range(rows.size):
            line = source[i, rows[row] + (1 if row_weight[row] >= 128 else 0)]
            to = out[i, row]
            for column in range(columns.size):
                to[column] = line[columns[column]]


@kernel
def smooth(source: UInt8, window: Int64, mirror: UInt8, out: UInt8) -> None:
    """Fill ``out`` (n, oh, ow) with windows of ``source`` (n, h, w), linear between pixels."""
    height, width = source.shape[1], source.shape[2]
    rows = np.empty(out.shape[1], np.uint32)
    columns = np.empty(out.shape[2], np.uint32)
    row_weight = np.empty(rows.size, np.uint64)
    column_weight = np.empty(columns.size, np.uint64)
    lines = np.empty((2, columns.size), np.uint16)
    held = np.empty(2, np.int64)
    for i in range(out.shape[0]):
        positions(window[i, 0], window[i, 2], height, False, rows, row_weight)
        positions(window[i, 1], window[i, 3], width, mirror[i] != 0, columns, column_weight)
        held[:] = -1
        for row in range(rows.size):
            for y in range(rows[row], min(rows[row] + 2, height)):
                if held[y & 1] != y:
                    held[y & 1] = y
                    line = source[i, y]
                    for column in range(columns.size):
                        x = columns[column]
                        right = np.int64(column_weight[column])
                        value = line[x] * (256 - right) + line[min(x + 1, width - 1)] * right
                        lines[y & 1, column] = (value + 128) >> 8
            upper = lines[rows[row] & 1]
            lower = lines[min(rows[row] + 1, height - 1) & 1]
            below = np.uint16(row_weight[row])
            above = np.uint16(256 - below)
            to = out[i, row]
            for column in range(to.size):
                value = np.uint16(upper[column] * above + lower[column] * below + np.uint16(128))
                to[column] = np.uint8(value >> np.uint16(8))


@kernel
def pictures(
    source: UInt8,
    alpha: UInt8,
    window: Int64,
    mirror: UInt8,
    colour: Int32,
    blur: Int32,
    noise: Int64,
    stream: int,
    table: Int16,
    out: UInt8,
    out_alpha: UInt8,
) -> None:
    """Fill ``out`` (n, oh, ow, 3) with changed windows of ``source`` (n, h, w, 3).

    ``alpha`` is (n, h, w), or without elements where there is none, and fills ``out_alpha`` as ``smooth``.
    Three colours and alpha of a pixel are 16 bits each of one number, which are weighed at once: no sum of
    weighed bytes is above ``255 * 256 + 128``.
    ``stream`` is 1 or 2, the column of the seeds in ``noise``.
    """
    height, width = source.shape[1], source.shape[2]
    out_height, out_width = out.shape[1], out.shape[2]
    has_alpha = alpha.size > 0
    rows = np.empty(out_height, np.uint32)
    columns = np.empty(out_width, np.uint32)
    row_weight = np.empty(out_height, np.uint64)
    column_weight = np.empty(out_width, np.uint64)
    packed = np.empty(width + 1, np.uint64)
    transparent = np.zeros(width, np.uint8)
    lines = np.empty((2, out_width), np.uint64)
    held = np.empty(2, np.int64)
    between = np.empty(4 * out_width, np.uint16)
    red = np.empty(out_width, np.uint8)
    green, blue, unused = np.empty_like(red), np.empty_like(red), np.empty_like(red)
    planes = np.empty((3, out_height, out_width), np.uint8)
    spare = np.empty((3, out_height, out_width), np.uint8)
    padded = np.empty(out_width + 4, np.uint16)
    lanes = packed.view(np.uint16)
    for i in range(out.shape[0]):
        positions(window[i, 0], window[i, 2], height, False, rows, row_weight)
        positions(window[i, 1], window[i, 3], width, mirror[i] != 0, columns, column_weight)
        first = min(columns[0], columns[-1])
        last = min(max(columns[0], columns[-1]) + 2, width)
        held[:] = -1
        factor = colour[i]
        for row in range(out_height):
            for y in range(rows[row], min(rows[row] + 2, height)):
                if held[y & 1] == y:
                    continue
                held[y & 1] = y
                flat = source[i, y].reshape(-1)[3 * first : 3 * last]
                part = lanes[4 * first : 4 * last]
                opaque = alpha[i, y, first:last] if has_alpha else transparent[first:last]
                for x in range(last - first):
                    part[4 * x] = flat[3 * x]
                    part[4 * x + 1] = flat[3 * x + 1]
                    part[4 * x + 2] = flat[3 * x + 2]
                    part[4 * x + 3] = opaque[x]
                packed[width] = packed[width - 1]
                line = lines[y & 1]
                for column in range(out_width):
                    x = columns[column]
                    right = column_weight[column]
                    value = packed[x] * (_256 - right) + packed[x + 1] * right + _LANES_ROUND
                    line[column] = (value >> _8) & _LANES_BYTE
            upper = lines[rows[row] & 1].view(np.uint16)
            lower = lines[min(rows[row] + 1, height - 1) & 1].view(np.uint16)
            below = np.uint16(row_weight[row])
            above = np.uint16(256 - below)
            for k in range(between.size):
                value16 = np.uint16(upper[k] * above + lower[k] * below + np.uint16(128))
                between[k] = np.uint16(value16 >> np.uint16(8))
            opaque = out_alpha[i, row] if has_alpha else unused
            for column in range(out_width):
                red[column] = np.uint8(between[4 * column])
                green[column] = np.uint8(between[4 * column + 1])
                blue[column] = np.uint8(between[4 * column + 2])
                opaque[column] = np.uint8(between[4 * column + 3])
            for channel in range(3):
                plane = planes[channel, row]
                of_red, of_green, of_blue = (
                    factor[4 * channel],
                    factor[4 * channel + 1],
                    factor[4 * channel + 2],
                )
                offset = factor[4 * channel + 3] + np.int32(UNIT // 2)
                for column in range(out_width):
                    total = np.int32(
                        of_red * np.int32(red[column])
                        + of_green * np.int32(green[column])
                        + of_blue * np.int32(blue[column])
                        + offset
                    ) >> np.int32(12)
                    plane[column] = np.uint8(min(max(total, np.int32(0)), np.int32(255)))
        for _ in range(blur[i, 0]):
            _blur(planes, blur[i], padded, spare)
            planes, spare = spare, planes
        _finish(planes, noise[i, 0], noise[i, stream], table, out[i])


@kernel
def _blur(planes: UInt8, taps: Int32, padded: UInt8, out: UInt8) -> None:
    """One pass: 5 taps down and 5 taps across, each rounded; beyond the border is what is at the border."""
    height, width = planes.shape[1], planes.shape[2]
    middle, inner, outer = np.uint16(taps[1]), np.uint16(taps[2]), np.uint16(taps[3])
    for channel in range(3):
        plane = planes[channel]
        for row in range(height):
            here = plane[row]
            up, down = plane[max(row - 1, 0)], plane[min(row + 1, height - 1)]
            above, below = plane[max(row - 2, 0)], plane[min(row + 2, height - 1)]
            part = padded[2 : 2 + width]
            for k in range(width):
                value = np.uint16(
                    middle * np.uint16(here[k])
                    + inner * np.uint16(np.uint16(up[k]) + np.uint16(down[k]))
                    + outer * np.uint16(np.uint16(above[k]) + np.uint16(below[k]))
                    + np.uint16(128)
                )
                part[k] = np.uint16(value >> np.uint16(8))
            padded[:2] = padded[2]
            padded[2 + width :] = padded[1 + width]
            to = out[channel, row]
            a, b, c, d, e = (
                padded[:width],
                padded[1 : 1 + width],
                part,
                padded[3 : 3 + width],
                padded[4 : 4 + width],
            )
            for k in range(width):
                value = np.uint16(
                    middle * c[k]
                    + inner * np.uint16(b[k] + d[k])
                    + outer * np.uint16(a[k] + e[k])
                    + np.uint16(128)
                )
                to[k] = np.uint8(value >> np.uint16(8))


@kernel
def _finish(planes: UInt8, amount: int, seed: int, table: Int16, out: UInt8) -> None:
    """Join planes to an (oh, ow, 3) picture; each row has noise of the ``table`` from a random place on."""
    height, width = planes.shape[1], planes.shape[2]
    factor = np.int32(amount)
    for row in range(height):
        to = out[row].reshape(-1)
        red, green, blue = planes[0, row], planes[1, row], planes[2, row]
        for k in range(width):
            to[3 * k] = red[k]
            to[3 * k + 1] = green[k]
            to[3 * k + 2] = blue[k]
        if amount == 0:
            continue
        start, first = noise_start(seed, row), 0
        while first < to.size:
            end = min(to.size, first + table.size - start)
            part, values = to[first:end], table[start : start + end - first]
            for k in range(part.size):
                value = np.int32(part[k]) + ((np.int32(values[k]) * factor + np.int32(_HALF)) >> np.int32(16))
                part[k] = np.uint8(min(max(value, np.int32(0)), np.int32(255)))
            start, first = 0, end


@kernel
def noise_start(seed: int, row: int) -> int:
    """Where in the table the noise of a row begins: bits of seed and row, mixed (as MurmurHash3 ends)."""
    x = (np.uint64(seed) + np.uint64(row) * np.uint64(0x9E3779B9)) & _LOW
    x = ((x ^ (x >> np.uint64(16))) * np.uint64(0x85EBCA6B)) & _LOW
    x = ((x ^ (x >> np.uint64(13))) * np.uint64(0xC2B2AE35)) & _LOW
    return int((x ^ (x >> np.uint64(16))) & np.uint64(NOISE_TABLE - 1))
