"""Kernels that turn sprites by small angles, in exact integer arithmetic.

A sprite is turned about the middle of its rectangle of ``h`` x ``w`` pixels, clockwise, after it is mirrored.
Rows and columns of what comes out are counted as those of the rectangle are, so that they begin below 0 and
end beyond its size. Angles are in tenths of a degree.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from fgbgpack.jit import Int8, Int16, Int32, Int64, UInt8, kernel

#: Whole numbers of 64 bits.
Int: TypeAlias = Any

#: Tenths of a degree in one, and in a right angle.
TENTHS = 10
_RIGHT = 90 * TENTHS
#: Sines are times 2^16, positions in halves of that, and weights have 8 bits each way.
_BITS = 16
_POSITION_BITS = _BITS + 1
_WEIGHT_BITS = 8
_WHOLE = 1 << _WEIGHT_BITS
_HALF_WEIGHT = 1 << (2 * _WEIGHT_BITS - 1)
_OPAQUE = 255
_HALF_OPAQUE = 127
_ALL_OPAQUE = _OPAQUE << (2 * _WEIGHT_BITS)


def _sines() -> list[int]:
    """Sines of 0 to 90 degrees, in tenths, times 2^16, rounded to nearest: series of whole numbers, which all
    machines sum up alike.
    """
    bits = 96

    def arctangent(inverse: int) -> int:
        total, power, divisor = 0, (1 << bits) // inverse, 1
        while power:
            total += power // divisor if divisor % 4 == 1 else -(power // divisor)
            power //= inverse * inverse
            divisor += 2
        return total

    pi = 4 * (4 * arctangent(5) - arctangent(239))
    found = []
    for tenths in range(_RIGHT + 1):
        angle = pi * tenths // (2 * _RIGHT)
        total, term, n = 0, angle, 1
        while term:
            total += term if n % 4 == 1 else -term
            n += 2
            term = ((term * angle >> bits) * angle >> bits) // (n * (n - 1))
        found.append((total + (1 << (bits - _BITS - 1))) >> (bits - _BITS))
    return found


_SINES = np.array(_sines(), np.int64)


@kernel
def sine(angle: Int) -> Int:
    """The sine of an angle from -90 to 90 degrees, times 2^16."""
    return _SINES[angle] if angle >= 0 else -_SINES[-angle]


@kernel
def cosine(angle: Int) -> Int:
    """The cosine of such an angle, times 2^16."""
    return _SINES[_RIGHT - abs(angle)]


@kernel
def grown(h: Int, w: Int, angle: Int) -> tuple[Int, Int]:
    """How many rows, and how many columns, a turned sprite takes on each side beyond its rectangle; the
    number may be negative.
    """
    if angle == 0:
        return np.int64(0), np.int64(0)
    aside = abs(sine(angle))
    along = cosine(angle)
    # Edges are soft: they fade out within half a pixel.
    rows = (h + 1) * along + (w + 1) * aside - (h << _BITS)
    columns = (w + 1) * along + (h + 1) * aside - (w << _BITS)
    return -(-rows >> _POSITION_BITS), -(-columns >> _POSITION_BITS)


@kernel
def pushed(h: Int, w: Int, angle: Int) -> tuple[Int, Int]:
    """How many rows, and how many columns, a turned sprite has to be moved outwards at the side where it is
    cut, so that no part of its cut edge, nor of the soft pixels along that, is further in than before.
    """
    if angle == 0:
        return np.int64(0), np.int64(0)
    aside = abs(sine(angle))
    less = (1 << _BITS) - cosine(angle)
    rows = h * less + w * aside
    columns = w * less + h * aside
    return 1 - (-rows >> _POSITION_BITS), 1 - (-columns >> _POSITION_BITS)


@kernel
def turned_point(down: Int, across: Int, angle: Int) -> tuple[Int, Int]:
    """Where a point is after a turn about the origin, rounded to whole units."""
    aside = sine(angle)
    along = cosine(angle)
    half = 1 << (_BITS - 1)
    return (aside * across + along * down + half) >> _BITS, (along * across - aside * down + half) >> _BITS


@kernel
def turned_feet(
    h: Int, w: Int, lowest: Int, left: Int, right: Int, is_flipped: bool, angle: Int
) -> tuple[Int, Int]:
    """By how many rows, and columns, a turn moves the middle of a sprite's feet.

    It is in halves of a pixel; ``lowest``, ``left`` and ``right`` are what ``feet_of`` gives.
    """
    if angle == 0:
        return np.int64(0), np.int64(0)
    down = 2 * lowest - (h - 1)
    across = left + right - (w - 1)
    if is_flipped:
        across = -across
    to_down, to_across = turned_point(down, across, angle)
    return to_down - down, to_across - across


@kernel
def turn_row(
    pixels: UInt8,
    start: Int,
    h: Int,
    w: Int,
    is_flipped: bool,
    is_hard: bool,
    angle: Int,
    row: Int,
    first: Int,
    last: Int,
    out: UInt8,
) -> None:
    """Fill ``out``, RGBA, with columns ``first`` to ``last`` of a row of a turned sprite, (h, w, 4) at
    ``start`` of ``pixels``.

    Each pixel is a mean of the four nearest to where it comes from, in premultiplied alpha, with weights of
    256ths of a pixel both ways; beyond the sprite is nothing. Alpha of one that is hard is then 255 above
    127, else 0. Colours are not set where alpha is 0.
    """
    aside = sine(angle)
    along = cosine(angle)
    dy = 2 * row - (h - 1)
    dx = 2 * first - (w - 1)
    across = along * dx + aside * dy + ((w - 1) << _BITS)
    down = along * dy - aside * dx + ((h - 1) << _BITS)
    base = start + 4 * (w - 1) if is_flipped else start
    step: Int = np.int64(-4) if is_flipped else np.int64(4)
    count = last - first
    # Pixels that touch the sprite, and those of them whose four are all in it, are one run each.
    begin, end = _run(across, 2 * along, -1, w, np.int64(0), count)
    begin, end = _run(down, -2 * aside, -1, h, begin, end)
    inner, outer = _run(across, 2 * along, 0, w - 1, begin, end)
    inner, outer = _run(down, -2 * aside, 0, h - 1, inner, outer)
    for column in range(begin):
        out[4 * column + 3] = 0
    for column in range(end, count):
        out[4 * column + 3] = 0
    across += 2 * along * begin
    down -= 2 * aside * begin
    below: Int = np.int64(4) * w
    for column in range(begin, end):
        left = across >> _POSITION_BITS
        top = down >> _POSITION_BITS
        x = (across >> (_POSITION_BITS - _WEIGHT_BITS)) & (_WHOLE - 1)
        y = (down >> (_POSITION_BITS - _WEIGHT_BITS)) & (_WHOLE - 1)
        across += 2 * along
        down -= 2 * aside
        upper = base + below * top + step * left
        east = step
        south = below
        if inner <= column < outer:
            a = np.int64(pixels[upper + 3])
            b = np.int64(pixels[upper + east + 3])
            c = np.int64(pixels[upper + south + 3])
            d = np.int64(pixels[upper + south + east + 3])
        else:
            a, b, c, d, upper, east, south = _at_border(pixels, h, w, top, left, upper, east, south)
        at = 4 * column
        if a + b + c + d == 0:
            out[at + 3] = 0
            continue
        a *= (_WHOLE - x) * (_WHOLE - y)
        b *= x * (_WHOLE - y)
        c *= (_WHOLE - x) * y
        d *= x * y
        opacity = a + b + c + d
        alpha = (opacity + _HALF_WEIGHT) >> (2 * _WEIGHT_BITS)
        if is_hard:
            alpha = np.int64(_OPAQUE) if alpha > _HALF_OPAQUE else np.int64(0)
        out[at + 3] = alpha
        if alpha > 0:
            for channel in range(3):
                colour = (
                    a * np.int64(pixels[upper + channel])
                    + b * np.int64(pixels[upper + east + channel])
                    + c * np.int64(pixels[upper + south + channel])
                    + d * np.int64(pixels[upper + south + east + channel])
                )
                if opacity == _ALL_OPAQUE:
                    # The same as below, as a division by a constant.
                    out[at + channel] = (colour + _ALL_OPAQUE // 2) // _ALL_OPAQUE
                else:
                    out[at + channel] = (colour + opacity // 2) // opacity


@kernel
def _at_border(
    pixels: UInt8, h: Int, w: Int, top: Int, left: Int, upper: Int, east: Int, south: Int
) -> tuple[Int, Int, Int, Int, Int, Int, Int]:
    """The alpha of the four pixels from row ``top`` and column ``left`` on, some of which are not in the
    sprite, and where they are, from the first one: those outside are the nearest inside, and have alpha 0.
    """
    has_left = left >= 0
    has_right = left < w - 1
    has_top = top >= 0
    has_bottom = top < h - 1
    if not has_left:
        upper += east
    if not has_top:
        upper += south
    if not (has_left and has_right):
        east = np.int64(0)
    if not (has_top and has_bottom):
        south = np.int64(0)
    a = np.int64(pixels[upper + 3]) if has_top and has_left else np.int64(0)
    b = np.int64(pixels[upper + east + 3]) if has_top and has_right else np.int64(0)
    c = np.int64(pixels[upper + south + 3]) if has_bottom and has_left else np.int64(0)
    d = np.int64(pixels[upper + south + east + 3]) if has_bottom and has_right else np.int64(0)
    return a, b, c, d, upper, east, south


@kernel
def _run(position: Int, slope: Int, low: Int, high: Int, begin: Int, end: Int) -> tuple[Int, Int]:
    """Of numbers c from ``begin`` to below ``end`` those for which ``position + c * slope``, in pixels, is at
    least ``low`` and below ``high``: from, and to below; ``begin`` twice where there are none.
    """
    least = (low << _POSITION_BITS) - position
    most = (high << _POSITION_BITS) - 1 - position
    if slope < 0:
        least, most = -most, -least
        slope = -slope
    from_here = begin
    to_there = end
    if slope == 0:
        if least > 0 or most < 0:
            to_there = begin
    else:
        from_here = max(begin, -(-least // slope))
        to_there = min(end, most // slope + 1)
    if from_here >= to_there:
        return begin, begin
    return from_here, to_there


@kernel
def turned_bits(
    pixels: UInt8,
    start: Int,
    h: Int,
    w: Int,
    is_flipped: bool,
    angle: Int,
    y: Int,
    x: Int,
    width: Int,
    bits: UInt8,
) -> Int:
    """How many pixels of a turned sprite have alpha above 127.

    ``bits`` (height, any) gets one for each pixel that is in a picture of so many columns, with the corner at
    ``y`` and ``x``, eight to a byte; rows where nothing of the sprite is are left as they are.
    """
    rows, columns = grown(h, w, angle)
    aside = sine(angle)
    along = cosine(angle)
    base = start + 4 * (w - 1) if is_flipped else start
    step: Int = np.int64(-4) if is_flipped else np.int64(4)
    below: Int = np.int64(4) * w
    count = np.int64(0)
    no_row = np.empty(0, np.uint8)
    for row in range(-rows, h + rows):
        is_inside = 0 <= y + row < bits.shape[0]
        line = bits[y + row] if is_inside else no_row
        for k in range(len(line)):
            line[k] = 0
        dy = 2 * row - (h - 1)
        # Those of column 0.
        across = aside * dy + ((w - 1) << _BITS) - along * (w - 1)
        down = along * dy + ((h - 1) << _BITS) + aside * (w - 1)
        begin, end = _run(across, 2 * along, -1, w, -columns, w + columns)
        begin, end = _run(down, -2 * aside, -1, h, begin, end)
        inner, outer = _run(across, 2 * along, 0, w - 1, begin, end)
        inner, outer = _run(down, -2 * aside, 0, h - 1, inner, outer)
        across += 2 * along * begin
        down -= 2 * aside * begin
        for column in range(begin, end):
            left = across >> _POSITION_BITS
            top = down >> _POSITION_BITS
            upper = base + below * top + step * left
            if inner <= column < outer:
                a = np.int64(pixels[upper + 3])
                b = np.int64(pixels[upper + step + 3])
                c = np.int64(pixels[upper + below + 3])
                d = np.int64(pixels[upper + below + step + 3])
            else:
                a, b, c, d, _, _, _ = _at_border(pixels, h, w, top, left, upper, step, below)
            is_opaque = a + b + c + d == 4 * _OPAQUE
            if not is_opaque and a + b + c + d > _HALF_OPAQUE:
                x_part = (across >> (_POSITION_BITS - _WEIGHT_BITS)) & (_WHOLE - 1)
                y_part = (down >> (_POSITION_BITS - _WEIGHT_BITS)) & (_WHOLE - 1)
                opacity = (_WHOLE - y_part) * ((_WHOLE - x_part) * a + x_part * b) + y_part * (
                    (_WHOLE - x_part) * c + x_part * d
                )
                is_opaque = (opacity + _HALF_WEIGHT) >> (2 * _WEIGHT_BITS) > _HALF_OPAQUE
            across += 2 * along
            down -= 2 * aside
            if is_opaque:
                count += 1
                to = x + column
                if is_inside and 0 <= to < width:
                    line[to >> 3] |= np.uint8(1 << (to & 7))
    return count


@kernel
def turned_areas(
    pixels: UInt8,
    offset: Int64,
    size: Int32,
    sprite: Int32,
    flip: Int8,
    rotation: Int16,
    area: Int64,
) -> None:
    """Fill ``area`` (m,) with how many pixels of m turned sprites have alpha above 127; -1 has 0."""
    nowhere = np.empty((0, 0), np.uint8)
    for i in range(len(sprite)):
        s = sprite[i]
        area[i] = 0
        if s >= 0:
            h = np.int64(size[s, 0])
            w = np.int64(size[s, 1])
            area[i] = turned_bits(
                pixels,
                offset[s],
                h,
                w,
                flip[i] == 1,
                np.int64(rotation[i]),
                np.int64(0),
                np.int64(0),
                np.int64(0),
                nowhere,
            )


@kernel
def turned_margins(size: Int32, sprite: Int32, rotation: Int16, margin: Int32) -> None:
    """Fill ``margin`` (m, 2) with what ``grown`` gives of m sprites, of which -1 stands for none."""
    for i in range(len(sprite)):
        margin[i] = 0
        s = sprite[i]
        if s >= 0:
            rows, columns = grown(np.int64(size[s, 0]), np.int64(size[s, 1]), np.int64(rotation[i]))
            margin[i, 0] = rows
            margin[i, 1] = columns


@kernel
def turn_alphas(
    pixels: UInt8,
    offset: Int64,
    size: Int32,
    sprite: Int32,
    flip: Int8,
    is_hard: UInt8,
    rotation: Int16,
    margin: Int32,
    to: Int64,
    scratch: UInt8,
    alpha: UInt8,
) -> None:
    """Fill ``alpha`` with that of m turned sprites, each at its place in ``to`` (m,), row by row."""
    for i in range(len(sprite)):
        s = sprite[i]
        if s < 0:
            continue
        h = np.int64(size[s, 0])
        w = np.int64(size[s, 1])
        rows = np.int64(margin[i, 0])
        columns = np.int64(margin[i, 1])
        at = to[i]
        for row in range(-rows, h + rows):
            turn_row(
                pixels,
                offset[s],
                h,
                w,
                flip[i] == 1,
                is_hard[s] != 0,
                np.int64(rotation[i]),
                row,
                -columns,
                w + columns,
                scratch,
            )
            for column in range(w + 2 * columns):
                alpha[at] = scratch[4 * column + 3]
                at += 1
