"""Kernels for noise: random numbers that belong to places, and smooth fields of them.

Hashes stay below 2**63 in signed integers, so that they give the same numbers compiled and not.
"""

from __future__ import annotations

import math

from fgbgpack.jit import kernel

_WORD = 0xFFFFFFFF


@kernel
def hash01(x: int, y: int, seed: int) -> float:
    """A number in [0, 1) that depends on nothing but three integers."""
    h = (x * 374761393 + y * 668265263 + seed * 1274126177) & _WORD
    h = ((h ^ (h >> 15)) * 739982445) & _WORD
    h = ((h ^ (h >> 12)) * 695872825) & _WORD
    return (h ^ (h >> 15)) / 4294967296.0


@kernel
def noise(x: float, y: float, seed: int) -> float:
    """Smooth value noise in [0, 1) with one random value at each integer point."""
    fx = math.floor(x)
    fy = math.floor(y)
    ix = int(fx)
    iy = int(fy)
    u = x - fx
    v = y - fy
    u = u * u * (3.0 - 2.0 * u)
    v = v * v * (3.0 - 2.0 * v)
    low = hash01(ix, iy, seed) * (1.0 - u) + hash01(ix + 1, iy, seed) * u
    high = hash01(ix, iy + 1, seed) * (1.0 - u) + hash01(ix + 1, iy + 1, seed) * u
    return low * (1.0 - v) + high * v


@kernel
def noise3(x: float, y: float, z: float, seed: int) -> float:
    """Smooth value noise in space, in [0, 1)."""
    fz = math.floor(z)
    w = z - fz
    w = w * w * (3.0 - 2.0 * w)
    layer = seed + int(fz) * 7919
    return noise(x, y, layer) * (1.0 - w) + noise(x, y, layer + 7919) * w


@kernel
def turbulence(x: float, y: float, seed: int) -> float:
    """Four octaves of ``noise``, in [0, 1)."""
    total = 0.0
    weight = 0.5333333333333333
    for octave in range(4):
        total += weight * noise(x, y, seed + octave)
        x = x * 2.03 + 17.3
        y = y * 2.03 + 9.1
        weight *= 0.5
    return total


@kernel
def clamp01(x: float) -> float:
    """``x`` limited to [0, 1]."""
    return min(1.0, max(0.0, x))


@kernel
def fraction(x: float) -> float:
    """``x`` less the whole number below it, in [0, 1)."""
    return x - math.floor(x)
