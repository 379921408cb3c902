"""Kernels for the solids of a room: where a ray meets them, and what their surface is like there.

Solids are convex, in rows of ``SOLID`` columns; a ray finds them through a bounding volume hierarchy in rows
of ``NODE`` columns, depth first. Units are metres, y is up.
"""

from __future__ import annotations

import math

from fgbgpack.jit import kernel
from fgbgpack.rendering.kernels.noise import noise
from fgbgpack.rendering.kernels.vectors import Array, Vector, along, dot, minus, turned, vector

# A solid's columns: shape, centre (1..3), half sizes (4..6), cosine and sine of its turn about the vertical
# (7, 8), material (9), class (10). A round solid has its bottom radius in 4, its top radius in 6.
SOLID = 11
BOX, ROUND, ELLIPSOID = 0, 1, 2
OPAQUE, GLASS, GLOWING, LEAVES = 0, 1, 2, 3

# A node's columns: lowest and highest corner (0..2, 3..5), the node to go on with when the ray misses (6),
# the solid in it or -1 (7).
NODE = 8

# What a ray sees: everything; all but glass; all but glass and lamps, the first solid found, nearest or not.
SEE_ALL, SEE_THROUGH_GLASS, SHADOW = 0, 1, 2


@kernel
def _nonzero(direction: Vector) -> Vector:
    """The direction with components that can be divided by."""
    x, y, z = direction
    return (
        x if abs(x) >= 1e-12 else 1e-12,
        y if abs(y) >= 1e-12 else 1e-12,
        z if abs(z) >= 1e-12 else 1e-12,
    )


@kernel
def _enter_box(p: Vector, direction: Vector, half: Vector, limit: float) -> float:
    dx, dy, dz = _nonzero(direction)
    ix, iy, iz = 1.0 / dx, 1.0 / dy, 1.0 / dz
    ex, ey, ez = half[0] * abs(ix), half[1] * abs(iy), half[2] * abs(iz)
    near = max(-p[0] * ix - ex, max(-p[1] * iy - ey, -p[2] * iz - ez))
    far = min(-p[0] * ix + ex, min(-p[1] * iy + ey, -p[2] * iz + ez))
    return near if near <= far and 1e-4 < near < limit else limit


@kernel
def _enter_cone(p: Vector, d: Vector, half: Vector, limit: float) -> float:
    best = limit
    bottom, hy, top = half
    slope = (top - bottom) / (2.0 * hy)
    middle = 0.5 * (bottom + top)
    r = middle + slope * p[1]
    a = d[0] * d[0] + d[2] * d[2] - slope * slope * d[1] * d[1]
    b = p[0] * d[0] + p[2] * d[2] - slope * d[1] * r
    q = p[0] * p[0] + p[2] * p[2] - r * r
    root = b * b - a * q
    if root > 0.0 and abs(a) > 1e-12:
        root = math.sqrt(root)
        for side in range(2):
            t = (-b - root) / a if side == 0 else (-b + root) / a
            if 1e-4 < t < best:
                x, y, z = along(p, d, t)
                r = middle + slope * y
                if abs(y) <= hy and r >= 0.0 and x * d[0] + z * d[2] - slope * r * d[1] < 0.0:
                    best = t
    if abs(d[1]) > 1e-12:
        t = (hy - p[1]) / d[1] if d[1] < 0.0 else (-hy - p[1]) / d[1]
        cap = top if d[1] < 0.0 else bottom
        if 1e-4 < t < best:
            x, y, z = along(p, d, t)
            if x * x + z * z <= cap * cap:
                best = t
    return best


@kernel
def _enter_ellipsoid(p: Vector, d: Vector, half: Vector, limit: float, leaves: int) -> float:
    """As ``enter``; ``leaves`` is the seed of the holes of a hollow one, -1 for a massive one."""
    p = p[0] / half[0], p[1] / half[1], p[2] / half[2]
    d = d[0] / half[0], d[1] / half[1], d[2] / half[2]
    a = dot(d, d)
    b = dot(p, d)
    root = b * b - a * (dot(p, p) - 1.0)
    if root <= 0.0:
        return limit
    root = math.sqrt(root)
    for side in range(1 if leaves < 0 else 2):
        t = (-b - root) / a if side == 0 else (-b + root) / a
        if 1e-4 < t < limit:
            if leaves < 0:
                return t
            # Long leaves that hang outwards: narrow around the axis, long up and down.
            x, y, z = along(p, d, t)
            if noise(math.atan2(z, x) * 5.0 + 2.0 * y, (y + 0.5 * x) * 4.0, leaves) > 0.4 + 0.2 * abs(y):
                return t
    return limit


