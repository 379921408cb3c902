"""Sprites: foregrounds as they are pasted, each at one height and with the alpha of one blend.

They are made of the stored foregrounds by integer arithmetic alone, so every machine makes the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.sprite_kernels import feather, feet_of, filter_weights, harden, resize_sprite
from fgbgpack.composition.turning_kernels import turn_alphas, turned_areas, turned_margins
from fgbgpack.errors import SpecError
from fgbgpack.scene_spec import BLENDS, Blend

#: 2^(k / 8), times 2^16, rounded: eight heights to an octave.
_EIGHTHS = (65536, 71468, 77936, 84990, 92682, 101070, 110218, 120194)
_BITS = 16

_BLENDED: Mapping[Blend, Callable[[NDArray[np.uint8], NDArray[np.uint8]], None]] = {
    "hard": harden,
    "feather": feather,
}
_HALF_OPAQUE = 127

#: All sprites are in memory, once in each process.
MOST_BYTES = 2 << 30


def heights_between(low: int, high: int) -> tuple[int, ...]:
    """Heights from ``low`` to ``high`` pixels, both included, eight to an octave, ascending.

    Example:
        >>> heights_between(26, 40)
        (26, 28, 31, 34, 37, 40)
    """
    found = [low]
    step = 0
    while found[-1] < high:
        step += 1
        height = (low * (_EIGHTHS[step % 8] << (step // 8)) + (1 << (_BITS - 1))) >> _BITS
        if height > found[-1]:
            found.append(min(height, high))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class TurnedSprites:
    """The alpha of turned sprites, of n samples with up to K objects each.

    Attributes:
        alpha: uint8, ``(h, w)`` of each in C order, one after the other.
        offset: (n * K,) int64, where each begins in ``alpha``.
        size: (n * K, 2) int32, height and width of each, 0 where there is no object.
        margin: (n, K, 2) int32, how many rows come above those of the sprite, and columns at its left.
    """

    alpha: NDArray[np.uint8]
    offset: NDArray[np.int64]
    size: NDArray[np.int32]
    margin: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Sprites:
    """All sprites of F foregrounds at the heights that fit them, with B blends.

    Sprite ``first[f] + level * B + b`` is foreground f at height ``heights[level]`` with the b-th of
    ``blends``; foreground f has ``levels[f]`` heights.

    Attributes:
        is_hard: (S,) uint8, 1 where alpha is 0 or 255 only, also once a sprite is turned.
        pixels: All sprites one after the other, (h, w, 4) uint8 each, straight RGBA.
        offset: (S,) int64, where each begins in ``pixels``.
        size: (S, 2) int32, height and width of each in pixels.
        area: (S,) int32, how many of its pixels have alpha above 127.
        feet: (S, 3) int32, the lowest row with such pixels, and the first and last column of the lowest ones.
        light: (F, 3) int32, the mean colour of each foreground, by its alpha.
    """

    heights: NDArray[np.int32]
    levels: NDArray[np.int32]
    first: NDArray[np.int32]
    blends: tuple[Blend, ...]
    is_hard: NDArray[np.uint8]
    pixels: NDArray[np.uint8]
    offset: NDArray[np.int64]
    size: NDArray[np.int32]
    area: NDArray[np.int32]
    feet: NDArray[np.int32]
    light: NDArray[np.int32]

    @classmethod
    def of(
        cls,
        foreground: NDArray[np.uint8],
        foreground_size: NDArray[np.int32],
        heights: Sequence[int],
        blends: Sequence[Blend],
    ) -> Sprites:
        """Those of (F, ph, pw, 4) uint8 foregrounds in the top-left corners of their arrays.

        Each has one of ``heights`` (ascending), the largest that it is made at. SpecError (``array-misfit``)
        if one has another height, or a size beyond its array, and ``sprites-too-large`` if all take more than
        ``MOST_BYTES``.
        """
        sizes = [(int(height), int(width)) for height, width in foreground_size]
        known = {height: level for level, height in enumerate(heights)}
        if any(
            height not in known or not (1 <= width <= foreground.shape[2] and height <= foreground.shape[1])
            for height, width in sizes
        ):
            raise SpecError(
                f"A foreground has none of the heights {', '.join(map(str, heights))}, or does not fit in "
                "the array that holds it.",
                code="array-misfit",
            )
        levels = [known[height] + 1 for height, _ in sizes]
        shapes = [
            (heights[level], sprite_width(size, heights[level]))
            for size, count in zip(sizes, levels, strict=True)
            for level in range(count)
            for _ in blends
        ]
        ends = list(accumulate(4 * height * width for height, width in shapes))
        if ends[-1] > MOST_BYTES:
            raise SpecError(
                f"All foregrounds take {ends[-1] / 2**30:.1f} GiB of memory at {len(heights)} heights and "
                f"with {len(blends)} blends, and {MOST_BYTES / 2**30:.0f} GiB is the most: use fewer "
                "foregrounds or blends, or a lower or narrower range of heights.",
                code="sprites-too-large",
            )
        pixels = np.empty(ends[-1], np.uint8)
        offset = [0, *ends[:-1]]
        area, feet = np.empty(len(shapes), np.int32), np.empty((len(shapes), 3), np.int32)
        number = 0
        for patch, (height, width), count in zip(foreground, sizes, levels, strict=True):
            base = np.ascontiguousarray(patch[:height, :width])
            for _ in range(count):
                soft = _resized(base, *shapes[number])
                for blend in blends:
                    sprite = pixels[offset[number] : ends[number]].reshape(*shapes[number], 4)
                    if blend in _BLENDED:
                        _BLENDED[blend](soft, sprite)
                    else:
                        sprite[...] = soft
                    area[number] = (sprite[..., 3] > _HALF_OPAQUE).sum()
                    feet[number] = feet_of(sprite)
                    number += 1
        first = [0, *accumulate(len(blends) * count for count in levels)][:-1]
        return cls(
            np.array(heights, np.int32),
            np.array(levels, np.int32),
            np.array(first, np.int32),
            tuple(blends),
            np.array([blend == "hard" for blend in blends] * sum(levels), np.uint8),
            pixels,
            np.array(offset, np.int64),
            np.array(shapes, np.int32),
            area,
            feet,
            np.array(
                [_mean_colour(p[:h, :w]) for p, (h, w) in zip(foreground, sizes, strict=True)], np.int32
            ),
        )

    def index(
        self, foreground: NDArray[np.int32], height: NDArray[np.int16], blend: NDArray[np.int8]
    ) -> NDArray[np.int32]:
        """The numbers of sprites, int32 of any shape, -1 where there is no such sprite.

        ``blend`` counts in ``fgbgpack.scene_spec.BLENDS``.
        """
        of_blend = np.full(len(BLENDS), -1, np.int32)
        for number, name in enumerate(self.blends):
            of_blend[BLENDS.index(name)] = number
        level = np.searchsorted(self.heights, height).astype(np.int32)
        known = (foreground >= 0) & (foreground < len(self.levels)) & (blend >= 0) & (blend < len(BLENDS))
        which, mixed = np.where(known, foreground, 0), of_blend[np.where(known, blend, 0)]
        known &= (level < self.levels[which]) & (mixed >= 0)
        level[~known] = 0
        known &= self.heights[level] == height
        found = self.first[which] + level * len(self.blends) + mixed
        return np.where(known, found, np.int32(-1)).astype(np.int32)

    def turned(
        self, sprite: NDArray[np.int32], flip: NDArray[Any], rotation: NDArray[np.int16]
    ) -> TurnedSprites:
        """The alpha of turned sprites, (n, K) of each, mirrored before; ``sprite`` is -1 where there is none.

        Rotations are in tenths of a degree, 90 degrees at most.
        """
        margin = np.empty((sprite.size, 2), np.int32)
        turned_margins(self.size, sprite.reshape(-1), rotation.reshape(-1), margin)
        size = np.where(sprite.reshape(-1, 1) < 0, 0, self.size[sprite.reshape(-1)] + 2 * margin)
        ends = np.cumsum(size[:, 0] * size[:, 1].astype(np.int64))
        offset = np.concatenate([[0], ends])[:-1].astype(np.int64)
        alpha = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
        scratch = np.empty(4 * int(size[:, 1].max(initial=0)), np.uint8)
        turn_alphas(
            self.pixels,
            self.offset,
            self.size,
            sprite.reshape(-1),
            flip.astype(np.int8, copy=False).reshape(-1),
            self.is_hard,
            rotation.reshape(-1),
            margin,
            offset,
            scratch,
            alpha,
        )
        return TurnedSprites(alpha, offset, size.astype(np.int32), margin.reshape(*sprite.shape, 2))

    def areas(
        self, sprite: NDArray[np.int32], flip: NDArray[Any], rotation: NDArray[np.int16]
    ) -> NDArray[np.int64]:
        """How many pixels of turned sprites have alpha above 127, int64 of any shape; 0 where ``sprite`` is
        -1.
        """
        if not rotation[sprite >= 0].any():
            return np.where(sprite < 0, 0, self.area[sprite].astype(np.int64))
        area = np.empty(sprite.size, np.int64)
        flips = flip.astype(np.int8, copy=False).reshape(-1)
        which, turned = sprite.reshape(-1), rotation.reshape(-1)
        turned_areas(self.pixels, self.offset, self.size, which, flips, turned, area)
        return area.reshape(sprite.shape)


def sprite_width(size: tuple[int, int], height: int) -> int:
    """The width of a sprite of that height, of a foreground of ``size`` (height, width)."""
    return max(1, (2 * size[1] * height + size[0]) // (2 * size[0]))


def _resized(patch: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """A foreground (ph, pw, 4) at a size that is no larger, (height, width, 4) uint8."""
    if patch.shape[:2] == (height, width):
        return patch
    first_row, row_weight = _filter(patch.shape[0], height)
    first_column, column_weight = _filter(patch.shape[1], width)
    middle = np.empty((patch.shape[0], width, 4), np.int64)
    out = np.empty((height, width, 4), np.uint8)
    resize_sprite(patch, first_row, row_weight, first_column, column_weight, middle, out)
    return out


def _filter(source: int, target: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    first = np.zeros(target, np.int32)
    weight = np.zeros((target, 4 * source // target + 5), np.int64)
    filter_weights(source, target, first, weight)
    return first, weight


def _mean_colour(patch: NDArray[np.uint8]) -> list[int]:
    alpha = patch[..., 3].astype(np.int64)
    total = max(1, int(alpha.sum()))
    return [(int((patch[..., c] * alpha).sum()) + total // 2) // total for c in range(3)]
