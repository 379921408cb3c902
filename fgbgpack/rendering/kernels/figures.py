"""Kernels that draw figures by marching rays.

A figure is one signed distance field of parts: tapered capsules in rows of ``PART`` columns (see below).
Parts of one material melt into each other.

Units are metres, y is up, colours are linear light. Everything is float64.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fgbgpack.jit import kernel
from fgbgpack.rendering.kernels.noise import clamp01, fraction, noise, noise3
from fgbgpack.rendering.kernels.vectors import Array, Vector, along, cross, dot, minus, scaled, vector

# A part's columns: ends (0..2, 3..5), radii (6, 7), direction in which it is flattened (8..10) and how much
# (11), material (12), blending radius (13), how many ends are cut flat: none, the second, both (14).
PART = 15

# A material's columns: pattern, first and second colour (1..3, 4..6), cells a metre (7), folds (8), gloss
# (9), seed (10).
MATERIAL = 11
PLAIN, HOOPS, PINSTRIPES, CHECK, DOTS, DENIM = 0, 1, 2, 3, 4, 5
HAIR, SKIN, FACE, KNIT, SHIRT_FRONT = 6, 7, 8, 9, 10

_FAR = 1e9
# A ray this close to the body, in metres, has met it.
_TOUCH = 0.0006


class Figure(NamedTuple):
    """What a figure is made of, all float64.

    Attributes:
        parts: (n, PART), those of one material together.
        materials: (m, MATERIAL).
        head: (16,), the frame from chin to crown: the chin (0..2), the height (3), vectors to the left, up
            and to the front (4..12), then lips (13), beard (14) and glasses (15).
    """

    parts: Array
    materials: Array
    head: Array


@kernel
def part_distance(parts: Array, i: int, point: Vector) -> float:
    """Signed distance to part ``i``: two balls and the cone that touches both, flattened along one direction.

    Flattening stretches space, so the result is divided by the stretch's root: near enough for marching in
    steps of 0.8.
    """
    p = minus(point, vector(parts, i, 0))
    flat = parts[i, 11]
    stretch = 1.0
    if flat != 1.0:
        across = vector(parts, i, 8)
        p = along(p, across, (flat - 1.0) * dot(p, across))
        stretch = 1.0 / math.sqrt(flat)
    axis = minus(vector(parts, i, 3), vector(parts, i, 0))
    length = math.sqrt(dot(axis, axis)) + 1e-9
    up = dot(p, axis) / length
    out = math.sqrt(max(0.0, dot(p, p) - up * up))
    ra, rb = parts[i, 6], parts[i, 7]
    lean = min(0.999, max(-0.999, (ra - rb) / length))
    straight = math.sqrt(1.0 - lean * lean)
    at = straight * up - lean * out  # position along the cone's side
    if at < 0.0 and parts[i, 14] < 1.5:
        distance = math.sqrt(out * out + up * up) - ra
    elif at > straight * length and parts[i, 14] == 0.0:
        distance = math.sqrt(out * out + (up - length) * (up - length)) - rb
    else:
        distance = straight * out + lean * up - ra
    if parts[i, 14] != 0.0:
        distance = max(distance, up - length)
        if parts[i, 14] > 1.5:
            distance = max(distance, -up)
    return float(distance * stretch)


@kernel
def _body_distance(parts: Array, chosen: Array, point: Vector) -> tuple[float, int]:
    """Signed distance to the chosen parts, and the part that is nearest.

    Parts of one material, which follow one another, melt into each other within their blending radius.
    """
    best = _FAR
    nearest_part = -1
    melted = _FAR
    melted_part = -1
    closest = _FAR
    material = -1.0
    for i in chosen:
        distance = part_distance(parts, i, point)
        if parts[i, 12] != material:
            if melted < best:
                best = melted
                nearest_part = melted_part
            material = parts[i, 12]
            melted = distance
            closest = distance
            melted_part = i
        else:
            if distance < closest:
                closest = distance
                melted_part = i
            blend = parts[i, 13]
            overlap = max(blend - abs(melted - distance), 0.0) / blend
            melted = min(melted, distance) - overlap * overlap * blend * 0.25
    if melted < best:
        best = melted
        nearest_part = melted_part
    return best, nearest_part


@kernel
def _wrapped(parts: Array, i: int, point: Vector) -> tuple[float, float]:
    """Where a point of part ``i`` lies on cloth wrapped round it: metres round its axis and along it."""
    start = vector(parts, i, 0)
    axis = minus(vector(parts, i, 3), start)
    length = math.sqrt(dot(axis, axis)) + 1e-9
    axis = axis[0] / length, axis[1] / length, axis[2] / length
    # Round the axis, angles count from the side of the body, or from its front for an axis that points aside.
    aside = axis[1], -axis[0], 0.0
    if abs(axis[2]) > 0.8:
        aside = 0.0, axis[2], -axis[1]
    length = math.sqrt(dot(aside, aside))
    aside = aside[0] / length, aside[1] / length, aside[2] / length
    p = minus(point, start)
    angle = math.atan2(dot(p, aside), dot(p, cross(axis, aside)))
    return angle * max(0.06, parts[i, 6]), dot(point, axis)


@kernel
def _face_colour(figure: Figure, m: int, point: Vector, skin: Vector) -> Vector:
    """``skin`` with eyes, brows, lips, beard and glasses drawn on it."""
    head, materials = figure.head, figure.materials
    r, g, b = skin
    seed = int(materials[m, 10])
    # In units of the head's height: a to the left, c up from the chin, f to the front.
    q = (point[0] - head[0]) / head[3], (point[1] - head[1]) / head[3], (point[2] - head[2]) / head[3]
    a = dot(q, (head[4], head[5], head[6]))
    c = dot(q, (head[7], head[8], head[9]))
    f = dot(q, (head[10], head[11], head[12]))
    brow_r, brow_g, brow_b = materials[m, 4], materials[m, 5], materials[m, 6]
    if head[14] > 0.0:
        edge = c + 0.1 * noise(a * 30.0, c * 30.0, seed)
        chin = clamp01((0.37 - edge + 0.45 * max(0.0, abs(a) - 0.12)) * 9.0) * clamp01((f + 0.05) * 8.0)
        grow = clamp01(head[14] * chin * (0.7 + 0.5 * noise(a * 90.0, c * 60.0, seed + 3)))
        r, g, b = r + (brow_r - r) * grow, g + (brow_g - g) * grow, b + (brow_b - b) * grow
    if f < 0.08:
        return r, g, b
    s = abs(a)
    cheek = math.exp(-((s - 0.19) ** 2 + (c - 0.33) ** 2) * 130.0)
    g, b = g * (1.0 - 0.16 * cheek), b * (1.0 - 0.14 * cheek)
    socket = math.exp(-((s - 0.15) ** 2 * 90.0 + (c - 0.495) ** 2 * 260.0))
    r, g, b = r * (1.0 - 0.3 * socket), g * (1.0 - 0.34 * socket), b * (1.0 - 0.34 * socket)
    lid = ((s - 0.15) / 0.078) ** 2 + ((c - 0.478) / 0.04) ** 2
    if lid < 1.0:
        r, g, b = 0.74, 0.72, 0.69
        iris = (s - 0.15) ** 2 + (c - 0.48) ** 2
        if iris < 0.036 * 0.036:
            r, g, b = 0.09, 0.06, 0.04
            if iris < 0.016 * 0.016:
                r, g, b = 0.01, 0.01, 0.01
        if c > 0.497:
            r, g, b = 0.3 * r, 0.3 * g, 0.3 * b
    elif lid < 1.5 and c > 0.478:
        r, g, b = 0.4 * r, 0.36 * g, 0.34 * b
    arch = 0.575 + 0.05 * (s - 0.08) - 0.9 * (s - 0.16) ** 2
    brow = clamp01(1.6 - abs(c - arch) / 0.016) * (1.0 if 0.065 < s < 0.255 else 0.0) * 0.8
    r, g, b = r + (brow_r * 0.8 - r) * brow, g + (brow_g * 0.8 - g) * brow, b + (brow_b * 0.8 - b) * brow
    curve = 0.212 + 1.6 * s * s
    lips = clamp01(1.5 - ((s / 0.125) ** 2 + ((c - curve) / 0.038) ** 2) * 1.2)
    tint = head[13]
    r, g, b = (
        r * (1.0 - lips * 0.22 + lips * tint * 0.25),
        g * (1.0 - lips * (0.42 + tint * 0.2)),
        b * (1.0 - lips * 0.38),
    )
    if abs(c - curve) < 0.008 and s < 0.12:
        r, g, b = 0.45 * r, 0.4 * g, 0.4 * b
    under = math.exp(-(s**2 * 220.0 + (c - 0.325) ** 2 * 1800.0))
    r, g, b = r * (1.0 - 0.45 * under), g * (1.0 - 0.48 * under), b * (1.0 - 0.48 * under)
    if head[15] > 0.0 and f > 0.1:
        rim = math.sqrt(((s - 0.155) / 0.115) ** 2 + ((c - 0.475) / 0.085) ** 2)
        bridge = s < 0.05 and abs(c - 0.495) < 0.012
        if bridge or abs(rim - 1.0) < 0.14 or (s > 0.26 and abs(c - 0.495) < 0.014):
            r, g, b = 0.03, 0.03, 0.035
        elif rim < 1.0 and head[15] > 1.5:
            r, g, b = 0.03, 0.03, 0.04
    return r, g, b


@kernel
def cloth_colour(figure: Figure, m: int, point: Vector, around: float, length: float) -> Vector:
    """Colour of a figure's material at a point of the body, before light.

    ``around`` and ``length`` are metres of cloth round the part and along it.
    """
    materials = figure.materials
    x, y, z = point
    kind = int(materials[m, 0])
    cells = materials[m, 7]
    seed = int(materials[m, 10])
    mix = 0.0
    shade = 0.94 + 0.12 * noise3(x * 70.0, y * 70.0, z * 70.0, seed)
    if kind == HOOPS:
        mix = 1.0 if fraction(length * cells) < 0.45 else 0.0
    elif kind == PINSTRIPES:
        mix = 0.75 if fraction(around * cells) < 0.16 else 0.0
    elif kind == CHECK:
        mix = 0.45 if fraction(around * cells) < 0.4 else 0.0
        mix += 0.45 if fraction(length * cells) < 0.4 else 0.0
    elif kind == DOTS:
        a = fraction(around * cells) - 0.5
        b = fraction(length * cells + 0.5 * (math.floor(around * cells) & 1)) - 0.5
        mix = 1.0 if a * a + b * b < 0.06 else 0.0
    elif kind == DENIM:
        mix = clamp01(1.6 * noise3(x * 9.0, y * 4.0, z * 9.0, seed) - 0.5)
        shade *= 0.9 + 0.2 * noise3(x * 240.0, y * 120.0, z * 240.0, seed + 1)
    elif kind == KNIT:
        shade *= 0.88 + 0.18 * abs(2.0 * fraction(length * 110.0) - 1.0)
    elif kind == SHIRT_FRONT:
        # An open jacket: a wedge of what is worn below, between dark edges, and a tie in the middle.
        if z > 0.0:
            reach = cells * clamp01((y - 0.98) / 0.42)
            if abs(x) < reach:
                mix = 1.0
                if seed & 1 and abs(x) < 0.016 + 0.01 * clamp01((1.45 - y) * 3.0):
                    return 0.35, 0.03, 0.05
            elif abs(x) < reach + 0.01:
                shade *= 0.55
            elif reach == 0.0 and abs(x) < 0.004:
                shade *= 0.6
    elif kind == HAIR:
        shade = 0.6 + 0.75 * noise3(x * 160.0, y * 22.0, z * 160.0, seed)
        mix = clamp01(1.5 * noise3(x * 30.0, y * 8.0, z * 30.0, seed + 2) - 0.5)
    elif kind in (FACE, SKIN):
        shade = 0.97 + 0.06 * noise3(x * 90.0, y * 90.0, z * 90.0, seed)
    first, second = vector(materials, m, 1), vector(materials, m, 4)
    colour = scaled(along(first, minus(second, first), mix), shade)
    return _face_colour(figure, m, point, colour) if kind == FACE else colour


@kernel
def _projected(parts: Array, frame: Array, flat: Array) -> None:
    """Fill ``flat`` (parts, 4) with the places of each part's ends in the picture: right, up, right, up."""
    for i in range(parts.shape[0]):
        for end in range(2):
            for axis in range(2):
                flat[i, 2 * end + axis] = dot(
                    vector(parts, i, 3 * end), (frame[3 * axis], frame[3 * axis + 1], frame[3 * axis + 2])
                )


