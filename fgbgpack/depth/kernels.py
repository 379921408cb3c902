"""Kernels on float16 as bit patterns, since Numba has no float16 on the CPU."""

from __future__ import annotations

import numpy as np

from fgbgpack.jit import UInt16, kernel

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
