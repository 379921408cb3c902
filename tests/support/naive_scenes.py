"""Slow, obvious twins of the kernels of scenes, written from their descriptions."""

from __future__ import annotations

import itertools
from fractions import Fraction
from functools import cache
from math import ceil, cos, floor, radians, sin

import numpy as np
from naive import blend, box, multiply_high, philox4x32

LEFT, BOTTOM, RIGHT, TOP = 2, 4, 8, 1


# --- sprites ---------------------------------------------------------------------------------------


def catmull_rom(t):
    """The filter at a distance, as a fraction: Keys, equation 15 with a = -1/2."""
    t = abs(t)
    if t < 1:
        return Fraction(3, 2) * t**3 - Fraction(5, 2) * t**2 + 1
    if t < 2:
        return -Fraction(1, 2) * t**3 + Fraction(5, 2) * t**2 - 4 * t + 2
    return Fraction(0)


def half_up(value):
    """Rounded to nearest, halves up."""
    return floor(value + Fraction(1, 2))


def filter_matrix(source, target):
    """The weights of ``source`` pixels in each of ``target``, whole numbers that add up to 2^14."""
    rows = []
    for i in range(target):
        stretch = Fraction(source, target)
        weights = [
            catmull_rom(((j + Fraction(1, 2)) - (i + Fraction(1, 2)) * stretch) / stretch)
            for j in range(source)
        ]
        total = sum(weights)
        scaled = [half_up(abs(w) / total * 2**14) * (1 if w > 0 else -1) for w in weights]
        scaled[scaled.index(max(scaled))] += 2**14 - sum(scaled)
        rows.append(scaled)
    return rows


def resize(patch, height, width):
    """A patch (ph, pw, 4) of straight alpha at another size: columns first, rounded to 1/64, then rows."""
    return _resized(patch.tobytes(), patch.shape, height, width).copy()


@cache
def _resized(pixels, shape, height, width):
    """The same of the bytes of a patch, once for all tests."""
    patch = np.frombuffer(pixels, np.uint8).reshape(shape)
    if shape[:2] == (height, width):
        return patch
    across, down = filter_matrix(patch.shape[1], width), filter_matrix(patch.shape[0], height)
    middle = np.empty((patch.shape[0], width, 4), object)
    for row in range(patch.shape[0]):
        for i in range(width):
            for channel in range(4):
                total = 0
                for j in range(patch.shape[1]):
                    alpha = int(patch[row, j, 3])
                    value = 255 * alpha if channel == 3 else int(patch[row, j, channel]) * alpha
                    total += across[i][j] * value
                middle[row, i, channel] = Fraction(half_up(Fraction(total * 64, 2**14)), 64)
    out = np.zeros((height, width, 4), np.uint8)
    for i in range(height):
        for column in range(width):
            sums = [sum(down[i][j] * middle[j, column, c] for j in range(patch.shape[0])) for c in range(4)]
            if sums[3] > 0:
                out[i, column, 3] = min(255, half_up(sums[3] / 2**14 / 255))
            if out[i, column, 3]:
                for channel in range(3):
                    colour = half_up(255 * max(Fraction(0), Fraction(sums[channel])) / sums[3])
                    out[i, column, channel] = min(255, colour)
    return out


def harden(sprite):
    """Alpha 0 or 255."""
    out = np.where(sprite[..., 3:] > 127, sprite, 0)
    out[..., 3] = np.where(sprite[..., 3] > 127, 255, 0)
    return out.astype(np.uint8)


def feather(sprite):
    """The least of alpha and its mean over 3x3 pixels with weights 1 2 1, the border repeated outwards."""
    alpha = np.pad(sprite[..., 3].astype(int), 1, mode="edge")
    rows = alpha[:-2] + 2 * alpha[1:-1] + alpha[2:]
    mean = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:] + 8) // 16
    out = sprite.copy()
    out[..., 3] = np.minimum(mean, sprite[..., 3])
    out[out[..., 3] == 0] = 0
    return out


