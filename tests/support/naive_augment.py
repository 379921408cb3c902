"""Slow, obvious twins of the kernels of augmentation: pixel by pixel, in Python's own whole numbers."""

from __future__ import annotations

from math import cos, pi, sin, sqrt

import numpy as np

ONE, UNIT = 65536, 4096


def between(word, least, most):
    """One of the whole numbers from least to most, by 32 random bits."""
    return least + (int(word) * (int(most) - int(least) + 1)) // 2**32


def rotation(turns):
    """The matrix that turns hues, as real numbers."""
    angle = 2 * pi * turns
    diagonal = cos(angle) + (1 - cos(angle)) / 3
    right = (1 - cos(angle)) / 3 - sin(angle) / sqrt(3)
    further = (1 - cos(angle)) / 3 + sin(angle) / sqrt(3)
    return np.array(
        [[diagonal, right, further], [further, diagonal, right], [right, further, diagonal]], np.float64
    )


def colours(brightness, contrast, saturation, turns, tint):
    """(3, 4) real numbers: what red, green, blue and 1 contribute to each colour of what comes out."""
    grey = np.tile([0.299, 0.587, 0.114], (3, 1))
    matrix = (saturation * np.eye(3) + (1 - saturation) * grey) @ rotation(turns)
    matrix = contrast * brightness * matrix @ np.diag(tint)
    return np.hstack([matrix, np.full((3, 1), 128 * (1 - contrast))])


def positions(start, length, n, size, mirrored):
    """(pixel, weight of the next one in 1/256) of each of n pixels."""
    found = []
    for k in range(n):
        middle = int(start) + ((2 * k + 1) * int(length)) // (2 * n)
        place = min(max(middle - ONE // 2, 0), (size - 1) * ONE)
        found.append((place // ONE, (place % ONE + 128) // 256))
    return found[::-1] if mirrored else found


def linear(plane, window, mirror, out_height, out_width):
    """(oh, ow) list of whole numbers: across first, then down, each rounded."""
    height, width = plane.shape
    rows = positions(window[0], window[2], out_height, height, False)
    columns = positions(window[1], window[3], out_width, width, mirror)

    def across(y, x, weight):
        right = int(plane[y, min(x + 1, width - 1)])
        return (int(plane[y, x]) * (256 - weight) + right * weight + 128) // 256

    return [
        [
            (across(y, x, right) * (256 - below) + across(min(y + 1, height - 1), x, right) * below + 128)
            // 256
            for x, right in columns
        ]
        for y, below in rows
    ]


def nearest(plane, window, mirror, out_height, out_width):
    rows = positions(window[0], window[2], out_height, plane.shape[0], False)
    columns = positions(window[1], window[3], out_width, plane.shape[1], mirror)
    return np.array(
        [[plane[y + (b >= 128), x + (r >= 128)] for x, r in columns] for y, b in rows], plane.dtype
    )


def noise_start(seed, row):
    x = (int(seed) + row * 0x9E3779B9) % 2**32
    x = ((x ^ x >> 16) * 0x85EBCA6B) % 2**32
    x = ((x ^ x >> 13) * 0xC2B2AE35) % 2**32
    return (x ^ x >> 16) % 65536


def picture(source, window, mirror, factors, blur, amount, seed, table, out_height, out_width):
    """(oh, ow, 3) uint8 of one (h, w, 3) picture."""
    planes = [linear(source[..., c], window, mirror, out_height, out_width) for c in range(3)]
    factors = np.asarray(factors).reshape(3, 4).tolist()
    coloured = [
        [
            [
                clipped((f[0] * red + f[1] * green + f[2] * blue + f[3] + UNIT // 2) // UNIT)
                for red, green, blue in zip(*lines, strict=True)
            ]
            for lines in zip(*planes, strict=True)
        ]
        for f in factors
    ]
    passes, middle, inner, outer = (int(value) for value in blur)
    taps = [outer, inner, middle, inner, outer]
    for _ in range(passes):
        coloured = [blurred(plane, taps) for plane in coloured]
    out = np.empty((out_height, out_width, 3), np.uint8)
    for row in range(out_height):
        start = noise_start(seed, row)
        for column in range(out_width):
            for c in range(3):
                value = int(table[(start + 3 * column + c) % len(table)])
                out[row, column, c] = clipped(
                    coloured[c][row][column] + (value * int(amount) + ONE // 2) // ONE
                )
    return out


def blurred(plane, taps):
    def filtered(line):
        last = len(line) - 1
        return [
            (sum(t * line[min(max(k + d, 0), last)] for t, d in zip(taps, range(-2, 3), strict=True)) + 128)
            // 256
            for k in range(len(line))
        ]

    down = zip(*[filtered(column) for column in zip(*plane, strict=True)], strict=True)
    return [filtered(list(row)) for row in down]


def clipped(value):
    return min(max(value, 0), 255)
