"""The kernel that draws the objects of scenes: whole numbers of Philox, no state from sample to sample."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from fgbgpack.composition.kernels import multiply_high as _below
from fgbgpack.composition.kernels import philox_block
from fgbgpack.composition.occlusion_kernels import UNHIDDEN
from fgbgpack.composition.turning_kernels import grown, pushed, turned_bits, turned_feet
from fgbgpack.jit import Int8, Int16, Int32, Int64, UInt8, UInt32, kernel
from fgbgpack.sources.cuts import BOTTOM, LEFT, RIGHT, TOP

#: The arrays of the objects, in the order of the fields of ``Objects``.
ObjectArrays: TypeAlias = tuple[Any, ...]
#: Whole numbers of 64 bits.
Int: TypeAlias = Any

#: How often an object is drawn again before it is left out.
ATTEMPTS = 16
#: The fourth word of counters: of a sample as a whole, and of its objects by their numbers and attempts.
_OF_SAMPLE = np.uint32(0xFFFFFFFF)
#: The columns of arrays of placed objects, one row each.
_FOREGROUND, _FLIP, _Y, _X, _BLEND, _SHADOW, _SPRITE, _NEAR, _ANGLE, _AREA, _NUMBER, _FEET_ROW = range(12)
_COLUMNS = 12
#: Placements, as the kernel knows them.
INSIDE, ANCHORED, FLOOR = 0, 1, 2

_HALF_OPAQUE = 127
#: Shadows are so dark, and up to so much darker.
_DARK, _DARKER = 80, 80
#: How far an object's cut edge may be beyond the picture's border: a part of its size.
_BEYOND = 4
#: Surroundings are looked at in every so many rows and columns.
_STRIDE = 4


@kernel
def _between(word: Int, first: Int, last: Int) -> Int:
    """A number from ``first`` to ``last``, both included; either may be the greater one."""
    return min(first, last) + _below(word, abs(last - first) + 1)


@kernel
def _stand(
    word: Int,
    level: Int32,
    count: Int16,
    foreground: Int,
    which: Int,
    blends: Int,
    flip: Int,
    angle: Int,
    slack: Int,
    levels: Int32,
    first_sprite: Int32,
    size: Int32,
    feet: Int32,
    spot: Int64,
) -> Int:
    """How many pixels of a floor the feet of a foreground may be on; ``spot`` becomes the level of its height
    and its corner, where they are on the ``word`` / 2^32-th of these, row by row, and then the row of its
    feet.

    ``level`` (h,) and ``count`` (h, w + 1) are those of ``Standing``, of one background. Feet are at the
    lowest opaque row, in the middle of the lowest ones; a turned foreground is turned about them. Outside of
    the picture is ``slack`` / 256 of the foreground, or less.
    """
    width = count.shape[1] - 1
    total = np.int64(0)
    wanted = np.int64(-1)
    for again in range(2):
        if again:
            if total == 0:
                break
            wanted = _below(word, total)
        before = np.int64(0)
        for row in range(len(level)):
            if level[row] < 0 or level[row] >= levels[foreground]:
                continue
            sprite = first_sprite[foreground] + level[row] * blends + which
            h = np.int64(size[sprite, 0])
            w = np.int64(size[sprite, 1])
            lowest = np.int64(feet[sprite, 0])
            left = np.int64(feet[sprite, 1])
            right = np.int64(feet[sprite, 2])
            more_rows, more_columns = grown(h, w, angle)
            down, across = turned_feet(h, w, lowest, left, right, flip == 1, angle)
            y = row - lowest - (down >> 1)
            if lowest < 0 or y - more_rows < -((h * slack) >> 8):
                continue
            middle = (left + right) // 2
            if flip:
                middle = w - 1 - middle
            middle += across >> 1
            out = (w * slack) >> 8
            start = max(np.int64(0), middle + more_columns - out)
            stop = min(np.int64(width), width - w - more_columns + out + middle + 1)
            if stop <= start:
                continue
            here = np.int64(count[row, stop]) - np.int64(count[row, start])
            if wanted >= 0 and before + here > wanted:
                column = start
                while np.int64(count[row, column + 1]) - np.int64(count[row, start]) <= wanted - before:
                    column += 1
                spot[0] = level[row]
                spot[1] = y
                spot[2] = column - middle
                spot[3] = row
                break
            before += here
        if not again:
            total = before
    return total


@kernel
def draw_objects(
    counter: UInt32,
    key: UInt32,
    given: Int32,
    drawn: Int32,
    height: Int,
    width: Int,
    low: Int,
    high: Int,
    empty: Int,
    placement: Int,
    slack: Int,
    least_visible: Int,
    most_turned: Int,
    mirrored: bool,
    blends: Int8,
    levels: Int32,
    first_sprite: Int32,
    size: Int32,
    area: Int32,
    feet: Int32,
    cut: UInt8,
    pixels: UInt8,
    offset: Int64,
    with_shadow: bool,
    objects: ObjectArrays,
    background: Int32,
    standing_level: Int32,
    standing_count: Int16,
    front: Int16,
    canvas: UInt8,
) -> None:
    """Fill ``objects``, arrays (n, K, ...) that hold -1, with those of n samples, all but their ``gain``.

    Each draw is two blocks of Philox, with ``counter`` (n, 3) and as fourth word the object's number times
    2^16 plus twice the attempt. ``given`` (n, 2) holds the foreground and the mirroring of the first object,
    -1 where they are drawn. Foregrounds are drawn from those that ``drawn`` lists. ``empty`` and
    ``least_visible`` are shares of 2^32 and of 2^16, ``slack`` is one of 256. ``canvas`` (height, width) is 0
    everywhere, before and after.

    Objects are turned by up to ``most_turned`` tenths of a degree: whole ones that end at the border or stand
    about the middle of their feet, all others about their middle. Cut ones are then so much further out that
    nothing of a cut edge is seen.

    On the ``FLOOR``, what is cut is anchored, and all else stands where its feet fit: it is drawn
    again where they fit nowhere on the floor. Where a background has none, it is anywhere inside.
    ``standing_level`` and ``standing_count`` are those of ``Standing``, and ``background`` (n,) says of which
    of these backgrounds a sample is. What stands is hidden where ``front`` (B, height, width), or (0, 0, 0),
    is at least the row of its feet.
    """
    n = counter.shape[0]
    most = high
    foreground, flips, ys, xs, heights, widths, rotation, blend, _, shadow, visible, box = objects
    words = np.empty(4, np.uint32)
    more = np.empty(4, np.uint32)
    # What is placed, far to near.
    placed = np.empty((most + 1, _COLUMNS), np.int64)
    trial = np.empty((most + 1, _COLUMNS), np.int64)
    ahead = np.empty((0, 0), np.int16)
    # Where turned objects are opaque, by their numbers.
    bits = np.empty((most if most_turned > 0 else 0, height, (width + 7) // 8), np.uint8)
    seen = np.empty(most + 2, np.int64)
    boxes = np.empty((most + 2, 4), np.int64)
    spot = np.empty(4, np.int64)
    for i in range(n):
        if front.shape[0] > 0:
            ahead = front[background[i]]
        has_floor = False
        if placement == FLOOR:
            for row in range(height):
                if standing_level[background[i], row] >= 0:
                    has_floor = True
        philox_block(counter[i, 0], counter[i, 1], counter[i, 2], _OF_SAMPLE, key, words)
        wanted = 0
        if np.int64(words[0]) >= empty and len(drawn) > 0:
            wanted = low + _below(words[1], high - low + 1)
        count = 0
        for number in range(wanted):
            for attempt in range(ATTEMPTS):
                draw = (number << 16) | (attempt << 1)
                philox_block(counter[i, 0], counter[i, 1], counter[i, 2], draw, key, words)
                philox_block(counter[i, 0], counter[i, 1], counter[i, 2], draw + 1, key, more)
                f = np.int64(drawn[_below(words[0], len(drawn))])
                flip = np.int64(more[0] >> np.uint32(31)) if mirrored else 0
                if number == 0 and given[i, 0] >= 0:
                    f = np.int64(given[i, 0])
                    flip = np.int64(given[i, 1])
                level = _below(words[1], levels[f])
                which = _below(more[1], len(blends))
                sprite = first_sprite[f] + level * len(blends) + which
                h = np.int64(size[sprite, 0])
                w = np.int64(size[sprite, 1])
                angle = np.int64(0)
                if most_turned > 0:
                    angle = _below(more[3], 2 * most_turned + 1) - most_turned
                more_rows, more_columns = grown(h, w, angle)
                # Where nothing else is said, anywhere inside, or a little outside.
                out_y = (h * slack) >> 8
                out_x = (w * slack) >> 8
                y = _between(words[2], more_rows - out_y, height - h - more_rows + out_y)
                x = _between(words[3], more_columns - out_x, width - w - more_columns + out_x)
                # The lower edge, before it is turned.
                bottom = y + h
                feet_row = np.int64(UNHIDDEN)
                sides = np.int64(cut[f])
                if placement == FLOOR and sides == 0 and has_floor:
                    places = _stand(
                        words[2],
                        standing_level[background[i]],
                        standing_count[background[i]],
                        f,
                        which,
                        len(blends),
                        flip,
                        angle,
                        slack,
                        levels,
                        first_sprite,
                        size,
                        feet,
                        spot,
                    )
                    if places == 0:
                        continue
                    sprite = first_sprite[f] + spot[0] * len(blends) + which
                    h = np.int64(size[sprite, 0])
                    w = np.int64(size[sprite, 1])
                    y = spot[1]
                    x = spot[2]
                    feet_row = spot[3]
                    bottom = feet_row - feet[sprite, 0] + h
                if placement == ANCHORED or (placement == FLOOR and sides != 0):
                    left = (sides & LEFT) != 0
                    right = (sides & RIGHT) != 0
                    if flip:
                        left, right = right, left
                    push_rows, push_columns = pushed(h, w, angle)
                    if sides & BOTTOM:
                        y = height - h + _below(words[2], h // _BEYOND + 1)
                        bottom = y + h
                        y += push_rows
                    elif sides & TOP:
                        y = -_below(words[2], h // _BEYOND + 1)
                        bottom = y + h
                        y -= push_rows
                    elif not (left or right):
                        y = height - h
                        bottom = y + h
                        if feet[sprite, 0] >= 0:
                            down, _ = turned_feet(
                                h,
                                w,
                                np.int64(feet[sprite, 0]),
                                np.int64(feet[sprite, 1]),
                                np.int64(feet[sprite, 2]),
                                flip == 1,
                                angle,
                            )
                            y -= down >> 1
                    if left and not right:
                        x = -_below(words[3], w // _BEYOND + 1) - push_columns
                    elif right and not left:
                        x = width - w + _below(words[3], w // _BEYOND + 1) + push_columns
                dark = 0
                if with_shadow and not (sides & BOTTOM) and feet[sprite, 0] >= 0:
                    dark = _DARK + _below(more[2], _DARKER)
                # Those that end further up are further away. Where those end that end at the border, or
                # below, is not known, but larger ones are nearer. Of two alike, the one drawn first is
                # further away.
                near = bottom if bottom < height else height + h
                at = count
                while at > 0 and placed[at - 1, _NEAR] > near:
                    at -= 1
                for k in range(count):
                    trial[k if k < at else k + 1] = placed[k]
                whole = np.int64(area[sprite])
                if angle != 0:
                    whole = turned_bits(
                        pixels,
                        offset[sprite],
                        h,
                        w,
                        flip == 1,
                        angle,
                        y,
                        x,
                        width,
                        bits[number],
                    )
                trial[at] = (f, flip, y, x, which, dark, sprite, near, angle, whole, number, feet_row)
                accepted = True
                if least_visible > 0:
                    _see(trial, count + 1, size, pixels, offset, bits, ahead, canvas, seen, boxes, False)
                    for k in range(count + 1):
                        if trial[k, _AREA] == 0 or seen[k] * (1 << 16) < trial[k, _AREA] * least_visible:
                            accepted = False
                if accepted:
                    count += 1
                    placed[:count] = trial[:count]
                    break
        _see(placed, count, size, pixels, offset, bits, ahead, canvas, seen, boxes, True)
        for k in range(count):
            sprite = placed[k, _SPRITE]
            foreground[i, k] = placed[k, _FOREGROUND]
            flips[i, k] = placed[k, _FLIP]
            ys[i, k] = placed[k, _Y]
            xs[i, k] = placed[k, _X]
            heights[i, k] = size[sprite, 0]
            widths[i, k] = size[sprite, 1]
            blend[i, k] = blends[placed[k, _BLEND]]
            shadow[i, k] = placed[k, _SHADOW]
            rotation[i, k] = placed[k, _ANGLE]
            whole = placed[k, _AREA]
            visible[i, k] = np.float32(seen[k]) / np.float32(whole) if whole > 0 else np.float32(0)
            for edge in range(4):
                box[i, k, edge] = boxes[k, edge]


@kernel
def _see(
    placed: Int64,
    count: Int,
    size: Int32,
    pixels: UInt8,
    offset: Int64,
    bits: UInt8,
    ahead: Int16,
    canvas: UInt8,
    seen: Int64,
    boxes: Int64,
    with_boxes: bool,
) -> None:
    """Count in ``seen`` the pixels of each object that are in the picture and not hidden; fill ``boxes``
    (top, left, bottom, right) with what encloses them, if asked. ``canvas`` is left as it was, 0. ``ahead``
    is that of ``front``, or (0, 0).
    """
    height = canvas.shape[0]
    width = canvas.shape[1]
    for k in range(count):
        seen[k] = 0
        flip = placed[k, _FLIP]
        y = placed[k, _Y]
        x = placed[k, _X]
        sprite = placed[k, _SPRITE]
        angle = placed[k, _ANGLE]
        feet_row = placed[k, _FEET_ROW]
        is_behind = len(ahead) > 0 and feet_row != UNHIDDEN
        w = np.int64(size[sprite, 1])
        top, bottom, left, right = _inside(y, x, np.int64(size[sprite, 0]), w, angle, height, width)
        if is_behind:
            # Where nothing is turned there are no bits, and any plane will do.
            opaque = bits[placed[k, _NUMBER]] if angle != 0 else canvas
            for row in range(top, bottom):
                start = offset[sprite] + 4 * (row - y) * w + 3
                for column in range(left, right):
                    if ahead[row, column] >= feet_row:
                        continue
                    across = x + w - 1 - column if flip else column - x
                    if angle != 0:
                        is_there = (opaque[row, column >> 3] >> np.uint8(column & 7)) & 1 != 0
                    else:
                        is_there = pixels[start + 4 * across] > _HALF_OPAQUE
                    if is_there:
                        _mark(canvas, row, column, k, seen)
        elif angle != 0:
            opaque = bits[placed[k, _NUMBER]]
            for row in range(top, bottom):
                for column in range(left, right):
                    if (opaque[row, column >> 3] >> np.uint8(column & 7)) & 1:
                        _mark(canvas, row, column, k, seen)
        else:
            for row in range(top, bottom):
                start = offset[sprite] + 4 * (row - y) * w + 3
                for column in range(left, right):
                    across = x + w - 1 - column if flip else column - x
                    if pixels[start + 4 * across] > _HALF_OPAQUE:
                        _mark(canvas, row, column, k, seen)
    for k in range(count):
        sprite = placed[k, _SPRITE]
        top, bottom, left, right = _inside(
            placed[k, _Y], placed[k, _X], size[sprite, 0], size[sprite, 1], placed[k, _ANGLE], height, width
        )
        if with_boxes:
            boxes[k] = (0, 0, 0, 0)
            if seen[k]:
                boxes[k] = (height, width, 0, 0)
                for row in range(top, bottom):
                    for column in range(left, right):
                        if canvas[row, column] == k + 1:
                            boxes[k, 0] = min(boxes[k, 0], row)
                            boxes[k, 1] = min(boxes[k, 1], column)
                            boxes[k, 2] = row + 1
                            boxes[k, 3] = max(boxes[k, 3], column + 1)
    for k in range(count):
        sprite = placed[k, _SPRITE]
        top, bottom, left, right = _inside(
            placed[k, _Y], placed[k, _X], size[sprite, 0], size[sprite, 1], placed[k, _ANGLE], height, width
        )
        for row in range(top, bottom):
            for column in range(left, right):
                canvas[row, column] = 0


@kernel
def _mark(canvas: UInt8, row: Int, column: Int, k: Int, seen: Int64) -> None:
    """Take a pixel of the picture for the k-th object."""
    before = canvas[row, column]
    if before:
        seen[before - 1] -= 1
    canvas[row, column] = k + 1
    seen[k] += 1


@kernel
def _inside(y: Int, x: Int, h: Int, w: Int, angle: Int, height: Int, width: Int) -> tuple[Int, Int, Int, Int]:
    """The rows and columns of a picture that a sprite is in: from, to, from, to."""
    rows, columns = grown(np.int64(h), np.int64(w), angle)
    return (
        max(np.int64(0), y - rows),
        min(np.int64(height), y + h + rows),
        max(np.int64(0), x - columns),
        min(np.int64(width), x + w + columns),
    )


@kernel
def match_light(
    background: UInt8,
    which_background: Int32,
    light: Int32,
    foreground: Int32,
    y: Int16,
    x: Int16,
    height: Int16,
    width: Int16,
    gain: Int16,
) -> None:
    """Fill ``gain`` (n, K, 3), times 256, of objects (n, K) with what brings them near their surroundings.

    Half of the ratio of brightness, that of the background under the object to that of the foreground, whose
    mean colour is in ``light`` (F, 3), within 160 to 400; times a quarter of the background's tint, within
    224 to 288. All of it is whole numbers, rounded down.
    """
    rows = background.shape[1]
    columns = background.shape[2]
    for i in range(foreground.shape[0]):
        scene = background[which_background[i]]
        for k in range(foreground.shape[1]):
            f = foreground[i, k]
            if f < 0:
                continue
            total = np.zeros(3, np.int64)
            count = np.int64(0)
            for row in range(max(0, y[i, k]), min(rows, y[i, k] + height[i, k]), _STRIDE):
                for column in range(max(0, x[i, k]), min(columns, x[i, k] + width[i, k]), _STRIDE):
                    for channel in range(3):
                        total[channel] += scene[row, column, channel]
                    count += 1
            count = max(count, np.int64(1))
            there = max(np.int64(1), (77 * total[0] + 150 * total[1] + 29 * total[2]) // (256 * count))
            here = max(np.int64(1), (77 * light[f, 0] + 150 * light[f, 1] + 29 * light[f, 2]) // 256)
            bright = min(np.int64(400), max(np.int64(160), 128 + 128 * there // here))
            for channel in range(3):
                tint = 192 + 64 * (total[channel] // count) // there
                tint = min(np.int64(288), max(np.int64(224), tint))
                gain[i, k, channel] = bright * tint // 256
