"""Compiled kernels of cut-outs. They do not check: callers give contiguous arrays of the right shapes."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.jit import Int32, UInt8, kernel

Plane: TypeAlias = NDArray[np.float32]


@kernel
def box_mean(plane: Plane, half: int, between: Plane, out: Plane) -> None:
    """Writes into ``out`` the mean of ``plane``, (h, w), over the square of ``2 * half + 1`` pixels around
    each, or what of it lies within the plane. ``between`` is as large, for the sums along rows.
    """
    height, width = plane.shape
    for y in range(height):
        total = 0.0
        for x in range(min(half, width)):
            total += plane[y, x]
        for x in range(width):
            if x + half < width:
                total += plane[y, x + half]
            if x - half - 1 >= 0:
                total -= plane[y, x - half - 1]
            between[y, x] = total / (min(x + half, width - 1) - max(x - half, 0) + 1)
    totals = np.zeros(width)
    for y in range(min(half, height)):
        for x in range(width):
            totals[x] += between[y, x]
    for y in range(height):
        if y + half < height:
            for x in range(width):
                totals[x] += between[y + half, x]
        if y - half - 1 >= 0:
            for x in range(width):
                totals[x] -= between[y - half - 1, x]
        count = min(y + half, height - 1) - max(y - half, 0) + 1
        for x in range(width):
            out[y, x] = totals[x] / count


@kernel
def label(mask: UInt8, diagonal: bool, queue: Int32, labels: Int32) -> int:
    """Numbers the connected parts of ``mask``, (h, w), where it is not 0, from 1 on in the order of their
    first pixels, into ``labels``, which is 0 elsewhere. Returns how many there are. Pixels that touch at a
    corner are connected if ``diagonal``. ``queue`` is (h * w,).
    """
    height, width = mask.shape
    labels[:] = 0
    count = 0
    for top in range(height):
        for left in range(width):
            if mask[top, left] == 0 or labels[top, left] != 0:
                continue
            count += 1
            labels[top, left] = count
            queue[0] = top * width + left
            end = 1
            while end > 0:
                end -= 1
                y, x = queue[end] // width, queue[end] % width
                for down in range(-1, 2):
                    for right in range(-1, 2):
                        if down != 0 and right != 0 and not diagonal:
                            continue
                        v, u = y + down, x + right
                        if v < 0 or u < 0 or v >= height or u >= width:
                            continue
                        if mask[v, u] != 0 and labels[v, u] == 0:
                            labels[v, u] = count
                            queue[end] = v * width + u
                            end += 1
    return count


@kernel
def spread(alpha: UInt8, queue: Int32, labels: Int32) -> None:
    """Gives each pixel of ``alpha``, (h, w), that is not 0 the number in ``labels`` that is the fewest steps
    away within such pixels, in place; those that none can be reached from stay 0. ``queue`` is (h * w,).
    """
    height, width = alpha.shape
    end = 0
    for y in range(height):
        for x in range(width):
            if labels[y, x] != 0:
                queue[end] = y * width + x
                end += 1
    start = 0
    while start < end:
        y, x = queue[start] // width, queue[start] % width
        start += 1
        for side in range(4):
            v = y + (side == 0) - (side == 1)
            u = x + (side == 2) - (side == 3)
            if v < 0 or u < 0 or v >= height or u >= width:
                continue
            if alpha[v, u] != 0 and labels[v, u] == 0:
                labels[v, u] = labels[y, x]
                queue[end] = v * width + u
                end += 1


@kernel
def count_weak(rgb: UInt8, solid: UInt8, reach: int, least: int) -> tuple[int, int]:
    """How many places the outline of ``solid``, (h, w), has, and at how many of them the colours of ``rgb``,
    (h, w, 3), ``reach`` pixels inside and outside of it differ by less than ``least`` in every channel.

    A place is a solid pixel beside one that is not. Those count for which both colours are in the picture,
    the one in the solid and the other not.
    """
    height, width = solid.shape
    places = weak = 0
    for y in range(height):
        for x in range(width):
            if solid[y, x] == 0:
                continue
            for side in range(4):
                down = (side == 0) - (side == 1)
                right = (side == 2) - (side == 3)
                v, u = y + down, x + right
                if v < 0 or u < 0 or v >= height or u >= width or solid[v, u] != 0:
                    continue
                v, u = y + down * reach, x + right * reach
                t, s = y - down * (reach - 1), x - right * (reach - 1)
                if min(v, u, t, s) < 0 or max(v, t) >= height or max(u, s) >= width:
                    continue
                if solid[v, u] != 0 or solid[t, s] == 0:
                    continue
                places += 1
                most = 0
                for channel in range(3):
                    apart = int(np.int64(rgb[v, u, channel]) - np.int64(rgb[t, s, channel]))
                    most = max(most, apart, -apart)
                if most < least:
                    weak += 1
    return places, weak
