"""Kernels on depth in whole numbers, and on float16 as bit patterns: Numba has no float16 on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from fgbgpack.jit import Int16, Int32, Int64, UInt8, UInt16, kernel

# As sort keys (below), finite float16 lie from -65504 (bits 0xFBFF) to 65504 (bits 0x7BFF), the infinities
# beyond them, and NaN beyond those.
_LARGEST = 0x7BFF
_SMALLEST = -0x7C00


@kernel
def half_extent(bits: UInt16, lo: UInt16, hi: UInt16) -> int:
    """Writes the minimum and maximum of each row of float16, as bit patterns (-0 counts as less than 0).

    ``bits`` is ``(n, m)``, m at least 1, C-contiguous; ``lo`` and ``hi`` are ``(n,)``. Returns how many rows
    hold an infinity or a NaN; ``lo`` or ``hi`` of these is one such value.
    """
    wrong = 0
    for i in range(bits.shape[0]):
        # Flipping all but the sign bit of negative numbers orders the patterns as signed integers.
        # Everything stays 16 bits wide, so that the loop is vectorised.
        row = bits[i].view(np.int16)
        least = np.int16(0x7FFF)
        greatest = np.int16(-0x8000)
        for j in range(row.shape[0]):
            key = np.int16(row[j] ^ np.int16((row[j] >> np.int16(15)) & np.int16(0x7FFF)))
            least = min(key, least)
            greatest = max(key, greatest)
        if least < _SMALLEST or greatest > _LARGEST:
            wrong += 1
        lo[i] = np.uint16(np.int16(least ^ np.int16((least >> np.int16(15)) & np.int16(0x7FFF))))
        hi[i] = np.uint16(np.int16(greatest ^ np.int16((greatest >> np.int16(15)) & np.int16(0x7FFF))))
    return wrong


#: Codes of depth are from -LARGEST_CODE to LARGEST_CODE: times a power of two, all of them are float16.
LARGEST_CODE = 2048
_BIAS = np.int32(LARGEST_CODE)
_SHORT_BIAS = np.int16(LARGEST_CODE)
_FARTHEST = np.int16(-LARGEST_CODE)
_OPAQUE = np.int32(255)
_HALF = np.int32(127)
_HALF_OPAQUE = np.uint8(127)


@kernel
def layer_depth(
    codes: Int16,
    halves: UInt16,
    half_of: UInt16,
    which: Int32,
    alpha: UInt8,
    offset: Int64,
    size: Int32,
    sprite: Int32,
    y: Int32,
    x: Int32,
    number: Int16,
    nearer: int,
    placed: Int16,
    out: UInt16,
) -> None:
    """Fill ``out`` (n, h, w), float16 as bits, with the depth of backgrounds and objects before them.

    ``codes`` (B, h, w) are the backgrounds' depth, ``halves`` the same as float16, and ``half_of`` the
    float16 of each code from ``-LARGEST_CODE`` on; ``which`` is (n,). Objects are (n, K), drawn in their
    order up to the first of ``sprite`` -1; sprites are (h, w) of ``size`` (S, 2) at ``offset`` (S,) of
    ``alpha``. What is outside the picture is left out; nothing else is checked here.

    An object is a plane at ``number``, which is moved until nothing that it hides is nearer (pixels where its
    alpha is above 127 or, where it has none of them, above 0), and it is nearer than the object before by one
    code at least, unless no code is left; ``placed`` (n, K) is where it comes to be.
    ``nearer`` is 1 where larger codes are nearer, else -1. Each pixel is ``(a * object + (255 - a) * what is
    behind) / 255``, rounded to nearest; there are no ties.
    """
    height = codes.shape[1]
    width = codes.shape[2]
    sign = np.int16(nearer)
    behind = np.empty((height, width), np.int16)
    # Of what is in the picture of an object, its alpha and what is behind it, row after row. Loops over all
    # of it, from 0 and without branches, are vectorised; for short rows alone that would gain little.
    part_alpha = np.empty(height * width, np.uint8)
    part_behind = np.empty(height * width, np.int16)
    for i in range(out.shape[0]):
        scene = codes[which[i]]
        flat = out[i].reshape(-1)
        empty = halves[which[i]].reshape(-1)
        for k in range(flat.size):
            flat[k] = empty[k]
        count = 0
        while count < sprite.shape[1] and sprite[i, count] >= 0:
            count += 1
        if count > 1:
            flat_behind = behind.reshape(-1)
            flat_scene = scene.reshape(-1)
            for k in range(flat_scene.size):
                flat_behind[k] = flat_scene[k]
        before = -LARGEST_CODE - 1
        for k in range(count):
            s = sprite[i, k]
            w = int(size[s, 1])
            first_row = max(0, int(y[i, k]))
            last_row = max(first_row, min(int(y[i, k]) + int(size[s, 0]), height))
            first = max(0, int(x[i, k]))
            last = max(first, min(int(x[i, k]) + w, width))
            across = last - first
            for row in range(first_row, last_row):
                start = offset[s] + (row - int(y[i, k])) * w + first - int(x[i, k])
                over = alpha[start : start + across]
                under = scene[row, first:last] if k == 0 else behind[row, first:last]
                to = (row - first_row) * across
                over_too = part_alpha[to : to + across]
                under_too = part_behind[to : to + across]
                for j in range(across):
                    over_too[j] = over[j]
                for j in range(across):
                    under_too[j] = under[j]
            over = part_alpha[: (last_row - first_row) * across]
            under = part_behind[: (last_row - first_row) * across]
            solid = _FARTHEST
            seen = _FARTHEST
            opaque = np.uint8(0)
            for j in range(over.size):
                near = np.int16(sign * under[j])
                solid = max(solid, near if over[j] > _HALF_OPAQUE else _FARTHEST)
                seen = max(seen, near if over[j] > 0 else _FARTHEST)
                opaque = max(opaque, over[j])
            hidden = solid if opaque > _HALF_OPAQUE else seen
            nearest = max(int(hidden), nearer * int(number[i, k]), before + 1)
            before = min(nearest, LARGEST_CODE)
            plane = np.int16(nearer * before)
            placed[i, k] = plane
            for j in range(over.size):
                under[j] = _blend(over[j], plane, under[j])
            for row in range(first_row, last_row):
                to = (row - first_row) * across
                blended = part_behind[to : to + across]
                filled = out[i, row, first:last]
                for j in range(across):
                    filled[j] = half_of[np.uint16(blended[j] + _SHORT_BIAS)]
                if k < count - 1:
                    under = behind[row, first:last]
                    for j in range(across):
                        under[j] = blended[j]


@kernel
def _blend(alpha: Any, plane: Any, behind: Any) -> Any:
    """A code over another by alpha, rounded to nearest. All of it is 32 bits wide: compiled operators would
    be of 64, and a division would not be vectorised.

    Below 2^22 a number ``v`` is divided by 255 exactly, rounded down, by
    ``(257 * v + (v >> 8) + 128) >> 16``.
    """
    over, under = np.int32(alpha), np.int32(behind)
    more = np.multiply(over, np.subtract(np.int32(plane), under))
    v = np.add(np.add(np.multiply(np.add(under, _BIAS), _OPAQUE), more), _HALF)
    v = np.add(np.add(np.multiply(v, np.int32(257)), np.right_shift(v, np.int32(8))), np.int32(128))
    return np.subtract(np.right_shift(v, np.int32(16)), _BIAS)
