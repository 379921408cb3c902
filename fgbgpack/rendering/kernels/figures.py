"""Kernels that draw figures by marching rays.

A figure is one signed distance field of parts: tapered capsules in rows of ``PART`` columns (see below).
Parts of one material melt into each other.

Units are metres, y is up, colours are linear light. Everything is float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fgbgpack.jit import kernel
from fgbgpack.rendering.kernels.noise import clamp01, noise, noise3

Array = npt.NDArray[Any]

# A part's columns: ends (0..2, 3..5), radii (6, 7), direction in which it is flattened (8..10) and how much
# (11), material (12), blending radius (13), how many ends are cut flat: none, the second, both (14).
PART = 15

# A material's columns: pattern, first and second colour (1..3, 4..6), cells a metre (7), folds (8), gloss
# (9), seed (10).
CLOTH = 11
PLAIN, HOOPS, PINSTRIPES, CHECK, DOTS, DENIM = 0, 1, 2, 3, 4, 5
HAIR, SKIN, FACE, KNIT, SHIRT_FRONT = 6, 7, 8, 9, 10

# A head is the frame from chin to crown: the chin (0..2), the height (3), vectors to the right, up and to the
# front (4..12), then lips (13), beard (14) and glasses (15).

_FAR = 1e9
# A ray this close to the body, in metres, has met it.
_TOUCH = 0.0006


@kernel
def _part_distance(parts: Array, i: int, x: float, y: float, z: float) -> float:
    """Signed distance to part ``i``: two balls and the cone that touches both, flattened along one direction.

    Flattening stretches space, so the result is divided by the stretch's root: near enough for marching in
    steps of 0.8.
    """
    px, py, pz = x - parts[i, 0], y - parts[i, 1], z - parts[i, 2]
    flat = parts[i, 11]
    stretch = 1.0
    if flat != 1.0:
        along = (flat - 1.0) * (px * parts[i, 8] + py * parts[i, 9] + pz * parts[i, 10])
        px, py, pz = px + along * parts[i, 8], py + along * parts[i, 9], pz + along * parts[i, 10]
        stretch = 1.0 / math.sqrt(flat)
    ax, ay, az = parts[i, 3] - parts[i, 0], parts[i, 4] - parts[i, 1], parts[i, 5] - parts[i, 2]
    length = math.sqrt(ax * ax + ay * ay + az * az) + 1e-9
    up = (px * ax + py * ay + pz * az) / length
    out = math.sqrt(max(0.0, px * px + py * py + pz * pz - up * up))
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
def _body_distance(
    parts: Array, chosen: Array, count: int, x: float, y: float, z: float
) -> tuple[float, int]:
    """Signed distance to the chosen parts, and the part that is nearest.

    Parts of one material, which follow one another, melt into each other within their blending radius.
    """
    best = _FAR
    nearest_part = -1
    melted = _FAR
    melted_part = -1
    closest = _FAR
    material = -1.0
    for k in range(count):
        i = chosen[k]
        distance = _part_distance(parts, i, x, y, z)
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
def _wrapped(parts: Array, i: int, x: float, y: float, z: float) -> tuple[float, float]:
    """Where a point of part ``i`` lies on cloth wrapped round it: metres round its axis and along it."""
    ax, ay, az = parts[i, 3] - parts[i, 0], parts[i, 4] - parts[i, 1], parts[i, 5] - parts[i, 2]
    length = math.sqrt(ax * ax + ay * ay + az * az) + 1e-9
    ax, ay, az = ax / length, ay / length, az / length
    # Round the axis, angles count from the side of the body, or from its front for an axis that points aside.
    ux, uy, uz = ay, -ax, 0.0
    if abs(az) > 0.8:
        ux, uy, uz = 0.0, az, -ay
    length = math.sqrt(ux * ux + uy * uy + uz * uz)
    ux, uy, uz = ux / length, uy / length, uz / length
    wx, wy, wz = ay * uz - az * uy, az * ux - ax * uz, ax * uy - ay * ux
    px, py, pz = x - parts[i, 0], y - parts[i, 1], z - parts[i, 2]
    angle = math.atan2(px * ux + py * uy + pz * uz, px * wx + py * wy + pz * wz)
    return angle * max(0.06, parts[i, 6]), x * ax + y * ay + z * az


@kernel
def _face_colour(
    cloths: Array, m: int, head: Array, x: float, y: float, z: float, r: float, g: float, b: float
) -> tuple[float, float, float]:
    """Skin of colour ``r``, ``g``, ``b`` with eyes, brows, lips, beard and glasses drawn on it."""
    seed = int(cloths[m, 10])
    # In units of the head's height: a to the right, c up from the chin, f to the front.
    qx, qy, qz = (x - head[0]) / head[3], (y - head[1]) / head[3], (z - head[2]) / head[3]
    a = qx * head[4] + qy * head[5] + qz * head[6]
    c = qx * head[7] + qy * head[8] + qz * head[9]
    f = qx * head[10] + qy * head[11] + qz * head[12]
    brow_r, brow_g, brow_b = cloths[m, 4], cloths[m, 5], cloths[m, 6]
    if head[14] > 0.0:
        edge = c + 0.1 * noise(a * 30.0, c * 30.0, seed)
        chin = clamp01((0.37 - edge + 0.45 * max(0.0, abs(a) - 0.12)) * 9.0) * clamp01((f + 0.05) * 8.0)
        grow = head[14] * chin * (0.7 + 0.5 * noise(a * 90.0, c * 60.0, seed + 3))
        grow = clamp01(grow)
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
def _cloth_colour(
    cloths: Array, m: int, head: Array, x: float, y: float, z: float, around: float, along: float
) -> tuple[float, float, float]:
    """Colour of a figure's material at a point of the body, before light.

    ``around`` and ``along`` are metres of cloth round the part and along it.
    """
    kind = int(cloths[m, 0])
    cells = cloths[m, 7]
    seed = int(cloths[m, 10])
    mix = 0.0
    shade = 0.94 + 0.12 * noise3(x * 70.0, y * 70.0, z * 70.0, seed)
    if kind == HOOPS:
        band = along * cells - math.floor(along * cells)
        mix = 1.0 if band < 0.45 else 0.0
    elif kind == PINSTRIPES:
        place = around * cells
        mix = 0.75 if place - math.floor(place) < 0.16 else 0.0
    elif kind == CHECK:
        a = around * cells
        b = along * cells
        mix = 0.45 * (1.0 if a - math.floor(a) < 0.4 else 0.0) + 0.45 * (
            1.0 if b - math.floor(b) < 0.4 else 0.0
        )
    elif kind == DOTS:
        a = around * cells
        b = along * cells + 0.5 * (math.floor(a) & 1)
        a = a - math.floor(a) - 0.5
        b = b - math.floor(b) - 0.5
        mix = 1.0 if a * a + b * b < 0.06 else 0.0
    elif kind == DENIM:
        mix = clamp01(1.6 * noise3(x * 9.0, y * 4.0, z * 9.0, seed) - 0.5)
        shade *= 0.9 + 0.2 * noise3(x * 240.0, y * 120.0, z * 240.0, seed + 1)
    elif kind == KNIT:
        place = along * 110.0
        shade *= 0.88 + 0.18 * abs(2.0 * (place - math.floor(place)) - 1.0)
    elif kind == SHIRT_FRONT:
        # An open jacket: a wedge of what is worn below, between dark edges, and a tie in the middle.
        if z > 0.0:
            reach = cloths[m, 7] * clamp01((y - 0.98) / 0.42)
            if abs(x) < reach:
                mix = 1.0
                if seed & 1 and abs(x) < 0.016 + 0.01 * clamp01((1.45 - y) * 3.0):
                    return 0.35, 0.03, 0.05
            elif abs(x) < reach + 0.01:
                shade *= 0.55
            elif reach == 0.0 and abs(x) < 0.004:
                shade *= 0.6
    elif kind == HAIR:
        strands = noise3(x * 160.0, y * 22.0, z * 160.0, seed)
        shade = 0.6 + 0.75 * strands
        mix = clamp01(1.5 * noise3(x * 30.0, y * 8.0, z * 30.0, seed + 2) - 0.5)
    elif kind in (FACE, SKIN):
        shade = 0.97 + 0.06 * noise3(x * 90.0, y * 90.0, z * 90.0, seed)
    r = shade * (cloths[m, 1] + (cloths[m, 4] - cloths[m, 1]) * mix)
    g = shade * (cloths[m, 2] + (cloths[m, 5] - cloths[m, 2]) * mix)
    b = shade * (cloths[m, 3] + (cloths[m, 6] - cloths[m, 3]) * mix)
    if kind == FACE:
        return _face_colour(cloths, m, head, x, y, z, r, g, b)
    return r, g, b


@kernel
def _flattened(parts: Array, frame: Array, flat: Array) -> None:
    """Fill ``flat`` (parts, 4) with the places of each part's ends in the picture: right, up, right, up."""
    for i in range(parts.shape[0]):
        for end in range(2):
            for axis in range(2):
                flat[i, 2 * end + axis] = (
                    parts[i, 3 * end] * frame[3 * axis]
                    + parts[i, 3 * end + 1] * frame[3 * axis + 1]
                    + parts[i, 3 * end + 2] * frame[3 * axis + 2]
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
def _march(
    parts: Array, chosen: Array, count: int, frame: Array, ox: float, oy: float, oz: float
) -> tuple[float, float]:
    """The least distance to the body along the view from a point, and how far along it that is."""
    t = 0.0
    least = _FAR
    where = 0.0
    for _ in range(60):
        distance, _part = _body_distance(
            parts, chosen, count, ox - t * frame[6], oy - t * frame[7], oz - t * frame[8]
        )
        if distance < least:
            least = distance
            where = t
        if distance < _TOUCH or t > 2.0:
            break
        t += 0.8 * distance
    return least, where


@kernel
def _outward(
    parts: Array, chosen: Array, count: int, x: float, y: float, z: float
) -> tuple[float, float, float]:
    """Normal of the body: the slope of the distance, from the four corners of a small tetrahedron."""
    nx, ny, nz = 0.0, 0.0, 0.0
    for corner in range(4):
        ex = 1.0 if corner in (0, 1) else -1.0
        ey = 1.0 if corner in (0, 2) else -1.0
        ez = 1.0 if corner in (0, 3) else -1.0
        d = _body_distance(parts, chosen, count, x + 0.001 * ex, y + 0.001 * ey, z + 0.001 * ez)[0]
        nx, ny, nz = nx + ex * d, ny + ey * d, nz + ez * d
    scale = 1.0 / (math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12)
    return nx * scale, ny * scale, nz * scale


@kernel
def _crease(x: float, y: float, z: float, ex: float, ey: float, ez: float, seed: int) -> float:
    """Height of creased cloth one step along ``e`` from a point: noise in two sizes."""
    coarse = noise3(x + 0.1 * ex, y + 0.1 * ey, z + 0.1 * ez, seed)
    return coarse + 0.5 * noise3(2.1 * x + 0.21 * ex, 2.1 * y + 0.21 * ey, 2.1 * z + 0.21 * ez, seed + 1)


@kernel
def _creased(
    nx: float, ny: float, nz: float, x: float, y: float, z: float, folds: float, seed: int
) -> tuple[float, float, float]:
    """The normal on creased cloth: creases are long across the body and short along it."""
    fx, fy, fz = 9.0 * x + 3.0 * y, 17.0 * y + 5.0 * x, 9.0 * z
    base = _crease(fx, fy, fz, 0.0, 0.0, 0.0, seed)
    gx = _crease(fx, fy, fz, 1.0, 0.0, 0.0, seed) - base
    gy = _crease(fx, fy, fz, 0.0, 1.0, 0.0, seed) - base
    gz = _crease(fx, fy, fz, 0.0, 0.0, 1.0, seed) - base
    nx, ny, nz = nx - 4.0 * folds * gx, ny - 7.0 * folds * gy, nz - 4.0 * folds * gz
    scale = 1.0 / (math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12)
    return nx * scale, ny * scale, nz * scale


@kernel
def _lit_share(
    parts: Array,
    everything: Array,
    lamp: Array,
    x: float,
    y: float,
    z: float,
    nx: float,
    ny: float,
    nz: float,
) -> float:
    """Share of the lamp's light that the body lets through to a point on it, with soft edges."""
    share = 1.0
    t = 0.02
    for _ in range(14):
        d = _body_distance(
            parts,
            everything,
            parts.shape[0],
            x + 0.012 * nx + t * lamp[0],
            y + 0.012 * ny + t * lamp[1],
            z + 0.012 * nz + t * lamp[2],
        )[0]
        share = min(share, clamp01(0.15 + 9.0 * d / t))
        t += max(0.015, min(0.12, d))
        if t > 0.7 or share < 0.02:
            break
    return share


@kernel
def _open_share(
    parts: Array, chosen: Array, count: int, x: float, y: float, z: float, nx: float, ny: float, nz: float
) -> float:
    """Share of the light from everywhere that reaches a point: less in hollows."""
    closed = 0.0
    for tap in range(1, 4):
        away = 0.028 * tap
        d = _body_distance(parts, chosen, count, x + away * nx, y + away * ny, z + away * nz)[0]
        closed += max(0.0, away - d) * (12.0 / tap)
    return clamp01(1.0 - closed)


@kernel
def draw_figure(
    parts: Array, cloths: Array, head: Array, frame: Array, lamp: Array, side: int, lit: bool, picture: Array
) -> None:
    """Draw a figure without perspective, ``side`` x ``side`` rays a pixel, into ``picture``.

    ``frame`` holds the vectors to the right (0..2), up (3..5) and towards the viewer (6..8), the position of
    the picture's top left corner along right (9) and up (10), and metres a pixel (11). ``lamp`` holds the
    direction to the lamp (0..2), its colour (3..5) and the colour of the light from everywhere (6..8).
    ``picture`` float64 (h, w, 4) gets straight linear colour and coverage 0..1. A ray that misses by less
    than a pixel counts in part, with the colour of the nearest place on the body, so edges are soft and carry
    the body's own colour. With ``lit`` false only coverage is filled.
    """
    height, width = picture.shape[:2]
    everything = np.arange(parts.shape[0])
    chosen = np.empty(parts.shape[0], np.int64)
    flat = np.empty((parts.shape[0], 4))
    _flattened(parts, frame, flat)
    pixel = frame[11]
    reach = 1.5 * pixel
    vx, vy, vz = frame[6], frame[7], frame[8]
    for row in range(height):
        for column in range(width):
            across = frame[9] + (column + 0.5) * pixel
            above = frame[10] - (row + 0.5) * pixel
            count = _choose(parts, flat, across, above, chosen)
            if count == 0:
                continue
            red, green, blue, cover = 0.0, 0.0, 0.0, 0.0
            shadow = -1.0
            unveiled = 0.0
            for sub in range(side * side):
                u = across + ((sub % side + 0.5) / side - 0.5) * pixel
                v = above + (0.5 - (sub // side + 0.5) / side) * pixel
                ox = u * frame[0] + v * frame[3] + vx
                oy = u * frame[1] + v * frame[4] + vy
                oz = u * frame[2] + v * frame[5] + vz
                least, where = _march(parts, chosen, count, frame, ox, oy, oz)
                share = clamp01(1.0 - (least - _TOUCH) / reach)
                if share <= 0.0:
                    continue
                cover += share
                if not lit:
                    continue
                x, y, z = ox - where * vx, oy - where * vy, oz - where * vz
                i = _body_distance(parts, chosen, count, x, y, z)[1]
                nx, ny, nz = _outward(parts, chosen, count, x, y, z)
                m = int(parts[i, 12])
                if cloths[m, 8] > 0.0:
                    nx, ny, nz = _creased(nx, ny, nz, x, y, z, cloths[m, 8], int(cloths[m, 10]))
                if shadow < 0.0:  # once a pixel: its rays lie close together
                    shadow = _lit_share(parts, everything, lamp, x, y, z, nx, ny, nz)
                    unveiled = _open_share(parts, chosen, count, x, y, z, nx, ny, nz)
                around, along = _wrapped(parts, i, x, y, z)
                cr, cg, cb = _cloth_colour(cloths, m, head, x, y, z, around, along)
                facing = nx * lamp[0] + ny * lamp[1] + nz * lamp[2]
                # Skin and cloth let light creep a little way round.
                direct = max(0.0, (facing + 0.15) / 1.15) * shadow
                sky = (0.62 + 0.38 * ny) * unveiled
                rim = (1.0 - max(0.0, nx * vx + ny * vy + nz * vz)) ** 3 * 0.25 * unveiled
                hx, hy, hz = lamp[0] + vx, lamp[1] + vy, lamp[2] + vz
                scale = 1.0 / math.sqrt(hx * hx + hy * hy + hz * hz)
                spark = max(0.0, (nx * hx + ny * hy + nz * hz) * scale)
                gloss = cloths[m, 9] * (spark**24) * shadow
                red += share * (cr * (direct * lamp[3] + (sky + rim) * lamp[6]) + gloss * lamp[3])
                green += share * (cg * (direct * lamp[4] + (sky + rim) * lamp[7]) + gloss * lamp[4])
                blue += share * (cb * (direct * lamp[5] + (sky + rim) * lamp[8]) + gloss * lamp[5])
            picture[row, column, 3] = cover / (side * side)
            if lit and cover > 0.0:
                picture[row, column, 0] = red / cover
                picture[row, column, 1] = green / cover
                picture[row, column, 2] = blue / cover
