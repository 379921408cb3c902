"""Kernels that draw a room by casting rays, in three passes.

``light_pass`` finds what each pixel's centre sees and gathers noisy light there, ``smooth_light`` averages
that light over pixels of one surface, ``shade_pass`` draws the textures, several rays a pixel, under the
smooth light. Everything is float64 but the filled buffers.
"""

from __future__ import annotations

import math

import numpy as np

from fgbgpack.jit import kernel
from fgbgpack.rendering.kernels.light import World, irradiance, reflection
from fgbgpack.rendering.kernels.solids import GLASS, SEE_ALL, first_hit, surface_at
from fgbgpack.rendering.kernels.textures import texture
from fgbgpack.rendering.kernels.vectors import Array, Vector, along, dot, scaled

# Metres that a ray goes, panes that it passes, and the share of light that a pane lets through.
_FAR, _PANES, _PANE = 70.0, 6, 0.88
# How much a pane before a solid adds to its number in ``seen``.
PANE_STEP = 65536


@kernel
def camera_ray(camera: Array, column: float, row: float) -> Vector:
    """Direction of the ray through an image point, with length 1 along the optical axis.

    ``camera`` is position (0..2), then the vectors of the optical axis (3..5), of one pixel to the right
    (6..8) and one pixel down (9..11), then the principal point (12: column, 13: row) and the width of a pixel
    at a distance of 1 (14); the centre of pixel (0, 0) is (0.5, 0.5). Because of the length, a hit's t is its
    depth.
    """
    a = column - camera[12]
    b = row - camera[13]
    return (
        camera[3] + a * camera[6] + b * camera[9],
        camera[4] + a * camera[7] + b * camera[10],
        camera[5] + a * camera[8] + b * camera[11],
    )


@kernel
def light_pass(world: World, depth: Array, seen: Array, normals: Array, light: Array) -> None:
    """Fill what each pixel's centre sees: depth, solid, normal, and the light on it, one noisy sample each.

    ``depth`` float32 (h, w) is the distance along the optical axis to the first solid that is no glass.
    ``seen`` int32 (h, w) is that solid's row plus 65536 for each pane before it, -1 for nothing. ``normals``
    float32 (h, w, 3). ``light`` float32 (h, w, 6): light on the surface, then light mirrored by it and by the
    panes before it.
    """
    solids, materials, camera = world.solids, world.materials, world.camera
    shares = np.empty(max(1, world.lights.shape[0]))
    eye = camera[0], camera[1], camera[2]
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            ray = camera_ray(camera, column + 0.5, row + 0.5)
            turn = ((row % 5) * 5 + (column % 5)) * 7 % 25
            light[row, column] = 0.0
            start = 0.0
            panes = 0
            passing = 1.0
            i = -1
            while panes < _PANES:
                t, i = first_hit(solids, world.nodes, along(eye, ray, start), ray, _FAR - start, SEE_ALL)
                start += t
                if i < 0:
                    break
                point = along(eye, ray, start)
                normal = surface_at(solids, i, point)[0]
                facing = dot(normal, ray)
                if facing > 0.0:
                    normal, facing = scaled(normal, -1.0), -facing
                m = int(solids[i, 9])
                grazing = (1.0 + facing / math.sqrt(dot(ray, ray))) ** 4
                strength = materials[m, 10] * (0.35 + 0.65 * grazing)
                if strength > 0.004:
                    mirrored = reflection(world, point, ray, normal, materials[m, 11], turn)
                    for channel in range(3):
                        light[row, column, 3 + channel] += passing * strength * mirrored[channel]
                if int(solids[i, 10]) != GLASS:
                    incoming = irradiance(world, shares, point, normal, turn)
                    for channel in range(3):
                        normals[row, column, channel] = normal[channel]
                        light[row, column, channel] = incoming[channel]
                    break
                passing *= _PANE
                panes += 1
            depth[row, column] = start
            seen[row, column] = i + PANE_STEP * panes if i >= 0 else -1


