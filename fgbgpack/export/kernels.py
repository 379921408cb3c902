"""Pixels made ready for compression, as PNG does it."""

from __future__ import annotations

import numpy as np

from fgbgpack.jit import UInt8, kernel

_PAETH = 4


@kernel
def paeth_filter(rows: UInt8, step: int, out: UInt8) -> None:
    """Write what PNG's Paeth filter makes of a picture: each byte less the one it is guessed to be.

    The guess is that of the bytes to the left (a), above (b) and above to the left (c) which is nearest to a
    + b - c, and the earlier of them where two are as near. Beyond the picture, all are 0. (PNG, third
    edition, section 9.4.) ``rows`` is ``(h, m)``; ``step`` the bytes of a pixel, at most m; ``out`` ``(h, 1 +
    m)``, filled: the number of the filter, then the differences modulo 256.
    """
    height, length = rows.shape
    for y in range(height):
        row = rows[y]
        line = out[y]
        line[0] = _PAETH
        if y == 0:
            # Only the byte to the left is not 0, and so the guess.
            for x in range(step):
                line[1 + x] = row[x]
            for x in range(step, length):
                line[1 + x] = np.uint8((np.int16(row[x]) - np.int16(row[x - step])) & 255)
            continue
        above = rows[y - 1]
        for x in range(step):
            line[1 + x] = np.uint8((np.int16(row[x]) - np.int16(above[x])) & 255)
        for x in range(step, length):
            # 16 bits are enough, and let the loop run on vectors.
            a = np.int16(row[x - step])
            b = np.int16(above[x])
            c = np.int16(above[x - step])
            from_a = np.int16(b - c)
            from_b = np.int16(a - c)
            to_a = np.int16(abs(from_a))
            to_b = np.int16(abs(from_b))
            to_c = np.int16(abs(np.int16(from_a + from_b)))
            guess = a if to_a <= to_b and to_a <= to_c else (b if to_b <= to_c else c)
            line[1 + x] = np.uint8(np.int16(np.int16(row[x]) - guess) & 255)
