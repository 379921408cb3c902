"""Slow and obvious twins of the kernels of cut-outs."""

from __future__ import annotations

import numpy as np


def box_mean(plane, half):
    out = np.empty_like(plane)
    for y, x in np.ndindex(plane.shape):
        window = plane[max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1]
        out[y, x] = window.mean(dtype=np.float64)
    return out


def neighbours(y, x, shape, diagonal):
    for v in range(y - 1, y + 2):
        for u in range(x - 1, x + 2):
            is_inside = 0 <= v < shape[0] and 0 <= u < shape[1]
            if is_inside and (v, u) != (y, x) and (diagonal or v == y or u == x):
                yield v, u


def label(mask, diagonal):
    """Each pixel takes the smallest number among its neighbours until nothing changes."""
    numbers = np.where(mask != 0, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    changed = True
    while changed:
        changed = False
        for y, x in zip(*np.nonzero(mask), strict=True):
            near = [numbers[at] for at in neighbours(y, x, mask.shape, diagonal) if mask[at]]
            least = min([numbers[y, x], *near])
            changed |= least != numbers[y, x]
            numbers[y, x] = least
    return np.searchsorted(np.unique(numbers[numbers > 0]), numbers) + (numbers > 0)


def steps_to(alpha, labels, number):
    """The fewest steps within ``alpha`` from each pixel to a label, infinite where there is no way."""
    steps = np.where(labels == number, 0.0, np.inf)
    for _ in range(alpha.size):
        before = steps.copy()
        for y, x in zip(*np.nonzero((alpha != 0) & (labels == 0)), strict=True):
            near = [before[at] for at in neighbours(y, x, alpha.shape, False)]
            steps[y, x] = min(steps[y, x], min(near, default=np.inf) + 1)
        if (steps == before).all():
            break
    return steps


def count_weak(rgb, solid, reach, least):
    places = weak = 0
    for y, x in zip(*np.nonzero(solid), strict=True):
        for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            beside = (y + down, x + right)
            outside = (y + down * reach, x + right * reach)
            inside = (y - down * (reach - 1), x - right * (reach - 1))
            points = (beside, outside, inside)
            if not all(0 <= v < solid.shape[0] and 0 <= u < solid.shape[1] for v, u in points):
                continue
            if solid[beside] or solid[outside] or not solid[inside]:
                continue
            places += 1
            weak += np.abs(rgb[outside].astype(int) - rgb[inside]).max() < least
    return places, weak


def blurred(planes, half):
    return np.dstack([box_mean(planes[..., channel], half) for channel in range(planes.shape[2])])


def foreground_colour(rgb, alpha, halves=(45, 3)):
    """Forte's blur fusion, twice, in float64."""
    share = alpha[..., None] / 255
    foreground = background = rgb.astype(np.float64)
    for half in halves:
        mean = blurred(share, half)
        near = blurred(foreground * share, half) / (mean + 1e-5)
        background = blurred(background * (1 - share), half) / (1 - mean + 1e-5)
        foreground = np.clip(near + share * (rgb - share * near - (1 - share) * background), 0, 255)
    return foreground