@kernel
def _choose(parts: Array, flat: Array, across: float, above: float, chosen: Array) -> int:
    """Put the parts that a pixel's rays come near into ``chosen``; returns how many they are."""
    count = 0
    for i in range(parts.shape[0]):
        sx, sy = flat[i, 2] - flat[i, 0], flat[i, 3] - flat[i, 1]
        qx, qy = across - flat[i, 0], above - flat[i, 1]
        t = clamp01((qx * sx + qy * sy) / (sx * sx + sy * sy + 1e-12))
        gap = math.sqrt((qx - t * sx) ** 2 + (qy - t * sy) ** 2)
        if gap < max(parts[i, 6], parts[i, 7]) + 0.03:
            chosen[count] = i
            count += 1
    return count


@kernel
def _march(parts: Array, chosen: Array, origin: Vector, view: Vector) -> tuple[float, Vector]:
    """The least distance to the body along the view from a point, and where that is."""
    t = 0.0
    least = _FAR
    where = 0.0
    for _ in range(60):
        distance = _body_distance(parts, chosen, along(origin, view, -t))[0]
        if distance < least:
            least = distance
            where = t
        if distance < _TOUCH or t > 2.0:
            break
        t += 0.8 * distance
    return least, along(origin, view, -where)


@kernel
def _unit(v: Vector) -> Vector:
    return scaled(v, 1.0 / (math.sqrt(dot(v, v)) + 1e-12))


