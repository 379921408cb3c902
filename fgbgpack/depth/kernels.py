"""Kernels on depth in whole numbers, and on float16 as bit patterns: Numba has no float16 on the CPU."""

from __future__ import annotations

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
_FARTHEST = np.int16(-LARGEST_CODE)
_OPAQUE = np.uint32(255)
_HALF = np.uint32(127)
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
    for i in range(out.shape[0]):
        scene = codes[which[i]]
        flat = out[i].reshape(-1)
        empty = halves[which[i]].reshape(-1)
        for k in range(flat.size):
            flat[k] = empty[k]
        # The rows and columns that any object is in.
        top, bottom, left, right = height, 0, width, 0
        count = 0
        for k in range(sprite.shape[1]):
            s = sprite[i, k]
            if s < 0:
                break
            count += 1
            top = min(top, max(0, int(y[i, k])))
            bottom = max(bottom, min(height, int(y[i, k]) + int(size[s, 0])))
            left = min(left, max(0, int(x[i, k])))
            right = max(right, min(width, int(x[i, k]) + int(size[s, 1])))
        for row in range(top, bottom):
            under = behind[row, left:right]
            source = scene[row, left:right]
            for k in range(under.size):
                under[k] = source[k]
        before = -LARGEST_CODE - 1
        for k in range(count):
            s = sprite[i, k]
            w = int(size[s, 1])
            corner_y = int(y[i, k])
            corner_x = int(x[i, k])
            first_row = max(0, -corner_y)
            last_row = min(int(size[s, 0]), height - corner_y)
            first = max(0, -corner_x)
            last = max(first, min(w, width - corner_x))
            # Loops from 0 over slices, without branches, are vectorised.
            solid = _FARTHEST
            seen = _FARTHEST
            opaque = np.uint8(0)
            for row in range(first_row, last_row):
                over = alpha[offset[s] + row * w + first : offset[s] + row * w + last]
                under = behind[corner_y + row, corner_x + first : corner_x + last]
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
            raised = np.uint32(np.int32(plane) + _BIAS)
            for row in range(first_row, last_row):
                over = alpha[offset[s] + row * w + first : offset[s] + row * w + last]
                under = behind[corner_y + row, corner_x + first : corner_x + last]
                for j in range(over.size):
                    a = np.uint32(over[j])
                    b = np.uint32(np.int32(under[j]) + _BIAS)
                    v = np.uint32(a * raised + (_OPAQUE - a) * b + _HALF)
                    under[j] = np.int16(np.int32(v // _OPAQUE) - _BIAS)
        for row in range(top, bottom):
            under = behind[row, left:right]
            filled = out[i, row, left:right]
            for k in range(under.size):
                filled[k] = half_of[np.int32(under[k]) + _BIAS]