@kernel
def enter(solids: Array, i: int, origin: Vector, direction: Vector, limit: float) -> float:
    """Where the ray ``origin + t direction`` enters solid ``i`` with 1e-4 < t < limit, else ``limit``.

    Only entries count: a ray that starts on or in a convex solid does not meet it again. Leaves are hollow
    and full of holes, so there the exit counts as well.
    """
    p = minus(origin, vector(solids, i, 1))
    if solids[i, 8] != 0.0:
        p = turned(p, solids[i, 7], solids[i, 8])
        direction = turned(direction, solids[i, 7], solids[i, 8])
    half = vector(solids, i, 4)
    shape = int(solids[i, 0])
    if shape == BOX:
        return float(_enter_box(p, direction, half, limit))
    if shape == ROUND:
        return float(_enter_cone(p, direction, half, limit))
    return float(_enter_ellipsoid(p, direction, half, limit, i if int(solids[i, 10]) == LEAVES else -1))


@kernel
def first_hit(
    solids: Array, nodes: Array, origin: Vector, direction: Vector, limit: float, mode: int
) -> tuple[float, int]:
    """First solid on a ray that ``mode`` sees: its t and row, or ``(limit, -1)``."""
    direction = _nonzero(direction)
    ox, oy, oz = origin
    ix, iy, iz = 1.0 / direction[0], 1.0 / direction[1], 1.0 / direction[2]
    best = limit
    found = -1
    node = 0
    while node < nodes.shape[0]:
        ax, bx = (nodes[node, 0] - ox) * ix, (nodes[node, 3] - ox) * ix
        ay, by = (nodes[node, 1] - oy) * iy, (nodes[node, 4] - oy) * iy
        az, bz = (nodes[node, 2] - oz) * iz, (nodes[node, 5] - oz) * iz
        near = max(min(ax, bx), max(min(ay, by), min(az, bz)))
        far = min(max(ax, bx), min(max(ay, by), max(az, bz)))
        if near > far or far < 0.0 or near > best:
            node = int(nodes[node, 6])
            continue
        i = int(nodes[node, 7])
        node += 1
        if i < 0:
            continue
        group = int(solids[i, 10])
        if (group == GLASS and mode != SEE_ALL) or (group == GLOWING and mode == SHADOW):
            continue
        t = enter(solids, i, origin, direction, best)
        if t < best:
            best = t
            found = i
            if mode == SHADOW:
                break
    return best, found


@kernel
def surface_at(solids: Array, i: int, point: Vector) -> tuple[Vector, tuple[float, float, float, float]]:
    """Outward normal of solid ``i`` at a point of its surface, and where on the face that is.

    The place is u, v in metres, which textures follow, then s, t in 0..1 across the face.
    """
    c, s = solids[i, 7], solids[i, 8]
    cx, cy, cz = vector(solids, i, 1)
    px, py, pz = minus(point, (cx, cy, cz))
    if s != 0.0:
        px, py, pz = turned((px, py, pz), c, s)
    hx, hy, hz = vector(solids, i, 4)
    shape = int(solids[i, 0])
    nx, ny, nz = 0.0, 0.0, 0.0
    if shape == BOX:
        gx, gy, gz = abs(px) - hx, abs(py) - hy, abs(pz) - hz
        if gx > gy and gx > gz:
            nx = 1.0 if px > 0.0 else -1.0
            place = pz + cz, py + cy, 0.5 + 0.5 * nx * pz / hz, 0.5 + 0.5 * py / hy
        elif gy > gz:
            ny = 1.0 if py > 0.0 else -1.0
            place = px + cx, pz + cz, 0.5 + 0.5 * px / hx, 0.5 + 0.5 * pz / hz
        else:
            nz = 1.0 if pz > 0.0 else -1.0
            place = px + cx, py + cy, 0.5 - 0.5 * nz * px / hx, 0.5 + 0.5 * py / hy
        return turned((nx, ny, nz), c, -s), place
    wide = max(hx, hz)
    if shape == ROUND:
        slope = (hz - hx) / (2.0 * hy)
        out = math.sqrt(px * px + pz * pz)
        if hy - abs(py) < 1e-6 and out < 0.5 * (hx + hz) + slope * py - 1e-6:  # a cap
            place = px + cx, pz + cz, 0.5 + 0.5 * px / wide, 0.5 + 0.5 * pz / wide
            return (0.0, 1.0 if py > 0.0 else -1.0, 0.0), place
        scale = 1.0 / (max(out, 1e-9) * math.sqrt(1.0 + slope * slope))
        nx, ny, nz = px * scale, -slope * out * scale, pz * scale
    else:
        nx, ny, nz = px / (hx * hx), py / (hy * hy), pz / (hz * hz)
        scale = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz)
        nx, ny, nz = nx * scale, ny * scale, nz * scale
    angle = math.atan2(pz, px)
    place = angle * wide, py + cy, angle * 0.15915494 + 0.5, 0.5 + 0.5 * py / hy
    return turned((nx, ny, nz), c, -s), place
