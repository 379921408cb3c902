"""From what a network gives to alpha at the photograph's size, free of specks, and told apart into people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.cutout.kernels import box_mean, label, spread

#: Alpha above this is the foreground's own.
SOLID = 127
#: Below this, and as far from 255, alpha is the noise of a network.
_NOISE = 8
#: Parts of the foreground of a smaller share of all of it are specks.
_SPECK = 0.01
#: What an alpha finds with which another is compared: less than the first of these shares is nothing, more
#: than the other is all.
_FINDS = (0.35, 0.65)
#: And it is known as exactly as this share of the longer side.
_EXACT = 0.01
#: An alpha of less than this share is not unsure: it finds little.
_UNSURE_OF = 0.25
#: A part is one of several foregrounds if it is at least so large, of the largest.
_LARGE = 0.15


@dataclass(frozen=True)
class Part:
    """One foreground: its alpha, ``(h, w)`` uint8, of the whole photograph, and what was found on the way.

    ``pieces`` is the number of its parts that do not touch, ``specks`` the share of all foreground that was
    dropped, and ``large`` how many parts of the photograph could be a foreground each.
    """

    alpha: NDArray[np.uint8]
    pieces: int
    specks: float
    large: int


def alpha_of(answer: NDArray[np.float16], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Alpha, ``(h, w)`` uint8, of a photograph of ``(width, height)`` from a network's answer, ``(H, W)``
    from 0 to 1. It is resized by cubic interpolation, and what is within 8 of 0 or 255 becomes that.
    """
    plane = Image.fromarray(answer.astype(np.float32))
    resized = np.asarray(plane.resize(size, Image.Resampling.BICUBIC)) * np.float32(255)
    stretched = (resized - _NOISE) * np.float32(255 / (255 - 2 * _NOISE))
    alpha: NDArray[np.uint8] = np.rint(np.clip(stretched, 0, 255)).astype(np.uint8)
    return alpha


def agreement(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """How much two alphas of the same shape have in common, from 0 to 1: the sum of what both have, of the
    sum of what at least one has; 1 where both are empty.
    """
    union = int(np.maximum(one, other).sum(dtype=np.int64))
    return int(np.minimum(one, other).sum(dtype=np.int64)) / union if union else 1.0


def confirmed(alpha: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An alpha ``(h, w)`` uint8 as a second network confirms it, by its alpha of the same photograph.

    What the second does not find goes; what the first is unsure of becomes solid inside of what the second
    finds. Edges stay those of the first where the second has one nearby: that may be a coarser network.
    """
    near = _found_near(second)
    # A straight edge is half a window away where a quarter of it is found.
    kept = np.minimum(alpha, np.rint(np.minimum(near * 4, 1) * np.float32(255)).astype(np.uint8))
    return _firmed(kept, near)


def firmed(alpha: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An alpha ``(h, w)`` uint8 that is solid where it is half-transparent inside of what another one has."""
    return _firmed(alpha, _found_near(other))


def _found_near(alpha: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How much of what is around each pixel, as far as alpha is exact, is found: from 0 to 1."""
    nothing, all_of_it = _FINDS
    found = (alpha.astype(np.float32) / np.float32(255) - nothing) / np.float32(all_of_it - nothing)
    near = np.empty_like(found)
    reach = max(1, round(_EXACT * max(alpha.shape)))
    box_mean(np.clip(found, 0, 1), reach, np.empty_like(found), near)
    return near


def _firmed(alpha: NDArray[np.uint8], near: NDArray[np.float32]) -> NDArray[np.uint8]:
    share = alpha.astype(np.float32) / np.float32(255)
    # Half a window inside of a straight edge three quarters are found.
    inside = np.clip(near * 4 - 3, 0, 1) * np.minimum(share / np.float32(_UNSURE_OF), 1)
    solid: NDArray[np.uint8] = np.rint((share + (1 - share) * inside) * np.float32(255)).astype(np.uint8)
    return solid


def parts_of(alpha: NDArray[np.uint8], *, split: bool) -> list[Part]:
    """The foregrounds in an alpha ``(h, w)`` uint8: one, or with ``split`` one for each large part, from left
    to right; none where nothing is solid.

    Specks go, and soft alpha that touches nothing solid. Small parts go to the large one that is nearest.
    """
    labels = np.empty(alpha.shape, np.int32)
    queue = np.empty(alpha.size, np.int32)
    solid = (alpha > SOLID).astype(np.uint8)
    count = label(solid, True, queue, labels)
    if not count:
        return []
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    areas[0] = 0
    kept = np.flatnonzero(areas >= _SPECK * areas.sum())
    kept = kept[kept > 0]
    large = [int(number) for number in kept if areas[number] >= _LARGE * areas.max()]
    specks = 1 - float(areas[kept].sum()) / float(areas.sum())
    spread(alpha, queue, labels)
    centres = {int(number): _centre(labels, int(number)) for number in kept}
    groups: dict[int, list[int]] = {number: [number] for number in large} if split else {0: []}
    for number in (int(number) for number in kept):
        if not split:
            groups[0].append(number)
        elif number not in groups:
            groups[min(large, key=lambda one: _distance(centres[one], centres[number]))].append(number)
    found = []
    for group in sorted(groups.values(), key=lambda group: centres[group[0]][1]):
        own = np.zeros(count + 1, np.bool_)
        own[group] = True
        found.append(Part(np.where(own[labels], alpha, 0).astype(np.uint8), len(group), specks, len(large)))
    return found


def box_of(alpha: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """``(left, top, right, bottom)`` of what is not 0 in ``(h, w)``."""
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _centre(labels: NDArray[np.int32], number: int) -> tuple[float, float]:
    left, top, right, bottom = box_of((labels == number).astype(np.uint8))
    return (top + bottom) / 2, (left + right) / 2


def _distance(one: tuple[float, float], other: tuple[float, float]) -> float:
    return (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2