@kernel
def smooth_light(seen: Array, normals: Array, light: Array, smooth: Array) -> None:
    """Average ``light`` over the 5x5 pixels around each, those of the same surface only, into ``smooth``."""
    height, width = seen.shape
    for row in range(height):
        for column in range(width):
            weight = 0.0
            smooth[row, column] = 0.0
            for r in range(max(0, row - 2), min(height, row + 3)):
                for c in range(max(0, column - 2), min(width, column + 3)):
                    if seen[r, c] != seen[row, column]:
                        continue
                    same = 0.0
                    for axis in range(3):
                        same += normals[r, c, axis] * normals[row, column, axis]
                    if same > 0.9 or (r == row and c == column):
                        weight += 1.0
                        for channel in range(6):
                            smooth[row, column, channel] += light[r, c, channel]
            for channel in range(6):
                smooth[row, column, channel] /= weight


@kernel
def _pixel_of_surface(
    seen: Array, normals: Array, row: int, column: int, key: int, normal: Vector
) -> tuple[int, int]:
    """The pixel, of one and those around it, that saw most nearly the surface ``key`` with this normal."""
    best = -1.0
    best_row, best_column = row, column
    for ring in range(9):  # the pixel itself first
        r = row + (0 if ring == 0 else (ring - 1) // 3 - 1)
        c = column + (0 if ring == 0 else (ring - 1) % 3 - 1)
        if 0 <= r < seen.shape[0] and 0 <= c < seen.shape[1] and (ring == 0 or best < 0.95):
            same = normal[0] * normals[r, c, 0] + normal[1] * normals[r, c, 1] + normal[2] * normals[r, c, 2]
            if seen[r, c] == key:
                same += 1.0
            elif seen[r, c] < 0:
                same = -1.0
            else:
                same *= 0.4
            if same > best:
                best, best_row, best_column = same, r, c
                if same > 1.9:
                    break
    return best_row, best_column


@kernel
def shade_pass(world: World, seen: Array, normals: Array, smooth: Array, side: int, colour: Array) -> None:
    """Draw textures under the light in ``smooth``, ``side`` x ``side`` rays a pixel, into ``colour``.

    ``colour`` float32 (h, w, 3), linear. A ray takes the light of the pixel nearby that saw the same surface.
    """
    solids, materials, camera = world.solids, world.materials, world.camera
    eye = camera[0], camera[1], camera[2]
    for row in range(seen.shape[0]):
        for column in range(seen.shape[1]):
            red, green, blue = 0.0, 0.0, 0.0
            for sub in range(side * side):
                fy = (sub // side + 0.5) / side
                fx = (sub % side + 0.5) / side
                ray = camera_ray(camera, column + fx, row + fy)
                start = 0.0
                panes = 0
                passing = 1.0
                i = -1
                while panes < _PANES:
                    t, i = first_hit(solids, world.nodes, along(eye, ray, start), ray, _FAR - start, SEE_ALL)
                    start += t
                    if i < 0 or int(solids[i, 10]) != GLASS:
                        break
                    passing *= _PANE
                    panes += 1
                if i < 0:
                    continue
                normal, place = surface_at(solids, i, along(eye, ray, start))
                facing = dot(normal, ray)
                if facing > 0.0:
                    normal, facing = scaled(normal, -1.0), -facing
                r, c = _pixel_of_surface(seen, normals, row, column, i + PANE_STEP * panes, normal)
                # Seen at a grazing angle, one ray stands for more of the surface.
                grazing = max(0.12, math.sqrt(-facing / math.sqrt(dot(ray, ray))))
                m = int(solids[i, 9])
                cr, cg, cb = texture(materials, m, place, start * camera[14] / side / grazing)
                glow = materials[m, 12]
                red += passing * cr * (smooth[r, c, 0] + glow) + smooth[r, c, 3]
                green += passing * cg * (smooth[r, c, 1] + glow) + smooth[r, c, 4]
                blue += passing * cb * (smooth[r, c, 2] + glow) + smooth[r, c, 5]
            colour[row, column, 0] = red / (side * side)
            colour[row, column, 1] = green / (side * side)
            colour[row, column, 2] = blue / (side * side)