@kernel
def _normal(parts: Array, chosen: Array, point: Vector) -> Vector:
    """Normal of the body: the slope of the distance, from the four corners of a small tetrahedron."""
    normal = 0.0, 0.0, 0.0
    for corner in range(4):
        e = (
            1.0 if corner in (0, 1) else -1.0,
            1.0 if corner in (0, 2) else -1.0,
            1.0 if corner in (0, 3) else -1.0,
        )
        normal = along(normal, e, _body_distance(parts, chosen, along(point, e, 0.001))[0])
    return _unit(normal)


@kernel
def _crease(x: float, y: float, z: float, seed: int, step: Vector) -> float:
    """Height of creased cloth one step from a point: noise in two sizes."""
    ex, ey, ez = step
    coarse = noise3(x + 0.1 * ex, y + 0.1 * ey, z + 0.1 * ez, seed)
    return coarse + 0.5 * noise3(2.1 * x + 0.21 * ex, 2.1 * y + 0.21 * ey, 2.1 * z + 0.21 * ez, seed + 1)


@kernel
def _creased(normal: Vector, point: Vector, folds: float, seed: int) -> Vector:
    """The normal on creased cloth: creases are long across the body and short along it."""
    x, y, z = 9.0 * point[0] + 3.0 * point[1], 17.0 * point[1] + 5.0 * point[0], 9.0 * point[2]
    base = _crease(x, y, z, seed, (0.0, 0.0, 0.0))
    gx = _crease(x, y, z, seed, (1.0, 0.0, 0.0)) - base
    gy = _crease(x, y, z, seed, (0.0, 1.0, 0.0)) - base
    gz = _crease(x, y, z, seed, (0.0, 0.0, 1.0)) - base
    return _unit(minus(normal, (4.0 * folds * gx, 7.0 * folds * gy, 4.0 * folds * gz)))


