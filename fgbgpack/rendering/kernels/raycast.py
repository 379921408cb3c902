"""Kernels that draw rooms by casting rays.

Rooms are lists of convex solids in rows of ``SOLID`` columns (see below), found through a tree of bounding
boxes in depth-first order. They are drawn in three passes: ``light_rooms`` finds what each pixel's centre
sees and gathers noisy light there, ``smooth_light`` averages that light over pixels of one surface,
``paint_rooms`` draws the textures, several rays a pixel, under the smooth light.

Units are metres, y is up, colours are linear light. Everything is float64 but the filled buffers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fgbgpack.jit import kernel
from fgbgpack.rendering.kernels.noise import noise
from fgbgpack.rendering.kernels.textures import texture

Array = npt.NDArray[Any]

# A solid's columns: shape, centre (1..3), half sizes (4..6), cosine and sine of its turn about the vertical
# (7, 8), material (9), class (10). A round solid has its bottom radius in 4, its top radius in 6.
SOLID = 11
BOX, ROUND, ELLIPSOID = 0, 1, 2
OPAQUE, GLASS, GLOWING, LEAVES = 0, 1, 2, 3

# A light's columns: position (0..2), half extent in x and z (3, 4), power (5..7), 1 if it shines downwards
# only (8), reach in metres (9).
LIGHT = 10

# A node's columns: lowest and highest corner (0..2, 3..5), the node to go on with when the ray misses (6),
# the solid in it or -1 (7).
NODE = 8


@kernel
def meets(
    solids: Array, i: int, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float, limit: float
) -> float:
    """Where the ray ``o + t d`` enters solid ``i`` with 1e-4 < t < limit, else ``limit``.

    Only entries count: a ray that starts on or in a convex solid does not meet it again. Leaves are
    hollow and full of holes, so there the way out counts as well.
    """
    c, s = solids[i, 7], solids[i, 8]
    px, py, pz = ox - solids[i, 1], oy - solids[i, 2], oz - solids[i, 3]
    if s != 0.0:
        px, pz = c * px + s * pz, c * pz - s * px
        dx, dz = c * dx + s * dz, c * dz - s * dx
    hx, hy, hz = solids[i, 4], solids[i, 5], solids[i, 6]
    shape = int(solids[i, 0])
    if shape == BOX:
        if abs(dx) < 1e-12:
            dx = 1e-12
        if abs(dy) < 1e-12:
            dy = 1e-12
        if abs(dz) < 1e-12:
            dz = 1e-12
        ix, iy, iz = 1.0 / dx, 1.0 / dy, 1.0 / dz
        ex, ey, ez = hx * abs(ix), hy * abs(iy), hz * abs(iz)
        near = max(-px * ix - ex, max(-py * iy - ey, -pz * iz - ez))
        far = min(-px * ix + ex, min(-py * iy + ey, -pz * iz + ez))
        if near <= far and 1e-4 < near < limit:
            return float(near)
        return limit
    if shape == ROUND:
        best = limit
        slope = (hz - hx) / (2.0 * hy)
        middle = 0.5 * (hx + hz)
        r = middle + slope * py
        a = dx * dx + dz * dz - slope * slope * dy * dy
        b = px * dx + pz * dz - slope * dy * r
        q = px * px + pz * pz - r * r
        root = b * b - a * q
        if root > 0.0 and abs(a) > 1e-12:
            root = math.sqrt(root)
            for side in range(2):
                t = (-b - root) / a if side == 0 else (-b + root) / a
                if 1e-4 < t < best:
                    y = py + t * dy
                    if abs(y) <= hy and middle + slope * y >= 0.0:
                        x, z = px + t * dx, pz + t * dz
                        if x * dx + z * dz - slope * (middle + slope * y) * dy < 0.0:
                            best = t
        if abs(dy) > 1e-12:
            t = (hy - py) / dy if dy < 0.0 else (-hy - py) / dy
            cap = hz if dy < 0.0 else hx
            if 1e-4 < t < best:
                x, z = px + t * dx, pz + t * dz
                if x * x + z * z <= cap * cap:
                    best = t
        return best
    px, py, pz = px / hx, py / hy, pz / hz
    ux, uy, uz = dx / hx, dy / hy, dz / hz
    a = ux * ux + uy * uy + uz * uz
    b = px * ux + py * uy + pz * uz
    q = px * px + py * py + pz * pz - 1.0
    root = b * b - a * q
    if root <= 0.0:
        return limit
    root = math.sqrt(root)
    if int(solids[i, 10]) != LEAVES:
        t = (-b - root) / a
        return t if 1e-4 < t < limit else limit
    for side in range(2):
        t = (-b - root) / a if side == 0 else (-b + root) / a
        if 1e-4 < t < limit:
            x, y, z = px + t * ux, py + t * uy, pz + t * uz
            # Long leaves that hang outwards: narrow around the axis, long up and down.
            gap = noise(math.atan2(z, x) * 5.0 + 2.0 * y, (y + 0.5 * x) * 4.0, i)
            if gap > 0.4 + 0.2 * abs(y):
                return float(t)
    return limit


@kernel
def nearest(
    solids: Array,
    nodes: Array,
    ox: float,
    oy: float,
    oz: float,
    dx: float,
    dy: float,
    dz: float,
    limit: float,
    mode: int,
) -> tuple[float, int]:
    """First solid on a ray: its t and row, or ``(limit, -1)``.

    Mode 0 sees everything, mode 1 looks through glass, mode 2 looks through glass and lamps and stops at the
    first solid that it finds, nearest or not (shadows).
    """
    if abs(dx) < 1e-12:
        dx = 1e-12
    if abs(dy) < 1e-12:
        dy = 1e-12
    if abs(dz) < 1e-12:
        dz = 1e-12
    ix, iy, iz = 1.0 / dx, 1.0 / dy, 1.0 / dz
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
        if (group == GLASS and mode > 0) or (group == GLOWING and mode == 2):
            continue
        t = meets(solids, i, ox, oy, oz, dx, dy, dz, best)
        if t < best:
            best = t
            found = i
            if mode == 2:
                return best, found
    return best, found


@kernel
def surface(
    solids: Array, i: int, x: float, y: float, z: float
) -> tuple[float, float, float, float, float, float, float]:
    """Outward normal, texture position (metres), position across the face (0..1) of a point on ``i``."""
    c, s = solids[i, 7], solids[i, 8]
    cx, cy, cz = solids[i, 1], solids[i, 2], solids[i, 3]
    px, py, pz = x - cx, y - cy, z - cz
    if s != 0.0:
        px, pz = c * px + s * pz, c * pz - s * px
    hx, hy, hz = solids[i, 4], solids[i, 5], solids[i, 6]
    shape = int(solids[i, 0])
    nx, ny, nz = 0.0, 0.0, 0.0
    if shape == BOX:
        gx, gy, gz = abs(px) - hx, abs(py) - hy, abs(pz) - hz
        if gx > gy and gx > gz:
            nx = 1.0 if px > 0.0 else -1.0
            u, v, p, q = pz + cz, py + cy, 0.5 + 0.5 * nx * pz / hz, 0.5 + 0.5 * py / hy
        elif gy > gz:
            ny = 1.0 if py > 0.0 else -1.0
            u, v, p, q = px + cx, pz + cz, 0.5 + 0.5 * px / hx, 0.5 + 0.5 * pz / hz
        else:
            nz = 1.0 if pz > 0.0 else -1.0
            u, v, p, q = px + cx, py + cy, 0.5 - 0.5 * nz * px / hx, 0.5 + 0.5 * py / hy
    elif shape == ROUND:
        slope = (hz - hx) / (2.0 * hy)
        r = 0.5 * (hx + hz) + slope * py
        out = math.sqrt(px * px + pz * pz)
        if hy - abs(py) < 1e-6 and out < r - 1e-6:
            ny = 1.0 if py > 0.0 else -1.0
            u, v, p, q = px + cx, pz + cz, 0.5 + 0.5 * px / max(hx, hz), 0.5 + 0.5 * pz / max(hx, hz)
        else:
            scale = 1.0 / (max(out, 1e-9) * math.sqrt(1.0 + slope * slope))
            nx, ny, nz = px * scale, -slope * out * scale, pz * scale
            angle = math.atan2(pz, px)
            u, v, p, q = angle * max(hx, hz), py + cy, angle * 0.15915494 + 0.5, 0.5 + 0.5 * py / hy
    else:
        nx, ny, nz = px / (hx * hx), py / (hy * hy), pz / (hz * hz)
        scale = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz)
        nx, ny, nz = nx * scale, ny * scale, nz * scale
        angle = math.atan2(pz, px)
        u, v, p, q = angle * max(hx, hz), py + cy, angle * 0.15915494 + 0.5, 0.5 + 0.5 * py / hy
    if s != 0.0:
        nx, nz = c * nx - s * nz, c * nz + s * nx
    return nx, ny, nz, u, v, p, q


@kernel
def arrives(
    lights: Array, k: int, lx: float, lz: float, x: float, y: float, z: float, nx: float, ny: float, nz: float
) -> float:
    """Share of light ``k``'s power that reaches a point when nothing stands between.

    Inverse square of the distance (softened near the lamp), cosine at the surface, cosine at a lamp that
    shines downwards, faded to nothing at the lamp's reach.
    """
    tx, ty, tz = lx - x, lights[k, 1] - y, lz - z
    square = tx * tx + ty * ty + tz * tz
    reach = lights[k, 9] * lights[k, 9]
    if square >= reach:
        return 0.0
    distance = math.sqrt(square) + 1e-6
    facing = (tx * nx + ty * ny + tz * nz) / distance
    if facing <= 0.0:
        return 0.0
    if lights[k, 8] > 0.5:
        facing *= max(ty, 0.0) / distance
    window = 1.0 - square / reach
    return float(facing * window * window / (square + 0.15))


@kernel
def unshadowed(
    lights: Array, x: float, y: float, z: float, nx: float, ny: float, nz: float
) -> tuple[float, float, float]:
    """Light of all lamps at a point, shadows left out."""
    r, g, b = 0.0, 0.0, 0.0
    for k in range(lights.shape[0]):
        part = arrives(lights, k, lights[k, 0], lights[k, 2], x, y, z, nx, ny, nz)
        r += part * lights[k, 5]
        g += part * lights[k, 6]
        b += part * lights[k, 7]
    return r, g, b


@kernel
def incoming(
    solids: Array,
    materials: Array,
    lights: Array,
    nodes: Array,
    ambient: Array,
    shares: Array,
    x: float,
    y: float,
    z: float,
    nx: float,
    ny: float,
    nz: float,
    turn: int,
) -> tuple[float, float, float]:
    """Light that falls on a point: four shadow rays to lamps drawn by what they give, two rays for the rest.

    ``turn`` (0..24) chooses the sample: 25 different ones, as a block of 5x5 pixels has, cover the lamps and
    the half sphere evenly. ``shares`` is scratch space, one number a lamp.
    """
    r, g, b = 0.0, 0.0, 0.0
    x, y, z = x + 1e-4 * nx, y + 1e-4 * ny, z + 1e-4 * nz
    total = 0.0
    for k in range(lights.shape[0]):
        part = arrives(lights, k, lights[k, 0], lights[k, 2], x, y, z, nx, ny, nz)
        total += part * (lights[k, 5] + lights[k, 6] + lights[k, 7])
        shares[k] = total
    if total > 0.0:
        k = 0
        for ray in range(4):
            goal = total * (ray + (turn + 0.5) / 25.0) / 4.0
            while k < lights.shape[0] - 1 and shares[k] < goal:
                k += 1
            chance = (shares[k] - (shares[k - 1] if k > 0 else 0.0)) / total
            ju = turn * 0.7548776662 + ray * 0.39
            jv = turn * 0.5698402910 + ray * 0.61
            lx = lights[k, 0] + lights[k, 3] * (2.0 * (ju - math.floor(ju)) - 1.0)
            lz = lights[k, 2] + lights[k, 4] * (2.0 * (jv - math.floor(jv)) - 1.0)
            part = arrives(lights, k, lx, lz, x, y, z, nx, ny, nz) / (4.0 * chance)
            if part > 0.0:
                hit = nearest(solids, nodes, x, y, z, lx - x, lights[k, 1] - y, lz - z, 0.999, 2)[1]
                if hit < 0:
                    r += part * lights[k, 5]
                    g += part * lights[k, 6]
                    b += part * lights[k, 7]
    # Two directions of the half sphere by its cosine, in the frame of the normal.
    if abs(ny) < 0.9:
        scale = 1.0 / math.sqrt(nx * nx + nz * nz)
        tx, ty, tz = nz * scale, 0.0, -nx * scale
    else:
        scale = 1.0 / math.sqrt(ny * ny + nz * nz)
        tx, ty, tz = 0.0, -nz * scale, ny * scale
    wx, wy, wz = ny * tz - nz * ty, nz * tx - nx * tz, nx * ty - ny * tx
    for ray in range(2):
        height = (turn + 0.25 + 0.5 * ray) / 25.0
        out = math.sqrt(height)
        up = math.sqrt(1.0 - height)
        angle = 2.399963 * turn + math.pi * ray
        ca, sa = out * math.cos(angle), out * math.sin(angle)
        dx, dy, dz = tx * ca + wx * sa + nx * up, ty * ca + wy * sa + ny * up, tz * ca + wz * sa + nz * up
        t, i = nearest(solids, nodes, x, y, z, dx, dy, dz, 60.0, 1)
        if i < 0:
            r, g, b = r + 0.5 * ambient[0], g + 0.5 * ambient[1], b + 0.5 * ambient[2]
            continue
        m = int(solids[i, 9])
        hx, hy, hz = x + t * dx, y + t * dy, z + t * dz
        gx, gy, gz, _, _, _, _ = surface(solids, i, hx, hy, hz)
        er, eg, eb = unshadowed(lights, hx, hy, hz, gx, gy, gz)
        # One bright spot close to a lamp must not outshine the other samples: that would show as squares.
        er, eg, eb = min(er, 2.0), min(eg, 2.0), min(eb, 2.0)
        # What is near shuts the ambient light out; that darkens corners and the ground under things.
        veil = t / (t + 1.0)
        glow = min(materials[m, 12], 0.3)  # lamps light things as lights already
        r += (
            0.25 * (materials[m, 1] + materials[m, 4]) * (0.8 * er + glow + 1.6 * ambient[0]) * veil
            + 0.16 * ambient[0] * veil
        )
        g += (
            0.25 * (materials[m, 2] + materials[m, 5]) * (0.8 * eg + glow + 1.6 * ambient[1]) * veil
            + 0.16 * ambient[1] * veil
        )
        b += (
            0.25 * (materials[m, 3] + materials[m, 6]) * (0.8 * eb + glow + 1.6 * ambient[2]) * veil
            + 0.16 * ambient[2] * veil
        )
    return r, g, b


@kernel
def mirrored(
    solids: Array,
    materials: Array,
    lights: Array,
    nodes: Array,
    ambient: Array,
    x: float,
    y: float,
    z: float,
    dx: float,
    dy: float,
    dz: float,
    nx: float,
    ny: float,
    nz: float,
    blur: float,
    turn: int,
    pixel: float,
) -> tuple[float, float, float]:
    """What a glossy surface shows of the room when seen along ``d``, shadows left out."""
    twice = 2.0 * (dx * nx + dy * ny + dz * nz)
    length = math.sqrt(dx * dx + dy * dy + dz * dz)
    wob = turn * 0.7548776662
    wib = turn * 0.5698402910
    blur *= length
    rx = dx - twice * nx + blur * (wob - math.floor(wob) - 0.5) * (1.0 - abs(nx))
    ry = dy - twice * ny + blur * (wib - math.floor(wib) - 0.5) * (1.0 - abs(ny))
    rz = dz - twice * nz + blur * (wob - wib - math.floor(wob - wib) - 0.5) * (1.0 - abs(nz))
    t, i = nearest(solids, nodes, x + 1e-4 * nx, y + 1e-4 * ny, z + 1e-4 * nz, rx, ry, rz, 60.0, 1)
    if i < 0:
        return ambient[0], ambient[1], ambient[2]
    hx, hy, hz = x + t * rx, y + t * ry, z + t * rz
    gx, gy, gz, u, v, p, q = surface(solids, i, hx, hy, hz)
    m = int(solids[i, 9])
    er, eg, eb = unshadowed(lights, hx, hy, hz, gx, gy, gz)
    cr, cg, cb = texture(materials, m, u, v, p, q, (t + 2.0) * pixel * 3.0)
    glow = materials[m, 12]
    return (
        cr * (0.7 * er + ambient[0] + glow),
        cg * (0.7 * eg + ambient[1] + glow),
        cb * (0.7 * eb + ambient[2] + glow),
    )


@kernel
def ray_direction(camera: Array, column: float, row: float) -> tuple[float, float, float]:
    """Direction of the ray through an image point, with length 1 along the optical axis.

    ``camera`` is position (0..2), then the vectors of the optical axis (3..5), of one pixel to the right
    (6..8) and one pixel down (9..11), then the principal point (12: column, 13: row); the centre of pixel
    (0, 0) is (0.5, 0.5). Because of the length, a hit's t is its depth.
    """
    a = column - camera[12]
    b = row - camera[13]
    return (
        camera[3] + a * camera[6] + b * camera[9],
        camera[4] + a * camera[7] + b * camera[10],
        camera[5] + a * camera[8] + b * camera[11],
    )


@kernel
def light_rooms(
    solids: Array,
    materials: Array,
    lights: Array,
    nodes: Array,
    camera: Array,
    ambient: Array,
    depth: Array,
    owner: Array,
    normal: Array,
    light: Array,
) -> None:
    """Fill what each pixel's centre sees: depth, solid, normal, and the light on it, one noisy sample each.

    ``depth`` float32 (h, w) is the distance along the optical axis to the first solid that is no glass.
    ``owner`` int32 (h, w) is that solid's row plus 65536 for each pane before it, -1 for nothing. ``normal``
    float32 (h, w, 3). ``light`` float32 (h, w, 6): light on the surface, then light mirrored by it and by the
    panes before it.
    """
    shares = np.empty(max(1, lights.shape[0]))
    pixel = math.sqrt(camera[6] ** 2 + camera[7] ** 2 + camera[8] ** 2)
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            dx, dy, dz = ray_direction(camera, column + 0.5, row + 0.5)
            length = math.sqrt(dx * dx + dy * dy + dz * dz)
            turn = ((row % 5) * 5 + (column % 5)) * 7 % 25
            for channel in range(6):
                light[row, column, channel] = 0.0
            start = 0.0
            panes = 0
            passing = 1.0
            i = -1
            while panes < 6:
                limit = 70.0 - start
                t, i = nearest(
                    solids,
                    nodes,
                    camera[0] + start * dx,
                    camera[1] + start * dy,
                    camera[2] + start * dz,
                    dx,
                    dy,
                    dz,
                    limit,
                    0,
                )
                start += t
                if i < 0:
                    break
                x, y, z = camera[0] + start * dx, camera[1] + start * dy, camera[2] + start * dz
                nx, ny, nz, _, _, _, _ = surface(solids, i, x, y, z)
                facing = nx * dx + ny * dy + nz * dz
                if facing > 0.0:
                    nx, ny, nz, facing = -nx, -ny, -nz, -facing
                m = int(solids[i, 9])
                grazing = (1.0 + facing / length) ** 4
                strength = materials[m, 10] * (0.35 + 0.65 * grazing)
                if strength > 0.004:
                    mr, mg, mb = mirrored(
                        solids,
                        materials,
                        lights,
                        nodes,
                        ambient,
                        x,
                        y,
                        z,
                        dx,
                        dy,
                        dz,
                        nx,
                        ny,
                        nz,
                        materials[m, 11],
                        turn,
                        pixel,
                    )
                    light[row, column, 3] += passing * strength * mr
                    light[row, column, 4] += passing * strength * mg
                    light[row, column, 5] += passing * strength * mb
                if int(solids[i, 10]) != GLASS:
                    normal[row, column, 0], normal[row, column, 1], normal[row, column, 2] = nx, ny, nz
                    er, eg, eb = incoming(
                        solids, materials, lights, nodes, ambient, shares, x, y, z, nx, ny, nz, turn
                    )
                    light[row, column, 0], light[row, column, 1], light[row, column, 2] = er, eg, eb
                    break
                passing *= 0.88
                panes += 1
            depth[row, column] = start
            owner[row, column] = i + 65536 * panes if i >= 0 else -1


@kernel
def smooth_light(depth: Array, owner: Array, normal: Array, light: Array, smooth: Array) -> None:
    """Average ``light`` over the 5x5 pixels around each, those of the same surface only, into ``smooth``."""
    height, width = depth.shape
    for row in range(height):
        for column in range(width):
            weight = 0.0
            for channel in range(6):
                smooth[row, column, channel] = 0.0
            for r in range(max(0, row - 2), min(height, row + 3)):
                for c in range(max(0, column - 2), min(width, column + 3)):
                    if owner[r, c] != owner[row, column]:
                        continue
                    same = 0.0
                    for axis in range(3):
                        same += normal[r, c, axis] * normal[row, column, axis]
                    if same > 0.9 or (r == row and c == column):
                        weight += 1.0
                        for channel in range(6):
                            smooth[row, column, channel] += light[r, c, channel]
            for channel in range(6):
                smooth[row, column, channel] /= weight


@kernel
def paint_rooms(
    solids: Array,
    materials: Array,
    nodes: Array,
    camera: Array,
    owner: Array,
    normal: Array,
    smooth: Array,
    side: int,
    colour: Array,
) -> None:
    """Draw textures under the light in ``smooth``, ``side`` x ``side`` rays a pixel, into ``colour``.

    ``colour`` float32 (h, w, 3), linear. A ray takes the light of the pixel nearby that saw the same surface.
    """
    height, width = owner.shape
    pixel = math.sqrt(camera[6] ** 2 + camera[7] ** 2 + camera[8] ** 2)
    for row in range(height):
        for column in range(width):
            red, green, blue = 0.0, 0.0, 0.0
            for sub in range(side * side):
                fy = (sub // side + 0.5) / side
                fx = (sub % side + 0.5) / side
                dx, dy, dz = ray_direction(camera, column + fx, row + fy)
                start = 0.0
                panes = 0
                passing = 1.0
                i = -1
                while panes < 6:
                    t, i = nearest(
                        solids,
                        nodes,
                        camera[0] + start * dx,
                        camera[1] + start * dy,
                        camera[2] + start * dz,
                        dx,
                        dy,
                        dz,
                        70.0 - start,
                        0,
                    )
                    start += t
                    if i < 0 or int(solids[i, 10]) != GLASS:
                        break
                    passing *= 0.88
                    panes += 1
                if i < 0:
                    continue
                nx, ny, nz, u, v, p, q = surface(
                    solids, i, camera[0] + start * dx, camera[1] + start * dy, camera[2] + start * dz
                )
                facing = nx * dx + ny * dy + nz * dz
                if facing > 0.0:
                    nx, ny, nz, facing = -nx, -ny, -nz, -facing
                key = i + 65536 * panes
                best = -1.0
                br, bc = row, column
                for ring in range(9):  # the pixel itself first
                    r = row + (0 if ring == 0 else (ring - 1) // 3 - 1)
                    c = column + (0 if ring == 0 else (ring - 1) % 3 - 1)
                    if 0 <= r < height and 0 <= c < width and (ring == 0 or best < 0.95):
                        same = nx * normal[r, c, 0] + ny * normal[r, c, 1] + nz * normal[r, c, 2]
                        if owner[r, c] == key:
                            same += 1.0
                        elif owner[r, c] < 0:
                            same = -1.0
                        else:
                            same *= 0.4
                        if same > best:
                            best, br, bc = same, r, c
                            if same > 1.9:
                                break
                length = math.sqrt(dx * dx + dy * dy + dz * dz)
                footprint = start * pixel / side / max(0.12, math.sqrt(-facing / length))
                m = int(solids[i, 9])
                cr, cg, cb = texture(materials, m, u, v, p, q, footprint)
                glow = materials[m, 12]
                red += passing * cr * (smooth[br, bc, 0] + glow) + smooth[br, bc, 3]
                green += passing * cg * (smooth[br, bc, 1] + glow) + smooth[br, bc, 4]
                blue += passing * cb * (smooth[br, bc, 2] + glow) + smooth[br, bc, 5]
            colour[row, column, 0] = red / (side * side)
            colour[row, column, 1] = green / (side * side)
            colour[row, column, 2] = blue / (side * side)
