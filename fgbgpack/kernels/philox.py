"""Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2,
3", SC 2011, section 4.3 and table 2).
"""

from __future__ import annotations

import numpy as np

from fgbgpack.kernels._jit import kernel
from fgbgpack.kernels._types import Int32, UInt32

_ROUNDS = 10
_M0 = np.uint64(0xD2511F53)
_M1 = np.uint64(0xCD9E8D57)
_W0 = np.uint64(0x9E3779B9)
_W1 = np.uint64(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


@kernel
def philox4x32(counter: UInt32, key: UInt32, out: UInt32) -> None:
    """Fill ``out`` (n, 4) uint32 from ``counter`` (n, 4) uint32 and ``key`` (2,) uint32.

    The arithmetic is done in uint64, where a product of two 32-bit words cannot overflow.
    """
    for i in range(counter.shape[0]):
        c0 = np.uint64(counter[i, 0])
        c1 = np.uint64(counter[i, 1])
        c2 = np.uint64(counter[i, 2])
        c3 = np.uint64(counter[i, 3])
        k0 = np.uint64(key[0])
        k1 = np.uint64(key[1])
        for _ in range(_ROUNDS):
            p0 = _M0 * c0
            p1 = _M1 * c2
            c0 = (p1 >> _32) ^ c1 ^ k0
            c1 = p1 & _LOW
            c2 = (p0 >> _32) ^ c3 ^ k1
            c3 = p0 & _LOW
            k0 = (k0 + _W0) & _LOW
            k1 = (k1 + _W1) & _LOW
        out[i, 0] = np.uint32(c0)
        out[i, 1] = np.uint32(c1)
        out[i, 2] = np.uint32(c2)
        out[i, 3] = np.uint32(c3)


@kernel
def multiply_high(word: UInt32, count: Int32, out: Int32) -> None:
    """Reduce each 32-bit ``word`` to ``0 <= out < count``: the high half of ``word * count``.

    The bias of any value is below ``count / 2**32`` (Lemire, "Fast random integer generation in an
    interval", 2019, section 2).
    """
    for i in range(word.shape[0]):
        out[i] = np.int32((np.uint64(word[i]) * np.uint64(count[i])) >> _32)