@kernel
def _lit_share(parts: Array, everything: Array, lamp: Vector, point: Vector, normal: Vector) -> float:
    """Share of the lamp's light that the body lets through to a point on it, with soft edges."""
    share = 1.0
    t = 0.02
    origin = along(point, normal, 0.012)
    for _ in range(14):
        d = _body_distance(parts, everything, along(origin, lamp, t))[0]
        share = min(share, clamp01(0.15 + 9.0 * d / t))
        t += max(0.015, min(0.12, d))
        if t > 0.7 or share < 0.02:
            break
    return share


@kernel
def _open_share(parts: Array, chosen: Array, point: Vector, normal: Vector) -> float:
    """Share of the light from everywhere that reaches a point: less in hollows."""
    closed = 0.0
    for tap in range(1, 4):
        away = 0.028 * tap
        d = _body_distance(parts, chosen, along(point, normal, away))[0]
        closed += max(0.0, away - d) * (12.0 / tap)
    return clamp01(1.0 - closed)


@kernel
def draw_figure(figure: Figure, frame: Array, lamp: Array, side: int, lit: bool, picture: Array) -> None:
    """Draw a figure without perspective, ``side`` x ``side`` rays a pixel, into ``picture``.

    ``frame`` holds the vectors to the right (0..2), up (3..5) and towards the viewer (6..8), the position of
    the picture's top left corner along right (9) and up (10), and metres a pixel (11). ``lamp`` holds the
    direction to the lamp (0..2), its colour (3..5) and the colour of the light from everywhere (6..8).
    ``picture`` float64 (h, w, 4) gets straight linear colour and coverage 0..1. A ray that misses by less
    than a pixel counts in part, with the colour of the nearest place on the body, so edges are soft and carry
    the body's own colour. With ``lit`` false only coverage is filled.
    """
    parts, materials = figure.parts, figure.materials
    everything = np.arange(parts.shape[0])
    near = np.empty(parts.shape[0], np.int64)
    flat = np.empty((parts.shape[0], 4))
    _projected(parts, frame, flat)
    pixel = frame[11]
    reach = 1.5 * pixel
    right, up = (frame[0], frame[1], frame[2]), (frame[3], frame[4], frame[5])
    view, towards = (frame[6], frame[7], frame[8]), (lamp[0], lamp[1], lamp[2])
    half = lamp[0] + view[0], lamp[1] + view[1], lamp[2] + view[2]
    half_scale = 1.0 / math.sqrt(dot(half, half))
    for row in range(picture.shape[0]):
        for column in range(picture.shape[1]):
            across = frame[9] + (column + 0.5) * pixel
            above = frame[10] - (row + 0.5) * pixel
            chosen = near[: _choose(parts, flat, across, above, near)]
            if chosen.size == 0:
                continue
            red, green, blue, cover = 0.0, 0.0, 0.0, 0.0
            shadow = -1.0
            unveiled = 0.0
            for sub in range(side * side):
                u = across + ((sub % side + 0.5) / side - 0.5) * pixel
                v = above + (0.5 - (sub // side + 0.5) / side) * pixel
                origin = along(along(scaled(right, u), up, v), view, 1.0)
                least, point = _march(parts, chosen, origin, view)
                share = clamp01(1.0 - (least - _TOUCH) / reach)
                if share <= 0.0:
                    continue
                cover += share
                if not lit:
                    continue
                i = _body_distance(parts, chosen, point)[1]
                normal = _normal(parts, chosen, point)
                m = int(parts[i, 12])
                if materials[m, 8] > 0.0:
                    normal = _creased(normal, point, materials[m, 8], int(materials[m, 10]))
                if shadow < 0.0:  # once a pixel: its rays lie close together
                    shadow = _lit_share(parts, everything, towards, point, normal)
                    unveiled = _open_share(parts, chosen, point, normal)
                around, length = _wrapped(parts, i, point)
                cr, cg, cb = cloth_colour(figure, m, point, around, length)
                # Skin and cloth let light creep a little way round.
                direct = max(0.0, (dot(normal, towards) + 0.15) / 1.15) * shadow
                sky = (0.62 + 0.38 * normal[1]) * unveiled
                rim = (1.0 - max(0.0, dot(normal, view))) ** 3 * 0.25 * unveiled
                spark = max(0.0, dot(normal, half) * half_scale)
                gloss = materials[m, 9] * (spark**24) * shadow
                red += share * (cr * (direct * lamp[3] + (sky + rim) * lamp[6]) + gloss * lamp[3])
                green += share * (cg * (direct * lamp[4] + (sky + rim) * lamp[7]) + gloss * lamp[4])
                blue += share * (cb * (direct * lamp[5] + (sky + rim) * lamp[8]) + gloss * lamp[5])
            picture[row, column, 3] = cover / (side * side)
            if lit and cover > 0.0:
                picture[row, column, 0] = red / cover
                picture[row, column, 1] = green / cover
                picture[row, column, 2] = blue / cover
