"""Kernels for the light in a room: lamps, shadows, indirect light and reflections.

Units are metres, y is up, colours are linear light.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from fgbgpack.jit import kernel
from fgbgpack.rendering.kernels.noise import fraction
from fgbgpack.rendering.kernels.solids import SEE_THROUGH_GLASS, SHADOW, first_hit, surface_at
from fgbgpack.rendering.kernels.textures import texture
from fgbgpack.rendering.kernels.vectors import Array, Vector, along, cross, dot, scaled, vector

# A light's columns: position (0..2), half extent in x and z (3, 4), power (5..7), 1 if it shines downwards
# only (8), reach in metres (9).
LIGHT = 10


class World(NamedTuple):
    """A room and its camera, all float64.

    Attributes:
        solids: (n, SOLID), see ``kernels.solids``.
        nodes: (2 n - 1, NODE), the hierarchy over the solids.
        materials: (m, MATERIAL), see ``kernels.textures``.
        lights: (k, LIGHT).
        ambient: (3,), light from everywhere.
        camera: (15,), see ``kernels.passes.camera_ray``.
    """

    solids: Array
    nodes: Array
    materials: Array
    lights: Array
    ambient: Array
    camera: Array


@kernel
def light_share(lights: Array, k: int, lamp: Vector, point: Vector, normal: Vector) -> float:
    """Share of light ``k``'s power that reaches a point from ``lamp``, a position on it, without shadows.

    Inverse square of the distance (softened near the lamp), cosine at the surface, cosine at a lamp that
    shines downwards, faded to nothing at the lamp's reach.
    """
    tx, ty, tz = lamp[0] - point[0], lamp[1] - point[1], lamp[2] - point[2]
    square = tx * tx + ty * ty + tz * tz
    reach = lights[k, 9] * lights[k, 9]
    if square >= reach:
        return 0.0
    distance = math.sqrt(square) + 1e-6
    facing = dot((tx, ty, tz), normal) / distance
    if facing <= 0.0:
        return 0.0
    if lights[k, 8] > 0.5:
        facing *= max(ty, 0.0) / distance
    window = 1.0 - square / reach
    return float(facing * window * window / (square + 0.15))


@kernel
def unshadowed(lights: Array, point: Vector, normal: Vector) -> Vector:
    """Light of all lamps at a point, without shadows."""
    total = 0.0, 0.0, 0.0
    for k in range(lights.shape[0]):
        share = light_share(lights, k, vector(lights, k, 0), point, normal)
        total = along(total, vector(lights, k, 5), share)
    return total


@kernel
def irradiance(world: World, shares: Array, point: Vector, normal: Vector, turn: int) -> Vector:
    """Light that falls on a point: four shadow rays to lamps drawn by their share, two indirect rays.

    ``turn`` (0..24) chooses the sample: 25 different ones, as a block of 5x5 pixels has, cover the lamps and
    the half sphere evenly. ``shares`` is scratch space, one number a lamp.
    """
    point = along(point, normal, 1e-4)
    direct = _lamp_light(world, shares, point, normal, turn)
    return _indirect_light(world, point, normal, turn, direct)


@kernel
def _lamp_light(world: World, shares: Array, point: Vector, normal: Vector, turn: int) -> Vector:
    lights = world.lights
    light = 0.0, 0.0, 0.0
    total = 0.0
    for k in range(lights.shape[0]):
        share = light_share(lights, k, vector(lights, k, 0), point, normal)
        total += share * (lights[k, 5] + lights[k, 6] + lights[k, 7])
        shares[k] = total
    if total <= 0.0:
        return light
    k = 0
    for ray in range(4):
        goal = total * (ray + (turn + 0.5) / 25.0) / 4.0
        while k < lights.shape[0] - 1 and shares[k] < goal:
            k += 1
        probability = (shares[k] - (shares[k - 1] if k > 0 else 0.0)) / total
        ju = fraction(turn * 0.7548776662 + ray * 0.39)
        jv = fraction(turn * 0.5698402910 + ray * 0.61)
        lamp = (
            lights[k, 0] + lights[k, 3] * (2.0 * ju - 1.0),
            lights[k, 1],
            lights[k, 2] + lights[k, 4] * (2.0 * jv - 1.0),
        )
        share = light_share(lights, k, lamp, point, normal) / (4.0 * probability)
        if share > 0.0:
            path = lamp[0] - point[0], lamp[1] - point[1], lamp[2] - point[2]
            if first_hit(world.solids, world.nodes, point, path, 0.999, SHADOW)[1] < 0:
                light = along(light, vector(lights, k, 5), share)
    return light


@kernel
def _indirect_light(world: World, point: Vector, normal: Vector, turn: int, light: Vector) -> Vector:
    """``light`` plus that of two directions of the half sphere, drawn by its cosine."""
    nx, ny, nz = normal
    if abs(ny) < 0.9:
        scale = 1.0 / math.sqrt(nx * nx + nz * nz)
        tangent = nz * scale, 0.0, -nx * scale
    else:
        scale = 1.0 / math.sqrt(ny * ny + nz * nz)
        tangent = 0.0, -nz * scale, ny * scale
    binormal = cross(normal, tangent)
    ambient, materials = world.ambient, world.materials
    r, g, b = light
    for ray in range(2):
        height = (turn + 0.25 + 0.5 * ray) / 25.0
        out = math.sqrt(height)
        angle = 2.399963 * turn + math.pi * ray
        direction = along(scaled(tangent, out * math.cos(angle)), binormal, out * math.sin(angle))
        direction = along(direction, normal, math.sqrt(1.0 - height))
        t, i = first_hit(world.solids, world.nodes, point, direction, 60.0, SEE_THROUGH_GLASS)
        if i < 0:
            r, g, b = r + 0.5 * ambient[0], g + 0.5 * ambient[1], b + 0.5 * ambient[2]
            continue
        m = int(world.solids[i, 9])
        hit = along(point, direction, t)
        er, eg, eb = unshadowed(world.lights, hit, surface_at(world.solids, i, hit)[0])
        # One bright spot close to a lamp must not outshine the other samples: that would show as squares.
        er, eg, eb = min(er, 2.0), min(eg, 2.0), min(eb, 2.0)
        # What is near shuts the ambient light out; that darkens corners and the ground under things.
        veil = t / (t + 1.0)
        glow = min(materials[m, 12], 0.3)  # lamps light things as lights already
        r += _bounced(materials[m, 1] + materials[m, 4], er, glow, ambient[0], veil)
        g += _bounced(materials[m, 2] + materials[m, 5], eg, glow, ambient[1], veil)
        b += _bounced(materials[m, 3] + materials[m, 6], eb, glow, ambient[2], veil)
    return r, g, b


@kernel
def _bounced(colours: float, light: float, glow: float, ambient: float, veil: float) -> float:
    """What a surface gives back, in one colour channel; ``colours`` is the sum of its two."""
    return 0.25 * colours * (0.8 * light + glow + 1.6 * ambient) * veil + 0.16 * ambient * veil


@kernel
def reflection(
    world: World, point: Vector, direction: Vector, normal: Vector, blur: float, turn: int
) -> Vector:
    """What a glossy surface shows of the room when seen along ``direction``, without shadows."""
    materials, ambient = world.materials, world.ambient
    twice = 2.0 * dot(direction, normal)
    blur *= math.sqrt(dot(direction, direction))
    a, b = turn * 0.7548776662, turn * 0.5698402910
    jitter = fraction(a) - 0.5, fraction(b) - 0.5, fraction(a - b) - 0.5
    mirrored = (
        direction[0] - twice * normal[0] + blur * jitter[0] * (1.0 - abs(normal[0])),
        direction[1] - twice * normal[1] + blur * jitter[1] * (1.0 - abs(normal[1])),
        direction[2] - twice * normal[2] + blur * jitter[2] * (1.0 - abs(normal[2])),
    )
    origin = along(point, normal, 1e-4)
    t, i = first_hit(world.solids, world.nodes, origin, mirrored, 60.0, SEE_THROUGH_GLASS)
    if i < 0:
        return ambient[0], ambient[1], ambient[2]
    hit = along(point, mirrored, t)
    facing, place = surface_at(world.solids, i, hit)
    m = int(world.solids[i, 9])
    light = unshadowed(world.lights, hit, facing)
    colour = texture(materials, m, place, (t + 2.0) * world.camera[14] * 3.0)
    glow = materials[m, 12]
    return (
        colour[0] * (0.7 * light[0] + ambient[0] + glow),
        colour[1] * (0.7 * light[1] + ambient[1] + glow),
        colour[2] * (0.7 * light[2] + ambient[2] + glow),
    )