def feet(sprite):
    """The lowest row with alpha above 127, and the columns of such pixels in the lowest eighth above it."""
    opaque = sprite[..., 3] > 127
    rows = np.flatnonzero(opaque.any(axis=1))
    if not len(rows):
        return -1, -1, -1
    lowest = int(rows[-1])
    columns = np.flatnonzero(opaque[max(0, lowest - len(sprite) // 8) : lowest + 1].any(axis=0))
    return lowest, int(columns[0]), int(columns[-1])


BLENDED = {"soft": lambda sprite: sprite, "hard": harden, "feather": feather}


def sprite_of(patch, height, blend_name):
    """A foreground at a height, with the alpha of a blend."""
    full_height, full_width = patch.shape[:2]
    width = max(1, half_up(Fraction(full_width * height, full_height)))
    return BLENDED[blend_name](resize(patch, height, width))


# --- turning --------------------------------------------------------------------------------------


def sine_and_cosine(tenths):
    """Of an angle in tenths of a degree, in 65536ths."""
    angle = radians(tenths / 10)
    return (Fraction(half_up(65536 * part), 65536) for part in (sin(angle), cos(angle)))


def margins(height, width, tenths):
    """Rows and columns that a turned rectangle, half a pixel larger all around, takes beyond each side."""
    if not tenths:
        return 0, 0
    s, c = sine_and_cosine(tenths)
    rows, columns = (height + 1) * c + (width + 1) * abs(s), (width + 1) * c + (height + 1) * abs(s)
    return ceil((rows - height) / 2), ceil((columns - width) / 2)


def turn(sprite, tenths, is_hard):
    """A sprite (h, w, 4) turned clockwise about its middle: each pixel is the mean of the four about the
    place it comes from, by alpha and distance in 256ths; with the rows and columns that it is larger by.
    """
    if not tenths:
        return sprite, 0, 0
    s, c = sine_and_cosine(tenths)
    height, width = sprite.shape[:2]
    rows, columns = margins(height, width, tenths)
    out = np.zeros((height + 2 * rows, width + 2 * columns, 4), np.uint8)
    for i, j in np.ndindex(*out.shape[:2]):
        down, across = i - Fraction(len(out) - 1, 2), j - Fraction(out.shape[1] - 1, 2)
        y = c * down - s * across + Fraction(height - 1, 2)
        x = c * across + s * down + Fraction(width - 1, 2)
        weight, colour = Fraction(0), [Fraction(0)] * 3
        for row, column in itertools.product((floor(y), floor(y) + 1), (floor(x), floor(x) + 1)):
            if 0 <= row < height and 0 <= column < width:
                parts = [Fraction(floor(256 * (at - floor(at))), 256) for at in (y, x)]
                near = [
                    part if one > floor(at) else 1 - part
                    for part, one, at in zip(parts, (row, column), (y, x), strict=True)
                ]
                *values, alpha = (int(v) for v in sprite[row, column])
                share = near[0] * near[1] * alpha
                weight += share
                colour = [total + share * value for total, value in zip(colour, values, strict=True)]
        alpha = half_up(weight)
        if is_hard:
            alpha = 255 if alpha > 127 else 0
        if alpha:
            out[i, j] = *(half_up(value / weight) for value in colour), alpha
    return out, rows, columns


def feet_move(sprite, tenths):
    """By how many pixels, down and across, a turn moves the middle of the feet; in halves of them."""
    if not tenths:
        return Fraction(0), Fraction(0)
    s, c = sine_and_cosine(tenths)
    row, left, right = feet(sprite)
    down, across = 2 * row - (len(sprite) - 1), left + right - (sprite.shape[1] - 1)
    return (
        Fraction(half_up(s * across + c * down) - down, 2),
        Fraction(half_up(c * across - s * down) - across, 2),
    )


# --- what scenes hold ------------------------------------------------------------------------------


def placed_alpha(sprite, flip, y, x, height, width):
    """The alpha of a sprite in a picture of that size, 0 elsewhere."""
    if flip:
        sprite = sprite[:, ::-1]
    out = np.zeros((height, width), np.uint8)
    for row in range(len(sprite)):
        for column in range(sprite.shape[1]):
            if 0 <= y + row < height and 0 <= x + column < width:
                out[y + row, x + column] = sprite[row, column, 3]
    return out


def instances(objects, height, width):
    """The instance map of objects ``(sprite, flip, y, x)``, far to near."""
    out = np.zeros((height, width), np.uint8)
    for number, placed in enumerate(objects):
        out[placed_alpha(*placed, height, width) > 127] = number + 1
    return out


def draw(plan, counter, given, sprites, person=None, front=None):
    """The objects of one sample, far to near, as dictionaries; ``sprites`` are (h, w, 4) by (foreground,
    height, blend), ``person`` (h, w) is how high somebody is whose feet are at each pixel, or 0,
    ``front`` (h, w) the lowest row of feet of those whom a pixel hides.
    """
    key = plan.seed % 2**32, plan.seed >> 32
    sample = philox4x32([*counter, 0xFFFFFFFF], key)
    low, high = plan.objects
    if sample[0] < plan.empty:
        return []
    found = []
    for number in range(low + multiply_high(sample[1], high - low + 1)):
        for attempt in range(16):
            first = philox4x32([*counter, number * 65536 + 2 * attempt], key)
            second = philox4x32([*counter, number * 65536 + 2 * attempt + 1], key)
            one = place(plan, first, second, given if number == 0 else None, sprites, person)
            if one is None:
                continue
            if front is not None and one["feet_row"] is not None:
                hide(one, front >= one["feet_row"])
            one["order"] = number
            trial = sorted([*found, one], key=lambda o: (o["near"], o["order"]))
            if plan.least_visible and not all(
                share is not None and share * 2**16 >= plan.least_visible for share in shares(plan, trial)
            ):
                continue
            found = trial
            break
    for one, share, number in zip(found, shares(plan, found), range(1, 99), strict=False):
        one["visible"] = share or Fraction(0)
        one["box"] = box(instances([o["placed"] for o in found], plan.height, plan.width) == number)
    return found


def shares(plan, objects):
    """What share of each object's opaque pixels can be seen; ``None`` where it has none."""
    seen = instances([one["placed"] for one in objects], plan.height, plan.width)
    whole = [one["whole"] for one in objects]
    counts = [int((seen == number + 1).sum()) for number in range(len(objects))]
    return [Fraction(count, total) if total else None for count, total in zip(counts, whole, strict=True)]


def hide(one, hidden):
    """Make an object transparent at the pixels of the picture that are hidden."""
    sprite, flip, y, x = one["placed"]
    sprite = sprite.copy()
    for row, column in np.argwhere(hidden):
        if 0 <= row - y < len(sprite) and 0 <= column - x < sprite.shape[1]:
            sprite[row - y, column - x] = 0
    one["placed"], one["hidden"] = (sprite, flip, y, x), hidden


def spots(plan, foreground, flip, tenths, blend_name, sprites, person):
    """Where a foreground can stand, row by row: its height, the corner that puts its feet there, its lower
    edge and the row of its feet.
    """
    found = []
    for row, column in np.argwhere(person > 0):
        nearest = sorted(plan.heights, key=lambda height: (abs(height - person[row, column]), height))[0]
        if (foreground, nearest, blend_name) not in sprites:
            continue
        sprite = sprites[foreground, nearest, blend_name]
        if flip:
            sprite = sprite[:, ::-1]
        lowest, left, right = feet(sprite)
        h, w = sprite.shape[:2]
        if lowest < 0:
            continue
        down, across = feet_move(sprite, tenths)
        rows, columns = margins(h, w, tenths)
        # Of two columns in the middle, the left one of the sprite as it is.
        y, x = row - lowest, column - (-(-(left + right) // 2) if flip else (left + right) // 2)
        bottom, y, x = y + h, y - floor(down), x - floor(across)
        outside = w * plan.slack // 256
        is_in = y - rows >= -(h * plan.slack // 256)
        if is_in and columns - outside <= x <= plan.width - w - columns + outside:
            found.append((nearest, int(y), int(x), int(bottom), int(row)))
    return found


def place(plan, first, second, given, sprites, person=None):
    """One object, of the words of its two blocks; ``None`` where it has no place on the floor."""
    drawn = range(len(plan.foreground_words)) if plan.drawn is None else plan.drawn
    foreground = drawn[multiply_high(first[0], len(drawn))]
    flip = second[0] >> 31 if plan.flip else 0
    if given is not None:
        foreground, flip = given
    heights = [height for height in plan.heights if height <= plan.foreground_sizes[foreground][0]]
    height = heights[multiply_high(first[1], len(heights))]
    blend_name = plan.blends[multiply_high(second[1], len(plan.blends))]
    sprite = sprites[foreground, height, blend_name]
    h, w = sprite.shape[:2]
    tenths = multiply_high(second[3], 2 * plan.rotation + 1) - plan.rotation
    rows, columns = margins(h, w, tenths)
    more_y, more_x = h * plan.slack // 256, w * plan.slack // 256
    y = anywhere(first[2], rows - more_y, plan.height - h - rows + more_y)
    x = anywhere(first[3], columns - more_x, plan.width - w - columns + more_x)
    bottom = y + h
    cut, feet_row = plan.cut[foreground], None
    if person is not None and person.any() and not cut:
        places = spots(plan, foreground, flip, tenths, blend_name, sprites, person)
        if not places:
            return None
        height, y, x, bottom, feet_row = places[multiply_high(first[2], len(places))]
        sprite = sprites[foreground, height, blend_name]
        h, w = sprite.shape[:2]
    if plan.placement == "anchored" or (plan.placement != "inside" and cut):
        left, right = bool(cut & LEFT), bool(cut & RIGHT)
        if flip:
            left, right = right, left
        below, beside = multiply_high(first[2], h // 4 + 1), multiply_high(first[3], w // 4 + 1)
        out_y, out_x = 0, 0
        if tenths:
            # A turned edge is further in at one end; it is one pixel further out than it has to be.
            s, c = sine_and_cosine(tenths)
            out_y = 1 + ceil((h - h * c + w * abs(s)) / 2)
            out_x = 1 + ceil((w - w * c + h * abs(s)) / 2)
        if cut & BOTTOM:
            bottom = plan.height + below
            y = bottom - h + out_y
        elif cut & TOP:
            bottom = h - below
            y = -below - out_y
        elif not left and not right:
            bottom = plan.height
            y = bottom - h
            if feet(sprite)[0] >= 0:
                y -= floor(feet_move(sprite[:, ::-1] if flip else sprite, tenths)[0])
        if left and not right:
            x = -beside - out_x
        if right and not left:
            x = plan.width - w + beside + out_x
    dark, ground = 0, None
    upright = sprite[:, ::-1] if flip else sprite
    row, left, right = feet(upright)
    if plan.shadow and not cut & BOTTOM and row >= 0:
        dark = 80 + multiply_high(second[2], 80)
        down, across = feet_move(upright, tenths)
        ground = y + row + floor(down), x + Fraction(left + right, 2) + across, Fraction(right - left + 3, 2)
    turned, rows, columns = turn(upright, tenths, blend_name == "hard")
    return {
        "foreground": foreground,
        "flip": flip,
        "y": y,
        "x": x,
        "height": h,
        "width": w,
        "rotation": tenths,
        "blend": blend_name,
        "shadow": dark,
        "ground": ground,
        "near": bottom if bottom < plan.height else plan.height + h,
        "placed": (turned, 0, y - rows, x - columns),
        "whole": int((turned[..., 3] > 127).sum()),
        "feet_row": feet_row,
        "hidden": np.zeros((plan.height, plan.width), bool),
    }


def anywhere(word, first, last):
    """A number between two, both included."""
    low, high = sorted((first, last))
    return low + multiply_high(word, high - low + 1)


def light(scene, patch, one):
    """The gain of an object: of brightness half of the ratio, and a quarter of the tint."""
    alpha = patch[..., 3].astype(int)
    here = [half_up(Fraction(int((patch[..., c] * alpha).sum()), int(alpha.sum()))) for c in range(3)]
    part = [
        [int(v) for v in scene[row, column]]
        for row in range(max(0, one["y"]), min(len(scene), one["y"] + one["height"]), 4)
        for column in range(max(0, one["x"]), min(scene.shape[1], one["x"] + one["width"]), 4)
    ]
    there = [sum(pixel[c] for pixel in part) for c in range(3)]
    weights = 77, 150, 29
    bright_there = max(
        1, sum(w * v for w, v in zip(weights, there, strict=True)) // (256 * max(1, len(part)))
    )
    bright_here = max(1, sum(w * v for w, v in zip(weights, here, strict=True)) // 256)
    bright = min(400, max(160, 128 + 128 * bright_there // bright_here))
    tints = [min(288, max(224, 192 + 64 * (v // max(1, len(part))) // bright_there)) for v in there]
    return [bright * tint // 256 for tint in tints]


# --- compositing -----------------------------------------------------------------------------------


def compose(scene, objects):
    """Image, mask and instance of objects with ``placed``, ``gain``, ``shadow`` and, where that is not 0,
    ``ground``, pixel by pixel.
    """
    height, width = scene.shape[:2]
    image, mask = scene.astype(int), np.zeros((height, width), int)
    for one in objects:
        sprite, flip, y, x = one["placed"]
        if flip:
            sprite = sprite[:, ::-1]
        if one["shadow"]:
            darken(image, *one["ground"], one["shadow"], one["hidden"])
        for i in range(len(sprite)):
            for j in range(sprite.shape[1]):
                if not (0 <= y + i < height and 0 <= x + j < width):
                    continue
                *colour, alpha = (int(v) for v in sprite[i, j])
                mask[y + i, x + j] = blend(alpha, 255, int(mask[y + i, x + j]))
                for c in range(3):
                    lit = min(255, (one["gain"][c] * colour[c] + 128) // 256)
                    image[y + i, x + j, c] = blend(alpha, lit, int(image[y + i, x + j, c]))
    seen = instances([one["placed"] for one in objects], height, width)
    return image.astype(np.uint8), mask.astype(np.uint8), seen


def darken(image, row, middle, half_width, dark, hidden):
    """An ellipse four times as wide as high, darkest in the middle, where it is not hidden."""
    for i in range(len(image)):
        for j in range(image.shape[1]):
            far = ((j - middle) ** 2 + (4 * (i - row)) ** 2) / half_width**2
            if far < 1 and not hidden[i, j]:
                keep = 256 - floor(dark * (1 - far))
                image[i, j] = (image[i, j] * keep + 128) // 256


# --- recipes ---------------------------------------------------------------------------------------


def patches(recipe):
    """The pixels of each foreground, without what pads them."""
    catalog = recipe.catalog
    return [patch[:h, :w] for patch, (h, w) in zip(catalog.foreground, catalog.foreground_size, strict=True)]


def all_sprites(recipe):
    """The naive sprites by foreground, height and blend."""
    plan = recipe.plan
    return {
        (number, height, blend): sprite_of(patch, height, blend)
        for number, patch in enumerate(patches(recipe))
        for height in plan.heights
        if height <= len(patch)
        for blend in plan.blends
    }


def sample_objects(recipe, sample, known):
    """The background of a sample, and its objects."""
    plan = recipe.plan
    backgrounds = len(plan.background_words)
    starts = [-(-number * plan.samples // backgrounds) for number in range(backgrounds)]
    background = max(number for number in range(backgrounds) if starts[number] <= sample)
    within = sample - starts[background]
    if plan.random_samples is None:
        order = itertools.product(
            range(len(plan.foreground_words)), range(1 + plan.flip), range(plan.placements)
        )
        foreground, flip, again = list(order)[within]
        given = foreground, flip
        counter = [plan.foreground_words[foreground], 0x80000000 | 2 * again + flip]
    else:
        given, counter = None, [within, 0xC0000000]
    catalog = recipe.catalog
    person, front = (
        None if array is None else array[background] for array in (catalog.person_pixels, catalog.front_row)
    )
    found = draw(plan, [plan.background_words[background], *counter], given, known, person, front)
    scene = recipe.catalog.background[background]
    for one in found:
        patch = patches(recipe)[one["foreground"]]
        one["gain"] = light(scene, patch, one) if plan.light_match else [256] * 3
    return background, found
