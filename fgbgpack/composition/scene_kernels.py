"""The kernel that composites scenes: several objects over a background, far to near, in whole numbers."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from fgbgpack.composition.occlusion_kernels import UNHIDDEN
from fgbgpack.composition.turning_kernels import grown, turn_row, turned_feet
from fgbgpack.jit import Int8, Int16, Int32, Int64, UInt8, kernel

Int: TypeAlias = Any

_OPAQUE = np.uint32(255)
_HALF = np.uint32(128)
_BYTE = np.uint32(8)
_HALF_OPAQUE = 127
_SAME = 256


@kernel
def compose_scenes(
    background: UInt8,
    which_background: Int32,
    pixels: UInt8,
    offset: Int64,
    size: Int32,
    feet: Int32,
    is_hard: UInt8,
    sprite: Int32,
    flip: Int8,
    y: Int16,
    x: Int16,
    rotation: Int16,
    gain: Int16,
    shadow: Int16,
    front: Int16,
    feet_row: Int32,
    top: Int,
    with_image: bool,
    image: UInt8,
    mask: UInt8,
    instance: UInt8,
) -> None:
    """Fill ``mask`` and ``instance`` (n, rows, w), and ``image`` (n, rows, w, 3) if asked, with bands of
    scenes.

    The band is the picture's rows from ``top`` on; rows below the picture are filled with 0. ``background``
    is (B, h, w, 3); objects are (n, K), drawn in their order up to the first of ``sprite`` -1, and ``gain``
    is (n, K, 3). Sprites are (h, w, 4) of ``size`` (S, 2) at ``offset`` (S,) of ``pixels``, with ``feet`` (S,
    3); ``is_hard`` (S,) says which have alpha 0 or 255 only. ``rotation`` is in tenths of a degree, and ``y``
    and ``x`` are the corner before the sprite is turned about its middle. What is outside the picture is left
    out; nothing else is checked here.

    Before each object its shadow is drawn: below the feet, which turn with the sprite, a level ellipse a
    quarter as high as it is wide, darkest in its middle. Colours are then multiplied, and blended as
    :func:`fgbgpack.composition.kernels.composite` does; mask is blended as a colour of 255 is, and instance
    is the object's number from 1 where alpha is above 127.

    ``front`` (B, h, w) hides objects, and their shadows, where it is at least their ``feet_row`` (n, K). It
    is (0, 0, 0) where nothing is hidden.
    """
    rows = mask.shape[1]
    width = mask.shape[2]
    inside = min(rows, background.shape[1] - top)
    lut = np.empty((3, 256), np.uint8)
    turned = np.empty(4 * width, np.uint8)
    hides = front.shape[0] > 0
    ahead = np.empty((0, 0), np.int16)
    for i in range(mask.shape[0]):
        flat_mask = mask[i].reshape(-1)
        flat_instance = instance[i].reshape(-1)
        for k in range(flat_mask.size):
            flat_mask[k] = 0
        for k in range(flat_instance.size):
            flat_instance[k] = 0
        if with_image:
            # Plain loops over flat rows become memory copies.
            scene = background[which_background[i], top : top + inside].reshape(-1)
            flat_image = image[i].reshape(-1)
            for k in range(scene.size):
                flat_image[k] = scene[k]
            for k in range(scene.size, flat_image.size):
                flat_image[k] = 0
        if hides:
            ahead = front[which_background[i], top : top + inside]

        for k in range(sprite.shape[1]):
            s = sprite[i, k]
            if s < 0:
                break
            h: Int = np.int64(size[s, 0])
            w: Int = np.int64(size[s, 1])
            corner_y: Int = np.int64(y[i, k]) - top
            corner_x: Int = np.int64(x[i, k])
            is_flipped = flip[i, k] == 1
            angle = np.int64(rotation[i, k])
            is_behind = hides and feet_row[i, k] != UNHIDDEN
            if with_image and shadow[i, k] > 0 and feet[s, 0] >= 0:
                left = w - 1 - feet[s, 2] if is_flipped else np.int64(feet[s, 1])
                right = w - 1 - feet[s, 1] if is_flipped else np.int64(feet[s, 2])
                down, across = turned_feet(
                    h, w, np.int64(feet[s, 0]), np.int64(feet[s, 1]), np.int64(feet[s, 2]), is_flipped, angle
                )
                middle_row = corner_y + feet[s, 0] + (down >> 1)
                middle = 2 * corner_x + left + right + across
                span = right - left + 3
                dark = np.int64(shadow[i, k])
                if is_behind:
                    behind = np.int64(feet_row[i, k])
                    _darken_behind(image[i], inside, middle_row, middle, span, dark, ahead, behind)
                else:
                    _darken(image[i], inside, middle_row, middle, span, dark)
            lit = with_image and not (
                gain[i, k, 0] == _SAME and gain[i, k, 1] == _SAME and gain[i, k, 2] == _SAME
            )
            if lit:
                for channel in range(3):
                    for value in range(256):
                        lighter = (np.int64(gain[i, k, channel]) * value + 128) >> 8
                        lut[channel, value] = min(max(lighter, np.int64(0)), np.int64(255))
            rows_more, columns_more = grown(h, w, angle)
            first = max(-columns_more, -corner_x)
            last = min(w + columns_more, width - corner_x)
            for row in range(max(-rows_more, -corner_y), min(h + rows_more, inside - corner_y)):
                source = pixels
                at = offset[s] + 4 * (row * w + (w - 1 - first if is_flipped else first))
                step = np.int64(-4) if is_flipped else np.int64(4)
                to_row = corner_y + row
                if angle != 0 or is_behind:
                    _prepare_row(
                        pixels,
                        offset[s],
                        h,
                        w,
                        is_flipped,
                        is_hard[s] != 0,
                        angle,
                        row,
                        first,
                        last,
                        ahead,
                        to_row,
                        corner_x,
                        np.int64(feet_row[i, k]) if is_behind else np.int64(UNHIDDEN),
                        turned,
                    )
                    source = turned
                    at = np.int64(0)
                    step = np.int64(4)
                for to in range(corner_x + first, corner_x + last):
                    alpha = np.uint32(source[at + 3])
                    if alpha > 0:
                        rest = _OPAQUE - alpha
                        v = alpha * _OPAQUE + rest * np.uint32(mask[i, to_row, to]) + _HALF
                        mask[i, to_row, to] = (v + (v >> _BYTE)) >> _BYTE
                        if alpha > _HALF_OPAQUE:
                            instance[i, to_row, to] = k + 1
                        if with_image:
                            for channel in range(3):
                                colour = source[at + channel]
                                if lit:
                                    colour = lut[channel, colour]
                                v = (
                                    alpha * np.uint32(colour)
                                    + rest * np.uint32(image[i, to_row, to, channel])
                                    + _HALF
                                )
                                image[i, to_row, to, channel] = (v + (v >> _BYTE)) >> _BYTE
                    at += step


@kernel
def _prepare_row(
    pixels: UInt8,
    start: Int,
    h: Int,
    w: Int,
    is_flipped: bool,
    is_hard: bool,
    angle: Int,
    row: Int,
    first: Int,
    last: Int,
    ahead: Int16,
    to_row: Int,
    corner_x: Int,
    feet_row: Int,
    out: UInt8,
) -> None:
    """Fill ``out`` as ``turn_row`` does, also where nothing is turned. Pixels are transparent where ``ahead``
    (rows, w), in row ``to_row`` and from column ``corner_x`` on, is at least ``feet_row``, unless that is
    ``UNHIDDEN``.
    """
    if angle != 0:
        turn_row(pixels, start, h, w, is_flipped, is_hard, angle, row, first, last, out)
    else:
        for k in range(last - first):
            across = w - 1 - first - k if is_flipped else first + k
            for channel in range(4):
                out[4 * k + channel] = pixels[start + 4 * (row * w + across) + channel]
    if feet_row != UNHIDDEN:
        for k in range(last - first):
            if ahead[to_row, corner_x + first + k] >= feet_row:
                out[4 * k + 3] = 0


@kernel
def _darken(image: UInt8, inside: Int, row: Int, middle: Int, span: Int, dark: Int) -> None:
    """Darken an ellipse of ``image`` (rows, w, 3), of which ``inside`` rows are of the picture.

    It is in units of half a pixel: the centre is at column ``middle``, half the width is ``span`` and half
    the height a quarter of that, about the pixels of a ``row``. It takes away ``dark`` / 256 in the middle,
    and less with the square of the distance.
    """
    across = span * span
    for to_row in range(max(0, row - span // 8 - 1), min(inside, row + span // 8 + 2)):
        # Four times as far as across, and twice for halves of a pixel.
        down = 8 * (to_row - row)
        down *= down
        for to in range(max(0, (middle - span) // 2), min(image.shape[1], (middle + span) // 2 + 1)):
            aside = 2 * to - middle
            near = across - down - aside * aside
            if near > 0:
                keep = 256 - dark * near // across
                for channel in range(3):
                    image[to_row, to, channel] = (np.int64(image[to_row, to, channel]) * keep + 128) >> 8


@kernel
def _darken_behind(
    image: UInt8, inside: Int, row: Int, middle: Int, span: Int, dark: Int, ahead: Int16, feet_row: Int
) -> None:
    """Darken as :func:`_darken` does, but not where ``ahead`` (rows, w) is at least ``feet_row``."""
    first = max(0, row - span // 8 - 1)
    last = max(first, min(inside, row + span // 8 + 2))
    before = image[first:last].copy()
    _darken(image, inside, row, middle, span, dark)
    for to_row in range(first, last):
        for to in range(image.shape[1]):
            if ahead[to_row, to] >= feet_row:
                for channel in range(3):
                    image[to_row, to, channel] = before[to_row - first, to, channel]
