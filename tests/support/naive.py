"""Slow, obvious twins of the kernels, by other formulas, for the tests to compare with."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt, sqrt

import numpy as np

# Every sum that a blend can give, over 255, as an exact fraction, rounded. 255 is odd: there are no ties.
ROUNDED = np.array([round(Fraction(total, 255)) for total in range(255 * 255 + 1)], np.uint8)


def blend(alpha, over, under):
    """One channel of one pixel: the weighted mean as an exact fraction, rounded to nearest."""
    return round(Fraction(alpha, 255) * over + (1 - Fraction(alpha, 255)) * under)


def composite_pixels(background, patch, flip, y, x):
    """One picture, pixel by pixel: (h, w, 3) and (ph, pw, 4) to an image (h, w, 3) and a mask (h, w)."""
    height, width, _ = background.shape
    patch_height, patch_width, _ = patch.shape
    image = [[[0, 0, 0] for _ in range(width)] for _ in range(height)]
    mask = [[0] * width for _ in range(height)]
    for row in range(height):
        for column in range(width):
            inside = y <= row < y + patch_height and x <= column < x + patch_width
            red = green = blue = alpha = 0
            if inside:
                across = column - x
                if flip:
                    across = patch_width - 1 - across
                red, green, blue, alpha = (int(v) for v in patch[row - y, across])
            under = [int(v) for v in background[row, column]]
            image[row][column] = [blend(alpha, f, b) for f, b in zip((red, green, blue), under, strict=True)]
            mask[row][column] = alpha
    return np.array(image, np.uint8), np.array(mask, np.uint8)


def composite(background, patch, flip, y, x):
    """The same as :func:`composite_pixels`, a whole picture at a time, for pictures of real size."""
    height, width, _ = background.shape
    if flip:
        patch = patch[:, ::-1]
    canvas = np.zeros((height, width, 4), np.int64)
    canvas[y : y + patch.shape[0], x : x + patch.shape[1]] = patch
    colour, alpha = canvas[..., :3], canvas[..., 3:]
    total = alpha * colour + (255 - alpha) * background.astype(np.int64)
    return ROUNDED[total], alpha[..., 0].astype(np.uint8)


def samples(placements, background, foreground, foreground_size, scale=1):
    """All composites of placements, one by one: yields ``(index, image, mask)``."""
    for i in range(len(placements.y)):
        which = placements.foreground[i]
        height, width = (int(side) for side in foreground_size[which])
        image, mask = composite(
            background[placements.background[i]],
            foreground[which, :height, :width],
            bool(placements.flip[i]),
            int(placements.y[i]) * scale,
            int(placements.x[i]) * scale,
        )
        yield i, image, mask


def philox4x32(counter, key):
    """Philox-4x32 with ten rounds, after Salmon et al., section 4.3, on Python's own integers.

    The counter is two Feistel pairs (L, R); each round multiplies R by a constant, the low half of the
    product becomes L, the high half is mixed with the old L and the key; then the words are permuted.
    The keys go up by the golden ratio and by the square root of three less one, as 32-bit fractions.
    """
    golden = (isqrt(5 << 64) - (1 << 32)) // 2
    root_of_three = isqrt(3 << 64) - (1 << 32)
    r0, l0, r1, l1 = (int(word) for word in counter)
    k0, k1 = (int(word) for word in key)
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * r0, 1 << 32)
        high1, low1 = divmod(0xCD9E8D57 * r1, 1 << 32)
        r0, l0, r1, l1 = high1 ^ l0 ^ k0, low1, high0 ^ l1 ^ k1, low0
        k0, k1 = (k0 + golden) % (1 << 32), (k1 + root_of_three) % (1 << 32)
    return [r0, l0, r1, l1]


def multiply_high(word, count):
    """The word as a fraction of 2**32, times the count, rounded down."""
    return int(Fraction(int(word), 1 << 32) * int(count))


def half_extent(values):
    """Minimum and maximum of float16 values, -0 less than 0, and whether any is not finite."""
    wrong = not np.isfinite(values).all()
    ordered = sorted(values.ravel().tolist(), key=lambda v: (v, np.copysign(1, v))) if not wrong else [0, 0]
    return np.float16(ordered[0]), np.float16(ordered[-1]), wrong


def paeth(picture, step):
    """PNG's Paeth filter of a picture's rows of bytes, byte by byte, as the standard tells it in words."""
    lines = []
    for y, row in enumerate(picture.tolist()):
        line = [4]
        for x, byte in enumerate(row):
            left = row[x - step] if x >= step else 0
            above = int(picture[y - 1, x]) if y else 0
            corner = int(picture[y - 1, x - step]) if y and x >= step else 0
            guess = min((left, above, corner), key=lambda one: abs(left + above - corner - one))
            line.append((byte - guess) % 256)
        lines.append(line)
    return np.array(lines, np.uint8)


def box(inside):
    """Top, left, bottom and right of the pixels (h, w) that are set, the last two exclusive; 0 for none."""
    found = np.argwhere(inside)
    if not len(found):
        return [0, 0, 0, 0]
    return [*found.min(axis=0).tolist(), *(found.max(axis=0) + 1).tolist()]


def inside_polygon(polygon, height, width):
    """Pixels whose centre is in a polygon (x, y, x, y, ...): to the left, they see an odd number of edges."""
    corners = list(zip(polygon[::2], polygon[1::2], strict=True))
    edges = list(zip(corners, corners[1:] + corners[:1], strict=True))
    inside = np.zeros((height, width), bool)
    for y in range(height):
        for x in range(width):
            crossed = [
                x0 < x + 0.5
                for (x0, y0), (x1, y1) in edges
                if x0 == x1 and min(y0, y1) < y + 0.5 < max(y0, y1)
            ]
            inside[y, x] = sum(crossed) % 2
    return inside


# --- statistics of depth maps ----------------------------------------------------------------------


def _doubled_ranks(values):
    """Twice the rank of each value, from 1; equal ones share the mean of theirs."""
    return [2 * sum(w < v for w in values) + sum(w == v for w in values) + 1 for v in values]


def spearman(first, second):
    first, second = (_doubled_ranks(np.ravel(values).tolist()) for values in (first, second))
    middle = len(first) + 1
    cross = sum((a - middle) * (b - middle) for a, b in zip(first, second, strict=True))
    norm = sum((a - middle) ** 2 for a in first) * sum((b - middle) ** 2 for b in second)
    return cross / sqrt(norm) if norm else 0.0


def outline_bands(mask, width):
    """Pixel by pixel: inside, outside."""
    height, length = mask.shape
    inside, outside = np.zeros(mask.shape, bool), np.zeros(mask.shape, bool)
    for y in range(height):
        for x in range(length):
            around = mask[max(0, y - width) : y + width + 1, max(0, x - width) : x + width + 1] / 255
            inside[y, x] = mask[y, x] / 255 >= 0.9 and (around <= 0.1).any()
            outside[y, x] = mask[y, x] / 255 <= 0.1 and (around >= 0.9).any()
    return inside, outside


def outline_step(nearness, mask, width):
    inside, outside = outline_bands(mask, width)
    return (np.median(nearness[inside]) - np.median(nearness[outside])) / nearness.std()


def layer_depth(codes, sprites, numbers, nearer):
    """Depth of one sample in codes, (h, w), and where its objects are; by exact fractions, one by one.

    ``sprites`` are ``(patch, flip, y, x)``, patch (ph, pw, 4), far to near, each with one of ``numbers``.
    """
    depth, planes = [[int(code) for code in row] for row in codes], []
    for (patch, flip, y, x), number in zip(sprites, numbers, strict=True):
        alpha = patch[..., 3][:, ::-1] if flip else patch[..., 3]
        covered = [
            (y + row, x + column, int(alpha[row, column]))
            for row in range(alpha.shape[0])
            for column in range(alpha.shape[1])
            if 0 <= y + row < len(depth) and 0 <= x + column < len(depth[0])
        ]
        hidden = [depth[row][column] for row, column, a in covered if a > 127]
        if not hidden:
            hidden = [depth[row][column] for row, column, a in covered if a > 0]
        nearest = max if nearer > 0 else min
        # Whatever is drawn later is nearer.
        earlier = [planes[-1] + nearer] if planes else []
        plane = min(max(nearest([int(number), *hidden, *earlier]), -2048), 2048)
        planes.append(plane)
        for row, column, a in covered:
            depth[row][column] = blend(a, plane, depth[row][column])
    return np.array(depth, np.int64), planes
